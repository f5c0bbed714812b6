"""Counts wrong credentials by address, and tells when an address may try again."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Final

from gateway.lib.network import client_network

WINDOW: Final = 60.0  # seconds


class Refusals:
    """Counts refused tries by address within a minute. Remembers the `max_addresses` addresses that tried last.

    Callers verify the credentials first. The limit changes only the answer to a wrong try; it never refuses a right
    one. IPv6 addresses are counted by their /64. `per_minute` 0: no limit.
    """

    def __init__(self, per_minute: int, max_addresses: int = 10_000) -> None:
        self.per_minute = per_minute
        self._max_addresses = max_addresses
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tries)

    def add(self, address: str, now: float) -> int:
        """Counts one more refused try. now: monotonic seconds. Returns `wait` as it was before this try.

        A try beyond the limit is not recorded, so that the wait ends even if the client keeps trying.
        """
        if not self.per_minute:
            return 0
        if seconds := self.wait(address, now):
            return seconds
        key = client_network(address)
        self._tries.setdefault(key, deque(maxlen=self.per_minute)).append(now)
        self._tries.move_to_end(key)
        if len(self._tries) > self._max_addresses:
            self._tries.popitem(last=False)
        return 0

    def wait(self, address: str, now: float) -> int:
        """Returns the whole seconds until a wrong try of the address is accepted again; 0: now."""
        tries = self._recent(address, now)
        if tries is None or len(tries) < self.per_minute:
            return 0
        return max(0, math.ceil(tries[0] + WINDOW - now))

    def count(self, address: str, now: float) -> int:
        """The number of refused tries in the last minute, at most `per_minute`."""
        tries = self._recent(address, now)
        return 0 if tries is None else sum(now - at < WINDOW for at in tries)

    def _recent(self, address: str, now: float) -> deque[float] | None:
        """Returns the tries of an address. If the last one is a minute old, forgets them and returns None."""
        key = client_network(address)
        tries = self._tries.get(key)
        if tries is not None and now - tries[-1] >= WINDOW:
            del self._tries[key]
            return None
        return tries
