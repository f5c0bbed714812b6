"""Stores the last seconds of a stream, in whole GOPs, for clips that begin before their trigger."""

from __future__ import annotations

from collections import deque

from gateway.media.track import Kind
from gateway.media.unit import AccessUnit


class PreRoll:
    """Stores at least `seconds` before the newest picture, or before an older one (see `add`), from a key frame on.

    Above `max_bytes` bytes the oldest GOPs are removed.
    A single GOP that is too large is removed too.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._groups: deque[list[AccessUnit]] = deque()  # each begins with a key frame
        self._sizes: deque[int] = deque()
        self._bytes = 0

    def add(self, unit: AccessUnit, comparing_at: float | None = None) -> None:
        """Adds the stream's next unit. Hot path.

        comparing_at: decode time, in seconds, of the picture being compared, which needs earlier units; None if none.
        """
        groups = self._groups
        if unit.track.kind is Kind.VIDEO:
            newest = _seconds(unit) if comparing_at is None else comparing_at
            # The second group is old enough, so the first is not needed.
            while len(groups) > 1 and newest - _seconds(groups[1][0]) >= self._seconds:
                self._remove_first()
            if unit.key:
                if len(groups) == 1 and not self._seconds:
                    self._remove_first()
                groups.append([])
                self._sizes.append(0)
        if not groups:
            return
        groups[-1].append(unit)
        self._sizes[-1] += len(unit.payload)
        self._bytes += len(unit.payload)
        while groups and self._bytes > self._max_bytes:
            self._remove_first()

    def units(self, after: float = float("-inf")) -> list[AccessUnit]:
        """Returns the units of all groups that end after `after` (decode time, seconds)."""
        return [unit for group in self._groups if _seconds(group[-1]) > after for unit in group]

    def clear(self) -> None:
        self._groups.clear()
        self._sizes.clear()
        self._bytes = 0

    def _remove_first(self) -> None:
        self._groups.popleft()
        self._bytes -= self._sizes.popleft()


def _seconds(unit: AccessUnit) -> float:
    return unit.dts / unit.track.timescale
