"""A rendition: one rung, published as a stream of its own from what the worker makes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.media.track import AmfValue, Kind, Tracks
from gateway.media.unit import AccessUnit, Timed

if TYPE_CHECKING:
    from gateway.live.hub import Hub
    from gateway.live.stream import Stream

log = structlog.get_logger(__name__)

MAX_TIMED: Final = 256  # script data messages that wait for the picture of their time
# Fields of the source's onMetaData that are not true of a rendition.
_FOREIGN: Final = frozenset(
    {
        *("duration", "filesize", "width", "height", "framerate", "encoder", "avcprofile", "avclevel"),
        *("videodatarate", "videocodecid", "audiodatarate", "audiocodecid", "audiosamplerate", "audiosamplesize"),
        *("audiochannels", "stereo"),
    }
)


class PublishedRendition:
    """Holds the lease on `<id>@<rung>` and the state of that rendition."""

    def __init__(self, hub: Hub, stream: Stream, rung: str, timed: Iterable[Timed]) -> None:
        """timed: earlier script data that may still be due. Raises NameInUse, AtCapacity."""
        self.name = f"{stream.channel.id}@{rung}"
        self.tracks: Tracks | None = None
        self.interrupted = False  # the worker died: the next units do not continue the earlier ones
        self.delay = 0.0  # seconds that the last picture is behind the source
        self.timed = deque(timed, MAX_TIMED)
        self._fresh = True  # no picture has come yet
        self.bitrate = 0.0
        self._publisher: StreamPublisher = hub.publish(
            stream.channel,
            self.name,
            protocol="transcode",
            peer="worker",
            evict=self._evicted,
            keep_time=True,
            trusted=True,
        )

    def announce(self, tracks: Tracks, source: Mapping[str, AmfValue]) -> None:
        """Sets the worker's tracks, with the rendition's own metadata.

        source: the onMetaData that the publisher sent.
        """
        before, self.tracks = self.tracks, tracks
        continuous = not self.interrupted and before is not None and before.epoch == tracks.epoch
        self.interrupted = False
        rate = tracks.metadata.get("videodatarate")
        self.bitrate = rate if isinstance(rate, float) else 0.0
        self._set_tracks(source, continuous)

    def describe(self, source: Mapping[str, AmfValue]) -> None:
        """Takes the source's new onMetaData when nothing else has changed."""
        self._set_tracks(source, True)

    def _set_tracks(self, source: Mapping[str, AmfValue], continuous: bool) -> None:
        tracks = self.tracks
        if tracks is not None and self.held:
            metadata = {k: v for k, v in source.items() if k not in _FOREIGN} | tracks.metadata
            self._publisher.set_tracks(tracks.video, tracks.audio, metadata, continuous=continuous)

    def push(self, unit: AccessUnit) -> None:
        if not self.held:
            return
        if unit.track.kind is Kind.VIDEO:
            self.delay = time.time() - unit.wall
            while self.timed and (ahead := self.timed[0].dts * unit.track.timescale - unit.dts * 1000) <= 0:
                timed = self.timed.popleft()
                if ahead == 0 or not self._fresh:  # older data is left out
                    self._publisher.push_timed(replace(timed))
            self._fresh = False
        self._publisher.push(unit, time.monotonic())

    @property
    def held(self) -> bool:
        """Whether this object still holds the lease.

        It is lost when the stream is ended from outside, as at shutdown.
        """
        return self._publisher.active

    def close(self) -> None:
        """Gives the lease back; the stream lingers for a while."""
        self._publisher.close()

    def report(self) -> dict[str, Any]:
        return rendition_report(self.name, self.tracks, round(self.delay, 3))

    def _evicted(self, reason: EndReason) -> None:
        log.debug("rendition's lease is gone", stream=self.name, reason=str(reason))


def rendition_report(name: str, tracks: Tracks | None, delay: float | None) -> dict[str, Any]:
    """Returns what the status of a session says of a rendition. delay: seconds, None if no unit has come."""
    metadata = {} if tracks is None else tracks.metadata
    width, height = _whole(metadata.get("width")), _whole(metadata.get("height"))
    return {"name": name, "width": width, "height": height, "delay": delay}


def _whole(value: AmfValue) -> int | None:
    """Converts an AMF number, which is always a float, to an int."""
    return int(value) if isinstance(value, float) else None
