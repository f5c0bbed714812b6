"""Pauses between attempts."""

import random


class Backoff:
    """Doubling pauses: `first`, 2 · `first`, … up to `longest` seconds, with 20 % jitter. `reset` follows a success."""

    def __init__(self, first: float = 1.0, longest: float = 30.0) -> None:
        self._first = first
        self._longest = longest
        self._attempts = 0

    def next(self) -> float:
        """Returns the seconds to wait before the next attempt."""
        pause = min(self._longest, self._first * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 (jitter, not a secret)

    def reset(self) -> None:
        self._attempts = 0
