"""Refusals: how often an address guessed wrong lately, and when it may try again."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict, deque

WINDOW = 60.0  # seconds


class Refusals:
    """Counts refused tries by address within a minute; the `most` addresses that tried last are remembered.

    IPv6 addresses count by their /64: whoever has one address of it has them all. `per_minute` 0: no limit.
    """

    def __init__(self, per_minute: int, most: int = 10_000) -> None:
        self._per_minute = per_minute
        self._most = most
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tries)

    def add(self, address: str, now: float) -> None:
        """One more refused try; now: monotonic seconds."""
        if not self._per_minute:
            return
        key = _key(address)
        tries = self._tries.setdefault(key, deque(maxlen=self._per_minute))
        tries.append(now)
        self._tries.move_to_end(key)
        if len(self._tries) > self._most:
            self._tries.popitem(last=False)

    def wait(self, address: str, now: float) -> int:
        """Whole seconds until the address may try again; 0: it may now."""
        key = _key(address)
        tries = self._tries.get(key)
        if tries is None:
            return 0
        if now - tries[-1] >= WINDOW:
            del self._tries[key]
            return 0
        if len(tries) < self._per_minute:
            return 0
        return max(0, math.ceil(tries[0] + WINDOW - now))


def _key(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return str(parsed)
