"""Counting by address, bounded: how many now, and how many in the last minute."""

from __future__ import annotations

from collections import Counter, OrderedDict


class Quota:
    """How many things an address holds at once. most 0: no limit."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        """One more; False where the address has all that it may have."""
        if self._most and self._held[address] >= self._most:
            return False
        self._held[address] += 1
        return True

    def give(self, address: str) -> None:
        """One less."""
        self._held[address] -= 1
        if self._held[address] <= 0:
            del self._held[address]

    def __getitem__(self, address: str) -> int:
        return self._held[address]


class PerMinute:
    """Events by address within a minute, in fixed memory: the MOST_ADDRESSES that were heard of last. most 0: no limit."""

    MOST_ADDRESSES = 10_000

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address: (level, when)

    def _level(self, address: str, now: float) -> float:
        """A bucket that leaks `most` a minute."""
        level, when = self._seen.get(address, (0.0, now))
        return max(0.0, level - (now - when) * self._most / 60)

    def add(self, address: str, now: float) -> None:
        """One more at `now` (monotonic seconds)."""
        if not self._most:
            return
        self._seen[address] = (self._level(address, now) + 1, now)
        self._seen.move_to_end(address)
        if len(self._seen) > self.MOST_ADDRESSES:
            self._seen.popitem(last=False)

    def exceeded(self, address: str, now: float) -> bool:
        return self._most > 0 and self._level(address, now) >= self._most

    def retry_after(self, address: str, now: float) -> int:
        """Whole seconds until one more is allowed."""
        if not self._most:
            return 0
        return max(1, int((self._level(address, now) - self._most + 1) * 60 / self._most) + 1)
