"""The edge selector spreads readers over a channel's own edges, with few requests to the registry."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.cluster.members import edge_selector, node_list
from gateway.cluster.members.edge_selector import EdgeSelector
from gateway.cluster.members.node_address import NodeAddress
from gateway.cluster.members.node_list import READ_SECONDS, NodeList
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.lib.tasks import Tasks
from gateway.ports.errors import StoreUnavailable
from gateway.ports.nodes import ALIVE_SECONDS, Node, NodeRole, StreamClaim
from tests.support.time_outs import at_most
from tests.unit.cluster.test_registry_locator import Clock, Rows


def held(stream: str = "c1", claim: str = "k1") -> StreamClaim:
    return StreamClaim(stream, "holder", "10.0.0.1:8080", claim, 1.0, cluster=True)


def edge(id: str, channel: str = "c1", beat: int = 1) -> Node:
    return Node(id, NodeRole.EDGE, f"10.0.1.{id[1:]}:8080", beat, channel)


HOLDER = NodeAddress("holder", "10.0.0.1:8080", "k1", cluster=True)


class Table(Rows):
    """A registry that counts the readings of its nodes. beating: whether their heartbeats change."""

    def __init__(self, *holdings: StreamClaim, edges: int = 0) -> None:
        super().__init__(*holdings)
        self.there = [edge(f"e{n}") for n in range(edges)]
        self.readings = 0
        self.beating = True

    async def nodes(self) -> list[Node]:
        self.readings += 1
        if self.away:
            raise StoreUnavailable("gone")
        if self.beating:
            self.there = [replace(n, beat=n.beat + 1) for n in self.there]
        return list(self.there)


class Reader:
    """A node that reads streams."""

    def __init__(
        self,
        table: Table,
        clock: Clock,
        id: str,
        channel: str = "",
        sibling: str = "",
        site: str = "",
        serves: bool = False,
    ) -> None:
        siblings = {"holder": sibling} if sibling else {}
        self.locator = RegistryLocator(table, lambda: siblings, clock=clock)  # type: ignore[arg-type]
        self.nodes = NodeList(table, clock)  # type: ignore[arg-type]
        reader = edge_selector.Reader(id, site, channel, serves)
        self.spread = EdgeSelector(self.locator, self.nodes, reader, clock=clock)

    async def found(self, name: str = "c1") -> NodeAddress:
        place = self.spread.known(name) or await self.spread.find(name)
        assert place is not None
        return place


@asynccontextmanager
async def reading(
    table: Table,
    clock: Clock | None = None,
    id: str = "r",
    channel: str = "",
    sibling: str = "",
    site: str = "",
    serves: bool = False,
) -> AsyncIterator[Reader]:
    reader = Reader(table, clock or Clock(), id, channel, sibling, site, serves)
    async with Tasks("test") as tasks:
        tasks.start(reader.locator.run())
        tasks.start(reader.nodes.run())
        yield reader


async def test_a_reader_always_uses_the_same_edge_of_the_channel() -> None:
    async with reading(Table(held(), edges=5)) as reader:
        place = await reader.found()
        assert place.edge
        assert place.id in {f"e{n}" for n in range(5)}
        assert place.claim == "k1"
        assert {await reader.found(name) for name in ("c1", "c1@720p") * 20} == {place}
        assert reader.spread.known("c1") == place


async def test_readers_spread_over_the_edges_and_only_those_of_a_lost_edge_move() -> None:
    table, clock = Table(held(), edges=5), Clock()

    async def chosen(n: int) -> str:
        async with reading(table, clock, f"r{n}") as reader:
            return (await reader.found()).id

    before = await asyncio.gather(*(chosen(n) for n in range(200)))
    table.there = [node for node in table.there if node.id != "e3"]
    after = await asyncio.gather(*(chosen(n) for n in range(200)))
    assert all(20 < count < 60 for count in Counter(before).values())
    assert {old for old, new in zip(before, after, strict=True) if old != new} == {"e3"}


async def test_a_stream_without_edges_of_its_own_is_read_from_its_holder() -> None:
    plain = Table(StreamClaim("c1", "holder", "10.0.0.1:8080", "k1", 1.0), edges=3)
    async with reading(plain) as reader:
        assert await reader.found() == NodeAddress("holder", "10.0.0.1:8080", "k1")
        assert plain.readings == 0, "nobody has to know which nodes there are"


async def test_only_edges_of_the_channel_with_an_address_are_candidates() -> None:
    table = Table(held())
    table.there = [
        edge("e1", "c2"),
        edge("e2", ""),
        Node("e3", NodeRole.EDGE, "", 1, "c1"),
        Node("g1", NodeRole.GATEWAY, "10.0.0.2:8080", 1, "c1"),
        Node("w1", NodeRole.WORKER, "10.0.0.3:8080", 1, "c1"),
    ]
    async with reading(table) as reader:
        assert await reader.found() == HOLDER


async def test_an_edge_of_the_channel_reads_from_the_holder() -> None:
    table = Table(held(), held("c2", "k2"), edges=3)
    async with reading(table, id="e1", channel="c1") as reader:
        assert await reader.found() == HOLDER
        assert table.readings == 0
        table.there = [edge("e9", "c2")]
        assert (await reader.found("c2")).id == "e9", "what it is not there for, it reads as everybody"


async def test_a_holder_on_the_same_machine_is_preferred_to_any_edge() -> None:
    async with reading(Table(held(), edges=3), sibling="/run/holder.sock") as reader:
        assert (await reader.found()).socket == "/run/holder.sock"


async def test_after_a_failure_the_reader_tries_the_next_edge_and_finally_the_holder() -> None:
    table, clock = Table(held(), edges=8), Clock()
    async with reading(table, clock) as reader:
        tried = []
        while (place := await reader.found()).edge:
            tried.append(place.id)
            reader.spread.invalidate("c1", place)
        assert len(tried) == len(set(tried)) == 3
        assert place == HOLDER
        reader.spread.invalidate("c1", place)
        assert await reader.found() == HOLDER, "once more"
        reader.spread.invalidate("c1", place)
        assert await reader.spread.find("c1") is None, "as of the locator"
        clock.now += 10
        assert (await reader.found()).id == tried[0]


async def test_a_stream_that_has_ended_is_not_read_from_its_edges() -> None:
    table = Table(held(), edges=3)
    async with reading(table) as reader:
        place = await reader.found()
        del table.held["c1"]
        reader.spread.invalidate("c1", place)
        assert await reader.spread.find("c1") is None
        assert reader.spread.known("c1") is None


async def test_many_failures_of_one_edge_cause_one_look_up() -> None:
    table = Table(held(), edges=3)
    async with reading(table) as reader:
        place = await reader.found()
        for _ in range(100):
            reader.spread.invalidate("c1", place)
            await reader.found()
        assert len(table.requests) == 2


async def test_an_edge_whose_heartbeat_stops_is_dead_at_the_next_reading() -> None:
    table, clock = Table(held(), edges=3), Clock()
    async with reading(table, clock) as reader:
        assert (await reader.found()).edge
        table.beating = False
        clock.now += READ_SECONDS
        await reader.spread.find("c1")
        clock.now += max(READ_SECONDS, ALIVE_SECONDS)
        assert await reader.spread.find("c1") == NodeAddress("holder", "10.0.0.1:8080", "k1", cluster=True)


async def test_new_edges_are_found_in_the_background_at_the_next_reading() -> None:
    table, clock = Table(held()), Clock()
    table.there = [edge("e0", "c2")]
    async with reading(table, clock) as reader:
        assert await reader.found() == HOLDER
        table.there = [edge("e1")]
        clock.now += READ_SECONDS - 1
        assert await reader.spread.find("c1") == HOLDER
        clock.now += 1
        assert reader.spread.known("c1") == HOLDER
        async with asyncio.timeout(at_most(5)):
            while not (await reader.found()).edge:
                await asyncio.sleep(0)
        assert table.readings == 2


async def test_requests_to_the_registry_do_not_grow_with_viewers() -> None:
    """Ten minutes, 20 streams: the nodes are read every ten seconds, each stream is looked up every thirty."""
    table, clock = Table(*(held(f"c{n}") for n in range(20))), Clock()
    table.there = [edge(f"e{n}", f"c{n}") for n in range(40)]
    async with reading(table, clock) as reader:
        for _ in range(600):
            clock.now += 1
            await asyncio.gather(*(reader.found(f"c{n}") for n in range(20)))
            for n in range(200):
                reader.spread.known(f"c{n % 20}")
    assert table.readings <= 60
    assert sum(map(len, table.requests)) <= 20 * 20
    assert len(table.requests) <= 20


async def test_the_nodes_are_not_read_without_look_ups() -> None:
    table, clock = Table(held(), edges=2), Clock()
    async with reading(table, clock) as reader:
        await reader.found()
        clock.now += 3600
        await asyncio.sleep(0.02)
        assert table.readings == 1


async def test_the_last_reading_is_used_while_the_registry_is_unavailable() -> None:
    table, clock = Table(held(), edges=3), Clock()
    async with reading(table, clock) as reader:
        place = await reader.found()
        table.away = True
        for _ in range(10):
            clock.now += READ_SECONDS
            assert await reader.spread.find("c1") == place


async def test_a_silent_registry_delays_readers_only_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_list, "WAIT_SECONDS", 0.02)
    table, hung = Table(held(), edges=3), asyncio.Event()

    async def silent() -> list[Node]:
        await hung.wait()
        return []

    monkeypatch.setattr(table, "nodes", silent)
    async with reading(table) as reader:
        assert await reader.found() == HOLDER
