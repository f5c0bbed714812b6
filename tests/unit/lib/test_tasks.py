"""Groups of tasks: coroutines that are never awaited, and loops that fail. Every test treats a warning as an error."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.lib import tasks as module
from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks, finished


async def work() -> None:
    await asyncio.sleep(0)


async def both(inner: Coroutine[Any, Any, None]) -> None:
    await inner


async def test_a_task_cancelled_before_its_start_closes_its_inner_coroutine() -> None:
    inner = work()
    async with Tasks("test") as tasks:
        tasks.start(both(inner), inner=[inner]).cancel()
    assert inspect.getcoroutinestate(inner) == inspect.CORO_CLOSED


async def test_a_closed_group_closes_coroutines_that_it_does_not_start() -> None:
    tasks, inner = Tasks("test"), work()
    await tasks.close()
    with pytest.raises(RuntimeError, match="closed"):
        tasks.start(both(inner), inner=[inner])
    assert inspect.getcoroutinestate(inner) == inspect.CORO_CLOSED


async def test_an_owner_that_is_cancelled_twice_ends_after_its_tasks() -> None:
    told: list[str] = []
    begun = asyncio.Event()

    async def slow_end() -> None:
        try:
            begun.set()
            await asyncio.get_running_loop().create_future()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            told.append("task")

    async def own() -> None:
        try:
            async with Tasks("test") as tasks:
                tasks.start(slow_end())
                await asyncio.get_running_loop().create_future()
        finally:
            told.append("owner")

    owner = asyncio.create_task(own())
    await begun.wait()
    for _ in range(2):
        owner.cancel()
        await asyncio.sleep(0)
    await asyncio.wait((owner,))
    assert owner.cancelled()
    assert told == ["task", "owner"]


async def test_a_kept_loop_that_fails_is_logged_and_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Backoff", lambda *seconds: Backoff(0.001, 0.001))
    told, rounds, runs_again = list[tuple[str, str]](), 0, asyncio.Event()

    async def loop() -> None:
        nonlocal rounds
        rounds += 1
        if rounds < 3:
            raise KeyError(f"row {rounds}")
        runs_again.set()
        await asyncio.get_running_loop().create_future()

    async with Tasks("test", lambda name, error: told.append((name, repr(error)))) as tasks:
        kept = tasks.keep(loop, "rows")
        await runs_again.wait()
        assert len(tasks) == 1
    assert kept.cancelled()
    assert told == [("test:rows", "KeyError('row 1')"), ("test:rows", "KeyError('row 2')")]


async def test_a_kept_loop_that_returns_has_ended() -> None:
    async with Tasks("test") as tasks:
        await tasks.keep(work, "once")


async def test_work_that_must_be_finished_ends_before_its_cancelled_caller() -> None:
    may_end, done = asyncio.Event(), list[str]()

    async def reap() -> None:
        await may_end.wait()
        done.append("work")

    async def caller() -> None:
        try:
            await finished(reap())
        finally:
            done.append("caller")

    task = asyncio.create_task(caller())
    for _ in range(2):
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
    assert done == []
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["work", "caller"]


async def test_work_that_must_be_finished_returns_its_result_or_raises_its_error() -> None:
    async def divide(by: int) -> float:
        await asyncio.sleep(0)
        return 6 / by

    assert await finished(divide(3)) == 2
    with pytest.raises(ZeroDivisionError):
        await finished(divide(0))


@pytest.mark.parametrize(("by", "undone"), [(3, [2.0]), (0, [])])
async def test_a_result_that_nobody_takes_is_released_and_the_caller_stays_cancelled(
    by: int, undone: list[float]
) -> None:
    """An error of the work does not hide the cancellation: a loop that goes on after errors would never end."""

    async def divide() -> float:
        await asyncio.sleep(0)
        return 6 / by

    released: list[float] = []
    task = asyncio.create_task(finished(divide(), released.append))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (released, task.cancelled()) == (undone, True)
