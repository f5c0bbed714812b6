"""The two clocks of a process: the time of day, and one that only moves forward."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

Clock: TypeAlias = Callable[[], float]  # returns the current time in seconds


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks of a process.

    wall: seconds since 1970. monotonic: seconds since an arbitrary time. Tests pass other functions.
    """

    wall: Clock = time.time
    monotonic: Clock = time.monotonic


SYSTEM_CLOCKS: Final = Clocks()
