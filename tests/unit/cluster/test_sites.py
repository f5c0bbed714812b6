"""Nodes of one site read a stream of another site from one edge of their site, and never in a circle."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from gateway.cluster.members.edge_selector import EdgeSelector, Reader
from gateway.cluster.members.node_address import NodeAddress
from gateway.cluster.members.node_list import NodeList
from gateway.ports.nodes import Node, NodeRole
from tests.support.clock import Clock

HOLDER = NodeAddress("h", "10.0.0.1:8080", "k1")


class Located:
    """A locator that always knows the holder."""

    def __init__(self, node: NodeAddress) -> None:
        self.node: NodeAddress | None = node
        self.forgotten = 0

    def known(self, name: str) -> NodeAddress | None:
        return self.node

    async def find(self, name: str) -> NodeAddress | None:
        return self.node

    def forget(self, channel: str) -> None:
        self.forgotten += 1


def node(id: str, site: str, role: NodeRole = NodeRole.EDGE, channel: str = "", free: float | None = None) -> Node:
    shown = {"site": site} if free is None else {"site": site, "free": {"percent": free}}
    return Node(id, role, f"{id.partition('.')[0]}.lan:80", 1, channel, shown)


GATEWAY = node("h", "a", NodeRole.GATEWAY)
EDGES = [node(f"e{n}", "b") for n in range(4)]


def selector(own: Node, *known: Node, holder: NodeAddress = HOLDER, clock: Clock | None = None) -> EdgeSelector:
    """Returns the selector of a node that knows these nodes."""
    serves = own.role is NodeRole.EDGE and not own.channel and bool(own.site)
    nodes = NodeList(None, clock or Clock(100.0))  # type: ignore[arg-type]
    nodes.observe(known)
    host = own.host
    sockets = {one.id: f"/run/{one.id}" for one in known if one.host == host and one.id != own.id}
    reader = Reader(own.id, own.site, own.channel, serves)
    return EdgeSelector(Located(holder), nodes, reader, lambda: sockets, clock or Clock(100.0))  # type: ignore[arg-type]


def source(own: Node, *known: Node, channel: str = "c1", holder: NodeAddress = HOLDER) -> str:
    """Returns the id of the node from which `own` reads the channel."""
    found = selector(own, *known, holder=holder).known(channel)
    assert found is not None
    return found.id


def test_a_stream_crosses_the_line_between_sites_once() -> None:
    crossing = Counter[str]()
    for channel in (f"c{n}" for n in range(200)):
        sources = {own.id: source(own, GATEWAY, *EDGES, channel=channel) for own in EDGES}
        (first,) = (id for id, found in sources.items() if found == "h")
        assert {found for id, found in sources.items() if id != first} == {first}
        gateway = node("g", "b", NodeRole.GATEWAY)
        assert source(gateway, GATEWAY, gateway, *EDGES, channel=channel) == first
        crossing[first] += 1
    assert min(crossing.values()) > 25, "the edges share the channels"


def test_nodes_of_the_holders_site_and_nodes_without_a_site_read_from_the_holder() -> None:
    near = [node(f"n{n}", "a") for n in range(3)]
    for own in (*near, node("x", ""), node("y", "c")):
        assert source(own, GATEWAY, *near, *EDGES, own) == "h"
    unsited = [node(f"o{n}", "") for n in range(3)]
    assert source(EDGES[0], GATEWAY, EDGES[0], *unsited) == "h"
    assert source(EDGES[0], *EDGES) == "h", "the site of the holder is unknown"
    assert source(EDGES[0], replace(GATEWAY, shown={}), *EDGES) == "h", "an earlier version"


def test_full_edges_workers_and_edges_of_other_channels_are_not_used() -> None:
    own = node("g", "b", NodeRole.GATEWAY)
    others = [node("f", "b", free=9.9), node("w", "b", NodeRole.WORKER), node("o", "b", channel="c2")]
    others += [node("g2", "b", NodeRole.GATEWAY), replace(node("n", "b"), address="")]
    assert source(own, GATEWAY, own, *others) == "h"
    assert source(own, GATEWAY, own, *others, node("e", "b", free=10)) == "e"


def test_after_a_failure_the_next_edge_and_finally_the_holder_is_used() -> None:
    clock = Clock(100.0)
    one = selector(node("g", "b", NodeRole.GATEWAY), GATEWAY, *EDGES, clock=clock)
    tried = []
    while (found := one.known("c1")) is not None and found.edge:
        tried.append(found.id)
        one.invalidate("c1", found)
    assert found == HOLDER
    assert len(tried) == len(set(tried)) == 3
    clock.now += 10
    again = one.known("c1")
    assert again is not None and again.id == tried[0]


def test_edges_of_the_channel_come_first_and_those_of_this_site_before_others() -> None:
    holder = replace(HOLDER, cluster=True)
    gateway = node("g", "b", NodeRole.GATEWAY)
    far, near = node("far", "a", channel="c1"), node("near", "b", channel="c1", free=30)
    assert source(gateway, GATEWAY, far, near, *EDGES, holder=holder) == "near"
    assert source(gateway, GATEWAY, far, *EDGES, holder=holder) in {edge.id for edge in EDGES}
    assert source(gateway, GATEWAY, far, holder=holder) == "far"
    beside = node("g", "a", NodeRole.GATEWAY)
    assert source(beside, GATEWAY, near, holder=holder) == "h", "what is near does not go through another site"
    assert source(near, GATEWAY, far, near, *EDGES, holder=holder) == "h"


def test_edges_of_the_channel_with_more_free_capacity_come_first() -> None:
    holder = replace(HOLDER, cluster=True)
    edges = [node(f"c{n}", "", channel="c1", free=free) for n, free in enumerate((10, 80, 30, 40))]
    for n in range(20):
        assert source(node(f"g{n}", "", NodeRole.GATEWAY), *edges, holder=holder) == "c1"


def test_processes_of_one_host_read_from_one_of_them_by_its_socket() -> None:
    processes = [node(f"e.{n}", "b") for n in range(3)]
    found = {own.id: selector(own, GATEWAY, *processes).known("c1") for own in processes}
    (first,) = (id for id, one in found.items() if one == HOLDER)
    assert {one.socket for id, one in found.items() if one is not None and id != first} == {f"/run/{first}"}


def standing(pick: random.Random) -> list[Node]:
    """Returns the holder and nodes of all kinds: gateways, edges of one channel, edges with several processes."""
    nodes, sites = [GATEWAY], ["b", "b", "b", *pick.choice(["", "a", "ac"])]
    for n in range(pick.randint(2, 6)):
        site = pick.choice([*sites, ""] if pick.random() < 0.2 else sites)
        role = pick.choice([NodeRole.EDGE] * 5 + [NodeRole.GATEWAY])
        channel = pick.choice(["", "", "", "c1", "c2"]) if role is NodeRole.EDGE else ""
        nodes += [node(f"n{n}.{process}", site, role, channel) for process in range(pick.choice([1, 1, 3]))]
    return nodes


def sources_of(own: Node, nodes: list[Node], pick: random.Random) -> list[str]:
    """Returns the ids of all nodes from which a node may read the channel now, except the holder.

    Its list lacks some nodes, some have failed, some are full, and it may believe in a holder that is gone.
    """
    known = [one for one in nodes if pick.random() < 0.7]
    known = [replace(one, shown={**one.shown, "free": {"percent": pick.choice([5, 50, 100])}}) for one in known]
    holder = replace(HOLDER, id=pick.choice(["h", "h", "h", "gone"]), cluster=pick.random() < 0.5)
    one = selector(own, *known, holder=holder)
    for edge in pick.sample(nodes, min(len(nodes), pick.randint(0, 2))):
        one.invalidate("c1", NodeAddress(edge.id, edge.address, edge=True))
    found = one.known("c1")
    assert found is not None
    if not found.edge:
        return []
    # A connection to an address may reach any process of the host.
    return [found.id] if found.socket else [other.id for other in nodes if other.address == found.address]


def test_streams_never_go_in_a_circle_whatever_each_node_knows() -> None:
    longest = 0
    for seed in range(2_000):
        pick = random.Random(seed)
        nodes = standing(pick)
        left, rounds = {own.id: sources_of(own, nodes, pick) for own in nodes[1:]}, 0
        while left:
            ends = [id for id, sources in left.items() if not any(one in left for one in sources)]
            assert ends, f"a circle with the seed {seed}: {left}"
            left = {id: sources for id, sources in left.items() if id not in ends}
            rounds += 1
        longest = max(longest, rounds)
    assert longest > 3, "some streams pass several edges"
