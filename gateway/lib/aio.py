"""Tasks with owners: the only place that starts one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self


class Tasks:
    """A group of tasks that come and go while their owner lives.

    `async with Tasks("outputs") as tasks: tasks.start(coro)`: leaving the block cancels what still runs and waits for
    it. A task that fails does not take its siblings along: its exception goes to `on_error` (what the owner logs).
    Touched by one loop only.
    """

    def __init__(self, name: str, on_error: Callable[[str, BaseException], None] | None = None) -> None:
        self._name = name
        self._on_error = on_error
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def start(self, coro: Coroutine[Any, Any, object], name: str = "") -> asyncio.Task[Any]:
        """Runs `coro` now, until it ends or the group closes."""
        if self._closed:
            coro.close()
            raise RuntimeError(f"the task group {self._name} is closed")
        task = asyncio.get_running_loop().create_task(coro, name=f"{self._name}:{name}" if name else self._name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Cancels what still runs and waits until all of it has ended."""
        self._closed = True
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    async def idle(self) -> None:
        """Until every task has ended by itself."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and self._on_error is not None:
            self._on_error(task.get_name(), error)
