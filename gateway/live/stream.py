"""A live timeline with a name: one publisher, any number of sinks."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of
from gateway.live.active_publisher import ActivePublisher
from gateway.live.fanout import Fanout
from gateway.live.gop_cache import GopCache
from gateway.live.output_switch import OutputSwitch
from gateway.live.picture_override import PictureOverride
from gateway.live.sink import EndReason
from gateway.live.track_changes import IntervalLimiter
from gateway.media.track import AmfValue, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit, Timed

log = structlog.get_logger(__name__)

FINISH_SECONDS: Final = 3.0  # time for an override to give its last pictures after the original's end
_VIDEO: Final = Kind.VIDEO


class StreamState(StrEnum):
    IDLE = "idle"
    LIVE = "live"
    LINGERING = "lingering"


class Stream(Fanout):
    """The stream that viewers get. `original` is what the publisher sends; both are equal unless an override is
    engaged.

    It also has the counters. It exists from the first publisher's media until the linger time after the last
    publisher.
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
        self.original = Fanout(self.gop)  # one cache for both while they are equal
        self.publisher: ActivePublisher | None = None
        self.pace = IntervalLimiter()  # bounds track changes, also across publishers
        self.outputs: OutputSwitch | None = None
        self.first_number = 0  # of its playlists: higher than at a previous holder
        self.announced = False  # whether the hub sent the event for its start
        self.viewers: Counter[str] = Counter()
        self.bytes_in = 0
        self.last_dts_ms = 0
        self.last_push = 0.0
        self._gop_bounds = (gop_bytes, gop_seconds)
        self._on_playable = on_playable
        self._cover: PictureOverride | None = None
        self._apart = False  # the original is not shown: it is replaced, or waits for a key frame
        self._ending: EndReason | None = None
        self._rates: deque[tuple[float, int]] = deque(maxlen=6)
        self._on_end: list[Callable[[EndReason], None]] = []

    @property
    def is_source(self) -> bool:
        """Whether the stream is pushed from outside; false for a rendition."""
        return self.name == channel_of(self.name)

    @property
    def is_awaited(self) -> bool:
        """Whether any sink, also of the original, needs units as soon as they arrive."""
        return super().is_awaited or self.original.is_awaited

    # ---- the publisher's side (through its lease) ----

    def set_tracks(
        self, video: MediaTrack | None, audio: MediaTrack | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks:
        """Announces tracks. A change of either, or `continuous` false, starts a new epoch."""
        tracks = self.original.set_tracks(video, audio, metadata, continuous)
        if not self._apart:
            self.show_tracks(video, audio, metadata, continuous)
        return tracks

    def push(self, unit: AccessUnit) -> None:
        """Gives a unit to the caches and to every sink, first to those of the original. Hot path."""
        self.bytes_in += len(unit.payload)
        original = self.original
        original.gop.add(unit)
        if original._sinks:
            original.give(unit)
        if not self._apart:
            if self._sinks:
                self.give(unit)
        elif self._cover is None and unit.key and (unit.track.kind is _VIDEO or not original.gop.has_video):
            self._rejoin([unit])

    def push_timed(self, timed: Timed) -> None:
        self.original.push_timed(timed)
        if not self._apart:
            self.show_timed(timed)

    # ---- what viewers see ----

    def cover(self) -> PictureOverride:
        """Returns the lease to replace what viewers get. Raises RuntimeError while another one is open."""
        if self._cover is not None:
            raise RuntimeError(f"{self.name} is covered already")
        cover = PictureOverride(self)
        if self.ended is not None or self._ending is not None:
            cover.close()
        else:
            self._cover = cover
        return cover

    def show_tracks(
        self, video: MediaTrack | None, audio: MediaTrack | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks:
        """Gives viewers these tracks. PictureOverride calls it, and this class."""
        tracks = super().set_tracks(video, audio, metadata, continuous)
        self._on_playable(self)
        return tracks

    def show(self, unit: AccessUnit) -> None:
        """Gives viewers a unit. Only PictureOverride calls it."""
        super().push(unit)

    def show_timed(self, timed: Timed) -> None:
        """Gives viewers timed data. PictureOverride calls it, and this class."""
        super().push_timed(timed)

    def covered(self) -> None:
        """Called by PictureOverride when it engages. The present cache stays with the original; viewers get a new
        one.
        """
        self._part()

    def uncovered(self, cover: PictureOverride, resume: Sequence[AccessUnit]) -> None:
        """Called by PictureOverride when it is closed."""
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
        """Shows the original again, beginning with these units."""
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
        """Whether viewers can join: the tracks are known, and the stream has not ended."""
        return self.tracks is not None and self.ended is None

    def when_ended(self, call: Callable[[EndReason], None]) -> None:
        """Calls `call` once, after the sinks were told of the end."""
        if self.ended is not None:
            call(self.ended)
        else:
            self._on_end.append(call)

    async def over(self) -> EndReason:
        """Waits for the end and returns its reason."""
        done: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
        self.when_ended(lambda reason: None if done.done() else done.set_result(reason))
        return await done

    def end(self, reason: EndReason) -> None:
        """Ends the stream for good. Tells the sinks of the original, then the others once the override has given its
        last units.
        """
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
            except Exception as error:  # an error of one callback must not stop the others
                log.error("the end of a stream was not taken", stream=self.name, exc_info=error)

    # ---- counters ----

    def sample(self, now: float) -> None:
        """Notes the bytes received so far. The hub calls it once a second."""
        self._rates.append((now, self.bytes_in))

    @property
    def bitrate(self) -> int:
        """Bits of media payload a second, averaged over the last seconds."""
        if len(self._rates) < 2:
            return 0
        (t0, b0), (t1, b1) = self._rates[0], self._rates[-1]
        return round((b1 - b0) * 8 / (t1 - t0)) if t1 > t0 else 0
