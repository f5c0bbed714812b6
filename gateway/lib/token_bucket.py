"""A token bucket: bounds how often something may happen, on average and at once."""

from __future__ import annotations


class TokenBucket:
    """Allows `per_second` on average, and up to `burst` at once after a pause."""

    __slots__ = ("_burst", "_left", "_per_second", "_then")

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = self._left = burst
        self._then: float | None = None

    def take(self, count: float, now: float) -> bool:
        """Whether `count` more may happen. If not, nothing is taken. now: monotonic seconds."""
        if self._then is not None:
            self._left = min(self._burst, self._left + (now - self._then) * self._per_second)
        self._then = now
        if count > self._left:
            return False
        self._left -= count
        return True
