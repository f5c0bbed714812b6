"""The time-outs of tests, longer on a slow or busy machine by one factor.

A time-out ends a test in which something is broken. It says nothing about speed, so it may be long. The factor is
measured once, at the start of a run, and all processes of the run find it in their environment.
"""

import os
import time

_NAME = "TESTS_SLOWNESS"
_REFERENCE = 0.050  # seconds that the work takes on the two quiet cores on which the time-outs were chosen
_MOST = 8.0  # beyond it a fault would be found too late
_TRIES = 4
_ROUNDS = 500_000


def at_most(seconds: float) -> float:
    """Returns the time-out `seconds`, multiplied by the factor of this machine. Any unit of time will do."""
    return seconds * slowness()


def slowness() -> float:
    """The factor of this run, 1 or more. It is 1 outside of test runs."""
    return float(os.environ.get(_NAME, "1"))


def measure() -> None:
    """Measures the factor for this process and for those that it starts, if no earlier process of the run has."""
    if _NAME not in os.environ:
        os.environ[_NAME] = f"{factor(min(_work() for _ in range(_TRIES))):.2f}"


def factor(took: float) -> float:
    """The factor of a machine on which the fixed piece of work takes `took` seconds."""
    return min(_MOST, max(1.0, took / _REFERENCE))


def _work() -> float:
    """The seconds of a fixed piece of work. It is longer than the time slices of a scheduler, so neighbours count."""
    began, value = time.perf_counter(), 0
    for number in range(_ROUNDS):
        value = (value * 31 + number) & 0xFFFF
    return time.perf_counter() - began
