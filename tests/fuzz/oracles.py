"""Limits of a run: its memory and its executed lines, both bounded by its input."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import gateway

_OURS = str(Path(gateway.__file__).parent)


class TooManySteps(BaseException):
    """No parser catches this."""


def peak_memory(run: Callable[[bytes], None], data: bytes) -> int:
    """The most bytes that were allocated at once while `run(data)` ran. tracemalloc must have been started."""
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    run(data)
    return tracemalloc.get_traced_memory()[1] - before


def steps(run: Callable[[bytes], None], data: bytes, most: int) -> int:
    """Returns how many lines of the gateway `run(data)` executes. Raises TooManySteps beyond `most`."""
    count = 0

    def line(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        count += 1
        if count > most:
            raise TooManySteps(f"{most} steps at {frame.f_code.co_filename}:{frame.f_lineno}")
        return line

    def call(frame: FrameType, event: str, arg: object) -> Any:
        return line if frame.f_code.co_filename.startswith(_OURS) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        run(data)
    finally:
        sys.settrace(before)
    return count
