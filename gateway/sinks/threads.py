"""Threads: where recordings touch the disk, apart from the threads that everything else shares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")

_PATIENCE: Final = 10.0  # seconds that a cancelled caller waits for a disk that hangs


class Threads:
    """A few threads. Work that has begun is done to its end also where who waits for it is cancelled, so that the file
    which it writes is not touched by two at once; cancelling so takes as long as that, at most 10 s."""

    def __init__(self, most: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(most, name)

    async def run(self, work: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done():
                await asyncio.wait([future], timeout=_PATIENCE)
            if future.done() and not future.cancelled():
                future.exception()  # nobody is left to be told
            raise
