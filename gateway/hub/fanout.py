"""Fanout: one timeline's tracks and GOP cache, and the sinks that get every item of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from gateway.hub.gop import GopCache
from gateway.media.track import AmfValue, Track, Tracks
from gateway.media.unit import AccessUnit, Timed


class EndReason(StrEnum):
    """Why a stream ended; the value stands in logs and webhooks."""

    PUBLISHER_GONE = "publisher gone"
    NO_MEDIA = "no media"
    KICKED = "kicked"
    DELETED = "channel deleted"
    EXPIRED = "key expired"
    OUTPUT_OFF = "output switched off"
    SHUTDOWN = "shutting down"
    MOVED = "held by another node"


class Sink(Protocol):
    """A consumer called on the loop, in order, for every item. It must not block; what takes time it queues."""

    def on_tracks(self, tracks: Tracks) -> None:
        """First, and again whenever tracks, metadata or continuity (`tracks.epoch`) change."""

    def on_unit(self, unit: AccessUnit) -> None: ...

    def on_timed(self, timed: Timed) -> None: ...

    def on_end(self, reason: EndReason) -> None:
        """Last; the sink is detached already."""

    def on_failed(self, error: Exception) -> None:
        """One of the other calls raised this; the sink is detached already and gets nothing more."""


class Fanout:
    """Everything here runs on one loop; `push` is the hot path: GOP cache, then each sink in turn. A sink that raises
    is detached and told; its siblings and whoever pushes never notice.
    """

    def __init__(self, gop: GopCache) -> None:
        self.tracks: Tracks | None = None
        self.ended: EndReason | None = None
        self.gop = gop
        self._epoch = -1
        self._sinks: tuple[Sink, ...] = ()

    def attach(self, sink: Sink, *, replay: bool = True) -> None:
        """Adds a consumer: it gets the tracks now (when known), the GOP cache where `replay`, then what comes."""
        self._sinks = (*self._sinks, sink)
        try:
            if self.tracks is not None:
                sink.on_tracks(self.tracks)
                if replay:
                    for unit in self.gop.units():
                        sink.on_unit(unit)
        except Exception as error:  # the sink's fault: its owner is told, the stream goes on
            self._fail(sink, error)
            return
        if self.ended is not None:
            self.detach(sink)
            sink.on_end(self.ended)

    def detach(self, sink: Sink) -> None:
        self._sinks = tuple(s for s in self._sinks if s is not sink)

    def set_tracks(
        self, video: Track | None, audio: Track | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks:
        """Announces tracks; a change of either, or `continuous` false, opens a new epoch."""
        old = self.tracks
        if old is None or not continuous or (old.video, old.audio) != (video, audio):
            self._epoch += 1
            self.gop.clear()
        self.gop.has_video = video is not None
        self.tracks = tracks = Tracks(video, audio, self._epoch, metadata)
        for sink in self._sinks:
            try:
                sink.on_tracks(tracks)
            except Exception as error:
                self._fail(sink, error)
        return tracks

    def push(self, unit: AccessUnit) -> None:
        """Hot. Gives a unit to the cache and to every sink."""
        self.gop.add(unit)
        self.give(unit)

    def give(self, unit: AccessUnit) -> None:
        """Hot. To every sink, the cache left alone."""
        for sink in self._sinks:
            try:
                sink.on_unit(unit)
            except Exception as error:
                self._fail(sink, error)

    def push_timed(self, timed: Timed) -> None:
        for sink in self._sinks:
            try:
                sink.on_timed(timed)
            except Exception as error:
                self._fail(sink, error)

    def end(self, reason: EndReason) -> None:
        """Ends for good: sinks are told in order, each once."""
        if self.ended is not None:
            return
        self.ended = reason
        sinks, self._sinks = self._sinks, ()
        for sink in sinks:
            try:
                sink.on_end(reason)
            except Exception as error:
                sink.on_failed(error)
        self.gop.clear()

    def _fail(self, sink: Sink, error: Exception) -> None:
        self.detach(sink)
        sink.on_failed(error)
