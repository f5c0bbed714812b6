"""The locator finds the holder of a stream with as few requests as possible."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest

from gateway.cluster.members import registry_locator as module
from gateway.cluster.members.node_address import NodeAddress
from gateway.cluster.members.registry_locator import ABSENT_SECONDS, CACHE_SECONDS, FAILING_SECONDS, RegistryLocator
from gateway.cluster.streams.replicas import POLL_SECONDS
from gateway.lib.tasks import Tasks
from gateway.ports.errors import AtCapacity, StoreUnavailable
from gateway.ports.nodes import StreamClaim
from tests.support.clock import Clock


def holding(stream: str, claim: str = "k1", node: str = "n1") -> StreamClaim:
    return StreamClaim(stream, node, "10.0.0.1:8080", claim, 1.0)


class Rows:
    """A registry's `find` that counts its requests."""

    def __init__(self, *holdings: StreamClaim) -> None:
        self.held = {h.stream: h for h in holdings}
        self.requests: list[list[str]] = []
        self.away = False

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        self.requests.append(sorted(streams))
        if self.away:
            raise StoreUnavailable("gone")
        return {s: self.held[s] for s in streams if s in self.held}


@asynccontextmanager
async def locating(rows: Rows, clock: Clock, siblings: dict[str, str] | None = None) -> AsyncIterator[RegistryLocator]:
    locator = RegistryLocator(rows, lambda: siblings or {}, clock=clock)  # type: ignore[arg-type]
    async with Tasks("test") as tasks:
        tasks.start(locator.run())
        yield locator


PLACE = NodeAddress("n1", "10.0.0.1:8080", "k1")


async def test_an_answer_is_cached_until_it_expires() -> None:
    rows, clock = Rows(holding("c1")), Clock(1000.0)
    async with locating(rows, clock) as locator:
        assert await locator.find("c1") == PLACE
        clock.now += CACHE_SECONDS - 1
        assert locator.known("c1") == PLACE
        assert await locator.find("c1@720p") == PLACE
        assert len(rows.requests) == 1
        clock.now += 1
        assert locator.known("c1") is None
        assert await locator.find("c1") == PLACE
        assert len(rows.requests) == 2


async def test_a_stream_without_a_holder_is_looked_up_again_after_a_second() -> None:
    rows, clock = Rows(), Clock(1000.0)
    async with locating(rows, clock) as locator:
        assert await locator.find("c1") is None
        clock.now += ABSENT_SECONDS / 2
        assert await locator.find("c1") is None
        assert len(rows.requests) == 1
        rows.held["c1"] = holding("c1")
        clock.now += ABSENT_SECONDS
        assert await locator.find("c1") == PLACE


async def test_each_poll_of_waiting_viewers_reads_the_registry() -> None:
    rows, clock = Rows(), Clock(1000.0)
    async with locating(rows, clock) as locator:
        assert await locator.find("c1") is None
        clock.now += POLL_SECONDS - 0.01  # a timer of uvloop may fire some milliseconds early
        assert await locator.find("c1") is None
    assert len(rows.requests) == 2


async def test_simultaneous_look_ups_share_one_request() -> None:
    rows = Rows(*(holding(f"c{n}") for n in range(50)))
    async with locating(rows, Clock(1000.0)) as locator:
        found = await asyncio.gather(*(locator.find(f"c{n % 50}") for n in range(500)))
    assert set(found) == {PLACE}
    assert [len(names) for names in rows.requests] == [50]


async def test_a_request_has_at_most_a_hundred_names() -> None:
    rows = Rows()
    async with locating(rows, Clock(1000.0)) as locator:
        await asyncio.gather(*(locator.find(f"c{n}") for n in range(250)))
    assert [len(names) for names in rows.requests] == [100, 100, 50]


async def test_a_holder_that_failed_is_looked_up_again_at_once() -> None:
    rows, clock = Rows(holding("c1")), Clock(1000.0)
    async with locating(rows, clock) as locator:
        place = await locator.find("c1")
        assert place is not None
        locator.invalidate("c1", place)
        rows.held["c1"] = holding("c1", "k2", "n2")
        assert await locator.find("c1") == NodeAddress("n2", "10.0.0.1:8080", "k2")


async def test_a_holder_that_failed_twice_is_tried_again_after_a_pause() -> None:
    rows, clock = Rows(holding("c1")), Clock(1000.0)
    async with locating(rows, clock) as locator:
        for _ in range(2):
            place = await locator.find("c1")
            assert place == PLACE
            locator.invalidate("c1", place)
        assert await locator.find("c1") is None
        clock.now += 2
        assert await locator.find("c1") == PLACE


async def test_the_next_holder_is_found_while_the_last_one_fails() -> None:
    rows, clock = Rows(holding("c1")), Clock(1000.0)
    async with locating(rows, clock) as locator:
        for _ in range(2):
            assert await locator.find("c1") == PLACE
            locator.invalidate("c1", PLACE)
        assert await locator.find("c1") is None
        rows.held["c1"] = holding("c1", "k2", "n2")
        assert await locator.find("c1") is None
        clock.now += FAILING_SECONDS
        assert await locator.find("c1") == NodeAddress("n2", "10.0.0.1:8080", "k2")


async def test_failures_of_long_ago_do_not_count() -> None:
    rows, clock = Rows(holding("c1")), Clock(1000.0)
    async with locating(rows, clock) as locator:
        for _ in range(5):
            place = await locator.find("c1")
            assert place == PLACE
            locator.invalidate("c1", place)
            clock.now += 60


async def test_the_last_answer_is_used_while_the_registry_is_unavailable() -> None:
    rows, clock = Rows(holding("c1")), Clock(1000.0)
    async with locating(rows, clock) as locator:
        await locator.find("c1")
        rows.away = True
        clock.now += 10 * CACHE_SECONDS
        assert await locator.find("c1") == PLACE
        with pytest.raises(StoreUnavailable):
            await locator.find("c2")


async def test_look_ups_of_unknown_names_are_limited_per_second() -> None:
    rows, clock = Rows(), Clock(1000.0)
    async with locating(rows, clock) as locator:
        answers = await asyncio.gather(*(locator.find(f"c{n}") for n in range(2000)), return_exceptions=True)
        refused = [a for a in answers if isinstance(a, AtCapacity)]
        assert len(refused) == 2000 - module._NAMES_PER_SECOND
        clock.now += 0.5
        assert await locator.find("another") is None


@pytest.mark.parametrize("names", [2_000, 25_000])
async def test_invented_names_leave_the_last_answers_of_streams(names: int) -> None:
    rows, clock = Rows(holding("c1")), Clock(1000.0)
    async with locating(rows, clock) as locator:
        assert await locator.find("c1") == PLACE
        clock.now += CACHE_SECONDS
        for first in range(0, names, 1_000):
            clock.now += 1
            await asyncio.gather(*(locator.find(f"x{n}") for n in range(first, first + 1_000)))
        assert await locator.find("c1") == PLACE
        locator.invalidate("c1", PLACE)
        with pytest.raises(AtCapacity):
            await locator.find("c1")
        clock.now += 1
        del rows.held["c1"]
        assert await locator.find("c1") is None
        assert locator.known("c1") is None


async def test_a_sibling_is_reached_over_its_socket() -> None:
    rows = Rows(holding("c1", node="h.2"))
    async with locating(rows, Clock(1000.0), {"h.2": "/run/h.2.sock"}) as locator:
        assert await locator.find("c1") == NodeAddress("h.2", "unix:/run/h.2.sock", "k1")


async def test_a_cancelled_look_up_does_not_cancel_the_others() -> None:
    rows = Rows(holding("c1"))
    async with locating(rows, Clock(1000.0)) as locator, Tasks("players") as tasks:
        leaving, staying = tasks.start(locator.find("c1")), tasks.start(locator.find("c1"))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == PLACE
