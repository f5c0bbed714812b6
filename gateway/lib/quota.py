"""Quota: how many things an address may hold at once."""

from __future__ import annotations

from collections import Counter


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
