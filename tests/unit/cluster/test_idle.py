"""A node for one channel stops when the stream of that channel has ended, and not before."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from gateway.cluster.members.membership import wait_until_idle
from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.lib.tasks import Tasks
from gateway.ports.errors import StoreUnavailable
from tests.support.time_outs import at_most

PLACE = NodeAddress("g1", "10.0.0.1:8080")


@dataclass
class Where:
    """A locator with a set answer; each look-up moves the time by ten seconds."""

    says: NodeAddress | StoreUnavailable | None = PLACE
    now: float = 0.0
    looks: int = 0
    looked: asyncio.Event = field(default_factory=asyncio.Event)

    def known(self, name: str) -> NodeAddress | None:
        return None

    async def find(self, name: str) -> NodeAddress | None:
        assert name == "c1"
        self.now += 10
        self.looks += 1
        self.looked.set()
        if isinstance(self.says, StoreUnavailable):
            raise self.says
        return self.says

    def invalidate(self, name: str, place: NodeAddress) -> None: ...

    async def looks_again(self) -> None:
        self.looked.clear()
        async with asyncio.timeout(at_most(5)):
            await self.looked.wait()


@dataclass
class Nodes:
    """The other nodes. says: the answer of the node with the claim; None: it has the stream."""

    says: PeerUnavailable | PeerRefused | None = None

    async def ask(self, node: NodeAddress, method: str, target: str, *, seconds: float) -> bytes:
        assert (method, target) == ("GET", "/_node/.node/held/c1?to=g1")
        if self.says is not None:
            raise self.says
        return b"{}"


def nodes(says: PeerUnavailable | PeerRefused | None = None) -> Peers:
    return cast(Peers, Nodes(says))


async def test_the_node_stays_while_the_stream_has_a_holder_and_stops_afterwards() -> None:
    where = Where()
    async with Tasks("purpose") as tasks:
        going = tasks.start(wait_until_idle(where, nodes(), "c1", idle=100, poll=0, clock=lambda: where.now))
        for _ in range(30):
            await where.looks_again()
        assert not going.done()
        where.says, before = None, where.looks
        async with asyncio.timeout(at_most(5)):
            await going
        assert where.looks - before in (9, 10, 11)


async def test_the_node_stays_when_the_stream_returns_in_time() -> None:
    where = Where(says=None)
    async with Tasks("purpose") as tasks:
        going = tasks.start(wait_until_idle(where, nodes(), "c1", idle=100, poll=0, clock=lambda: where.now))
        for _ in range(5):
            await where.looks_again()
        where.says = PLACE
        for _ in range(20):
            await where.looks_again()
        assert not going.done()


async def test_the_node_stays_while_the_registry_is_unavailable() -> None:
    where = Where(says=StoreUnavailable("dynamodb does not answer"))
    async with Tasks("purpose") as tasks:
        going = tasks.start(wait_until_idle(where, nodes(), "c1", idle=100, poll=0, clock=lambda: where.now))
        for _ in range(30):
            await where.looks_again()
        assert not going.done()


@pytest.mark.parametrize("says", [PeerUnavailable(PLACE, "gone"), PeerRefused(PLACE, 421, "this is node g2")], ids=str)
async def test_the_node_stops_when_the_node_with_the_claim_no_longer_has_the_stream(
    says: PeerUnavailable | PeerRefused,
) -> None:
    where = Where()
    async with asyncio.timeout(at_most(5)):
        await wait_until_idle(where, nodes(says), "c1", idle=100, poll=0, clock=lambda: where.now)


async def test_the_node_stays_while_an_older_node_has_the_claim() -> None:
    where = Where()
    async with Tasks("purpose") as tasks:
        unknown = nodes(PeerRefused(PLACE, 404, "this node knows no operation held"))
        going = tasks.start(wait_until_idle(where, unknown, "c1", idle=100, poll=0, clock=lambda: where.now))
        for _ in range(30):
            await where.looks_again()
        assert not going.done()
