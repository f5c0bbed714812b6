"""Pre-roll: the last seconds of a stream, whole groups of pictures, for clips that begin before their reason."""

from __future__ import annotations

from collections import deque

from gateway.media.track import Kind
from gateway.media.unit import AccessUnit


class PreRoll:
    """Keeps at least `seconds` before the newest picture (or an older one, if `add` is told so), from a key frame on,
    where `most` bytes suffice for that.

    Beyond them the oldest groups go first; of a single group that is too large nothing is kept until the next one.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._groups: deque[list[AccessUnit]] = deque()  # each begins with a key frame
        self._sizes: deque[int] = deque()
        self._bytes = 0

    def add(self, unit: AccessUnit, awaited: float | None = None) -> None:
        """Hot. The stream's next unit. awaited: when the picture was that may still want what was before it, seconds of
        decode time; None: none does."""
        groups = self._groups
        if unit.track.kind is Kind.VIDEO:
            newest = _seconds(unit) if awaited is None else awaited
            # The second group reaches back far enough: the first is not needed any more.
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
        while groups and self._bytes > self._most:
            self._forget()

    def units(self, after: float = float("-inf")) -> list[AccessUnit]:
        """What is kept; only groups that reach beyond `after` (seconds of decode time)."""
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
