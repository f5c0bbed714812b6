"""Vigil: a node that owes an answer is believed to live for as long as it says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.cluster.liveness_monitor import LivenessMonitor
from gateway.cluster.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.peers import Peers
from tests.support.holder import Holder, answer, for_ever, holding
from tests.support.http import SECONDS, until

QUIET = 0.05


@asynccontextmanager
async def watching(holder: Holder) -> AsyncIterator[tuple[LivenessMonitor, Peers]]:
    async with Peers("cluster") as peers, LivenessMonitor(peers, quiet=QUIET, probe_seconds=QUIET) as vigil:
        yield vigil, peers


async def owed(vigil: LivenessMonitor, place: NodeAddress, seconds: float = SECONDS) -> bool:
    """Waits for an answer that does not come; True where the vigil said that it never will."""
    dead = asyncio.Event()
    with vigil.watch(place) as guard:
        guard.on_dead = dead.set
        try:
            async with asyncio.timeout(seconds):
                return await dead.wait()
        except TimeoutError:
            return False


async def test_who_waits_for_a_node_that_stands_still_is_let_go() -> None:
    async with holding() as holder, watching(holder) as (vigil, _):
        holder.says["/healthcheck"] = for_ever
        assert all(await asyncio.gather(*(owed(vigil, holder.place) for _ in range(20))))
        assert holder.asked == ["/healthcheck"]  # one question for all


async def test_who_comes_after_is_not_kept_waiting() -> None:
    async with holding() as holder, watching(holder) as (vigil, _):
        holder.says["/healthcheck"] = for_ever
        assert await owed(vigil, holder.place)
        with pytest.raises(PeerUnavailable), vigil.watch(holder.place):
            pytest.fail("it was found dead a moment ago")


async def test_a_node_that_has_nothing_to_say_yet_but_lives_is_waited_for() -> None:
    async with holding() as holder, watching(holder) as (vigil, _):
        holder.says["/healthcheck"] = answer("not found", "text/plain", "404 Not Found")  # as a sibling's door
        waiting = asyncio.ensure_future(owed(vigil, holder.place))
        await until(lambda: len(holder.asked) > 2)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_node_is_asked_only_once_it_says_nothing() -> None:
    looks, now = 0, 0.0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return now

    async with holding() as holder, Peers("cluster") as peers:
        holder.says["/healthcheck"] = answer("OK", "text/plain")
        async with LivenessMonitor(peers, quiet=QUIET, probe_seconds=SECONDS, clock=clock) as vigil:
            with vigil.watch(holder.place) as guard:
                for _ in range(5):
                    now += QUIET
                    guard.received(now)
                    before = looks
                    await until(lambda: looks > before)  # noqa: B023
                assert holder.asked == []
                now += 2 * QUIET
                await until(lambda: holder.asked)


async def test_a_node_that_owes_nothing_is_not_asked() -> None:
    async with holding() as holder, watching(holder) as (vigil, _):
        await owed(vigil, holder.place, 0)
        await until(lambda: not vigil._watched)
        assert holder.asked == []


async def test_a_node_that_nobody_runs_any_more_is_dead_to_those_who_wait() -> None:
    async with holding() as holder, watching(holder) as (vigil, _):
        await holder.close()
        assert await owed(vigil, holder.place)


async def test_one_node_that_stands_still_is_no_reason_to_give_up_another() -> None:
    async with holding() as holder, holding() as other, watching(holder) as (vigil, _):
        holder.says["/healthcheck"], other.says["/healthcheck"] = for_ever, answer("OK", "text/plain")
        waiting = asyncio.ensure_future(owed(vigil, other.place))
        assert await owed(vigil, holder.place)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
