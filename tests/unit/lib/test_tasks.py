"""A group of tasks leaves no coroutine that was never awaited. Every test treats such a warning as an error."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.lib.tasks import Tasks


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
