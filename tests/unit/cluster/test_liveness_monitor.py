"""A node with unanswered requests counts as alive as long as it answers probes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.cluster.members.liveness_monitor import LivenessMonitor
from gateway.cluster.members.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.members.peers import Peers
from tests.support.holder import answer, for_ever, holding
from tests.support.http import SECONDS
from tests.support.time_outs import at_most
from tests.support.waiting import until

QUIET = 0.05


@asynccontextmanager
async def watching(probe_seconds: float = QUIET) -> AsyncIterator[LivenessMonitor]:
    """probe_seconds: longer than QUIET where a node must answer, because this machine may be busy."""
    async with Peers("cluster") as peers, LivenessMonitor(peers, quiet=QUIET, probe_seconds=probe_seconds) as monitor:
        yield monitor


async def owed(monitor: LivenessMonitor, place: NodeAddress, seconds: float = SECONDS) -> bool:
    """Waits for an answer that does not come; returns True if the monitor ends the wait."""
    dead = asyncio.Event()
    with monitor.watch(place) as guard:
        guard.on_dead = dead.set
        try:
            async with asyncio.timeout(at_most(seconds)):
                return await dead.wait()
        except TimeoutError:
            return False


async def test_requests_waiting_for_a_hung_node_fail_after_one_probe() -> None:
    async with holding() as holder, watching(1.0) as monitor:  # the question must arrive on a busy machine, too
        holder.says["/healthcheck"] = for_ever
        assert all(await asyncio.gather(*(owed(monitor, holder.place) for _ in range(20))))
        assert holder.asked == ["/healthcheck"]  # one question for all


async def test_a_later_request_to_a_dead_node_fails_at_once() -> None:
    async with holding() as holder, watching() as monitor:
        holder.says["/healthcheck"] = for_ever
        assert await owed(monitor, holder.place)
        with pytest.raises(PeerUnavailable), monitor.watch(holder.place):
            pytest.fail("it was found dead a moment ago")


async def test_a_request_waits_for_a_silent_node_that_answers_probes() -> None:
    async with holding() as holder, watching(SECONDS) as monitor:
        holder.says["/healthcheck"] = answer("not found", "text/plain", "404 Not Found")  # as a sibling answers
        waiting = asyncio.ensure_future(owed(monitor, holder.place))
        await until(lambda: len(holder.asked) > 2)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_node_is_probed_only_when_it_sends_nothing() -> None:
    looks, now = 0, 0.0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return now

    async with holding() as holder, Peers("cluster") as peers:
        holder.says["/healthcheck"] = answer("OK", "text/plain")
        async with LivenessMonitor(peers, quiet=QUIET, probe_seconds=SECONDS, clock=clock) as monitor:
            with monitor.watch(holder.place) as guard:
                for _ in range(5):
                    now += QUIET
                    guard.received(now)
                    before = looks
                    await until(lambda: looks > before)  # noqa: B023
                assert holder.asked == []
                now += 2 * QUIET
                await until(lambda: holder.asked)


async def test_a_node_without_pending_requests_is_not_probed() -> None:
    async with holding() as holder, watching() as monitor:
        await owed(monitor, holder.place, 0)
        await until(lambda: not monitor._watched)
        assert holder.asked == []


async def test_requests_to_a_node_that_has_stopped_fail() -> None:
    async with holding() as holder, watching() as monitor:
        await holder.close()
        assert await owed(monitor, holder.place)


async def test_a_hung_node_does_not_affect_requests_to_another() -> None:
    async with holding() as holder, holding() as other, watching(1.0) as monitor:
        holder.says["/healthcheck"], other.says["/healthcheck"] = for_ever, answer("OK", "text/plain")
        waiting = asyncio.ensure_future(owed(monitor, other.place))
        assert await owed(monitor, holder.place)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
