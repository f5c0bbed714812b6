"""A viewer whom a node refuses gets the address of another node with free capacity."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from gateway.cluster.members.node_list import NodeList
from gateway.cluster.members.sibling_nodes import SiblingNodes
from gateway.ports.nodes import Node, NodeRole
from tests.support.clock import Clock


def node(id: str, site: str = "a", free: float | None = 100.0, **more: object) -> Node:
    shown = {"site": site, "url": f"https://{id}.example.com", "free": {"percent": free} if free is not None else None}
    return Node(id, NodeRole.EDGE, f"{id}:80", 1, "", {**shown, **more})


def urls(*known: Node) -> Counter[str]:
    nodes = NodeList(None, Clock(100.0))  # type: ignore[arg-type]
    nodes.observe(known)
    siblings = SiblingNodes(nodes, "own.1", "a")
    return Counter(siblings.url() for _ in range(300))


def test_a_node_of_this_site_comes_first() -> None:
    assert set(urls(node("far", "b"), node("near", free=10))) == {"https://near.example.com"}
    assert set(urls(node("far", "b"), node("near", free=9))) == {"https://far.example.com"}


def test_viewers_are_spread_in_proportion_to_the_free_capacity() -> None:
    found = urls(node("much", free=90), node("little", free=10))
    assert 5 < found["https://little.example.com"] < 75


def test_there_may_be_no_other_node() -> None:
    unusable = [node("own.2"), node("x", url=""), node("y", url=5), replace(node("z"), channel="c1"), node("f", free=0)]
    assert set(urls(*unusable)) == {""}
    assert set(urls(*unusable, node("old", free=None))) == {"https://old.example.com"}, "without figures: free"
