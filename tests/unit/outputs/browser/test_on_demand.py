"""Work that runs only while it has users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.lib.backoff import Backoff
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.outputs.browser import on_demand
from gateway.outputs.browser.on_demand import OnDemand
from gateway.ports.errors import INTERNAL_ERROR, OutputError
from tests.support import builders
from tests.support.time_outs import at_most


class Work:
    """errors: raised by the first attempts. begun, ended: number of attempts."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.begun = self.ended = 0
        self.changed = asyncio.Condition()

    async def __call__(self) -> None:
        await self._count("begun")
        try:
            if self.errors:
                raise self.errors.pop(0)
            await asyncio.get_running_loop().create_future()
        finally:
            await self._count("ended")

    async def _count(self, name: str) -> None:
        async with self.changed:
            setattr(self, name, getattr(self, name) + 1)
            self.changed.notify_all()

    async def until(self, begun: int, ended: int) -> None:
        async with asyncio.timeout(at_most(10)), self.changed:
            await self.changed.wait_for(lambda: (self.begun, self.ended) == (begun, ended))


@asynccontextmanager
async def running(work: Work, linger: float = 0.0) -> AsyncIterator[tuple[OnDemand, Stream]]:
    stream, demand = builders.stream(), OnDemand("work", work, linger)
    task = asyncio.create_task(demand.run(stream))
    yield demand, stream
    stream.end(EndReason.PUBLISHER_GONE)
    async with asyncio.timeout(at_most(10)):
        await task


async def test_work_runs_from_the_first_user_to_the_last_one() -> None:
    work = Work()
    async with running(work) as (demand, _):
        await asyncio.sleep(0)
        assert not demand.is_running
        demand.acquire()
        await work.until(1, 0)
        assert demand.is_running
        demand.acquire()
        demand.release()
        demand.release()
        await work.until(1, 1)
        demand.acquire()
        await work.until(2, 1)
    assert work.ended == 2, "the end of the stream ends the work"
    assert not demand.is_running


async def test_work_continues_for_a_user_that_comes_soon() -> None:
    work = Work()
    async with running(work, linger=100) as (demand, _):
        demand.acquire()
        await work.until(1, 0)
        demand.release()
        await asyncio.sleep(0)
        demand.acquire()
        await asyncio.sleep(0)
        assert (work.begun, work.ended) == (1, 0)


@pytest.mark.parametrize("error", [OutputError("no worker"), RuntimeError("a bug")])
async def test_work_that_fails_starts_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "Backoff", lambda longest: Backoff(first=0.0))
    work = Work(error)
    async with running(work) as (demand, _):
        demand.acquire()
        await work.until(2, 1)
        assert demand.error == ("no worker" if isinstance(error, OutputError) else INTERNAL_ERROR)


async def test_a_release_too_many_is_an_error() -> None:
    with pytest.raises(AssertionError):
        OnDemand("work", Work()).release()
