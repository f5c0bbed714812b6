"""A rendition: one rung as a stream of its own, fed with what the worker makes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.hub.fanout import EndReason
from gateway.hub.publisher import Publisher
from gateway.media.track import AmfValue, Kind, Tracks
from gateway.media.unit import AccessUnit, Timed

if TYPE_CHECKING:
    from gateway.hub.hub import Hub
    from gateway.hub.stream import Stream

log = structlog.get_logger(__name__)

MOST_TIMED: Final = 256  # script data that wait for the picture of their time
# Of the source's onMetaData: what is not true of a rendition.
_FOREIGN: Final = frozenset(
    {
        *("duration", "filesize", "width", "height", "framerate", "encoder", "avcprofile", "avclevel"),
        *("videodatarate", "videocodecid", "audiodatarate", "audiocodecid", "audiosamplerate", "audiosamplesize"),
        *("audiochannels", "stereo"),
    }
)


class Rendition:
    """The lease on `<id>@<rung>`, and what is remembered of it."""

    def __init__(self, hub: Hub, stream: Stream, rung: str, timed: Iterable[Timed]) -> None:
        """timed: script data that came before, as far as they may still be due. Raises NameInUse, AtCapacity."""
        self.name = f"{stream.channel.id}@{rung}"
        self.rung = rung
        self.tracks: Tracks | None = None
        self.interrupted = False  # the worker died: what comes next does not continue
        self.delay = 0.0  # of the last picture behind its source's, seconds
        self.timed = deque(timed, MOST_TIMED)
        self._fresh = True  # no picture has come yet
        self.bitrate = 0.0
        self._publisher: Publisher = hub.publish(
            stream.channel, self.name, protocol="transcode", peer="worker", evict=self._evicted, keep_time=True
        )

    def announce(self, tracks: Tracks, source: Mapping[str, AmfValue]) -> None:
        """The worker's tracks, with the rendition's own metadata; `source`: the onMetaData of what was pushed."""
        before, self.tracks = self.tracks, tracks
        continuous = not self.interrupted and before is not None and before.epoch == tracks.epoch
        self.interrupted = False
        rate = tracks.metadata.get("videodatarate")
        self.bitrate = rate if isinstance(rate, float) else 0.0
        self._set_tracks(source, continuous)

    def describe(self, source: Mapping[str, AmfValue]) -> None:
        """The source's onMetaData changed, and nothing else."""
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
                if ahead == 0 or not self._fresh:  # what is older than the rendition is none of its own
                    self._publisher.push_timed(replace(timed))
            self._fresh = False
        self._publisher.push(unit, time.monotonic())

    @property
    def held(self) -> bool:
        """The lease is still ours; else the stream was ended from outside, as at shutdown."""
        return self._publisher.active

    def close(self) -> None:
        """Gives the lease back: the stream lingers."""
        self._publisher.close()

    def report(self) -> dict[str, Any]:
        metadata = {} if self.tracks is None else self.tracks.metadata
        return {
            "name": self.name,
            "width": _whole(metadata.get("width")),
            "height": _whole(metadata.get("height")),
            "delay": round(self.delay, 3),
        }

    def _evicted(self, reason: EndReason) -> None:
        log.debug("rendition's lease is gone", stream=self.name, reason=str(reason))


def _whole(value: AmfValue) -> int | None:
    """AMF knows no whole numbers."""
    return int(value) if isinstance(value, float) else None
