"""A token bucket: limits the average rate of an action, and the number of actions at once."""

from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.network import client_network


class TokenBucket:
    """Allows `per_second` on average, and up to `burst` at once after a pause."""

    __slots__ = ("_burst", "_per_second", "_tokens", "_updated_at")

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = self._tokens = burst
        self._updated_at: float | None = None

    def take(self, count: float, now: float) -> bool:
        """Takes `count` tokens. Returns False and takes none if there are too few. now: monotonic seconds."""
        if self._updated_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._per_second)
        self._updated_at = now
        if count > self._tokens:
            return False
        self._tokens -= count
        return True


class AddressBuckets:
    """One bucket for each of the last `max_addresses` addresses. IPv6 addresses are counted by their /64."""

    def __init__(self, per_second: float, burst: float, max_addresses: int = 10_000) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: BoundedDict[str, TokenBucket] = BoundedDict(max_addresses)

    def take(self, address: str, now: float) -> bool:
        """Takes one token of an address. Returns False if there is none. now: monotonic seconds."""
        network = client_network(address)
        bucket = self._buckets[network] = self._buckets.get(network) or TokenBucket(self._per_second, self._burst)
        return bucket.take(1, now)
