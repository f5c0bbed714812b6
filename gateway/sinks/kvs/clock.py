"""EpochClock: the times of a stream's media as milliseconds since 1970, which never step back."""

from __future__ import annotations

from typing import Final

WINDOW: Final = 10_000  # milliseconds of media over which the least lag is looked for
_NONE_YET: Final = 1 << 62  # above every lag
TOLERANCE: Final = 2_000  # milliseconds by which the clock may lag before it leaps


class EpochClock:
    """Media time set on the wall clock once, then counted on by the media's own time.

    A frame is late by what the network did to it, so the lag that counts is the least one of a WINDOW: where even that
    is above TOLERANCE, the machine's clock was set forward or the encoder's runs slow, and `settle` leaps. Where the
    machine's clock was set back, media time goes on from where it is: time in a Kinesis stream only grows.
    """

    __slots__ = ("_base", "_least", "_since")

    def __init__(self) -> None:
        self._base: int | None = None
        self._least = 0
        self._since = 0

    def restart(self) -> None:
        """The next unit sets the clock anew: what follows does not continue what went before."""
        self._base = None

    def time(self, ms: int, wall: float, floor: int) -> int:
        """Hot. Milliseconds since the epoch of media time `ms` that arrived at `wall` seconds.

        floor: what the first time after a restart may not be below.
        """
        lag = int(wall * 1000) - ms
        if self._base is None:
            self._base = max(lag, floor - ms)
            self._since, self._least = ms, lag
        elif lag < self._least:
            self._least = lag
        return self._base + ms

    def settle(self, ms: int) -> int:
        """Asked where a fragment begins, at media time `ms`: by how many milliseconds all later times leap ahead."""
        if self._base is None or ms - self._since < WINDOW:
            return 0
        leap = self._least - self._base
        self._since, self._least = ms, _NONE_YET
        if leap <= TOLERANCE:
            return 0
        self._base += leap
        return leap
