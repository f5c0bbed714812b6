"""Bounds the number of things that an address may have at once."""

from __future__ import annotations

from collections import Counter

from gateway.lib.network import client_network


class Quota:
    """Counts the things that an address has. IPv6 addresses are counted by their /64. limit: 0 means no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        """Counts one more. Returns False if the address is at its limit."""
        network = client_network(address)
        if self._limit and self._held[network] >= self._limit:
            return False
        self._held[network] += 1
        return True

    def give(self, address: str) -> None:
        """Counts one less."""
        network = client_network(address)
        self._held[network] -= 1
        if self._held[network] <= 0:
            del self._held[network]

    def __getitem__(self, address: str) -> int:
        return self._held[client_network(address)]
