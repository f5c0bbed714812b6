"""Pauses between tries."""

from __future__ import annotations

import random


class Backoff:
    """Doubling pauses with jitter: `first`, 2 · `first`, … up to `longest` seconds. Call `reset` after a success."""

    def __init__(self, first: float = 1.0, longest: float = 30.0, jitter: float = 0.2) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._tries = 0

    def next(self) -> float:
        """Returns the seconds to wait now."""
        pause = min(self._longest, self._first * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return pause * (1 + self._jitter * random.uniform(-1, 1))  # noqa: S311 (jitter, no secret)

    def reset(self) -> None:
        self._tries = 0
