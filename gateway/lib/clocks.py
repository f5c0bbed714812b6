"""The two clocks of a process: the time of day, and one that only moves forward."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks of a process.

    wall: seconds since the epoch. monotonic: seconds since an arbitrary time. Tests pass other functions.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


SYSTEM_CLOCKS: Final = Clocks()
