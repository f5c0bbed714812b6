"""LateUnits: leaves out what a new worker makes of the sound that came while it started."""

from __future__ import annotations

from typing import Final

LATE_MS: Final = 60  # behind the newest unit of the source; a worker at work is at most 50 ms behind
LONGEST: Final = 2.0  # seconds without sound, if a worker never reaches the present


class LateUnits:
    """Tells which units of a worker are late. A receiver that gets them plays all following sound with their delay.

    So there is a gap instead, and the first unit after it is of the present. A slow worker gets LONGEST seconds;
    afterwards late sound is better than none.
    """

    __slots__ = ("_since", "_worker")

    def __init__(self) -> None:
        self._worker = 0  # the number of the worker that has reached the present
        self._since: float | None = None  # monotonic time of the first late unit

    def is_late(self, worker: int, behind_ms: float, now: float) -> bool:
        """Takes a unit. worker: the number of the one that made it, from 1. now: monotonic seconds.

        behind_ms: time from this unit to the newest one of the source.
        """
        if worker == self._worker:
            return False
        if self._since is None:
            self._since = now
        if behind_ms > LATE_MS and now - self._since < LONGEST:
            return True
        self._worker, self._since = worker, None
        return False
