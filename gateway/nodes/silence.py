"""Silence: a link whose other end says nothing any more is dead, whatever its connection looks like."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.protocols import nodes


class Silence:
    """Calls `dead` once nothing was `heard` for SILENT_SECONDS, and `alive` four times in as long until then.

    heard: when something came last, time.monotonic(); whoever hears sets it.
    """

    def __init__(self, dead: Callable[[], None], alive: Callable[[], None] = lambda: None) -> None:
        self._dead = dead
        self._alive = alive
        self._timer: asyncio.TimerHandle | None = None
        self.heard = time.monotonic()

    def begin(self) -> None:
        """Listens from now on, until `stop`."""
        self.heard = time.monotonic()
        self._look()

    def stop(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(nodes.SILENT_SECONDS / 4, self._look)
        if time.monotonic() - self.heard > nodes.SILENT_SECONDS:
            self.stop()
            self._dead()
        else:
            self._alive()
