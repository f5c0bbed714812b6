"""The services of a gateway that is a member of a cluster."""

from __future__ import annotations

import asyncio
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
from gateway.cluster.browser_form import BrowserForms
from gateway.cluster.browser_replicas import BrowserMediaOfNodes, BrowserReplicas
from gateway.cluster.claims import Claims, SessionRows
from gateway.cluster.cluster_client import ClusterClient
from gateway.cluster.edge_selector import EdgeSelector
from gateway.cluster.forward import PushForwarder
from gateway.cluster.http_cache_proxy import HttpCacheProxy
from gateway.cluster.membership import Membership
from gateway.cluster.node_address import NodeAddress
from gateway.cluster.node_authenticator import NodeAuthenticator
from gateway.cluster.node_endpoint import Files, NodeEndpoint, Operation, PullableStreams
from gateway.cluster.node_identity import NodeIdentity, SiblingProcesses
from gateway.cluster.peers import Peers
from gateway.cluster.registry_locator import RegistryLocator
from gateway.cluster.replicas import Replicas
from gateway.cluster.session_forwarder import SessionForwarder
from gateway.cluster.upstream_client import UpstreamClient
from gateway.cluster.viewer_reporter import ViewerReporter, total_viewers
from gateway.diagnosis.experience import Experience
from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample, by_label
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.stream import Stream
from gateway.packaging.rtp.output import KIND as WHEP
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.play_format import PlayableStreams
from gateway.playback.protection import PlaybackProtection
from gateway.playback.webrtc.whep import BrowserMedia
from gateway.ports.errors import AtCapacity, GatewayError, StoreUnavailable
from gateway.ports.events import Events
from gateway.ports.nodes import Node, NodeRole
from gateway.ports.stores import Registry
from gateway.settings.models import EdgeSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterOutputs:
    """The functions of this node's outputs that the cluster uses.

    replicated: the outputs of a replica.
    attributes, may_have_edges: see SessionRows.
    """

    replicated: Sequence[OutputSpec]
    attributes: Callable[[Channel, str, float], Mapping[str, Any]]
    may_have_edges: Callable[[Channel], bool]


class ClusterStreams:
    """Streams for players: this node's streams, and replicas of other nodes' streams. Use as `async with`.

    Implements playback.router.PlayableStreams.
    """

    def __init__(self, hub: Hub, replicas: PlayableStreams) -> None:
        self._hub = hub
        self._replicas = replicas
        self._tasks = Tasks("waiting players")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    def find(self, name: str) -> Stream | None:
        """Returns a stream that can be played now, at least by FLV and RTMP."""
        return self._hub.find(name) or self._replicas.find(name)

    def find_recent(self, name: str) -> Stream | None:
        """Returns a stream of this node with all outputs, also if it ended recently."""
        return self._hub.find_recent(name)

    async def wait(self, name: str, seconds: float) -> Stream:
        """Waits until the stream begins, on this node or on another. Raises the errors of Hub.wait."""
        stream = self.find(name)
        if stream is not None:
            return stream
        local = self._tasks.start(self._hub.wait(name, seconds), f"wait for {name}")
        remote = self._tasks.start(self._replicas.wait(name, seconds), f"wait for {name}")
        try:
            return await _first(local, remote)
        finally:
            local.cancel()
            remote.cancel()


async def _first(*tasks: asyncio.Task[Stream]) -> Stream:
    """Returns the result of the first task that succeeds. If all fail, raises the last failure."""
    pending: set[asyncio.Task[Stream]] = set(tasks)
    failure: GatewayError | None = None
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            try:
                return task.result()
            except GatewayError as error:
                failure = error
    assert failure is not None, "all tasks failed, so there is a failure"
    raise failure


class ClusterMember:
    """A gateway's membership in a cluster. The app creates it if there is a registry.

    hub: the streams of this node. Replicas and forwarded pushes have its limits.
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
        self.registry_fields: dict[str, Any] = {}  # information for operators and broadcasters
        self.peers = Peers(identity.secret)
        self.siblings = SiblingProcesses(self.node, self.peers, identity.siblings, self.sibling_with)
        self.locator = RegistryLocator(registry, identity.siblings)
        plain = [spec for spec in outputs.replicated if spec.name != WHEP]
        self.pulled = Hub(hub.limits, plain, Events())  # of the replicas
        self._selector = EdgeSelector(self.locator, registry, self.node)
        self.replicas = Replicas(self.pulled, self._selector, self.peers)
        self.streams = ClusterStreams(hub, self.replicas)
        self.browser_replicas = BrowserReplicas(hub.limits, outputs.replicated, self._selector, self.peers)
        self.browser_streams = ClusterStreams(hub, self.browser_replicas)
        self.forwards = PushForwarder(hub.limits, self.peers, dropped)
        rows = SessionRows(registry, self.node, lambda: self.address, outputs.attributes, outputs.may_have_edges)
        self.claims = Claims(hub, rows, self.locator, self.forwards, tasks)
        self._http_cache: HttpCacheProxy | None = None
        self.membership = Membership(registry, self._as_node)
        self.cluster = ClusterClient(self.node, registry, self.locator, self.peers, siblings=identity.siblings)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.peers)
        await self._stack.enter_async_context(self.cluster)
        await self._stack.enter_async_context(self.replicas)
        await self._stack.enter_async_context(self.streams)
        await self._stack.enter_async_context(self.browser_replicas)
        await self._stack.enter_async_context(self.browser_streams)
        self._stack.push_async_callback(self.claims.finish)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def join(self, address: str, ports: OpenPorts) -> None:
        """Adds this node to the registry. address: at which other nodes reach it. ports: the open ports."""
        self.address = address
        self.registry_fields = registry_entry(host_of(self.address), ports, time.time())
        self._tasks.start(self.membership.run(), "membership")
        if not self._identity.secret:
            log.warning("other nodes cannot play the streams of this node: cluster.secret is not set")

    def start(self, experience: Experience) -> None:
        """Starts the background tasks. They run until the tasks of the application end.

        experience: what viewers of this node report.
        """
        tasks = self._tasks
        reporter = ViewerReporter(
            self.node, self._viewers, self.locator, self.peers, experience, held_here=self._hub.holds
        )
        tasks.start(self.pulled.run(), "replicas")
        self.browser_replicas.start(tasks)
        tasks.start(self.forwards.hub.run(), "forwards")
        tasks.start(self.locator.run(), "look-ups")
        tasks.start(self._selector.run(), "edges of channels")
        tasks.start(self.claims.run(), "claims")
        tasks.start(reporter.run(), "viewers")
        slot = self._identity.slot
        if slot is not None and slot.succeeds:
            tasks.start(self._remove_dead_node(slot.succeeds), "predecessor")

    async def _remove_dead_node(self, node: str) -> None:
        """Removes from the registry the crashed process that had the slot of this process."""
        try:
            await self.registry.leave(node)
        except StoreUnavailable as error:
            log.info("a dead process stays in the registry until its row expires", node=node, reason=str(error))

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of the cluster."""
        for stream in (*self.pulled, *self.browser_replicas.hub):
            yield from by_label(metric_table.VIEWERS, stream.viewers)
        yield MetricSample(metric_table.PULLED, len(self.replicas) + len(self.browser_replicas))
        yield MetricSample(metric_table.PULLS, self.replicas.pulls + self.browser_replicas.pulls)
        yield MetricSample(metric_table.LOOKUPS, self.locator.lookups)
        yield MetricSample(metric_table.HELD, len(self.claims))

    def browser_media(self, own: BrowserMedia) -> BrowserMedia:
        """Returns the media for viewers by WebRTC. own: of this node's streams."""
        return BrowserMediaOfNodes(own, self.browser_replicas)

    def session_forwarder(self) -> SessionForwarder | None:
        """Returns what finds the WebRTC sessions of other processes; None without a secret of the cluster."""
        secret = self._identity.secret
        return SessionForwarder(self.siblings, secret, self.cluster.nodes) if secret else None

    def drain(self) -> None:
        """Accepts no new streams. Notifies the publishers and players that are connected through this node."""
        self.forwards.hub.drain()
        self.pulled.drain()
        self.browser_replicas.drain()

    async def open_http_cache(
        self, channels: CachedChannels, protection: PlaybackProtection, viewers: HttpViewers, edge: EdgeSettings
    ) -> HttpCacheProxy:
        """Returns the proxy for players of streams that other nodes hold. FLV and RTMP do not use it."""
        upstream = UpstreamClient(self._selector, self.peers)
        http_cache = HttpCacheProxy(upstream, channels, protection, viewers, edge)
        self._http_cache = await self._stack.enter_async_context(http_cache)
        return self._http_cache

    def node_endpoint(
        self, channels: ChannelReader, files: Files, operations: Mapping[str, Operation], refusals_per_minute: int
    ) -> NodeEndpoint:
        """Returns the endpoint for other nodes.

        channels: without a cache.
        refusals_per_minute: see NodeAuthenticator.
        """
        authenticator = NodeAuthenticator(self._identity.secret, refusals_per_minute)
        forms = BrowserForms(self._tasks)
        streams = PullableStreams(self._hub, self.claims.session, self._dropped, form=forms)
        return NodeEndpoint(authenticator, self.siblings, streams, channels, files, operations)

    async def sibling_with(self, name: str) -> NodeAddress | None:
        """Returns the address of the sibling process that holds a stream; None if no sibling does."""
        if self._identity.slot is None:
            return None
        try:
            node = await self.locator.find(name)
        except (StoreUnavailable, AtCapacity):
            return None
        return node if node is not None and node.socket and node.id != self.node else None

    def _viewers(self) -> Mapping[str, Mapping[str, int]]:
        """The viewers on this node of streams that other nodes hold, by stream and protocol."""
        pulled, browsers = ({s.name: s.viewers for s in hub} for hub in (self.pulled, self.browser_replicas.hub))
        return total_viewers(pulled, browsers, self._http_cache.viewers if self._http_cache is not None else {})

    def _as_node(self) -> Node:
        return Node(self.node, NodeRole.GATEWAY, self.address, shown=self.registry_fields)
