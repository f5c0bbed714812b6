"""Keeps values of the last 24 hours, the older ones in larger steps. No clock and no I/O: callers pass the time."""

from __future__ import annotations

import json
import math
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Self, TypeAlias

from gateway.lib.bounded_dict import BoundedDict

Triple: TypeAlias = tuple[float, float, float]  # average, minimum, maximum
# One point: the time of its bucket, seconds since 1970, and its values by series.
Point: TypeAlias = tuple[int, dict[str, Triple]]


@dataclass(frozen=True, slots=True)
class Resolution:
    """Points every `step` seconds, kept for `span` seconds."""

    step: int
    span: int


RESOLUTIONS: Final = (Resolution(5, 600), Resolution(60, 10_800), Resolution(300, 86_400))
MAX_SECONDS: Final = RESOLUTIONS[-1].span
MAX_CHANNELS: Final = 500  # the channel whose last point is oldest is dropped first
MAX_SERIES: Final = 32  # of one timeline; additional ones are ignored
MAX_FILE_BYTES: Final = 64 << 20
_MAGIC: Final = b"millrace history 1\n"
_LENGTH: Final = struct.Struct("<I")
_MAX_HEAD_BYTES: Final = 65_536
_CLOCK_BACK: Final = 60  # seconds; if the clock was set back by more, the points of the future are dropped
_NAN: Final = math.nan


class _Points:
    """The points of one resolution, oldest first. A time without a point is a gap."""

    __slots__ = ("resolution", "series", "times")

    def __init__(self, resolution: Resolution) -> None:
        self.resolution = resolution
        self.times = array("I")
        self.series: dict[str, array[float]] = {}  # by name: average, minimum, maximum of each point; NaN: none

    def add(self, at: int, values: Mapping[str, Triple]) -> None:
        for name in values.keys() - self.series.keys():
            if len(self.series) < MAX_SERIES:
                self.series[name] = array("f", (_NAN,)) * (3 * len(self.times))
        self.times.append(at)
        for name, column in self.series.items():
            column.extend(values.get(name, (_NAN, _NAN, _NAN)))
        if at - self.times[0] > self.resolution.span * 1.1:  # many points at once, because a deletion copies the others
            self._delete(0, bisect_left(self.times, at - self.resolution.span))

    def forget_after(self, at: int) -> None:
        self._delete(bisect_left(self.times, at + 1), len(self.times))

    def _delete(self, first: int, end: int) -> None:
        del self.times[first:end]
        for name, column in list(self.series.items()):
            del column[3 * first : 3 * end]
            if all(map(math.isnan, column[::3])):
                del self.series[name]

    def between(self, start: int, end: int) -> Iterator[Point]:
        """Yields the points from `start`, before `end`."""
        for n in range(bisect_left(self.times, start), bisect_left(self.times, end)):
            yield self.times[n], {name: _triple(column, n) for name, column in self.series.items()}

    def combined(self, start: int, end: int) -> dict[str, Triple]:
        """Returns the average, minimum and maximum of all points from `start`, before `end`, by series."""
        first, last = bisect_left(self.times, start), bisect_left(self.times, end)
        result = {}
        for name, column in self.series.items():
            part = column[3 * first : 3 * last]
            known = [value for value in part[::3] if value == value]  # NaN differs from itself
            if known:
                low = min(value for value in part[1::3] if value == value)
                high = max(value for value in part[2::3] if value == value)
                result[name] = (math.fsum(known) / len(known), low, high)
        return result


def _triple(column: array[float], n: int) -> Triple:
    return column[3 * n], column[3 * n + 1], column[3 * n + 2]


class Timeline:
    """The history of one channel or node, in all RESOLUTIONS.

    At most 653 points of (4 + 12 × series) bytes: with three series 26 kB, with 32 series 254 kB.
    """

    def __init__(self) -> None:
        self._levels = tuple(_Points(resolution) for resolution in RESOLUTIONS)

    @property
    def last(self) -> int:
        """The time of the latest point, seconds since 1970; 0 if there is none."""
        return max((level.times[-1] for level in self._levels if level.times), default=0)

    def add(self, now: float, values: Mapping[str, float]) -> None:
        """Adds the current values. now: seconds since 1970. A second sample in the same 5 s is ignored."""
        fine = self._levels[0]
        at = _bucket(now, fine.resolution.step)
        if self.last > at + _CLOCK_BACK:
            for level in self._levels:
                level.forget_after(at)
        if fine.times and at <= fine.times[-1]:
            return
        if fine.times:
            self._close_buckets(fine.times[-1], at)
        fine.add(at, {name: (value, value, value) for name, value in values.items() if math.isfinite(value)})

    def _close_buckets(self, before: int, at: int) -> None:
        """Adds the coarser points of the buckets that ended between two fine points."""
        for finer, coarse in zip(self._levels, self._levels[1:], strict=False):
            start = _bucket(before, coarse.resolution.step)
            if start != _bucket(at, coarse.resolution.step) and (not coarse.times or start > coarse.times[-1]):
                values = finer.combined(start, start + coarse.resolution.step)
                if values:
                    coarse.add(start, values)

    def points(self, now: float, seconds: float) -> tuple[int, list[Point]]:
        """Returns the points of the last `seconds`, and their step in seconds.

        The finest resolution that covers the time is used. Points after its last complete bucket have smaller steps.
        """
        which = next((n for n, level in enumerate(self._levels) if level.resolution.span >= seconds), 2)
        start = int(now - seconds)
        found: list[Point] = []
        for level in reversed(self._levels[: which + 1]):
            found.extend(level.between(start, int(now) + _CLOCK_BACK))
            if level.times:
                start = max(start, level.times[-1] + level.resolution.step)
        return self._levels[which].resolution.step, found

    def encode(self) -> bytes:
        """Returns the points for a file: lengths, names and the arrays."""
        head = [[len(level.times), list(level.series)] for level in self._levels]
        arrays = []
        for level in self._levels:
            arrays += [level.times.tobytes(), *(column.tobytes() for column in level.series.values())]
        text = json.dumps(head).encode()
        return b"".join((_LENGTH.pack(len(text)), text, *arrays))

    @classmethod
    def decode(cls, data: memoryview) -> Self:
        """Reads what `encode` has written. Raises ValueError."""
        timeline = cls()
        try:
            (size,) = _LENGTH.unpack_from(data)
            head, rest = json.loads(bytes(data[4 : 4 + size])), data[4 + size :]
            if len(head) != len(RESOLUTIONS):
                raise ValueError("another number of resolutions")
            for level, (count, names) in zip(timeline._levels, head, strict=True):
                if type(count) is not int or not 0 <= count <= 2000 or len(names) > MAX_SERIES:
                    raise ValueError("a wrong size")
                level.times.frombytes(rest[: 4 * count])
                rest = rest[4 * count :]
                for name in names:
                    level.series[str(name)] = column = array("f")
                    column.frombytes(rest[: 12 * count])
                    rest = rest[12 * count :]
                    if len(column) != 3 * count:
                        raise ValueError("too short")
                if len(level.times) != count or any(a >= b for a, b in zip(level.times, level.times[1:], strict=False)):
                    raise ValueError("times that do not grow")
        except (struct.error, TypeError, KeyError, RecursionError) as error:
            raise ValueError("not a timeline") from error
        if rest:
            raise ValueError("too long")
        return timeline


class History:
    """The timelines of this process and of its channels.

    At most MAX_CHANNELS channels: 17 MB with the four series of streams, 127 MB with 32 series. The channel whose last
    point is oldest is dropped first.
    """

    def __init__(self) -> None:
        self.node = Timeline()
        self._channels: BoundedDict[str, Timeline] = BoundedDict(MAX_CHANNELS)  # ordered by the time of the last point

    def __len__(self) -> int:
        return len(self._channels)

    def add_channel(self, id: str, now: float, values: Mapping[str, float]) -> None:
        """Adds the current values of a live channel. now: seconds since 1970."""
        timeline = self._channels[id] = self._channels.get(id) or Timeline()
        timeline.add(now, values)

    def channel(self, id: str) -> Timeline | None:
        """Returns the timeline of a channel, also if it is not live; None if it has none."""
        return self._channels.get(id)

    def forget_old(self, now: float) -> None:
        """Drops channels whose last point is older than the longest span."""
        due = now - RESOLUTIONS[-1].span
        while self._channels and next(iter(self._channels.values())).last < due:
            self._channels.popitem(last=False)

    def encode(self) -> Iterator[bytes]:
        """Yields the parts of the file. The caller may let other tasks run between two parts."""
        yield _MAGIC
        for name, timeline in [("", self.node), *self._channels.items()]:
            body = timeline.encode()
            yield b"".join((_LENGTH.pack(len(name)), name.encode("ascii"), _LENGTH.pack(len(body)), body))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Reads the parts of `encode`. Raises ValueError for anything else."""
        if not data.startswith(_MAGIC):
            raise ValueError("not a history of this version")
        history = cls()
        rest = memoryview(data)[len(_MAGIC) :]
        while rest:
            name, rest = _take(rest, 256)
            body, rest = _take(rest, MAX_FILE_BYTES)
            timeline = Timeline.decode(body)
            if name:
                history._channels[bytes(name).decode("ascii")] = timeline
            else:
                history.node = timeline
        return history


def _take(data: memoryview, maximum: int) -> tuple[memoryview, memoryview]:
    """Returns the next part of a file, and the rest."""
    if len(data) < 4:
        raise ValueError("too short")
    (size,) = _LENGTH.unpack_from(data)
    if size > maximum or len(data) < 4 + size:
        raise ValueError("a wrong length")
    return data[4 : 4 + size], data[4 + size :]


def merged(
    parts: Sequence[Sequence[Point]], step: int, now: float, together: Callable[[str], Callable[..., float]]
) -> list[Point]:
    """Returns the points of several processes or nodes in one list, in the order of time.

    step: of the points, seconds. Older points are combined to this step, so that all parts have points of equal times.
    together(series): combines the values of one time: `sum` or `max`.
    """
    if len(parts) == 1:
        return list(parts[0])
    recent = _bucket(now, step) - step
    found: dict[int, dict[str, list[Triple]]] = {}
    for points in parts:
        for at, values in _combined_to_step(points, step, recent):
            into = found.setdefault(at, {})
            for name, triple in values.items():
                into.setdefault(name, []).append(triple)
    return [
        (at, {name: _combined(triples, *[together(name)] * 3) for name, triples in values.items()})
        for at, values in sorted(found.items())
    ]


def _combined_to_step(points: Sequence[Point], step: int, recent: int) -> Iterator[Point]:
    """Yields the points with the step `step`. Points from `recent` on are unchanged. Unknown values are left out."""
    for at, group in groupby(points, lambda point: point[0] if point[0] >= recent else _bucket(point[0], step)):
        found: dict[str, list[Triple]] = {}
        for _, values in group:
            for name, triple in values.items():
                if triple[0] == triple[0]:  # NaN differs from itself
                    found.setdefault(name, []).append(triple)
        if found:
            yield at, {name: _combined(triples, _mean, min, max) for name, triples in found.items()}


def _combined(triples: list[Triple], *together: Callable[[Iterable[float]], float]) -> Triple:
    average, low, high = (call(column) for call, column in zip(together, zip(*triples, strict=True), strict=True))
    return average, low, high


def rounded(value: float) -> float | None:
    """Returns a value with the digits that are shown; None for an unknown one."""
    return round(value, 4 if abs(value) < 100 else 1) if math.isfinite(value) else None


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)


def _bucket(at: float, step: int) -> int:
    return int(at // step * step)
