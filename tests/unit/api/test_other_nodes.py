"""Data from other nodes: impossible numbers are ignored."""

from __future__ import annotations

from gateway.api.history import _points
from gateway.ports.nodes import Node, NodeRole
from gateway.reports.push_servers import gateways

HUGE = 10**400  # no float can have it


def test_nodes_with_an_invalid_start_time_sort_last() -> None:
    nodes = [
        Node(id, NodeRole.GATEWAY, "127.0.0.1:1", 1, "", {"since": since})
        for id, since in (("a", HUGE), ("b", "x"), ("c", -1), ("d", 7), ("e", 3.5))
    ]
    assert [node.id for node in gateways(nodes)] == ["e", "d", "a", "b", "c"]


def test_invalid_points_of_a_history_are_ignored() -> None:
    series = {"a": [1, 2.5, 3], "b": [1, HUGE, 3], "c": [1, 2], "d": [1, True, 3]}
    assert _points([[60, series], ["x", {}], 5]) == [(60, {"a": (1.0, 2.5, 3.0)})]
