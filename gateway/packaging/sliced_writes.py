"""Writes one batch to many viewers in slices, so that the event loop is not held."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from typing import Final

SLICE_SECONDS: Final = 0.002  # duration of writing a batch, after which other tasks of the loop run
SLICE_VIEWERS: Final = 32  # viewers between two checks of the time


class SlicedWrites:
    """Writes one batch at a time. Its generator yields after every SLICE_VIEWERS viewers.

    on_done(seconds): called when a batch is written to all viewers, with the duration of all its slices.
    """

    def __init__(self, on_done: Callable[[float], None] = lambda seconds: None) -> None:
        self._on_done = on_done
        self._writing: Iterator[None] | None = None  # a batch that was not written to all viewers yet
        self._next_slice: asyncio.Handle | None = None  # the loop call that writes the next slice
        self._seconds = 0.0  # duration of its slices so far

    def start(self, writing: Iterator[None]) -> None:
        """Writes the first slice of a batch now, the others in next iterations of the loop."""
        self.write_rest()
        self._writing, self._seconds = writing, 0.0
        self._write_slice()

    def write_rest(self) -> None:
        """Writes the rest of a batch immediately, because later bytes must follow it."""
        if self._writing is not None:
            self._write(self._writing, math.inf)

    def stop(self) -> None:
        """Drops the rest of a batch. Idempotent."""
        self._writing = None
        if self._next_slice is not None:
            self._next_slice.cancel()
            self._next_slice = None

    def _write_slice(self) -> None:
        self._next_slice = None
        if self._writing is not None:
            self._write(self._writing, SLICE_SECONDS)

    def _write(self, writing: Iterator[None], limit: float) -> None:
        """Writes for `limit` seconds, and schedules the rest for the loop's next iteration."""
        began = time.monotonic()
        for _ in writing:
            if time.monotonic() - began >= limit:
                self._seconds += time.monotonic() - began
                self._next_slice = asyncio.get_running_loop().call_soon(self._write_slice)
                return
        self.stop()
        self._on_done(self._seconds + time.monotonic() - began)
