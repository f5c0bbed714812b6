"""KeyFrameRequests: when the sender of a push is asked for a key frame."""

from __future__ import annotations

from typing import Final

_REPEAT_SECONDS: Final = 1.0  # until the next request, if no key frame came
_LATE_SECONDS: Final = 1.0  # that a sender's own key frames may be later than the interval


class KeyFrameRequests:
    """A key frame is requested if a consumer wants one, or after an interval without any. Times are in seconds.

    A sender that sends key frames unasked has an interval of its own, and gets some more time.
    After a loss, the receiver requests key frames by itself.

    interval: without a key frame; 0: any.
    """

    __slots__ = ("_asked", "_interval", "_last", "_next", "_patience", "_wanted")

    def __init__(self, interval: float, now: float) -> None:
        self._interval = self._patience = interval
        self._last = now
        self._asked = True  # since the last key frame; the first one says nothing about an interval
        self._next = 0.0  # before this time, nothing is requested
        self._wanted = False

    def want(self) -> None:
        """Requests a key frame as soon as possible."""
        self._wanted = True

    def came(self, now: float) -> None:
        """Takes notice of a key frame."""
        self._patience = self._interval + (0.0 if self._asked else _LATE_SECONDS)
        self._last, self._wanted, self._asked = now, False, False

    def due(self, now: float) -> bool:
        """Whether a key frame is to be requested now."""
        overdue = self._interval and now - self._last > self._patience
        if not (self._wanted or overdue) or now < self._next:
            return False
        self._next = now + _REPEAT_SECONDS
        self._asked = True
        return True
