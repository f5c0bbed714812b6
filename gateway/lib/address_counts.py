"""Limits how often an address does something in a minute."""

from typing import Final

from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.network import client_network

_WINDOW: Final = 60.0  # seconds


class AddressCounts:
    """Counts for each of the last `max_addresses` addresses, in minutes that begin with its first action.

    IPv6 addresses are counted by their /64. `Refusals` knows the time of each attempt; for hundreds of actions a minute
    that would take too much memory.
    """

    def __init__(self, per_minute: int, max_addresses: int = 10_000) -> None:
        self._per_minute = per_minute
        self._counts: BoundedDict[str, tuple[float, int]] = BoundedDict(max_addresses)  # begin of the minute, and count

    def take(self, address: str, now: float) -> bool:
        """Counts an action of an address. Returns False if this minute has too many. now: monotonic seconds."""
        network = client_network(address)
        began, count = self._counts.get(network) or (now, 0)
        if now - began >= _WINDOW:
            began, count = now, 0
        is_allowed = count < self._per_minute
        self._counts[network] = (began, count + is_allowed)
        return is_allowed
