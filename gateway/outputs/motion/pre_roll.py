"""Keeps the last seconds of a stream, in whole GOPs, for clips that begin before their trigger."""

from __future__ import annotations

from collections import deque

from gateway.media.track import Kind
from gateway.media.unit import AccessUnit


class PreRoll:
    """Keeps at least `seconds` before the newest picture, or before an older one (see `add`), from a key frame on.

    At most `max_bytes` bytes are kept: beyond them the oldest GOPs are removed first.
    If a single GOP is too large, nothing is kept until the next one.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._groups: deque[list[AccessUnit]] = deque()  # each begins with a key frame
        self._sizes: deque[int] = deque()
        self._bytes = 0

    def add(self, unit: AccessUnit, awaited: float | None = None) -> None:
        """Takes the stream's next unit. Hot path.

        awaited: decode time in seconds of a picture whose earlier units may still be needed; None: there is none.
        """
        groups = self._groups
        if unit.track.kind is Kind.VIDEO:
            newest = _seconds(unit) if awaited is None else awaited
            # The second group reaches back far enough, so the first is not needed any more.
            while len(groups) > 1 and newest - _seconds(groups[1][0]) >= self._seconds:
                self._forget()
            if unit.key:
                if len(groups) == 1 and not self._seconds:
                    self._forget()
                groups.append([])
                self._sizes.append(0)
        if not groups:
            return
        groups[-1].append(unit)
        self._sizes[-1] += len(unit.payload)
        self._bytes += len(unit.payload)
        while groups and self._bytes > self._max_bytes:
            self._forget()

    def units(self, after: float = float("-inf")) -> list[AccessUnit]:
        """Returns the kept units, only of groups that reach beyond `after` (decode time, seconds)."""
        return [unit for group in self._groups if _seconds(group[-1]) > after for unit in group]

    def clear(self) -> None:
        self._groups.clear()
        self._sizes.clear()
        self._bytes = 0

    def _forget(self) -> None:
        self._groups.popleft()
        self._bytes -= self._sizes.popleft()


def _seconds(unit: AccessUnit) -> float:
    return unit.dts / unit.track.timescale
