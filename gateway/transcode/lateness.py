"""Lateness: how far the work on a live recording lies behind the slowest that its own arrival allows."""

from __future__ import annotations

from typing import Final

_WINDOW: Final = 5.0  # seconds; arrivals count for one to two of it


class Lateness:
    """A recorder hands over slices: the first picture of a slice has waited for the last one, and viewers wait as long.

    What takes no longer than that is not late, however large the slices are; so work may begin when a slice comes and
    end when the next one does. Media that come faster than time passes are never late either.
    Times of media and `now` in seconds, each on a clock of its own. No I/O, no clock.
    """

    __slots__ = ("_before", "_now", "_since")

    def __init__(self) -> None:
        self._since: float | None = None
        self._now = self._before = 0.0  # the greatest wait of this window and of the one before

    def arrived(self, time: float, now: float) -> None:
        """A unit of this time has come."""
        wait = now - time
        if self._since is None:
            self._since, self._now, self._before = now, wait, wait
        elif now - self._since > _WINDOW:
            self._since, self._before, self._now = now, self._now, wait
        elif wait > self._now:
            self._now = wait

    def behind(self, time: float, now: float) -> float:
        """Seconds by which a unit of this time is late when it is done now; 0 where it is not."""
        if self._since is None:
            return 0.0
        return max(0.0, now - time - max(self._now, self._before))
