"""Groups of tasks with an owner. No other code starts tasks."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Self

import structlog

log = structlog.get_logger(__name__)


def log_failure(name: str, error: BaseException) -> None:
    """Logs the error of a task that nobody awaits."""
    log.error("a task failed", task=name, exc_info=error)


def awaited(name: str, error: BaseException) -> None:
    """Does nothing: the code that awaits the task gets its error."""


class Tasks:
    """A group of tasks that start and end while their owner exists.

    Use `async with Tasks("outputs") as tasks: tasks.start(coro)`. The end of the block cancels the running tasks and
    waits for them. If a task fails, the others continue, and `on_error` gets its name and exception; without it, they
    are logged. Only one event loop may use the group.
    """

    def __init__(self, name: str, on_error: Callable[[str, BaseException], None] = log_failure) -> None:
        self._name = name
        self._on_error = on_error
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def start(
        self, coro: Coroutine[Any, Any, object], name: str = "", *, inner: Sequence[Coroutine[Any, Any, object]] = ()
    ) -> asyncio.Task[Any]:
        """Runs `coro` until it ends or the group is closed.

        inner: coroutines that `coro` awaits. They are closed with it, because a task may be cancelled before it begins.
        """
        if self._closed:
            _close(coro, *inner)
            raise RuntimeError(f"the task group {self._name} is closed")
        task = asyncio.get_running_loop().create_task(coro, name=f"{self._name}:{name}" if name else self._name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if inner:
            task.add_done_callback(lambda _: _close(*inner))
        return task

    async def close(self) -> None:
        """Cancels the running tasks and waits until all have ended."""
        self._closed = True
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    async def idle(self) -> None:
        """Waits until every task has ended by itself."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._on_error(task.get_name(), error)


def _close(*coros: Coroutine[Any, Any, object]) -> None:
    for coro in coros:
        coro.close()


def run_from_thread(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
    """Runs `work` on the loop of another thread and blocks until it has ended. Raises what `work` raises."""
    asyncio.run_coroutine_threadsafe(work, loop).result()
