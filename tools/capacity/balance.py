"""Who sends a player to which edge: a load balancer that knows nothing of channels, or one that hashes them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from tools.capacity.fleet import Edge
from tools.capacity.plan import HASH_FACTOR


class Spread(StrEnum):
    ROUND = "round robin"  # as an ALB does by default
    LEAST = "fewest players"  # least outstanding requests of an ALB, leastconn of HAProxy
    HASH = "channel's hash, bounded"  # HAProxy: balance on the path, hash-type consistent, hash-balance-factor 150


class Balancer:
    """Chooses among the edges that receive."""

    def __init__(self, spread: Spread) -> None:
        self._spread = spread
        self._turn = 0
        self._rings: dict[int, list[Edge]] = {}
        self._of: tuple[int, ...] = ()

    def choose(self, edges: Sequence[Edge], channel: int) -> Edge | None:
        if not edges:
            return None
        if self._spread is Spread.ROUND:
            self._turn += 1
            return edges[self._turn % len(edges)]
        if self._spread is Spread.LEAST:
            return min(edges, key=lambda e: (e.viewers, e.id))
        return self._hashed(edges, channel)

    def _hashed(self, edges: Sequence[Edge], channel: int) -> Edge:
        """The first in the channel's order that has not more than its share (consistent hashing with bounded loads)."""
        now = tuple(e.id for e in edges)
        if now != self._of:
            self._of = now
            self._rings = {}
        ring = self._rings.get(channel)
        if ring is None:
            ring = self._rings[channel] = sorted(edges, key=lambda e: _mixed(channel, e.id))
        most = (sum(e.viewers for e in edges) + 1) / len(edges) * HASH_FACTOR
        for edge in ring:
            if edge.viewers < most:
                return edge
        return ring[0]


def _mixed(channel: int, edge: int) -> int:
    """An even, repeatable order of edges for each channel (splitmix64's finisher)."""
    x = (channel * 0x9E3779B97F4A7C15 + edge * 0xBF58476D1CE4E5B9 + 1) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return x ^ (x >> 31)
