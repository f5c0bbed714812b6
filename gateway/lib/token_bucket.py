"""A token bucket: limits the average rate of an action, and the number of actions at once."""


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

    def give(self, count: float) -> None:
        """Adds tokens, as far as the burst allows."""
        self._tokens = min(self._burst, self._tokens + count)
