"""A job waits for a store that is away for some minutes, also after hours of work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.ports.errors import ObjectArchived, StoreUnavailable
from gateway.vod import store_wait
from gateway.vod.store_wait import wait_for_store


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that have passed. A pause passes at once."""
    now = [0.0]
    sleep = asyncio.sleep

    async def pass_by(seconds: float) -> None:
        now[0] += seconds
        await sleep(0)

    monkeypatch.setattr(store_wait.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(store_wait.asyncio, "sleep", pass_by)
    yield now


@pytest.mark.parametrize("seconds", [0, 5, 2000])
async def test_an_outage_of_some_minutes_is_waited_for(clock: list[float], seconds: float) -> None:
    """seconds: of work before the store is away."""
    ends: list[float] = []

    async def work() -> str:
        if not ends:
            clock[0] += seconds
            ends.append(clock[0] + 600)
        if clock[0] < ends[0]:
            raise StoreUnavailable("away")
        return "done"

    assert await wait_for_store(work) == "done"
    assert seconds + 600 <= clock[0] < seconds + 640


async def test_a_store_that_stays_away_ends_the_wait_after_a_quarter_of_an_hour(clock: list[float]) -> None:
    async def work() -> None:
        clock[0] += 300  # the time-out of a call
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await wait_for_store(work)
    assert 900 < clock[0] < 1500


async def test_an_archived_object_is_not_waited_for(clock: list[float]) -> None:
    async def work() -> None:
        raise ObjectArchived("a.mp4")

    with pytest.raises(ObjectArchived):
        await wait_for_store(work)
    assert clock == [0]
