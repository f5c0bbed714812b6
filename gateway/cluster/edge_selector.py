"""Chooses the edge from which this node reads a stream, if the stream has edges of its own. This takes load off the
holder.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from heapq import nlargest
from typing import Final, Protocol

import structlog

from gateway.channels.names import channel_of
from gateway.cluster.node_address import NodeAddress
from gateway.cluster.node_liveness import NodeLiveness
from gateway.cluster.registry_locator import RegistryLocator
from gateway.ports.errors import StoreUnavailable
from gateway.ports.nodes import Node, NodeRole

log = structlog.get_logger(__name__)

READ_SECONDS: Final = 10.0  # between two readings of the registry's nodes
_WAIT_SECONDS: Final = 2.0  # that a look-up waits for a reading
_TRIED: Final = 3  # edges of a channel that one reader tries before the holder
_FAILED_SECONDS: Final = 10.0  # for which an edge that failed is not used


class NodeDirectory(Protocol):
    """The registry methods that EdgeSelector reads with."""

    async def nodes(self) -> list[Node]: ...


class EdgeSelector:
    """A StreamLocator for readers, on top of RegistryLocator. `run` must run. RegistryLocator alone knows the
    holders.

    The edge from which this node reads is chosen by a hash of the node and the edge. So readers spread evenly, and if
    an edge comes or goes, only its own readers move. While such streams are looked up, one request reads all nodes,
    at most every READ_SECONDS. While the registry is away, the last reading is used.
    """

    def __init__(
        self,
        locator: RegistryLocator,
        registry: NodeDirectory,
        node: str,
        channel: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """node: the id of this node.
        channel: the channel that this node itself is an edge of, read from its holder; "" if there is none.
        """
        self._locator = locator
        self._registry = registry
        self._node = node
        self._channel = channel
        self._clock = clock
        self._liveness = NodeLiveness(clock)
        self._edges: dict[str, list[Node]] = {}  # by channel, as last read
        self._nearest: dict[str, list[Node]] = {}  # by channel: the edges to try, in order; filled by look-ups
        self._failed: dict[str, float] = {}  # by edge: the time until which it is not used
        self._read_at = float("-inf")
        self._wanted = asyncio.Event()
        self._read = asyncio.Event()  # set after the next reading
        self._away = False

    # ---- StreamLocator ----

    def known(self, name: str) -> NodeAddress | None:
        place = self._locator.known(name)
        if place is None or not self._spreads(name, place):
            return place
        if self._due():
            self._wanted.set()
            if not self._edges:
                return None  # find waits for a reading
        return self._chosen(channel_of(name), place)

    async def find(self, name: str) -> NodeAddress | None:
        place = await self._locator.find(name)
        if place is None or not self._spreads(name, place):
            return place
        if self._due():
            self._wanted.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WAIT_SECONDS):
                    await self._read.wait()
        return self._chosen(channel_of(name), place)

    def lost(self, name: str, place: NodeAddress) -> None:
        if not place.edge:
            self._locator.lost(name, place)
            return
        now = self._clock()
        self._failed = {node: until for node, until in self._failed.items() if until > now}
        if place.node not in self._failed:
            self._locator.forget(channel_of(name))  # the stream may have ended: ask the registry
        self._failed[place.node] = now + _FAILED_SECONDS

    def _spreads(self, name: str, place: NodeAddress) -> bool:
        """Whether the stream is read from an edge. A holder on the same machine is nearer than any edge."""
        return place.cluster and not place.socket and channel_of(name) != self._channel

    def _chosen(self, channel: str, holder: NodeAddress) -> NodeAddress:
        """Returns the first of our edges that did not fail a moment ago. If there is none, returns the holder."""
        nearest = self._nearest.get(channel)
        if nearest is None:
            edges = self._edges.get(channel, ())
            nearest = self._nearest[channel] = nlargest(_TRIED, edges, key=lambda edge: self._weight(edge.id))
        now = self._clock()
        for edge in nearest:
            if self._failed.get(edge.id, now) <= now:
                return NodeAddress(edge.id, edge.address, holder.claim, edge=True)
        return holder

    def _weight(self, id: str) -> bytes:
        """The weight for rendezvous hashing: the edges with the greatest weights are taken."""
        return blake2b(f"{self._node}/{id}".encode(), digest_size=8).digest()

    # ---- the list of edges ----

    async def run(self) -> None:
        """Reads the nodes whenever a look-up needs them, until it is cancelled."""
        while True:
            await self._wanted.wait()
            await self._read_registry()
            self._wanted.clear()
            done, self._read = self._read, asyncio.Event()
            done.set()

    def _due(self) -> bool:
        return self._clock() - self._read_at >= READ_SECONDS

    async def _read_registry(self) -> None:
        try:
            nodes = await self._registry.nodes()
        except StoreUnavailable as away:
            if not self._away:
                log.warning("the edges of channels cannot be looked for", reason=str(away))
            self._away = True
        else:
            self._away = False
            self._liveness.read(nodes)
            self._edges = self._by_channel(nodes)
        self._nearest = {}
        self._read_at = self._clock()

    def _by_channel(self, nodes: Iterable[Node]) -> dict[str, list[Node]]:
        """The living edges by channel. Liveness is judged at each reading, because no heartbeat is seen between two
        readings.
        """
        found: dict[str, list[Node]] = {}
        for node in nodes:
            if node.role is NodeRole.EDGE and node.channel and node.address and self._liveness.alive(node.id):
                found.setdefault(node.channel, []).append(node)
        return found
