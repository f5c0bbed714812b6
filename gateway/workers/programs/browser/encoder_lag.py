"""Measures the delay of live encoding relative to the arrival of the media."""

from __future__ import annotations

from typing import Final

_WINDOW: Final = 5.0  # seconds; an arrival is used for one or two windows


class EncoderLag:
    """Measures the delay in addition to the recorder's own delay.

    A recorder sends blocks. The first picture of a block waits for the last one. Viewers have this delay anyway, so a
    unit within it is not late. So a block may be encoded until the next block arrives. Media that arrive faster than
    real time are never late.
    Media times and `now` are seconds on different clocks. This class does no I/O and reads no clock.
    """

    __slots__ = ("_previous_max", "_window_max", "_window_start")

    def __init__(self) -> None:
        self._window_start: float | None = None
        self._window_max = self._previous_max = 0.0  # the longest delay of a unit, in this window and the previous one

    def arrived(self, time: float, now: float) -> None:
        """Records the arrival of a unit. time: its media time."""
        delay = now - time
        if self._window_start is None:
            self._window_start, self._window_max, self._previous_max = now, delay, delay
        elif now - self._window_start > _WINDOW:
            self._window_start, self._previous_max, self._window_max = now, self._window_max, delay
        elif delay > self._window_max:
            self._window_max = delay

    def behind(self, time: float, now: float) -> float:
        """Returns the seconds of delay if the unit is finished now; 0 if it is not late."""
        if self._window_start is None:
            return 0.0
        return max(0.0, now - time - max(self._window_max, self._previous_max))
