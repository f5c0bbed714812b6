"""Judges which nodes are alive: by their connections first, and in doubt by their heartbeats."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from gateway.ports.nodes import ALIVE_SECONDS, Node

_MAX_REMEMBERED: Final = 1000


@dataclass(slots=True)
class _Seen:
    beat: int
    at: float  # when this heartbeat was first seen
    refused: bool = False  # whether it refused a connection since then


class NodeLiveness:
    """Tells which nodes are alive, from every reading of the registry.

    A node is dead once its heartbeat stood still for ALIVE_SECONDS between our readings. It is also dead if it has
    refused a connection since its last heartbeat. A new heartbeat makes it alive again.

    It remembers only the nodes of the last reading. clock: monotonic seconds of this process.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def read(self, nodes: Iterable[Node]) -> None:
        """Takes a reading of all nodes in the registry."""
        now = self._clock()
        before, self._seen = self._seen, {}
        for node in nodes:
            seen = before.get(node.id)
            self._seen[node.id] = seen if seen is not None and seen.beat == node.beat else _Seen(node.beat, now)

    def see(self, node: Node) -> None:
        """Takes a reading of one node. At most the last 1,000 such nodes are remembered."""
        seen = self._seen.get(node.id)
        if seen is None or seen.beat != node.beat:
            self._seen.pop(node.id, None)
            if len(self._seen) >= _MAX_REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._seen[node.id] = _Seen(node.beat, self._clock())

    def dead(self, id: str) -> bool:
        """Whether the registry shows the node as dead: it has left, or its heartbeat stood still."""
        seen = self._seen.get(id)
        return seen is None or self._clock() - seen.at >= ALIVE_SECONDS

    def refused(self, id: str) -> None:
        """Notes that nothing listens at the address of the node."""
        if (seen := self._seen.get(id)) is not None:
            seen.refused = True

    def alive(self, id: str) -> bool:
        """Whether the node is alive, so that it is worth asking."""
        return not self.dead(id) and not self._seen[id].refused
