"""The segments of a live playlist that rewind playlists list, with few bytes for each."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Final

MAX_SEGMENTS: Final = 50_000  # of a channel: 28 hours of segments of 2 s, 32 bytes for each segment
_TRIM: Final = 256  # segments after which old ones are dropped, because that moves all others
UNKNOWN: Final = -(1 << 40)  # stands for an unknown decode time
_UNITS: Final = 100_000  # a second in steps of 10 µs, as durations are printed
_APART: Final = 0.1  # seconds between a date and the end of the segment before it; more is a jump


@dataclass(frozen=True, slots=True)
class PastSegment:
    """A segment. name: number in its file name. seconds: duration, as printed.

    wall: its date, seconds since 1970. epoch: grows with each discontinuity before the segment.
    start: decode time of its first picture, in ticks of 90 kHz; UNKNOWN for a stored piece of an earlier packager.
    """

    name: int
    seconds: float
    wall: float
    epoch: int
    start: int = UNKNOWN


class SegmentHistory:
    """Segments with consecutive Media Sequence Numbers. Above MAX_SEGMENTS, the oldest are dropped.

    reach: seconds after which segments are dropped too.
    first: number of the oldest segment.
    own: number of the first segment of this packager. Segments before it are stored pieces of earlier ones.
    """

    def __init__(self, reach: float = float("inf")) -> None:
        self.reach = reach
        self.first = 0
        self.own = 0
        self._names = array("q")
        self._durations = array("I")  # steps of 10 µs
        self._walls = array("d")
        self._epochs = array("I")
        self._starts = array("q")
        self._arrays: tuple[array[Any], ...] = (self._names, self._durations, self._walls, self._epochs, self._starts)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> PastSegment:
        """Returns the segment with this Media Sequence Number. Raises IndexError."""
        at = number - self.first
        if at < 0:
            raise IndexError(number)
        seconds = self._durations[at] / _UNITS
        return PastSegment(self._names[at], seconds, self._walls[at], self._epochs[at], self._starts[at])

    def epoch(self, number: int) -> int:
        """Returns the epoch of the segment with this number, which must exist."""
        return self._epochs[number - self.first]

    def continues(self, number: int) -> bool:
        """Whether a segment begins where the one before it ends, in its epoch. Both must exist."""
        at, walls = number - self.first, self._walls
        off = walls[at] - walls[at - 1] - self._durations[at - 1] / _UNITS
        return self._epochs[at] == self._epochs[at - 1] and -_APART < off < _APART

    @property
    def end(self) -> int:
        """The number that the next segment will have."""
        return self.first + len(self._names)

    @property
    def end_wall(self) -> float:
        """The date at which the newest segment ends, seconds since 1970; 0 without segments."""
        return self._walls[-1] + self._durations[-1] / _UNITS if self._names else 0.0

    def add(self, number: int, segment: PastSegment) -> None:
        """Adds a complete segment. If its number does not follow the last one, all previous segments are dropped."""
        if number != self.end or not self._names:
            self._drop(len(self._names))
            self.first = self.own = number
        self.append(segment)
        if len(self._names) % _TRIM == 0:
            old = self.since(segment.wall - self.reach) - self.first
            self._drop(max(old, len(self._names) - MAX_SEGMENTS, 0))

    def prepend(self, older: SegmentHistory) -> None:
        """Adds older pieces before all segments, as many of the newest as fit. older: the newest piece first."""
        count = max(min(len(older), MAX_SEGMENTS - len(self)), 0)
        self.first -= count
        for values, added in zip(self._arrays, older._arrays, strict=True):
            added = added[:count]
            added.reverse()
            values[:0] = added

    def since(self, wall: float) -> int:
        """Returns the number of the segment that contains this date, or of the oldest one if the date is earlier."""
        return self.first + max(bisect_right(self._walls, wall) - 1, 0)

    def longest(self, first: int) -> float:
        """Returns the duration of the longest stored piece from number `first`, seconds; 0 if there is none."""
        return max(self._durations[first - self.first : max(self.own - self.first, 0)], default=0) / _UNITS

    def append(self, segment: PastSegment) -> None:
        """Adds a segment with the next number. The caller must keep the bound."""
        self._names.append(segment.name)
        self._durations.append(round(segment.seconds * _UNITS))
        self._walls.append(segment.wall)
        self._epochs.append(segment.epoch)
        self._starts.append(segment.start)

    def _drop(self, count: int) -> None:
        for values in self._arrays:
            del values[:count]
        self.first += count
