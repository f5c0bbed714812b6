"""Splicer: joins the media of films or of parts of a stream to one timeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Final

from gateway.inputs.demux_client import DemuxedSource, Item
from gateway.inputs.interleaver import LEAD_MS, Interleaver
from gateway.media.clock import PublisherTimeline
from gateway.media.track import Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.ports.errors import OutputError

_DEFAULT_STEP: Final = 33  # ms of a frame whose duration is unknown
_MAX_STEP: Final = 1_000
_INDEX: Final = {Kind.VIDEO: 0, Kind.AUDIO: 1}


class Splicer:
    """Yields the media of one part after the other. Times go on; equal tracks are not announced again.

    silence: seconds without a unit after which a part has failed. missing: what then did not come, for the error.

    missing: before the first unit; later, media are missing. lead_ms: see Interleaver.
    """

    def __init__(self, silence: float, missing: str = "no media", lead_ms: int = LEAD_MS) -> None:
        self._lead_ms = lead_ms
        self._silence = silence
        self._missing = missing
        self._tracks: Tracks | None = None
        self._ends: dict[Kind, int] = {}  # by kind: the end of the last frame, in the joined time
        self._steps: dict[Kind, int] = {}  # by kind: duration of the last frame

    async def play(self, sources: Sequence[DemuxedSource]) -> AsyncGenerator[Item]:
        """Yields tracks if they differ from the previous ones, and units in order. Raises GatewayError.

        sources: of one part; if there are two, the first has the pictures and the second the sound.
        """
        part = _Part(sources, self._silence, self._missing)
        interleaver = Interleaver(self._lead_ms)
        timeline: PublisherTimeline | None = None
        while True:
            item = await part.next()
            changed = isinstance(item, Tracks) and self._differs(item)
            if isinstance(item, Tracks):
                interleaver.kinds = frozenset(track.kind for track in item)
                ready = interleaver.flush() if changed else []
            else:
                ready = interleaver.flush() if item is None else interleaver.push(item)
            for unit in ready:
                timeline = timeline or self._timeline([*ready, *interleaver.waiting])
                yield self._placed(unit, timeline)
            if item is None:
                return
            if isinstance(item, Tracks) and changed:
                self._tracks = item
                yield item

    def _differs(self, tracks: Tracks) -> bool:
        return self._tracks is None or (self._tracks.video, self._tracks.audio) != (tracks.video, tracks.audio)

    def _timeline(self, first: list[AccessUnit]) -> PublisherTimeline:
        """Returns the clock of a part: each track begins at or after the end of the previous part.

        first: the first units of the tracks, the earliest one first.
        """
        begins: dict[Kind, int] = {}
        for unit in first:
            begins.setdefault(unit.track.kind, unit.dts)
        shift = max((self._ends[kind] - begin for kind, begin in begins.items() if kind in self._ends), default=None)
        latest = max(self._ends.values(), default=0)
        return PublisherTimeline(start=latest if shift is None else max(0, first[0].dts + shift))

    def _placed(self, unit: AccessUnit, timeline: PublisherTimeline) -> AccessUnit:
        kind = unit.track.kind
        at = timeline.stamp(_INDEX[kind], unit.dts & 0xFFFFFFFF)
        previous = self._ends.get(kind, at) - self._steps.get(kind, 0)
        if 0 < at - previous < _MAX_STEP:
            self._steps[kind] = at - previous
        self._ends[kind] = max(self._ends.get(kind, 0), at + self._steps.get(kind, _DEFAULT_STEP))
        return replace(unit, dts=at, track=self._known_track(unit.track))

    def _known_track(self, track: MediaTrack) -> MediaTrack:
        """Returns the announced track: an equal one of another part is another object."""
        assert self._tracks is not None, "the tracks come first"
        return (self._tracks.video if track.kind is Kind.VIDEO else self._tracks.audio) or track


class _Part:
    """The items of one or two sources: of two, the one that is behind is read next."""

    def __init__(self, sources: Sequence[DemuxedSource], silence: float, missing: str) -> None:
        self._sources = list(sources)
        self._silence = silence
        self._missing = missing
        self._tracks: dict[int, Tracks] = {}
        self._times: dict[int, int] = {}

    async def next(self) -> Item | None:
        """Returns the next tracks or unit; None at the end of all sources."""
        while True:
            waiting = [n for n in range(len(self._sources)) if n not in self._times]
            at = waiting[0] if waiting else min(self._times, key=lambda n: self._times[n], default=None)
            if at is None:
                return None
            item = await self._next_of(at)
            if item is None:
                self._times[at] = 1 << 62  # ended
                if all(time == 1 << 62 for time in self._times.values()) and len(self._times) == len(self._sources):
                    return None
                continue
            if isinstance(item, AccessUnit):
                self._times[at] = item.dts
                if len(self._sources) == 1 or item.track.kind is (Kind.AUDIO if at else Kind.VIDEO):
                    return item
                continue
            self._tracks[at] = item
            if len(self._sources) == 1:
                return item
            if len(self._tracks) == len(self._sources):
                return Tracks(self._tracks[0].video, self._tracks[1].audio)
            self._times[at] = 0  # the other source is next

    async def _next_of(self, at: int) -> Item | None:
        try:
            async with asyncio.timeout(self._silence):
                item = await self._sources[at].next()
        except TimeoutError:
            raise OutputError(f"{self._missing} for {self._silence:.0f} s") from None
        self._missing = "no media"
        return item
