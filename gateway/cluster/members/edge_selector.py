"""Chooses the edge from which this node reads a stream.

Some channels have their own edges: nodes that were started only for that channel. They reduce the load on the node that
holds the stream. If that node is at another site, an edge of this site reads the stream once for all nodes here.

Streams never go in a circle, whatever nodes each node knows. Each node reads only from a node that stands before it in
one order, which is the same for all nodes: the node that holds the stream; the edges of the channel, which read only
from that node; the edges for all channels, by falling weight; all others, from which nobody reads.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from heapq import nlargest
from typing import Final

from gateway.channels.names import channel_of
from gateway.cluster.members.node_address import FindSockets, NodeAddress
from gateway.cluster.members.node_list import NodeList
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.lib.clocks import Clock
from gateway.ports.nodes import LEAST_FREE, Node, NodeRole, host_of

_MAX_EDGES: Final = 3  # edges of a channel, and of this site, that a reader tries before the node with the stream
_FAILED_SECONDS: Final = 10.0  # time for which a failed edge is not used
_FREE_STEP: Final = 25.0  # percent; edges whose free capacity differs less count as equal, so that readers spread


@dataclass(frozen=True, slots=True)
class Reader:
    """This node, as it reads streams. id: of the node. site: "" if it has none.

    channel: the channel for which this node was started as an edge; "": none. It reads that channel from the node that
    holds the stream.
    serves: whether other nodes of the site may read all streams from this node.
    """

    id: str
    site: str = ""
    channel: str = ""
    serves: bool = False


class EdgeSelector:
    """A StreamLocator for readers, on top of RegistryLocator. `nodes` must be running.

    A hash selects among equal edges. So load is even, and a new or lost edge moves only its own readers.

    siblings: returns the Unix sockets of this host's other processes, by node id.
    """

    def __init__(
        self,
        locator: RegistryLocator,
        nodes: NodeList,
        reader: Reader,
        siblings: FindSockets = dict,
        clock: Clock = time.monotonic,
    ) -> None:
        self._locator = locator
        self._nodes = nodes
        self._reader = reader
        self._siblings = siblings
        self._clock = clock
        self._preferred: dict[tuple[str, str], list[tuple[str, str]]] = {}  # by channel and holder: ids and addresses
        self._preferred_at = -1  # the read of the nodes to which `_preferred` belongs
        self._failed: dict[str, float] = {}  # by edge: the time until which it is not used

    # ---- StreamLocator ----

    def known(self, name: str) -> NodeAddress | None:
        node = self._locator.known(name)
        if node is None or not self._uses_edges(name, node):
            return node
        if self._nodes.request(self._expected(node)) and not self._nodes.reads:
            return None  # `find` waits for a read
        return self._choose_edge(channel_of(name), node)

    async def find(self, name: str) -> NodeAddress | None:
        node = await self._locator.find(name)
        if node is None or not self._uses_edges(name, node):
            return node
        await self._nodes.refresh(self._expected(node))
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
        reader = self._reader
        return (node.cluster or bool(reader.site)) and not node.socket and channel_of(name) != reader.channel

    def _expected(self, node: NodeAddress) -> str:
        """Returns the id of a node whose site this node needs; "" for none."""
        return node.id if self._reader.site else ""

    def _choose_edge(self, channel: str, node: NodeAddress) -> NodeAddress:
        """Returns the first preferred edge without a recent failure, else `node`, which holds the stream."""
        if self._preferred_at != self._nodes.reads:
            self._preferred.clear()
            self._preferred_at = self._nodes.reads
        preferred = self._preferred.get((channel, node.id))
        if preferred is None:
            preferred = self._preferred[channel, node.id] = list(self._edges(channel, node))
        now = self._clock()
        for id, address in preferred:
            if self._failed.get(id, now) <= now:
                return NodeAddress(id, address, node.claim, edge=True)
        return node

    # ---- the order of the edges ----

    def _edges(self, channel: str, node: NodeAddress) -> Iterator[tuple[str, str]]:
        """Yields ids and addresses of the edges to try, in order. node: holds the stream."""
        site, holder = self._reader.site, self._nodes.live.get(node.id)
        holder_site = holder.site if holder is not None else ""
        own = self._edges_of(channel) if node.cluster else []
        yield from ((edge.id, edge.address) for edge in own if site and edge.site == site)
        is_away = bool(site and holder_site) and site != holder_site
        if is_away:
            yield from self._edges_of_site(channel)
        # An edge far away must not send what is near.
        others = (edge for edge in own if not site or (edge.site != site and (is_away or not edge.site)))
        yield from ((edge.id, edge.address) for edge in others)

    def _edges_of(self, channel: str) -> list[Node]:
        """Returns the edges of one channel: those of this site first, then those with more free capacity."""

        def rank(edge: Node) -> tuple[bool, float, bytes]:
            is_near = bool(edge.site) and edge.site == self._reader.site
            return is_near, edge.free // _FREE_STEP, _hash(self._reader.id, edge.id)

        edges = (e for e in self._nodes.live.values() if e.role is NodeRole.EDGE and e.channel == channel and e.address)
        return nlargest(_MAX_EDGES, edges, key=rank)

    def _edges_of_site(self, channel: str) -> Iterator[tuple[str, str]]:
        """Yields the edges of this site that stand before this node, the greatest weight first.

        Processes of one host share an address, and so the first part of the weight. This process reads from another one
        of its host by its socket.
        """
        own, site, sockets = self._reader, self._reader.site, self._siblings()
        limit = _weight(channel, own.id) if own.serves else (b"", b"")
        found: dict[str, tuple[tuple[bytes, bytes], str]] = {}  # by address: weight and id
        for node in self._nodes.live.values():
            if node.role is not NodeRole.EDGE or node.channel or node.site != site or node.free < LEAST_FREE:
                continue
            is_sibling = host_of(node.id) == host_of(own.id)
            socket = sockets.get(node.id, "")
            address = (f"unix:{socket}" if socket else "") if is_sibling else node.address
            weight = _weight(channel, node.id)
            if address and weight > limit:
                found[address] = max(found.get(address, (weight, node.id)), (weight, node.id))
        best = nlargest(_MAX_EDGES, ((weight, id, address) for address, (weight, id) in found.items()))
        yield from ((id, address) for _, id, address in best)


def _weight(channel: str, id: str) -> tuple[bytes, bytes]:
    """Returns the weight of an edge for a channel: the same at all nodes."""
    return _hash(channel, host_of(id)), _hash(channel, id)


def _hash(first: str, second: str) -> bytes:
    return blake2b(f"{first}/{second}".encode(), digest_size=8).digest()
