"""Waits until a condition is true, with a time limit."""

import asyncio
from collections.abc import Callable


class Waiters:
    """The number of tasks that wait at several gates in total.

    catch_up: called before a task begins to wait. It processes input that has already arrived.
    """

    __slots__ = ("catch_up", "count")

    def __init__(self, catch_up: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self.catch_up = catch_up


class Gate:
    """Lets waiting tasks check their conditions each time it opens. Only one event loop may use it.

    waiters: counts the tasks of this gate together with the tasks of other gates.
    """

    __slots__ = ("_waiters", "_waiting")

    def __init__(self, waiters: Waiters | None = None) -> None:
        self._waiters = waiters or Waiters()
        # In the order of arrival. A dict, because thousands of tasks may leave it, and each must leave fast.
        self._waiting: dict[asyncio.Future[None], None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self) -> None:
        """Lets all waiting tasks check their condition."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Waits until `holds()` is true, at most `seconds`. Returns its last result."""
        self._waiters.catch_up()
        if holds():
            return True
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting[future] = None
        # One timer for the whole wait instead of asyncio.timeout around each turn, because thousands of tasks may wait.
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            if not future.done():
                future.set_result(None)

        timer = loop.call_later(seconds, expire)
        self._waiters.count += 1
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
            self._waiters.count -= 1
            timer.cancel()
            # If cancelled or expired, remove the future: the gate may stay closed for a long time.
            self._waiting.pop(future, None)
