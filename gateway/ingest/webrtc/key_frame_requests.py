"""KeyFrameRequests: when the sender of a push is asked for a key frame."""

from __future__ import annotations

from typing import Final

_REPEAT_SECONDS: Final = 1.0  # until the next request, if no key frame came
_LATE_SECONDS: Final = 0.1  # that a key frame of the sender's own interval may be late


class KeyFrameRequests:
    """A key frame is requested if a consumer wants one, or after an interval without any. Times are in seconds.

    It is for senders without losses; after a loss, the receiver requests key frames by itself.
    """

    __slots__ = ("_interval", "_last", "_next", "_wanted")

    def __init__(self, interval: float, now: float) -> None:
        """interval: without a key frame; 0: any."""
        self._interval = interval
        self._last = now
        self._next = 0.0  # before this time, nothing is requested
        self._wanted = False

    def want(self) -> None:
        """Requests a key frame as soon as possible."""
        self._wanted = True

    def came(self, now: float) -> None:
        """Takes notice of a key frame."""
        self._last, self._wanted = now, False

    def due(self, now: float) -> bool:
        """Whether a key frame is to be requested now."""
        overdue = self._interval and now - self._last > self._interval + _LATE_SECONDS
        if not (self._wanted or overdue) or now < self._next:
            return False
        self._next = now + _REPEAT_SECONDS
        return True
