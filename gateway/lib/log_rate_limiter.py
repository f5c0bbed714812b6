"""Limits the log lines a second that clients can cause."""

import time
from collections.abc import Callable


class LogRateLimiter:
    """Allows `limit` lines a second and counts the omitted lines."""

    __slots__ = ("_clock", "_left_out", "_limit", "_lines", "_second")

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._second = float("-inf")
        self._lines = 0
        self._left_out = 0

    def admit(self) -> dict[str, int] | None:
        """Counts a line. Returns None if the line must be omitted, otherwise its extra fields.

        The field `left_out` is the number of earlier lines that were omitted; it is missing if there were none.
        """
        now = self._clock()
        if now - self._second >= 1:
            self._second, self._lines = now, 0
        if self._lines >= self._limit:
            self._left_out += 1
            return None
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        return {"left_out": left_out} if left_out else {}
