"""A rendition of the ladder, published as a stream of its own."""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import structlog

from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.shelf import StreamShelf
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, AmfValue, Kind, TimedData, Tracks

log = structlog.get_logger(__name__)

MAX_TIMED: Final = 256  # script data messages that wait for the picture with their time
# Fields of the source's onMetaData that do not describe a rendition.
_SOURCE_ONLY_FIELDS: Final = frozenset(
    {
        *("duration", "filesize", "width", "height", "framerate", "encoder", "avcprofile", "avclevel"),
        *("videodatarate", "videocodecid", "audiodatarate", "audiocodecid", "audiosamplerate", "audiosamplesize"),
        *("audiochannels", "stereo"),
    }
)


class PublishedRendition:
    """The publisher and the state of the rendition `<id>@<name>`.

    stream: the source. timed: earlier script data whose pictures may still follow. Raises NameInUse, AtCapacity.
    """

    def __init__(self, shelf: StreamShelf, stream: Stream, name: str, timed: Iterable[TimedData]) -> None:
        self.name = f"{stream.channel.id}@{name}"
        self.tracks: Tracks | None = None
        self.interrupted = False  # the worker died, so the next units do not continue the earlier ones
        self.delay = 0.0  # seconds from the source's last picture to its encoded picture
        self.timed = deque(timed, MAX_TIMED)
        self._no_picture_yet = True  # no picture has been published yet
        self.bitrate = 0.0
        origin = PushOrigin("transcode", "worker", keep_time=True, trusted=True)
        self._publisher: StreamPublisher = shelf.publish_from(origin, stream.channel, self.name, self._evicted)

    def _evicted(self, reason: EndReason) -> None:
        log.debug("rendition lost its publisher", stream=self.name, reason=str(reason))

    def set_tracks(self, tracks: Tracks, source: Mapping[str, AmfValue]) -> None:
        """Sets the worker's tracks, with the rendition's own metadata.

        source: the onMetaData that the publisher sent.
        """
        previous, self.tracks = self.tracks, tracks
        continuous = not self.interrupted and previous is not None and previous.epoch == tracks.epoch
        self.interrupted = False
        bitrate = tracks.metadata.get("videodatarate")
        self.bitrate = bitrate if isinstance(bitrate, float) else 0.0
        self.set_metadata(source, continuous)

    def set_metadata(self, source: Mapping[str, AmfValue], continuous: bool = True) -> None:
        """Sets the source's new onMetaData. continuous: whether the tracks continue the earlier ones."""
        tracks = self.tracks
        if tracks is not None and self.active:
            metadata = {k: v for k, v in source.items() if k not in _SOURCE_ONLY_FIELDS} | tracks.metadata
            self._publisher.set_tracks(tracks.video, tracks.audio, metadata, continuous=continuous)

    def push(self, unit: AccessUnit) -> None:
        if not self.active:
            return
        if unit.track.kind is Kind.VIDEO:
            self.delay = time.time() - unit.wall
            while self.timed:
                timed = self.timed[0]
                ahead = timed.dts * unit.track.timescale - unit.dts * timed.timescale
                if ahead > 0:
                    break
                self.timed.popleft()
                if ahead == 0 or not self._no_picture_yet:  # older data is skipped
                    self._publisher.push_timed(replace(timed))
            self._no_picture_yet = False
        self._publisher.push(unit, time.monotonic())

    @property
    def active(self) -> bool:
        """Whether this object still is the publisher.

        False after another part of the gateway has ended the stream, for example at shutdown.
        """
        return self._publisher.active

    def close(self) -> None:
        """Stops publishing; the stream lingers for a while."""
        self._publisher.close()

    def report(self) -> dict[str, Any]:
        return rendition_report(self.name, self.tracks, round(self.delay, 3))


def rendition_report(name: str, tracks: Tracks | None, delay: float | None) -> dict[str, Any]:
    """Returns a rendition's entry in the session's status. delay: seconds; None if there is no unit."""
    metadata = {} if tracks is None else tracks.metadata
    width, height = _to_int(metadata.get("width")), _to_int(metadata.get("height"))
    return {"name": name, "width": width, "height": height, "delay": delay}


def _to_int(value: AmfValue) -> int | None:
    """Converts an AMF number, which is always a float, to an int."""
    return int(value) if isinstance(value, float) else None
