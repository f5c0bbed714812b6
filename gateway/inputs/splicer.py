"""Splicer: joins runs of media to one timeline. A run is a film, or a piece of a stream without a discontinuity.

All times are ticks of 90 kHz.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from gateway.inputs.demux_client import Item, LeftOut, Media
from gateway.media.clock import VIDEO_CLOCK, PublisherTimeline
from gateway.media.track import AccessUnit, Kind, MediaTrack, Tracks
from gateway.ports.errors import OutputError

_DEFAULT_STEP: Final = VIDEO_CLOCK // 30  # ticks of a frame whose duration is unknown
_MAX_STEP: Final = VIDEO_CLOCK  # a longer distance of two frames is a gap, not a duration
_INDEX: Final = {Kind.VIDEO: 0, Kind.AUDIO: 1}
LEAD: Final = 2 * VIDEO_CLOCK  # films have their tracks at most this far apart
_MAX_UNITS: Final = 1_000
_MAX_BYTES: Final = 16_000_000


class ItemSource(Protocol):
    """Media of one run, such as DemuxedSource.

    left_out: the kinds of the tracks that cannot be used, by the names of their codecs. It is known with the tracks.
    """

    @property
    def left_out(self) -> Mapping[str, Kind]: ...

    async def next(self) -> Media | None:
        """Returns the next tracks or unit; None at the end. Raises GatewayError."""

    async def close(self) -> None:
        """Ends the source."""


class Splicer:
    """Yields the media of one run after the other. Times go on; the same tracks are not announced again.

    silence: seconds without a unit after which a run has failed. lead: see Interleaver.
    missing: text of this error before the first unit. Later, the text is "no media".
    """

    def __init__(self, silence: float, missing: str = "no media", lead: int = LEAD) -> None:
        self._lead = lead
        self._silence = silence
        self._missing = missing
        self._tracks: Tracks | None = None
        self._left_out: dict[str, Kind] = {}
        self._ends: dict[Kind, int] = {}  # by kind: the end of the last frame, in the joined time
        self._steps: dict[Kind, int] = {}  # by kind: duration of the last frame

    async def play(self, sources: Sequence[ItemSource]) -> AsyncGenerator[Item]:
        """Yields tracks if they differ from the previous ones, and units in order. Raises GatewayError.

        The names of tracks that are left out come before them, if they differ. A track in place of one that cannot be
        used is enough.
        sources: of one run. If there are two, the first has the pictures and the second has the sound.
        """
        run = _Run(sources, self._silence, self._missing)
        interleaver = Interleaver(self._lead)
        timeline: PublisherTimeline | None = None
        while True:
            item = await run.next()
            changed = isinstance(item, Tracks) and self._differs(item)
            left_out = self._left_out
            if isinstance(item, Tracks):
                kinds = interleaver.kinds = frozenset(track.kind for track in item)
                ready = interleaver.flush() if changed else []
                lost = {name: kind for source in sources for name, kind in source.left_out.items()}
                left_out = {name: kind for name, kind in lost.items() if kind not in kinds}
            else:
                ready = interleaver.flush() if item is None else interleaver.push(item)
            for unit in ready:
                timeline = timeline or self._timeline([*ready, *interleaver.waiting])
                yield self._retime(unit, timeline)
            if item is None:
                return
            if left_out != self._left_out:
                self._left_out = left_out
                yield LeftOut(left_out)
            if isinstance(item, Tracks) and changed:
                self._tracks = item
                yield item

    def _differs(self, tracks: Tracks) -> bool:
        return self._tracks is None or (self._tracks.video, self._tracks.audio) != (tracks.video, tracks.audio)

    def _timeline(self, first: list[AccessUnit]) -> PublisherTimeline:
        """Returns the clock of a run: each track begins at or after the end of the previous run.

        first: the first units of the tracks, the earliest one first.
        """
        begins: dict[Kind, int] = {}
        for unit in first:
            begins.setdefault(unit.track.kind, unit.dts)
        shift = max((self._ends[kind] - begin for kind, begin in begins.items() if kind in self._ends), default=None)
        latest = max(self._ends.values(), default=0)
        return PublisherTimeline(VIDEO_CLOCK, start=latest if shift is None else max(0, first[0].dts + shift))

    def _retime(self, unit: AccessUnit, timeline: PublisherTimeline) -> AccessUnit:
        kind = unit.track.kind
        at = timeline.stamp(_INDEX[kind], unit.dts)
        previous = self._ends[kind] - self._steps.get(kind, _DEFAULT_STEP) if kind in self._ends else at
        if 0 < at - previous < _MAX_STEP:
            self._steps[kind] = at - previous
        self._ends[kind] = max(self._ends.get(kind, 0), at + self._steps.get(kind, _DEFAULT_STEP))
        return replace(unit, dts=at, track=self._known_track(unit.track))

    def _known_track(self, track: MediaTrack) -> MediaTrack:
        """Returns the announced track that is equal to `track`, because each run has its own object for it."""
        assert self._tracks is not None, "the tracks come first"
        return (self._tracks.video if track.kind is Kind.VIDEO else self._tracks.audio) or track


class _Run:
    """The items of one or two sources. If there are two, the one with the earlier time is read next."""

    def __init__(self, sources: Sequence[ItemSource], silence: float, missing: str) -> None:
        self._sources = list(sources)
        self._silence = silence
        self._missing = missing
        self._tracks: dict[int, Tracks] = {}
        self._times = [-math.inf] * len(
            self._sources
        )  # of the last units; -infinity: none yet; infinity: the source has ended

    async def next(self) -> Media | None:
        """Returns the next tracks or unit; None at the end of all sources."""
        alone = len(self._sources) == 1
        while (earliest := min(self._times)) < math.inf:
            at = self._times.index(earliest)
            item = await self._next_of(at)
            if item is None:
                self._times[at] = math.inf
            elif isinstance(item, AccessUnit):
                self._times[at] = item.dts
                if alone or item.track.kind is (Kind.AUDIO if at else Kind.VIDEO):
                    return item
            else:
                self._tracks[at] = item
                if alone:
                    return item
                if len(self._tracks) == len(self._sources):
                    return Tracks(self._tracks[0].video, self._tracks[1].audio)
                self._times[at] = 0  # the other source is next
        return None

    async def _next_of(self, at: int) -> Media | None:
        try:
            async with asyncio.timeout(self._silence):
                item = await self._sources[at].next()
        except TimeoutError:
            raise OutputError(f"{self._missing} for {self._silence:.0f} s") from None
        self._missing = "no media"
        return item


class Interleaver:
    """Merges two tracks, each in decode order.

    A unit waits until the other track has a later one. It waits for at most `lead` of media, 1,000 units or 16 MB.
    """

    def __init__(self, lead: int = LEAD) -> None:
        self._lead = lead
        self._waiting: dict[Kind, deque[AccessUnit]] = {Kind.VIDEO: deque(), Kind.AUDIO: deque()}
        self._bytes = 0
        self.kinds = frozenset((Kind.VIDEO, Kind.AUDIO))

    def push(self, unit: AccessUnit) -> list[AccessUnit]:
        """Adds a unit; returns the units that are in order now."""
        self._waiting[unit.track.kind].append(unit)
        self._bytes += len(unit.payload)
        ready: list[AccessUnit] = []
        while (kind := self._ready_kind()) is not None:
            ready.append(self._waiting[kind].popleft())
            self._bytes -= len(ready[-1].payload)
        return ready

    @property
    def waiting(self) -> list[AccessUnit]:
        """The next unit of each track that has one."""
        return [queue[0] for queue in self._waiting.values() if queue]

    def flush(self) -> list[AccessUnit]:
        """Returns the remaining units in order."""
        units = sorted((u for queue in self._waiting.values() for u in queue), key=lambda u: u.dts)
        for queue in self._waiting.values():
            queue.clear()
        self._bytes = 0
        return units

    def _ready_kind(self) -> Kind | None:
        video, audio = self._waiting[Kind.VIDEO], self._waiting[Kind.AUDIO]
        if video and audio:
            return Kind.VIDEO if video[0].dts <= audio[0].dts else Kind.AUDIO
        kind, queue = (Kind.VIDEO, video) if video else (Kind.AUDIO, audio)
        if not queue:
            return None
        alone = len(self.kinds) < 2
        late = queue[-1].dts - queue[0].dts > self._lead or len(queue) > _MAX_UNITS or self._bytes > _MAX_BYTES
        return kind if alone or late else None
