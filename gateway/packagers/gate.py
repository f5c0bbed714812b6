"""A place to wait until something changes, with a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Gate:
    """Those who wait look again each time it opens. Used on one loop only."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        # In order of arrival; a dict, because thousands may leave it one by one.
        self._waiting: dict[asyncio.Future[None], None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self) -> None:
        """Lets everyone look again."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Waits until `holds()` is true, at most `seconds`; returns whether it is."""
        if holds():
            return True
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting[future] = None
        # One timer for the whole wait instead of asyncio.timeout around each turn: thousands may wait here.
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            if not future.done():
                future.set_result(None)

        timer = loop.call_later(seconds, expire)
        try:
            while True:
                await future
                if holds():
                    return True
                if expired:
                    return False
                future = loop.create_future()
                self._waiting[future] = None
        finally:
            timer.cancel()
            # Cancelled or expired: leave no future behind for a gate that may not open for long.
            self._waiting.pop(future, None)
