"""A live timeline under a name: one publisher in, any number of sinks out."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from gateway.hub.gop import GopCache
from gateway.media.track import AmfValue, Track, Tracks
from gateway.media.unit import AccessUnit, Timed

if TYPE_CHECKING:
    from gateway.hub.channel import Channel
    from gateway.hub.output import Outputs
    from gateway.hub.publisher import Publisher


class EndReason(StrEnum):
    """Why a stream ended; the value stands in logs and webhooks."""

    PUBLISHER_GONE = "publisher gone"
    NO_MEDIA = "no media"
    KICKED = "kicked"
    DELETED = "channel deleted"
    EXPIRED = "key expired"
    OUTPUT_OFF = "output switched off"
    SHUTDOWN = "shutting down"


class StreamState(StrEnum):
    IDLE = "idle"
    LIVE = "live"
    LINGERING = "lingering"


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


class Stream:
    """Fan-out, GOP cache, counters. Lives from the first publisher's media until the linger time after the last one.

    Everything here runs on one loop; `push` is the hot path: GOP cache, then each sink in turn. A sink that raises is
    detached and told; its siblings and the publisher never notice.
    """

    def __init__(self, name: str, channel: Channel, started: float, gop_bytes: int, gop_seconds: float) -> None:
        self.name = name
        self.channel = channel
        self.started = started
        self.tracks: Tracks | None = None
        self.publisher: Publisher | None = None
        self.ended: EndReason | None = None
        self.outputs: Outputs | None = None
        self.announced = False  # the hub told the world that it started
        self.viewers: Counter[str] = Counter()
        self.bytes_in = 0
        self.last_dts_ms = 0
        self.last_push = 0.0
        self.gop = GopCache(gop_bytes, gop_seconds)
        self._epoch = -1
        self._sinks: tuple[Sink, ...] = ()
        self._rates: deque[tuple[float, int]] = deque(maxlen=6)
        self._on_end: list[Callable[[EndReason], None]] = []

    # ---- consumers ----

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

    def when_ended(self, call: Callable[[EndReason], None]) -> None:
        """Calls `call` once, after the sinks were told."""
        if self.ended is not None:
            call(self.ended)
        else:
            self._on_end.append(call)

    async def over(self) -> EndReason:
        """Waits for the end."""
        done: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
        self.when_ended(lambda reason: None if done.done() else done.set_result(reason))
        return await done

    # ---- the publisher's side (through its lease) ----

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
        self.bytes_in += len(unit.payload)
        self.gop.add(unit)
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

    # ---- life ----

    @property
    def state(self) -> StreamState:
        if self.ended is not None or self.tracks is None:
            return StreamState.IDLE
        return StreamState.LIVE if self.publisher is not None else StreamState.LINGERING

    @property
    def playable(self) -> bool:
        """Viewers can join: the tracks are known and it has not ended."""
        return self.tracks is not None and self.ended is None

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
        calls, self._on_end = self._on_end, []
        for call in calls:
            call(reason)

    # ---- counters ----

    def sample(self, now: float) -> None:
        """Notes the bytes so far; the hub calls it once a second."""
        self._rates.append((now, self.bytes_in))

    @property
    def bitrate(self) -> int:
        """Bits a second of media payload over the last seconds."""
        if len(self._rates) < 2:
            return 0
        (t0, b0), (t1, b1) = self._rates[0], self._rates[-1]
        return round((b1 - b0) * 8 / (t1 - t0)) if t1 > t0 else 0

    def _fail(self, sink: Sink, error: Exception) -> None:
        self.detach(sink)
        sink.on_failed(error)
