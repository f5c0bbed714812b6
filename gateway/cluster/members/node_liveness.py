"""Determines which nodes are alive: by connections first, then by heartbeats."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.lib.clocks import Clock
from gateway.ports.nodes import ALIVE_SECONDS, Node

_MAX_NODES: Final = 1000


@dataclass(slots=True)
class _Heartbeat:
    counter: int
    first_seen: float  # monotonic seconds of the first read with this counter
    refused: bool = False  # whether the node refused a connection after that


class NodeLiveness:
    """Tracks which nodes are alive. Update it with every read of the registry.

    A node is dead if its heartbeat has not changed for ALIVE_SECONDS. It is also dead if it has refused a connection
    since its last heartbeat. A new heartbeat makes it alive again.

    It keeps only the nodes of the last read. clock: monotonic seconds of this process.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._heartbeats: dict[str, _Heartbeat] = {}

    def observe_all(self, nodes: Iterable[Node]) -> None:
        """Records a read of all nodes in the registry."""
        now = self._clock()
        previous, self._heartbeats = self._heartbeats, {}
        for node in nodes:
            last = previous.get(node.id)
            if last is None or last.counter != node.beat:
                last = _Heartbeat(node.beat, now)
            self._heartbeats[node.id] = last

    def observe(self, node: Node) -> None:
        """Records a read of one node. Keeps at most 1,000 nodes."""
        last = self._heartbeats.get(node.id)
        if last is None or last.counter != node.beat:
            self._heartbeats.pop(node.id, None)
            if len(self._heartbeats) >= _MAX_NODES:
                del self._heartbeats[next(iter(self._heartbeats))]
            self._heartbeats[node.id] = _Heartbeat(node.beat, self._clock())

    def is_dead(self, id: str) -> bool:
        """Whether the node is dead by the registry: not listed, or no new heartbeat."""
        last = self._heartbeats.get(id)
        return last is None or self._clock() - last.first_seen >= ALIVE_SECONDS

    def mark_refused(self, id: str) -> None:
        """Records that the node refused a connection."""
        if (last := self._heartbeats.get(id)) is not None:
            last.refused = True

    def is_alive(self, id: str) -> bool:
        """Whether the node is alive and accepts connections."""
        return not self.is_dead(id) and not self._heartbeats[id].refused
