"""What HLS and LL-HLS players ask of the edges, as a flow: their requests are too many to be simulated one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tools.capacity import plan
from tools.capacity.demand import Asked, asked_of_edges
from tools.capacity.fleet import Edge
from tools.capacity.plan import Load
from tools.capacity.policy import Policy
from tools.capacity.registry import Operation, Registry


@dataclass(frozen=True, slots=True)
class _Flow:
    """Of one edge, a second: requests, names looked up in the registry, channels read."""

    asked: Asked
    names: float
    channels: float


class Web:
    """The flow of a load over so many edges, spread evenly, and what it costs the tables."""

    def __init__(self, load: Load, policy: Policy, registry: Registry, latency: float) -> None:
        self._load = load
        self._policy = policy
        self._registry = registry
        self._latency = latency
        self._flows: dict[int, _Flow] = {}
        self._now = _Flow(Asked(), 0.0, 0.0)

    def share(self, edges: list[Edge]) -> None:
        """Gives each edge its part."""
        count = max(1, len(edges))
        self._now = self._flows.get(count) or self._flow(count)
        self._flows[count] = self._now
        for edge in edges:
            edge.share = self._now.asked
            edge.reader.others = min(self._now.names, self._policy.names_per_second)

    def count(self, living: list[Edge], seconds: float) -> None:
        """Notes what the tables were asked in these seconds.

        Names of what is played by HTTP come one by one; a request takes with it what came while it was gathered and the
        last one was away. What is played by FLV is looked up by the telling of viewers, `at_once` of them together.
        """
        if self._registry.away:
            return
        edges = len(living)
        for edge in living:
            replicas = len(edge.replicas)
            asked = math.ceil(replicas / self._policy.tells_at_once)
            self._registry.count(
                Operation.FIND, asked * seconds / self._policy.keep, replicas * seconds / self._policy.keep
            )
        names, policy = min(self._now.names, self._policy.names_per_second), self._policy
        if names:
            requests = max(1 / (1 / names + policy.gather + self._latency), names / policy.batch)
            self._registry.count(Operation.FIND, edges * requests * seconds, edges * names * seconds)
        read = edges * self._now.channels * seconds
        self._registry.count(Operation.CHANNEL, read, read)

    def _flow(self, edges: int) -> _Flow:
        part = plan.asked(self._load, edges) * (1 / edges)
        return _Flow(part, *self._reads(edges))

    def _reads(self, edges: int) -> tuple[float, float]:
        """Of one edge's part, a second: names looked up, and channels read from their table. What is known is read
        again by the first request that finds it old: of holders by each edge, of channels by their holders alone,
        whom the edges ask."""
        load, policy, names, read = self._load, self._policy, 0.0, 0.0
        for pair, channels in plan.watched(load).items():
            by = 1 if load.hashed else edges  # edges that are asked for one channel
            rate = asked_of_edges(*pair, load.media, load.cdn, by).requests
            if rate:
                names += channels * by / edges / (policy.keep + by / rate)
                read += channels / edges / (policy.channel_keep + 1 / rate)
        return names, read
