"""Searches the store for something of a channel, seldom, whatever viewers request."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.tasks import Tasks
from gateway.ports.errors import StoreUnavailable

T = TypeVar("T")

_MAX_CHANNELS: Final = 4096  # whose result is cached
_MAX_SEARCHES: Final = 8  # at the same time


class ChannelSearches(Generic[T]):
    """Searches once in `seconds` for each channel, and never twice at once.

    find(channel, now): searches. now: seconds since 1970. After a StoreUnavailable, the next request searches again.
    tasks: owns the searches. They continue after the end of their request, so that the next request has the result
    even if the store is slow. wait: seconds that a request waits for the store.
    """

    def __init__(
        self,
        find: Callable[[str, float], Awaitable[T | None]],
        seconds: float,
        tasks: Tasks,
        clock: Callable[[], float] = time.time,
        wait: float = 2.0,
    ) -> None:
        self._find = find
        self._wait = wait
        self._seconds = seconds
        self._tasks = tasks
        self._clock = clock
        self._cache: BoundedDict[str, tuple[float, T | None]] = BoundedDict(_MAX_CHANNELS)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_MAX_SEARCHES)

    async def latest(self, channel: str) -> T | None:
        """Returns the last result; None if there is none. channel: an id."""
        now = self._clock()
        cached = self._cache.get(channel)
        if cached is None or now - cached[0] >= self._seconds:
            search = self._running.get(channel)
            if search is None:
                search = self._running[channel] = self._tasks.start(self._search(channel, now), "search")
            await asyncio.wait((search,), timeout=self._wait)  # if it takes longer, the earlier result is used
            cached = self._cache.get(channel)
        return cached[1] if cached is not None else None

    def forget(self, channel: str) -> None:
        """Lets the next request search again."""
        self._cache.pop(channel, None)

    async def _search(self, channel: str, now: float) -> None:
        try:
            async with self._slots:
                self._cache[channel] = (now, await self._find(channel, now))
        except StoreUnavailable:
            return  # the next request starts a new search
        finally:
            del self._running[channel]
