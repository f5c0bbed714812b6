"""A node stays a member whatever a heartbeat raises."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from gateway.cluster.members import membership as module
from gateway.cluster.members.membership import Membership
from gateway.lib import tasks
from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks
from gateway.ports.nodes import Node, NodeRole
from gateway.ports.stores import Registry


class OneRegistry:
    """A registry whose second heartbeat raises an error that nobody expects."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.enough = asyncio.Event()

    async def join(self, node: Node) -> None:
        self.calls.append("join")

    async def beat(self, node: Node) -> Sequence[Node] | None:
        self.calls.append(f"beat {node.beat}")
        if node.beat == 2:
            raise ValueError("a row of another program")
        if node.beat == 4:
            self.enough.set()
        return None

    async def leave(self, id: str) -> None:
        self.calls.append("leave")


async def test_a_heartbeat_that_fails_does_not_end_the_membership(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "Backoff", lambda *seconds: Backoff(0.001, 0.001))
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.001)
    registry = OneRegistry()
    membership = Membership(cast(Registry, registry), lambda: Node("a", NodeRole.GATEWAY, "10.0.0.1:80"))
    async with Tasks("test") as group:
        group.keep(membership.run, "membership")
        await registry.enough.wait()
    assert registry.calls[:4] == ["join", "beat 2", "beat 3", "beat 4"]
    assert registry.calls[-1] == "leave" and registry.calls.count("leave") == 1
