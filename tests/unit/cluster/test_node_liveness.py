"""Which nodes are alive, according to connections and heartbeats, on the reader's own clock."""

import pytest

from gateway.cluster.members.node_liveness import NodeLiveness
from gateway.ports.nodes import ALIVE_SECONDS, Node, NodeRole
from tests.support.clock import Clock


def node(id: str, beat: int) -> Node:
    return Node(id, NodeRole.GATEWAY, "192.0.2.1:8080", beat)


def test_a_node_is_alive_while_its_heartbeat_changes():
    clock = Clock(1000.0)
    living = NodeLiveness(clock)
    for beat in range(10):
        living.observe_all([node("a", beat)])
        assert living.is_alive("a")
        clock.now += ALIVE_SECONDS - 0.1


def test_a_node_is_dead_when_its_heartbeat_does_not_change():
    clock = Clock(1000.0)
    living = NodeLiveness(clock)
    living.observe_all([node("a", 5)])
    clock.now += ALIVE_SECONDS - 0.1
    living.observe_all([node("a", 5)])
    assert living.is_alive("a")
    clock.now += 0.1
    assert living.is_dead("a") and not living.is_alive("a")
    living.observe_all([node("a", 6)])
    assert living.is_alive("a")


def test_the_clock_of_another_node_does_not_matter():
    """A heartbeat may begin with any number and even decrease; only a change counts."""
    clock = Clock(1000.0)
    living = NodeLiveness(clock)
    for beat in (10**12, 3, 2):
        living.observe_all([node("a", beat)])
        clock.now += ALIVE_SECONDS - 1
        assert living.is_alive("a")


def test_a_node_that_refuses_connections_is_not_asked_until_its_next_heartbeat():
    living = NodeLiveness(Clock(1000.0))
    living.observe_all([node("a", 1)])
    living.mark_refused("a")
    living.observe_all([node("a", 1)])
    assert not living.is_alive("a") and not living.is_dead("a")
    living.observe_all([node("a", 2)])
    assert living.is_alive("a")


def test_a_node_missing_in_the_registry_is_dead_and_forgotten():
    living = NodeLiveness(Clock(1000.0))
    living.observe_all([node("a", 1), node("b", 1)])
    living.observe_all([node("b", 1)])
    assert living.is_dead("a") and living.is_alive("b")
    living.mark_refused("a")
    assert not living.is_alive("never seen")


def test_nodes_observed_one_by_one_are_judged_alike_and_bounded_in_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.cluster.members.node_liveness._MAX_NODES", 2)
    clock = Clock(1000.0)
    living = NodeLiveness(clock)
    assert living.is_dead("a")
    living.observe(node("a", 1))
    clock.now += ALIVE_SECONDS - 1
    living.observe(node("a", 1))
    assert not living.is_dead("a")
    clock.now += 1
    living.observe(node("a", 1))
    assert living.is_dead("a")
    living.observe(node("a", 2))
    assert not living.is_dead("a")
    living.observe(node("b", 1))
    living.observe(node("c", 1))
    assert not living.is_dead("b") and not living.is_dead("c")
    assert living.is_dead("a"), "forgotten: the longest ago"
