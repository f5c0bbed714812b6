"""Detects a link whose other end no longer sends, even if the connection seems to be open."""

import asyncio
import time
from collections.abc import Callable

from gateway.protocols import nodes


class LinkTimeout:
    """Calls `on_dead` after SILENT_SECONDS without data. Until then, calls `on_check` four times per SILENT_SECONDS.

    last_received: time.monotonic() of the last data; the owner of the link sets it.
    """

    def __init__(self, on_dead: Callable[[], None], on_check: Callable[[], None] = lambda: None) -> None:
        self._on_dead = on_dead
        self._on_check = on_check
        self._timer: asyncio.TimerHandle | None = None
        self.last_received = time.monotonic()

    def begin(self) -> None:
        """Starts the timeout. It runs until `stop`."""
        self.last_received = time.monotonic()
        self._check()

    def stop(self) -> None:
        """Stops the timeout. It may be called more than once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(nodes.SILENT_SECONDS / 4, self._check)
        if time.monotonic() - self.last_received > nodes.SILENT_SECONDS:
            self.stop()
            self._on_dead()
        else:
            self._on_check()
