"""Detects a link whose other end sends nothing any more, even if the connection still looks open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.protocols import nodes


class LinkTimeout:
    """Calls `dead` once nothing was received for SILENT_SECONDS. Until then, calls `alive` four times in that
    interval.

    heard: time.monotonic() of the last data; the owner of the link sets it.
    """

    def __init__(self, dead: Callable[[], None], alive: Callable[[], None] = lambda: None) -> None:
        self._dead = dead
        self._alive = alive
        self._timer: asyncio.TimerHandle | None = None
        self.heard = time.monotonic()

    def begin(self) -> None:
        """Starts the timeout. It runs until `stop`."""
        self.heard = time.monotonic()
        self._check()

    def stop(self) -> None:
        """Stops the timeout. It may be called more than once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(nodes.SILENT_SECONDS / 4, self._check)
        if time.monotonic() - self.heard > nodes.SILENT_SECONDS:
            self.stop()
            self._dead()
        else:
            self._alive()
