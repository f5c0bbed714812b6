"""DroppedUnits: what an output leaves out because its worker is too slow, and its error if that happens again."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.lib.metrics import Counter

TOO_SLOW: Final = "this machine does not encode pictures as fast as they come: some are left out"
_SHOWN_SECONDS: Final = 300.0  # after the first of two losses
# Another loss begins after so many seconds without a dropped unit, and in a loss that lasts so many.
_PAUSE_SECONDS, _LONGEST_SECONDS = 5.0, 60.0


class DroppedUnits:
    """Counts the dropped units of one output. metric: counts them too, by reason.

    clock: monotonic seconds.
    """

    def __init__(self, metric: Counter, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._metric = metric
        self._clock = clock
        self._losses = deque([-math.inf, -math.inf], 2)  # when the last two began
        self._last = -math.inf  # when a unit was dropped

    def add(self, units: int) -> None:
        """Counts units that were dropped now."""
        now = self._clock()
        if now - self._last > _PAUSE_SECONDS or now - self._losses[-1] > _LONGEST_SECONDS:
            self._losses.append(now)
        self._last = now
        self.count += units
        self._metric.add("output", amount=units)

    @property
    def error(self) -> str | None:
        """The error after two losses in five minutes. One alone may come from a short load of the machine."""
        return TOO_SLOW if self._clock() - self._losses[0] < _SHOWN_SECONDS else None
