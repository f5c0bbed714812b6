"""Finds the bytes of a time range in the pieces (segments) of a running on-demand recording."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.media.clock import VIDEO_CLOCK

POINT_TICKS: Final = VIDEO_CLOCK  # a second; after this time, a point follows even without a key frame
_MAX_POINTS: Final = 100_000  # of a stream, 27 hours with a key frame in each second; 20 bytes each
_TRIM: Final = 1_000  # points that are dropped at once, because dropping moves all later points
_ROUNDING: Final = VIDEO_CLOCK // 100  # two packagers may round a frame's time differently
_TABLES: Final = 2 * 188  # bytes of PAT and PMT at the start of each piece


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of one piece. piece: its number. start, end: positions in its file; the end is exclusive."""

    piece: int
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


class RecordedPoints:
    """The points of all pieces: positions at which players can begin, at key frames and at least every second.

    Times are decode times in ticks of 90 kHz, as packagers have them. They grow while a stream lasts.
    The oldest points are dropped above _MAX_POINTS.
    """

    def __init__(self) -> None:
        self._times = array("q")
        self._pieces = array("q")
        self._offsets = array("I")
        self._complete = array("q")  # numbers of complete pieces, in order
        self._sizes = array("I")  # bytes of each complete piece

    def add(self, piece: int, points: Sequence[tuple[int, int]]) -> None:
        """Adds points of a piece, whose bytes are on disk. points: pairs of time and position in the piece."""
        for time, offset in points:
            if self._times and time < self._times[-1]:
                continue  # late sound, or a timeline that went back
            is_first = not self._pieces or self._pieces[-1] != piece
            self._times.append(time)
            self._pieces.append(piece)
            self._offsets.append(0 if is_first else offset)  # the tables and early sound belong to the first point
        if len(self._times) >= _MAX_POINTS + _TRIM:
            self._drop(_TRIM)

    def complete(self, piece: int, size: int) -> None:
        """Records the size of a complete piece."""
        self._complete.append(piece)
        self._sizes.append(size)

    def is_complete(self, piece: int) -> bool:
        at = bisect_left(self._complete, piece)
        return at < len(self._complete) and self._complete[at] == piece

    def trim(self, piece: int) -> None:
        """Forgets the pieces before `piece`, because they are deleted."""
        self._drop(bisect_left(self._pieces, piece))

    def has(self, start: int, end: int) -> bool:
        """Whether all bytes of a time range are in pieces."""
        return bool(self.spans(start, end))

    def spans(self, start: int, end: int | None) -> list[Span]:
        """Returns the bytes of a time range, with the tables of the first piece; empty if a part is missing.

        start, end: times at which segments begin. end: None for the end of the last piece.
        """
        first, last = self._find(start), None if end is None else self._find(end)
        if first is None or (end is not None and last is None):
            return []
        piece, offset = self._pieces[first], self._offsets[first]
        spans = [Span(piece, 0, _TABLES)] if offset else []
        last_piece, last_offset = (self._pieces[last], self._offsets[last]) if last is not None else (1 << 62, 0)
        if piece == last_piece:
            return [*spans, Span(piece, offset, last_offset)] if last_offset > offset else []
        at = bisect_left(self._complete, piece)
        while at < len(self._complete) and self._complete[at] < last_piece:
            spans.append(Span(self._complete[at], offset, self._sizes[at]))
            offset = 0
            at += 1
        if offset or not spans:  # the first piece is not complete yet
            return []
        if last_offset:
            spans.append(Span(last_piece, 0, last_offset))
        return spans

    def _find(self, time: int) -> int | None:
        """Returns the index of the last point at or before `time`; None if it is too far away."""
        at = bisect_right(self._times, time + _ROUNDING) - 1
        if at < 0 or time - self._times[at] > POINT_TICKS + _ROUNDING:
            return None
        return at

    def _drop(self, count: int) -> None:
        for values in (self._times, self._pieces, self._offsets):
            del values[:count]
        old = bisect_left(self._complete, self._pieces[0]) if self._pieces else len(self._complete)
        del self._complete[:old]
        del self._sizes[:old]
