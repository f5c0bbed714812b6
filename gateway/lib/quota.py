"""Limits the number of simultaneous connections or requests of an address."""

from collections import Counter

from gateway.lib.network import client_network


class Quota:
    """Counts by address. IPv6 addresses are counted by their /64.

    limit: maximum for one address; 0 means no limit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: Counter[str] = Counter()

    def take(self, address: str, own: int = 0) -> bool:
        """Counts one more use of the address. Returns False if the address is at its limit.

        own: counted uses of the same client that will end, and do not count against this one.
        """
        network = client_network(address)
        if self._limit and self._counts[network] - own >= self._limit:
            return False
        self._counts[network] += 1
        return True

    def give(self, address: str) -> None:
        """Counts one use less."""
        network = client_network(address)
        self._counts[network] -= 1
        if self._counts[network] <= 0:
            del self._counts[network]

    def __getitem__(self, address: str) -> int:
        return self._counts[client_network(address)]
