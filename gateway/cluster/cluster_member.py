"""The parts that a gateway needs as a member of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

import structlog

from gateway.adapters.advertise import host_of
from gateway.api.servers import registry_entry
from gateway.channels.addresses import OpenPorts
from gateway.channels.cached_channels import CachedChannels
from gateway.channels.channel import Channel
from gateway.channels.stores import ChannelReader
from gateway.cluster.claims import Claims
from gateway.cluster.cluster_client import ClusterClient
from gateway.cluster.cluster_streams import ClusterStreams
from gateway.cluster.edge_selector import EdgeSelector
from gateway.cluster.forward import PushForwarder
from gateway.cluster.http_cache_proxy import HttpCacheProxy
from gateway.cluster.membership import Membership
from gateway.cluster.node_address import NodeAddress
from gateway.cluster.node_authenticator import NodeAuthenticator
from gateway.cluster.node_endpoint import Files, NodeEndpoint, Operation, PullableStreams
from gateway.cluster.node_identity import NodeIdentity
from gateway.cluster.peers import Peers
from gateway.cluster.registry_locator import RegistryLocator
from gateway.cluster.replicas import Replicas
from gateway.cluster.session_rows import SessionRows
from gateway.cluster.sibling_processes import SiblingProcesses
from gateway.cluster.upstream_client import UpstreamClient
from gateway.cluster.viewer_reporter import ViewerReporter, total_viewers
from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample, by_label
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import AcquirePublisher
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.protection import PlaybackProtection
from gateway.ports.errors import AtCapacity, StoreUnavailable
from gateway.ports.events import Events
from gateway.ports.nodes import Node, NodeRole
from gateway.ports.stores import Registry
from gateway.settings.models import EdgeSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterOutputs:
    """The facts about this node's outputs that the cluster needs.

    replicated: those of a stream that is pulled here. attributes: what the registry tells of a session besides, and
    spreads: which channels can have edges of their own, both as of SessionRows.
    """

    replicated: Sequence[OutputSpec]
    attributes: Callable[[Channel, str, float], Mapping[str, Any]]
    spreads: Callable[[Channel], bool]


class ClusterMember:
    """A gateway's membership in a cluster. The app makes one where there is a registry.

    hub: what is pulled here and what is forwarded has its limits.
    """

    def __init__(
        self,
        identity: NodeIdentity,
        hub: Hub,
        registry: Registry,
        outputs: ClusterOutputs,
        dropped: Counter,
        tasks: Tasks,
    ) -> None:
        self._identity = identity
        self._hub = hub
        self._tasks = tasks
        self._dropped = dropped
        self._stack = AsyncExitStack()
        self.registry = registry
        self.node = identity.id
        self.address = ""
        self.shown: dict[str, Any] = {}  # what people see of this node
        self.peers = Peers(identity.secret)
        self.siblings = SiblingProcesses(self.node, self.peers, identity.siblings, self.held)
        self.locator = RegistryLocator(registry, identity.siblings)
        self.pulled = Hub(hub.limits, outputs.replicated, Events())  # the replicas'
        self._selector = EdgeSelector(self.locator, registry, self.node)
        self.replicas = Replicas(self.pulled, self._selector, self.peers)
        self.streams = ClusterStreams(hub, self.replicas)
        self._forwards = PushForwarder(hub.limits, self.peers, dropped)
        rows = SessionRows(registry, self.node, lambda: self.address, outputs.attributes, outputs.spreads)
        self.claims = Claims(hub, rows, self.locator, self._forwards, tasks)
        self._relay: HttpCacheProxy | None = None
        self.membership = Membership(registry, self._as_node)
        self.cluster = ClusterClient(self.node, registry, self.locator, self.peers, siblings=identity.siblings)
        self._reporter = ViewerReporter(self.node, self._watched, self.locator, self.peers)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.peers)
        await self._stack.enter_async_context(self.cluster)
        await self._stack.enter_async_context(self.replicas)
        await self._stack.enter_async_context(self.streams)
        self._stack.push_async_callback(self.claims.finish)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    @property
    def lease(self) -> AcquirePublisher:
        """The function that gives pushes their publisher."""
        return self.claims.lease

    @property
    def carried(self) -> Hub:
        """The hub of the pushes that are forwarded to their holders."""
        return self._forwards.hub

    def locate(self, address: str, ports: OpenPorts) -> None:
        """Tells others that this node is there. address: how they reach it. ports: what is open."""
        self.address = address
        self.shown = registry_entry(host_of(self.address), ports, time.time())
        self._tasks.start(self.membership.run(), "membership")
        if not self._identity.secret:
            log.warning("other nodes cannot play what is pushed here: cluster.secret is not set")

    def start(self) -> None:
        """Starts the background tasks. They run until the tasks of the application end."""
        tasks = self._tasks
        tasks.start(self.pulled.run(), "replicas")
        tasks.start(self._forwards.hub.run(), "forwards")
        tasks.start(self.locator.run(), "look-ups")
        tasks.start(self._selector.run(), "edges of channels")
        tasks.start(self.claims.run(), "claims")
        tasks.start(self._reporter.run(), "viewers")
        slot = self._identity.slot
        if slot is not None and slot.succeeds:
            tasks.start(self._remove_dead_node(slot.succeeds), "predecessor")

    async def _remove_dead_node(self, node: str) -> None:
        """Removes the crashed process that had our slot from the registry."""
        try:
            await self.registry.leave(node)
        except StoreUnavailable as away:
            log.info("a dead process stays in the registry until its time is over", node=node, reason=str(away))

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of the cluster."""
        for stream in self.pulled:
            yield from by_label(metric_table.VIEWERS, stream.viewers)
        yield MetricSample(metric_table.PULLED, len(self.replicas))
        yield MetricSample(metric_table.PULLS, self.replicas.pulls)
        yield MetricSample(metric_table.LOOKUPS, self.locator.asked)
        yield MetricSample(metric_table.HELD, len(self.claims))

    def drain(self) -> None:
        """Accepts no new streams, and tells publishers and players that come through this node."""
        self._forwards.hub.drain()
        self.pulled.drain()

    async def relay(
        self, channels: CachedChannels, protection: PlaybackProtection, audience: HttpViewers, edge: EdgeSettings
    ) -> HttpCacheProxy:
        """Returns the proxy for players of streams that other nodes hold. FLV and RTMP do not use it."""
        origin = UpstreamClient(self._selector, self.peers)
        relay = HttpCacheProxy(origin, channels, protection, audience, edge)
        self._relay = await self._stack.enter_async_context(relay)
        return self._relay

    def door(
        self, channels: ChannelReader, files: Files, operations: Mapping[str, Operation], refusals_per_minute: int
    ) -> NodeEndpoint:
        """channels: read fresh. refusals_per_minute: as of NodeAuthenticator."""
        authenticator = NodeAuthenticator(self._identity.secret, refusals_per_minute)
        streams = PullableStreams(self._hub, self.claims.session, self._dropped)
        return NodeEndpoint(authenticator, self.siblings, streams, channels, files, operations)

    async def held(self, name: str) -> NodeAddress | None:
        """Returns the address of the sibling process that holds a stream; None if no sibling does."""
        if self._identity.slot is None:
            return None
        try:
            place = await self.locator.find(name)
        except (StoreUnavailable, AtCapacity):
            return None
        return place if place is not None and place.socket and place.node != self.node else None

    def _watched(self) -> Mapping[str, Mapping[str, int]]:
        """The viewers here of streams that other nodes hold, by stream and protocol."""
        pulled = {stream.name: stream.viewers for stream in self.pulled}
        return total_viewers(pulled, self._relay.viewers if self._relay is not None else {})

    def _as_node(self) -> Node:
        return Node(self.node, NodeRole.GATEWAY, self.address, shown=self.shown)
