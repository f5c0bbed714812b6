"""Chooses the edge from which this node reads a stream.

Some channels have their own edges: nodes that were started only for that channel. They reduce the load on the node that
holds the stream.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from hashlib import blake2b
from heapq import nlargest
from typing import Final

import structlog

from gateway.channels.names import channel_of
from gateway.cluster.members.node_address import NodeAddress
from gateway.cluster.members.node_liveness import NodeLiveness
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.lib.clocks import Clock
from gateway.ports.errors import StoreUnavailable
from gateway.ports.nodes import Node, NodeRole
from gateway.ports.stores import Registry

log = structlog.get_logger(__name__)

READ_SECONDS: Final = 10.0  # minimum time between two reads of the registry's nodes
_WAIT_SECONDS: Final = 2.0  # time for which a lookup waits for a read of the registry
_MAX_EDGES: Final = 3  # edges of a channel that a reader tries before the node that holds the stream
_FAILED_SECONDS: Final = 10.0  # time for which a failed edge is not used


class EdgeSelector:
    """A StreamLocator for readers, on top of RegistryLocator. `run` must be running.

    A hash of node and edge selects the edge. So load is even, and a new or lost edge moves only its own readers.
    One request reads all nodes if a lookup needs them, at most every READ_SECONDS. If the registry is unavailable, the
    last result is used.

    node: the id of this node.
    channel: the channel for which this node was started as an edge; "": none. This node reads that channel from the
    node that holds the stream.
    """

    def __init__(
        self, locator: RegistryLocator, registry: Registry, node: str, channel: str = "", clock: Clock = time.monotonic
    ) -> None:
        self._locator = locator
        self._registry = registry
        self._node = node
        self._channel = channel
        self._clock = clock
        self._liveness = NodeLiveness(clock)
        self._edges: dict[str, list[Node]] = {}  # by channel, as last read
        self._preferred_edges: dict[str, list[Node]] = {}  # by channel: the edges to try, in order; lookups fill it
        self._failed: dict[str, float] = {}  # by edge: the time until which it is not used
        self._read_at = float("-inf")
        self._read_requested = asyncio.Event()
        self._read_done = asyncio.Event()  # set after the next read
        self._registry_failed = False

    # ---- StreamLocator ----

    def known(self, name: str) -> NodeAddress | None:
        node = self._locator.known(name)
        if node is None or not self._uses_edges(name, node):
            return node
        if self._is_stale():
            self._read_requested.set()
            if not self._edges:
                return None  # `find` waits for a read
        return self._choose_edge(channel_of(name), node)

    async def find(self, name: str) -> NodeAddress | None:
        node = await self._locator.find(name)
        if node is None or not self._uses_edges(name, node):
            return node
        if self._is_stale():
            self._read_requested.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WAIT_SECONDS):
                    await self._read_done.wait()
        return self._choose_edge(channel_of(name), node)

    def invalidate(self, name: str, node: NodeAddress) -> None:
        if not node.edge:
            self._locator.invalidate(name, node)
            return
        now = self._clock()
        self._failed = {id: until for id, until in self._failed.items() if until > now}
        if node.id not in self._failed:
            self._locator.forget(channel_of(name))  # the stream may have ended: ask the registry
        self._failed[node.id] = now + _FAILED_SECONDS

    def _uses_edges(self, name: str, node: NodeAddress) -> bool:
        """Whether to read from an edge. node: holds the stream. If it is on this machine, it is used directly."""
        return node.cluster and not node.socket and channel_of(name) != self._channel

    def _choose_edge(self, channel: str, node: NodeAddress) -> NodeAddress:
        """Returns the first preferred edge without a recent failure, else `node`, which holds the stream."""
        preferred = self._preferred_edges.get(channel)
        if preferred is None:
            edges = self._edges.get(channel, ())
            preferred = nlargest(_MAX_EDGES, edges, key=lambda edge: self._weight(edge.id))
            self._preferred_edges[channel] = preferred
        now = self._clock()
        for edge in preferred:
            if self._failed.get(edge.id, now) <= now:
                return NodeAddress(edge.id, edge.address, node.claim, edge=True)
        return node

    def _weight(self, id: str) -> bytes:
        """Returns the rendezvous-hash weight. The edges with the largest weights are used."""
        return blake2b(f"{self._node}/{id}".encode(), digest_size=8).digest()

    # ---- the list of edges ----

    async def run(self) -> None:
        """Reads the nodes whenever a lookup needs them, until it is cancelled."""
        while True:
            await self._read_requested.wait()
            await self._read_registry()
            self._read_requested.clear()
            done, self._read_done = self._read_done, asyncio.Event()
            done.set()

    def _is_stale(self) -> bool:
        return self._clock() - self._read_at >= READ_SECONDS

    async def _read_registry(self) -> None:
        try:
            nodes = await self._registry.nodes()
        except StoreUnavailable as error:
            if not self._registry_failed:
                log.warning("the edges of channels cannot be read", reason=str(error))
            self._registry_failed = True
        else:
            self._registry_failed = False
            self._liveness.observe_all(nodes)
            self._edges = self._by_channel(nodes)
        self._preferred_edges = {}
        self._read_at = self._clock()

    def _by_channel(self, nodes: Iterable[Node]) -> dict[str, list[Node]]:
        """Returns the live edges by channel. Liveness is evaluated at each read, because only reads show heartbeats."""
        edges: dict[str, list[Node]] = {}
        for node in nodes:
            if node.role is NodeRole.EDGE and node.channel and node.address and self._liveness.is_alive(node.id):
                edges.setdefault(node.channel, []).append(node)
        return edges
