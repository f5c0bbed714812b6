"""The services of a gateway that is a member of a cluster."""

import asyncio
import collections
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import structlog

from gateway.channels.cached_channels import CachedChannels
from gateway.channels.channel import Channel
from gateway.cluster.calls.cluster_client import ClusterClient
from gateway.cluster.calls.session_forwarder import SessionForwarder
from gateway.cluster.calls.viewer_reporter import ViewerReporter, total_viewers
from gateway.cluster.files.http_cache_proxy import HttpCacheProxy
from gateway.cluster.files.upstream_client import UpstreamClient
from gateway.cluster.members.dead_claims import DeadClaims
from gateway.cluster.members.edge_selector import EdgeSelector, Reader
from gateway.cluster.members.membership import Membership
from gateway.cluster.members.node_identity import NodeIdentity, SiblingProcesses
from gateway.cluster.members.node_list import NodeList
from gateway.cluster.members.peers import Peers
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.cluster.streams.browser_replicas import PulledStreams
from gateway.cluster.streams.claims import Claims, SessionRows
from gateway.cluster.streams.forward import PushForwarder
from gateway.diagnosis.experience import Experience
from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample, by_label
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks, awaited
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.stream import Stream
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.playable_streams import PlayableStreams
from gateway.playback.protection import PlaybackProtection
from gateway.ports.errors import GatewayError, StoreUnavailable
from gateway.ports.events import Events
from gateway.ports.nodes import Node, NodeRole, host_of
from gateway.ports.stores import Registry
from gateway.settings.models import EdgeSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LocalStreams:
    """The streams of this node, and the functions of its outputs that the cluster uses.

    hub: replicas and forwarded pushes have its limits.
    dropped: counts units that were dropped because another node was too slow.
    replicated: the outputs of a replica. attributes, may_have_edges: see SessionRows.
    events: of this node.
    """

    hub: Hub
    dropped: Counter
    replicated: Sequence[OutputSpec]
    attributes: Callable[[Channel, str, float], Mapping[str, Any]]
    may_have_edges: Callable[[Channel], bool]
    events: Events


@dataclass(frozen=True, slots=True)
class LocalViewers:
    """The viewers of this node, who may play streams of other nodes. experience: their reports."""

    channels: CachedChannels
    protection: PlaybackProtection
    http: HttpViewers
    experience: Experience
    cache: EdgeSettings


class ClusterMember:
    """A gateway's membership in a cluster. Use as `async with`. The app creates it if there is a registry.

    describe: returns this node as the registry has it.
    """

    def __init__(
        self,
        identity: NodeIdentity,
        registry: Registry,
        describe: Callable[[], Node],
        local: LocalStreams,
        viewers: LocalViewers,
        tasks: Tasks,
    ) -> None:
        hub = local.hub
        self._identity = identity
        self._hub = hub
        self._tasks = tasks
        self._registry = registry
        self._stack = AsyncExitStack()
        self.peers = Peers(identity.secret)
        self.locator = RegistryLocator(registry, identity.sockets)
        self._dead_claims = DeadClaims(registry, self.locator)
        sibling_with = partial(identity.sibling_with, locator=self.locator)
        self.siblings = SiblingProcesses(identity.id, self.peers, identity.siblings, sibling_with)
        self.cluster = ClusterClient(identity.id, registry, self.locator, self.peers, siblings=identity.siblings)
        self.nodes = NodeList(registry)
        self._membership = Membership(registry, describe, self._observe, local.events)
        reader = Reader(identity.id, identity.site)
        self._selector = EdgeSelector(self.locator, self.nodes, reader, identity.siblings)
        self.pulled = PulledStreams(hub.limits, local.replicated, self._selector, self.peers, hub.traffic)
        self.streams = ClusterStreams(hub, self.pulled.replicas)
        self.browser_streams = ClusterStreams(hub, self.pulled.browsers.replicas)
        self.forwards = PushForwarder(hub.limits, self.peers, local.dropped)
        rows = SessionRows(registry, identity.id, lambda: describe().address, local.attributes, local.may_have_edges)
        self.claims = Claims(hub, rows, self.locator, self.forwards, tasks, channels=viewers.channels)
        upstream = UpstreamClient(self._selector, self.peers)
        # For players of streams that other nodes hold. FLV and RTMP do not use it.
        self.http_cache = HttpCacheProxy(upstream, viewers.channels, viewers.protection, viewers.http, viewers.cache)
        self._reporter = ViewerReporter(
            identity.id, self._viewers, self.locator, self.peers, viewers.experience, held_here=hub.holds
        )
        secret = identity.secret
        self.sessions = SessionForwarder(self.siblings, secret, self.cluster.nodes) if secret else None

    async def __aenter__(self) -> Self:
        for service in (self.peers, self.cluster, self.pulled):
            await self._stack.enter_async_context(service)
        self._stack.push_async_callback(self.claims.finish)
        await self._stack.enter_async_context(self.http_cache)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def start(self) -> None:
        """Starts the background tasks. They run until the tasks of the application end."""
        tasks = self._tasks
        self.pulled.start(tasks)
        tasks.keep(self.forwards.shelf.run, "forwards")
        tasks.keep(self.locator.run, "look-ups")
        tasks.keep(self.nodes.run, "nodes")
        tasks.keep(self._dead_claims.run, "dead claims")
        tasks.keep(self.claims.run, "claims")
        tasks.keep(self._reporter.run, "viewers")
        slot = self._identity.slot
        if slot is not None and slot.succeeds:
            tasks.start(self._remove_dead_node(slot.succeeds), "predecessor")

    def join(self) -> None:
        """Adds this node to the registry. Called when its ports are open."""
        self._tasks.keep(self._membership.run, "membership")
        if not self._identity.secret:
            log.warning("other nodes cannot play the streams of this node: cluster.secret is not set")

    async def _remove_dead_node(self, node: str) -> None:
        """Removes from the registry the crashed process that had the slot of this process."""
        try:
            await self._registry.leave(node)
        except StoreUnavailable as error:
            log.info("a dead process stays in the registry until its row expires", node=node, reason=str(error))

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of the cluster."""
        for stream in self.pulled:
            yield from by_label(metric_table.VIEWERS, stream.viewers)
        yield from self.pulled.samples()
        yield MetricSample(metric_table.LOOKUPS, self.locator.lookups)
        yield MetricSample(metric_table.REGISTRY_FAILING, self._membership.fails)
        yield MetricSample(metric_table.HELD, len(self.claims))

    async def drain(self) -> None:
        """Accepts no new streams. Notifies the publishers and players that are connected through this node.

        If another gateway is alive, publishers return there. Playlists do not say then that they end, because players
        would stop.
        """
        await self.nodes.refresh()
        others = (node for node in self.nodes.live.values() if node.host != host_of(self._identity.id))
        self._hub.has_successor = any(node.role is NodeRole.GATEWAY for node in others)
        self.forwards.shelf.drain()
        self.pulled.drain()

    @property
    def viewer_count(self) -> int:
        """The number of viewers on this node of other nodes' streams."""
        return sum(counts.total() for counts in self._viewers().values())

    def _observe(self, nodes: Sequence[Node]) -> None:
        """Takes the nodes that a heartbeat has read."""
        self.cluster.observe(nodes)
        self.nodes.observe(nodes)

    def _viewers(self) -> dict[str, collections.Counter[str]]:
        """Returns the viewers on this node of other nodes' streams, by stream and protocol."""
        return total_viewers(*self.pulled.viewers(), self.http_cache.viewers)


class ClusterStreams:
    """Streams for players: this node's streams, and replicas of other nodes' streams.

    Implements `PlayableStreams`.
    """

    def __init__(self, hub: Hub, replicas: PlayableStreams) -> None:
        self._hub = hub
        self._replicas = replicas

    def find(self, name: str) -> Stream | None:
        """Returns a stream that can be played now, at least by FLV and RTMP."""
        return self._hub.find(name) or self._replicas.find(name)

    def find_recent(self, name: str) -> Stream | None:
        """Returns a stream of this node with all outputs, also if it ended recently."""
        return self._hub.find_recent(name)

    async def wait(self, name: str, seconds: float) -> Stream:
        """Waits until the stream begins, on this node or on another. Raises the errors of StreamShelf.wait."""
        stream = self.find(name)
        if stream is not None:
            return stream
        async with Tasks(f"wait for {name}", awaited) as tasks:
            waits = [tasks.start(streams.wait(name, seconds)) for streams in (self._hub, self._replicas)]
            return await _first(waits)


async def _first(tasks: Collection[asyncio.Task[Stream]]) -> Stream:
    """Returns the result of the first task that succeeds. If all fail, raises the last failure."""
    failure: GatewayError | None = None
    for completed in asyncio.as_completed(tasks):
        try:
            return await completed
        except GatewayError as error:
            failure = error
    assert failure is not None, "all tasks failed, so there is a failure"
    raise failure
