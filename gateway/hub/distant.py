"""Distant viewers: who watches a stream of this node through other nodes, as those tell it."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

FORGET_SECONDS: Final = 30.0  # a node that has said nothing for so long has no viewers any more
MOST_TELLERS: Final = 20_000  # pairs of stream and node
MOST_COUNT: Final = 10_000_000  # viewers of one protocol that one node can have


@dataclass(frozen=True, slots=True)
class _Told:
    counts: Mapping[str, int]
    at: float


class DistantViewers:
    """What each node tells of each stream replaces what it told before, and is forgotten after FORGET_SECONDS.

    At most MOST_TELLERS pairs of stream and node are remembered, the one not heard of for longest is forgotten first.
    clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: OrderedDict[tuple[str, str], _Told] = OrderedDict()  # the one heard of last is last
        self._nodes: dict[str, set[str]] = {}  # by stream

    def __len__(self) -> int:
        return len(self._told)

    def told(self, stream: str, node: str, counts: Mapping[str, int]) -> None:
        """So many viewers watch `stream` at `node` now, by protocol."""
        counts = {protocol: min(count, MOST_COUNT) for protocol, count in counts.items() if count > 0}
        if not counts:
            self._forget((stream, node))
            return
        self._told[stream, node] = _Told(counts, self._clock())
        self._told.move_to_end((stream, node))
        self._nodes.setdefault(stream, set()).add(node)
        self._expire()
        if len(self._told) > MOST_TELLERS:
            self._forget(next(iter(self._told)))

    def of(self, stream: str) -> Counter[str]:
        """All of them together, by protocol."""
        self._expire()
        counts: Counter[str] = Counter()
        for node in self._nodes.get(stream, ()):
            counts.update(self._told[stream, node].counts)
        return counts

    def _expire(self) -> None:
        due = self._clock() - FORGET_SECONDS
        while self._told:
            pair, told = next(iter(self._told.items()))
            if told.at > due:
                return
            self._forget(pair)

    def _forget(self, pair: tuple[str, str]) -> None:
        if self._told.pop(pair, None) is None:
            return
        stream, node = pair
        nodes = self._nodes[stream]
        nodes.discard(node)
        if not nodes:
            del self._nodes[stream]
