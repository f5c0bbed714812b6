"""Converts a stream's media times to milliseconds since 1970, which never step back."""

from __future__ import annotations

from typing import Final

WINDOW: Final = 10_000  # milliseconds of media over which the smallest lag is measured
_NONE_YET: Final = 1 << 62  # larger than any lag
TOLERANCE: Final = 2_000  # milliseconds by which the clock may lag before it jumps ahead


class EpochClock:
    """Sets media time to the wall clock once, then continues by the media's own time.

    The network delays frames, so only the smallest lag of a WINDOW counts.
    If even that is above TOLERANCE, the machine's clock was set forward or the encoder's clock is slow.
    `settle` then jumps ahead.
    If the machine's clock was set back, media time just continues: time in a Kinesis stream only grows.
    """

    __slots__ = ("_base", "_least", "_since")

    def __init__(self) -> None:
        self._base: int | None = None
        self._least = 0
        self._since = 0

    def restart(self) -> None:
        """Makes the next unit set the clock again, because it does not continue the earlier ones."""
        self._base = None

    def time(self, ms: int, wall: float, floor: int) -> int:
        """Returns the time since the epoch, in ms, of media time `ms` that arrived at `wall` seconds. Hot path.

        floor: the lowest allowed value for the first time after a restart.
        """
        lag = int(wall * 1000) - ms
        if self._base is None:
            self._base = max(lag, floor - ms)
            self._since, self._least = ms, lag
        elif lag < self._least:
            self._least = lag
        return self._base + ms

    def settle(self, ms: int) -> int:
        """Returns by how many ms all later times jump ahead; called where a fragment begins, at media time `ms`."""
        if self._base is None or ms - self._since < WINDOW:
            return 0
        leap = self._least - self._base
        self._since, self._least = ms, _NONE_YET
        if leap <= TOLERANCE:
            return 0
        self._base += leap
        return leap
