"""Ends work that fills the disk. The bounds are apart: workers import them and have no event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.lib.tasks import Tasks, awaited
from gateway.workers.vod_bounds import Bounds

T = TypeVar("T")

_POLL_SECONDS: Final = 1.0  # between checks of the free disk space


async def run_while_space(bounds: Bounds, folder: Path, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs `work`, which writes to the folder, and returns its result. Cancels it if too little disk space is free.

    Raises UnusableFilm in that case, and every error of `work`.
    """
    await asyncio.to_thread(bounds.check_space, folder)
    async with Tasks("room", awaited) as tasks:
        working = tasks.start(work(), "work")
        watching = tasks.start(_watch(bounds, folder), "watch")
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait((working,))  # its worker has ended and its files are deleted before the error is raised
            watching.result()  # raises
        result: T = working.result()
        return result


async def _watch(bounds: Bounds, folder: Path) -> None:
    while True:
        await asyncio.sleep(_POLL_SECONDS)
        await asyncio.to_thread(bounds.check_space, folder)
