"""The list of nodes is read rarely, and heartbeats may bring it."""

from __future__ import annotations

import asyncio

import structlog

from gateway.cluster.members.node_list import READ_SECONDS, NodeList
from gateway.lib.tasks import Tasks
from gateway.ports.cluster_secret import fleet_mark
from gateway.ports.nodes import Node, NodeRole
from tests.support.clock import Clock
from tests.support.time_outs import at_most


class Registry:
    def __init__(self) -> None:
        self.rows = [Node("a", NodeRole.EDGE, "a:80", 1)]
        self.reads = 0

    async def nodes(self) -> list[Node]:
        self.reads += 1
        return self.rows


async def test_nodes_of_heartbeats_are_not_read() -> None:
    registry, clock = Registry(), Clock(100.0)
    nodes = NodeList(registry, clock)  # type: ignore[arg-type]
    async with Tasks("test") as tasks:
        tasks.start(nodes.run())
        for beat in range(20):
            nodes.observe([Node("a", NodeRole.EDGE, "a:80", beat)])
            await nodes.refresh("a")
            clock.now += 3
        assert registry.reads == 0
        clock.now += READ_SECONDS
        await nodes.refresh()
        assert registry.reads == 1


async def test_a_new_node_is_looked_for_once() -> None:
    registry, clock = Registry(), Clock(100.0)
    nodes = NodeList(registry, clock)  # type: ignore[arg-type]
    async with Tasks("test") as tasks:
        tasks.start(nodes.run())
        await nodes.refresh("a")
        registry.rows.append(Node("b", NodeRole.GATEWAY, "b:80", 1))
        await asyncio.gather(*(nodes.refresh("b") for _ in range(10)))
        assert set(nodes.live) == {"a", "b"}
        for _ in range(10):
            await nodes.refresh("unknown")
        assert registry.reads == 3


async def test_a_list_that_is_kept_fresh_is_read_without_requests(monkeypatch) -> None:
    monkeypatch.setattr("gateway.cluster.members.node_list.READ_SECONDS", 0.01)
    registry = Registry()
    nodes = NodeList(registry)  # type: ignore[arg-type]
    nodes.keep_fresh()
    async with Tasks("test") as tasks:
        tasks.start(nodes.run())
        async with asyncio.timeout(at_most(5)):
            while registry.reads < 3:
                await asyncio.sleep(0.005)


def test_nodes_with_another_secret_in_one_registry_are_told_once() -> None:
    nodes = NodeList(Registry(), Clock(100.0))  # type: ignore[arg-type]
    marks = {"a": fleet_mark("one"), "b": fleet_mark("one"), "old": None, "none": ""}
    rows = [Node(id, NodeRole.GATEWAY, f"{id}:80", 1, shown={"fleet": mark}) for id, mark in marks.items()]
    other = Node("c", NodeRole.GATEWAY, "c:80", 1, shown={"fleet": fleet_mark("two")})
    with structlog.testing.capture_logs() as logs:
        nodes.observe(rows)
        assert not logs
        for _ in range(3):
            nodes.observe([*rows, other])
    (line,) = logs
    assert (
        "two fleets share one registry" in line["event"] and "c:80" in str(line) and fleet_mark("two") not in str(line)
    )
