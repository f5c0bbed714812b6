"""Threads for the disk access of recordings, separate from the loop's default threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")

_TIMEOUT: Final = 10.0  # seconds that a cancelled caller waits for a slow disk


class DiskThreads:
    """A small thread pool. Work that has begun is finished, even if its caller is cancelled.

    A cancelled call waits for its work, at most 10 s. So two threads do not write one file at the same time.
    """

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, name)

    async def run(self, work: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done():
                await asyncio.wait([future], timeout=_TIMEOUT)
            if future.done() and not future.cancelled():
                future.exception()  # marked as read, because no caller waits for it
            raise
