"""Groups of tasks with an owner. No other code starts tasks."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Self, TypeVar

import structlog

from gateway.lib.backoff import Backoff

log = structlog.get_logger(__name__)

T = TypeVar("T")

_STEADY_SECONDS: Final = 60.0  # a loop that ran so long fails for a new reason


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

    def keep(self, run: Callable[[], Coroutine[Any, Any, object]], name: str) -> asyncio.Task[Any]:
        """Runs a loop of this process until the group is closed. If it fails, it is told and runs again: see `kept`."""
        return self.start(kept(run, f"{self._name}:{name}", self._on_error), name)

    async def close(self) -> None:
        """Cancels the running tasks and waits until all have ended, also if the caller is cancelled meanwhile."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await finished(self.idle())

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


async def kept(
    run: Callable[[], Coroutine[Any, Any, object]],
    name: str,
    on_error: Callable[[str, BaseException], None] = log_failure,
) -> None:
    """Awaits `run()` until it returns. After an exception, it calls `on_error` and `run` again, 1 to 60 s later."""
    pauses = Backoff(1.0, 60.0)
    while True:
        began = time.monotonic()
        try:
            await run()
            return
        except Exception as error:
            on_error(name, error)
        if time.monotonic() - began > _STEADY_SECONDS:
            pauses.reset()
        await asyncio.sleep(pauses.next())


async def finished(work: Coroutine[Any, Any, T], undo: Callable[[T], object] | None = None) -> T:
    """Awaits `work` until it has ended, also if the caller is cancelled meanwhile. Then raises the cancellation.

    `asyncio.shield` would leave the work without an owner, for example after the end of the loop.

    undo: releases what the work has returned, such as an open file, if the caller was cancelled.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        failure = task.exception()
        if failure is None and undo is not None:
            undo(task.result())
        raise cancellation from failure
    return task.result()


def _close(*coros: Coroutine[Any, Any, object]) -> None:
    for coro in coros:
        coro.close()


def run_from_thread(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
    """Runs `work` on the loop of another thread and blocks until it has ended. Raises what `work` raises."""
    asyncio.run_coroutine_threadsafe(work, loop).result()
