"""The registry of the simulation: holdings and nodes as the real one keeps them, and what DynamoDB would count of it
and of the channels' table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

# What an item takes of a table's units: they are below 1 kB (a write) and 4 kB (a read, here eventually consistent).
WRITE_UNITS = 1.0
FIND_UNITS = 0.5
CONSISTENT_UNITS = 1.0


class Operation(StrEnum):
    BEAT = "beat"  # PutItem of the node
    CLAIM = "claim"  # conditional PutItem
    RELEASE = "release"  # conditional DeleteItem
    CHECK = "check"  # BatchGetItem of what a node holds
    FIND = "find"  # BatchGetItem of what its readers look for
    HOLDING = "holding"  # GetItem, consistent
    NODE = "node"  # GetItem, consistent, of a node whose beat is watched
    CHANNEL = "channel"  # GetItem, consistent, of the channels' table


@dataclass(frozen=True, slots=True)
class Held:
    """Who holds a stream."""

    node: int
    claim: int


class Registry:
    """`away`: it does not answer. Counts requests and items by operation."""

    def __init__(self) -> None:
        self.away = False
        self.requests: Counter[Operation] = Counter()
        self.items: Counter[Operation] = Counter()
        self.read_units = 0.0
        self.write_units = 0.0
        self._held: dict[int, Held] = {}
        self._claims = 0

    def count(self, operation: Operation, requests: float = 1, items: float = 1) -> None:
        """Notes requests that are not simulated one by one."""
        self.requests[operation] += requests  # type: ignore[assignment]
        self.items[operation] += items  # type: ignore[assignment]
        if operation in (Operation.BEAT, Operation.CLAIM, Operation.RELEASE):
            self.write_units += items * WRITE_UNITS
        elif operation in (Operation.FIND, Operation.CHECK):
            self.read_units += items * FIND_UNITS
        else:
            self.read_units += items * CONSISTENT_UNITS

    def claim(self, stream: int, node: int, over: int = 0) -> Held:
        """Returns what stands there then: the new holding, or the one in the way. over: the claim it may replace."""
        self.count(Operation.CLAIM)
        there = self._held.get(stream)
        if there is not None and there.claim != over:
            return there
        self._claims += 1
        held = self._held[stream] = Held(node, self._claims)
        return held

    def release(self, stream: int, claim: int) -> None:
        self.count(Operation.RELEASE)
        there = self._held.get(stream)
        if there is not None and there.claim == claim:
            del self._held[stream]

    def find(self, streams: Iterable[int]) -> dict[int, Held]:
        names = list(streams)
        self.count(Operation.FIND, 1, len(names))
        return {name: self._held[name] for name in names if name in self._held}

    def standing(self, stream: int) -> Held | None:
        """What stands there; whoever asks counts it."""
        return self._held.get(stream)

    def forget_counts(self) -> None:
        """Counting begins anew."""
        self.requests.clear()
        self.items.clear()
        self.read_units = self.write_units = 0.0
