"""Measures how late the encoding of a live recording is, compared with the arrival of its media."""

from __future__ import annotations

from typing import Final

_WINDOW: Final = 5.0  # seconds; an arrival counts for one to two windows


class EncoderLag:
    """Measures lateness relative to the longest wait that the recorder itself causes.

    A recorder sends slices. The first picture of a slice has waited for the last one; viewers have this delay anyway.
    A unit within this delay is not late, however large the slices are. So the work on a slice may last until the next
    slice comes. Media that arrive faster than real time are never late.
    Media times and `now` are in seconds, each on its own clock. No I/O, no clock.
    """

    __slots__ = ("_before", "_now", "_since")

    def __init__(self) -> None:
        self._since: float | None = None
        self._now = self._before = 0.0  # the greatest wait of this window and of the one before

    def arrived(self, time: float, now: float) -> None:
        """Records the arrival of a unit. time: media time of the unit."""
        wait = now - time
        if self._since is None:
            self._since, self._now, self._before = now, wait, wait
        elif now - self._since > _WINDOW:
            self._since, self._before, self._now = now, self._now, wait
        elif wait > self._now:
            self._now = wait

    def behind(self, time: float, now: float) -> float:
        """Returns the seconds by which a unit is late if it is finished now; 0 if it is not late."""
        if self._since is None:
            return 0.0
        return max(0.0, now - time - max(self._now, self._before))
