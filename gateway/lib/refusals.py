"""Counts wrong credentials by address, and limits additional attempts."""

import math
from collections import deque
from typing import Final

from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.network import client_network

WINDOW: Final = 60.0  # seconds


class Refusals:
    """Counts refused attempts by address within a minute, for the last `max_addresses` addresses.

    Callers verify the credentials first. The limit changes only the answer to a wrong attempt; it never refuses a
    correct one. IPv6 addresses are counted by their /64. The callers for OBS are an exception: they count each request
    with a stream key as refused, before the key is checked. Their limit also refuses requests with a correct key.

    per_minute: allowed refused attempts of an address; 0: no limit.
    """

    def __init__(self, per_minute: int, max_addresses: int = 10_000) -> None:
        self.per_minute = per_minute
        self._attempts: BoundedDict[str, deque[float]] = BoundedDict(max_addresses)

    def __len__(self) -> int:
        return len(self._attempts)

    def add(self, address: str, now: float) -> int:
        """Counts one more refused attempt. Returns what `wait` returned before this attempt. now: monotonic seconds.

        An attempt above the limit is not recorded, so that the wait ends even if the client continues.
        """
        if not self.per_minute:
            return 0
        if seconds := self.wait(address, now):
            return seconds
        key = client_network(address)
        attempts = self._attempts[key] = self._attempts.get(key) or deque(maxlen=self.per_minute)
        attempts.append(now)
        return 0

    def wait(self, address: str, now: float) -> int:
        """Returns the whole seconds until a refused attempt of the address is below the limit; 0: it is so now."""
        attempts = self._recent(address, now)
        if attempts is None or len(attempts) < self.per_minute:
            return 0
        return max(0, math.ceil(attempts[0] + WINDOW - now))

    def count(self, address: str, now: float) -> int:
        """Returns the number of refused attempts in the last minute, at most `per_minute`."""
        attempts = self._recent(address, now)
        return 0 if attempts is None else sum(now - at < WINDOW for at in attempts)

    def _recent(self, address: str, now: float) -> deque[float] | None:
        """Returns the attempts of an address. If the last one is a minute old, deletes them and returns None."""
        key = client_network(address)
        attempts = self._attempts.get(key)
        if attempts is not None and now - attempts[-1] >= WINDOW:
            del self._attempts[key]
            return None
        return attempts
