"""Threads for the disk access of recordings, separate from the loop's default threads."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO, Final, TypeVar

T = TypeVar("T")

CHUNK: Final = 256 * 1024  # bytes that are read in one turn of a thread
_TIMEOUT: Final = 10.0  # seconds that a cancelled caller waits for a slow disk


class DiskThreads:
    """A small thread pool. Work that has begun is finished, even if its caller is cancelled.

    A cancelled call waits for its work, at most 10 s. So two threads do not write one file at the same time.
    """

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, name)

    async def run(self, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Runs `work` in a thread. Returns its result, or raises its error.

        undo: releases what the work returns, such as an open file, if the caller is cancelled.
        """

        def discard(future: asyncio.Future[T]) -> None:
            # Reading the error marks it as seen, because no caller waits for it.
            if not future.cancelled() and future.exception() is None and undo is not None:
                undo(future.result())

        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(discard)
            if not future.done():
                await asyncio.wait([future], timeout=_TIMEOUT)
            raise

    async def read(self, file: BinaryIO, start: int, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yields the bytes of an open file from `start` to `end` (None: all), or up to its end. Raises OSError."""
        at = start
        while end is None or at < end:
            size = CHUNK if end is None else min(CHUNK, end - at)
            data = await self.run(partial(os.pread, file.fileno(), size, at))
            if not data:
                return
            at += len(data)
            yield data
