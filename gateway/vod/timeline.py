"""Timeline: the times that a container gives put on one that only grows, whatever jumps are in them."""

from __future__ import annotations

from typing import Final

TICKS: Final = 90_000  # a second, of all times of a film

_BACK: Final = 1 * TICKS  # so far back is another time; less is one picture too early
_ALIKE: Final = 2 * TICKS  # sound and picture jump by about the same


class Timeline:
    """Times of one track. ahead: a longer step forward than this is a jump and not a pause.

    Sound follows the pictures' timeline: what those have made of a jump is made of the sound's too, so that both stay
    together. All times are ticks of 90 kHz.
    """

    def __init__(self, ahead: int, leader: Timeline | None = None) -> None:
        self._ahead = ahead
        self._leader = leader
        self._offset = 0
        self._last: int | None = None
        self.end = 0  # when the last one is over
        self.jumps: list[int] = []  # the offset after each

    def place(self, time: int, duration: int) -> int | None:
        """Where something at `time` belongs; None where that place is taken: it has to be left out."""
        at = time + self._offset
        if self._last is not None:
            if at < self._last - _BACK or at > self.end + self._ahead:
                at = time + self._jumped(self.end - time)
            if at <= self._last:
                return None
        self._last = at
        self.end = at + max(0, duration)
        return at

    def _jumped(self, offset: int) -> int:
        number = len(self.jumps)
        if self._leader is not None and number < len(self._leader.jumps):
            led = self._leader.jumps[number]
            if abs(led - offset) < _ALIKE:
                offset = led
        self.jumps.append(offset)
        self._offset = offset
        return offset
