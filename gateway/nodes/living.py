"""Living: which nodes are alive, judged by their connections first and by their beats where that leaves a doubt."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from gateway.hub.nodes import ALIVE_SECONDS, Node

_MOST: Final = 1000


@dataclass(slots=True)
class _Seen:
    beat: int
    at: float  # when we saw this beat first
    refused: bool = False  # since then


class Living:
    """Fed with every reading of the registry. A node is dead once its beat stood still for ALIVE_SECONDS between our
    readings, or it refused a connection since its last one; a new beat brings it back.

    Of readings, only what the last one had is remembered. clock: monotonic seconds, ours alone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def read(self, nodes: Iterable[Node]) -> None:
        """What the registry has now."""
        now = self._clock()
        before, self._seen = self._seen, {}
        for node in nodes:
            seen = before.get(node.id)
            self._seen[node.id] = seen if seen is not None and seen.beat == node.beat else _Seen(node.beat, now)

    def see(self, node: Node) -> None:
        """What the registry has of one node now; of such, only the last thousand are remembered."""
        seen = self._seen.get(node.id)
        if seen is None or seen.beat != node.beat:
            self._seen.pop(node.id, None)
            if len(self._seen) >= _MOST:
                del self._seen[next(iter(self._seen))]
            self._seen[node.id] = _Seen(node.beat, self._clock())

    def dead(self, id: str) -> bool:
        """The registry says so: it has left, or its beat stood still."""
        seen = self._seen.get(id)
        return seen is None or self._clock() - seen.at >= ALIVE_SECONDS

    def refused(self, id: str) -> None:
        """Nobody listens at its address."""
        if (seen := self._seen.get(id)) is not None:
            seen.refused = True

    def alive(self, id: str) -> bool:
        """Worth being asked."""
        return not self.dead(id) and not self._seen[id].refused
