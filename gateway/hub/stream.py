"""A live timeline under a name: one publisher in, any number of sinks out."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import structlog

from gateway.hub.cover import Cover
from gateway.hub.fanout import EndReason, Fanout, Sink
from gateway.hub.gop import GopCache
from gateway.hub.names import channel_of
from gateway.media.track import AmfValue, Kind, Track, Tracks
from gateway.media.unit import AccessUnit, Timed

if TYPE_CHECKING:
    from gateway.hub.channel import Channel
    from gateway.hub.output import Outputs
    from gateway.hub.publisher import Publisher

__all__ = ["EndReason", "Sink", "Stream", "StreamState"]

log = structlog.get_logger(__name__)

FINISH_SECONDS: Final = 3.0  # what a cover has to give its last pictures after the original's end
_VIDEO: Final = Kind.VIDEO


class StreamState(StrEnum):
    IDLE = "idle"
    LIVE = "live"
    LINGERING = "lingering"


class Stream(Fanout):
    """What viewers see, and beside it `original`, what the publisher sent: the same but for a cover (a watermark).

    Counters too. Lives from the first publisher's media until the linger time after the last one.
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        started: float,
        gop_bytes: int,
        gop_seconds: float,
        on_playable: Callable[[Stream], None] = lambda stream: None,
    ) -> None:
        super().__init__(GopCache(gop_bytes, gop_seconds))
        self.name = name
        self.channel = channel
        self.started = started
        self.original = Fanout(self.gop)  # one cache for both while they are the same
        self.publisher: Publisher | None = None
        self.outputs: Outputs | None = None
        self.first_number = 0  # of its playlists: above those of a predecessor on another node
        self.announced = False  # the hub told the world that it started
        self.viewers: Counter[str] = Counter()
        self.bytes_in = 0
        self.last_dts_ms = 0
        self.last_push = 0.0
        self._gop_bounds = (gop_bytes, gop_seconds)
        self._on_playable = on_playable
        self._cover: Cover | None = None
        self._apart = False  # the original is not shown: it is covered, or about to return at a key frame
        self._ending: EndReason | None = None
        self._rates: deque[tuple[float, int]] = deque(maxlen=6)
        self._on_end: list[Callable[[EndReason], None]] = []

    @property
    def is_source(self) -> bool:
        """Pushed from outside; not a rendition."""
        return self.name == channel_of(self.name)

    # ---- the publisher's side (through its lease) ----

    def set_tracks(
        self, video: Track | None, audio: Track | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks:
        """Announces tracks; a change of either, or `continuous` false, opens a new epoch."""
        tracks = self.original.set_tracks(video, audio, metadata, continuous)
        if not self._apart:
            self.show_tracks(video, audio, metadata, continuous)
        return tracks

    def push(self, unit: AccessUnit) -> None:
        """Hot. Gives a unit to the caches and to every sink, those of the original first."""
        self.bytes_in += len(unit.payload)
        original = self.original
        original.gop.add(unit)
        original.give(unit)
        if not self._apart:
            self.give(unit)
        elif self._cover is None and unit.key and (unit.track.kind is _VIDEO or not original.gop.has_video):
            self._rejoin([unit])

    def push_timed(self, timed: Timed) -> None:
        self.original.push_timed(timed)
        if not self._apart:
            self.show_timed(timed)

    # ---- what viewers see ----

    def cover(self) -> Cover:
        """The lease on what viewers see; RuntimeError while somebody holds it."""
        if self._cover is not None:
            raise RuntimeError(f"{self.name} is covered already")
        cover = Cover(self)
        if self.ended is not None or self._ending is not None:
            cover.close()
        else:
            self._cover = cover
        return cover

    def show_tracks(
        self, video: Track | None, audio: Track | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks:
        """Cover's call, and our own: viewers get these tracks."""
        tracks = super().set_tracks(video, audio, metadata, continuous)
        self._on_playable(self)
        return tracks

    def show(self, unit: AccessUnit) -> None:
        """Cover's call."""
        super().push(unit)

    def show_timed(self, timed: Timed) -> None:
        """Cover's call, and our own."""
        super().push_timed(timed)

    def covered(self) -> None:
        """Cover's call: it engaged. The cache so far stays the original's; viewers get a new one."""
        self._part()

    def uncovered(self, cover: Cover, resume: Sequence[AccessUnit]) -> None:
        """Cover's call: it was closed."""
        if self._cover is cover:
            self._cover = None
        if self._ending is not None:
            self._end_shown(self._ending)
        elif self._apart and resume:
            self._rejoin(resume)

    def _part(self) -> None:
        if not self._apart:
            self._apart = True
            self.gop = GopCache(*self._gop_bounds)
            if self.tracks is not None:
                self.gop.has_video = self.tracks.video is not None

    def _rejoin(self, units: Sequence[AccessUnit]) -> None:
        """The original is shown again, from these units on."""
        tracks = self.original.tracks
        if tracks is None:
            return
        self.show_tracks(tracks.video, tracks.audio, tracks.metadata, False)
        self._apart = False
        for unit in units:
            self.give(unit)
        self.gop = self.original.gop

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

    def end(self, reason: EndReason) -> None:
        """Ends for good: sinks of the original are told, then the others, as soon as a cover has given its last."""
        if self.ended is not None or self._ending is not None:
            return
        self._ending = reason
        cover = self._cover
        self.original.end(reason)
        if cover is None or not cover.engaged or not cover.open:
            self._end_shown(reason)
        else:
            asyncio.get_running_loop().call_later(FINISH_SECONDS, self._end_shown, reason)

    def _end_shown(self, reason: EndReason) -> None:
        if self.ended is not None:
            return
        super().end(reason)
        if self._cover is not None:
            self._cover.close()
        calls, self._on_end = self._on_end, []
        for call in calls:
            try:
                call(reason)
            except Exception as error:  # one that waited; the others wait as well
                log.error("the end of a stream was not taken", stream=self.name, exc_info=error)

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
