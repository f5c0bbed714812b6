"""The edge: builds its parts from the settings. What it has in common with a gateway is in `gateway.app.node`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog

from gateway import __version__
from gateway.adapters.advertise import advertised, host_of
from gateway.adapters.stores import open_channels, open_registry
from gateway.api.node_status import NodeStatus as Machine
from gateway.api.servers import registry_entry
from gateway.api.status import summary
from gateway.app import node, process
from gateway.app.channel_caches import ChannelCaches
from gateway.app.listeners import admin_http_limits, playback_protection
from gateway.app.node_parts import NodeParts
from gateway.app.shutdown import ShutdownSignals
from gateway.channels.addresses import OpenPorts
from gateway.channels.media_owners import StoredDeletions
from gateway.channels.stores import ChannelReader
from gateway.cluster import idle
from gateway.cluster.cluster_client import ClusterClient
from gateway.cluster.edge_selector import EdgeSelector
from gateway.cluster.gateway_operations import ChannelReaders, GatewayOperations
from gateway.cluster.http_cache_proxy import HttpCacheProxy
from gateway.cluster.membership import Membership
from gateway.cluster.node_authenticator import NodeAuthenticator
from gateway.cluster.node_endpoint import NodeEndpoint, PullableStreams
from gateway.cluster.peers import Peers
from gateway.cluster.registry_locator import Finder, RegistryLocator
from gateway.cluster.replicas import Replicas
from gateway.cluster.sibling_processes import SiblingProcesses
from gateway.cluster.upstream_client import UpstreamClient
from gateway.cluster.viewer_reporter import ViewerReporter
from gateway.http.forwarded import Forwarded
from gateway.http.request import Request
from gateway.http.server import HttpServer
from gateway.ingest.admission import Admission
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.rtmp.listener import open_rtmp
from gateway.ingest.services import ListenerServices
from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample
from gateway.lib.readiness import Check
from gateway.live.hub import NODES_SECONDS, Hub, StreamLimits
from gateway.live.publisher import AcquirePublisher
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.stream import Stream
from gateway.packaging.backlog import Backlogs
from gateway.packaging.services import PackagingServices
from gateway.playback.flv import FlvViewers
from gateway.playback.formats import FEEDS, output_specs
from gateway.playback.health import Health
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.ladder import LadderPlayback
from gateway.playback.pages import Pages
from gateway.playback.play_format import AnswerOrAwaitable, PlayableStreams
from gateway.playback.router import (
    LivePlayback,
    MediaRoutes,
    PlaybackAccess,
    PlaybackRouter,
    StoredPlayback,
)
from gateway.playback.vod_files import VodFiles
from gateway.ports.events import Events
from gateway.ports.nodes import Node, NodeRole
from gateway.ports.stores import Registry
from gateway.processes.metrics_aggregator import OPERATION as SUMS
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.processes.worker_link import WorkerLink
from gateway.settings import Settings
from proxy.edge import channel_edge, gateways
from proxy.edge.admin_pages import AdminPages
from proxy.edge.channel_edge import ChannelEdge
from proxy.edge.gateways import GatewayFiles, GatewayList, Gateways, UpstreamFinder
from proxy.edge.no_pushes import NoPushes, refuse_publisher
from proxy.edge.recordings import EdgeRecordings
from proxy.edge.remote_channels import HolderFirstChannels, RemoteChannels

log = structlog.get_logger(__name__)

_RECORDINGS = 8  # recordings get edge.cache divided by this


def run(settings: Settings, link: WorkerLink | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C. Returns the exit code. link: to the master, in a worker process."""
    return process.run(settings, lambda: node.serve("edge", settings, link, Edge.open), link)


async def _until_idle(where: RegistryLocator, channel: str, ending: ShutdownSignals) -> None:
    """Ends this edge when its channel is idle, because the gateway that started it may be gone."""
    await idle.wait_until_idle(where, channel)
    ending.stop()


@dataclass(frozen=True, slots=True)
class _EdgeServices:
    """The parts that find streams and channels. registry: None if the settings name gateways instead."""

    registry: Registry | None
    locator: RegistryLocator
    spread: EdgeSelector | None
    peers: Peers
    gateways: Gateways
    reader: ChannelReader
    deleted: ChannelReader


async def _ground(parts: NodeParts) -> _EdgeServices:
    """Opens the parts that find streams and channels. Raises StoreUnusable."""
    settings, stack, id = parts.settings, parts.stack, parts.identity.id
    channel = settings.edge.channel
    headers = {channel_edge.HEADER: channel} if channel else {}
    peers = await stack.enter_async_context(Peers(parts.identity.secret, headers=headers))
    registry = await stack.enter_async_context(open_registry(settings))
    stored = await stack.enter_async_context(open_channels(settings))
    spread: EdgeSelector | None = None
    finder: Finder
    living: GatewayList
    checks: dict[str, Check]
    if registry is not None:
        finder, checks = registry, {"registry": registry.check}
        locator = RegistryLocator(finder)
        spread = EdgeSelector(locator, registry, id, channel)
        cluster = await stack.enter_async_context(ClusterClient(id, registry, locator, peers))
        living = gateways.registry_gateways(cluster.nodes)
    else:
        finder = upstreams = UpstreamFinder(settings.edge.upstream, peers)
        locator, checks = RegistryLocator(finder), {"gateways": upstreams.check}
        living = gateways.configured_gateways(settings.edge.upstream)
    known = Gateways(living)
    if stored is not None:
        checks["channel store"] = stored.check
    reader: ChannelReader = RemoteChannels(known, locator, peers)
    deleted: ChannelReader = RemoteChannels(known, locator, peers, "deleted")
    if stored is not None:
        reader, deleted = HolderFirstChannels(stored, locator, peers), StoredDeletions(stored)
    for name, check in checks.items():
        parts.readiness.add(name, check)
    return _EdgeServices(registry, locator, spread, peers, known, reader, deleted)


class PulledStreams:
    """The streams of the gateways, as pulled replicas. Implements playback.router.PlayableStreams."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def find(self, name: str) -> Stream | None:
        return self._replicas.find(name)

    def find_recent(self, name: str) -> Stream | None:
        """Returns None, because an edge holds no streams."""
        return None

    async def wait(self, name: str, seconds: float) -> Stream:
        return await self._replicas.wait(name, seconds)


class Edge(node.Role):
    """Pulls streams from gateways and serves them to viewers and other nodes."""

    ready = "edge ready"

    def __init__(self, parts: NodeParts, ground: _EdgeServices) -> None:
        settings = parts.settings
        self._parts = parts
        self._settings = settings
        self._ground = ground
        self.words = {"node": parts.identity.id}
        self._health = Health(parts.readiness.missing)
        self.channels = ChannelCaches(ground.reader, ground.deleted)
        self.protection = playback_protection(settings, parts.secrets)
        self._viewers = HttpViewers()
        self._packaging = PackagingServices(settings, Backlogs(settings.limits.viewer_memory))
        stream = settings.stream
        given = NODES_SECONDS if settings.edge.channel else 0.0  # other nodes pull only from an edge of one channel
        limits = StreamLimits(
            stream.takeover_after, stream.linger, stream.gop_seconds, stream.gop_bytes, beginning=given
        )
        self.hub = Hub(limits, output_specs(self._packaging, pulled=True), Events())  # of the pulled streams
        self._own = Hub(limits, (), Events())  # stays empty, as an edge holds no streams of its own
        where = ground.spread or ground.locator
        self._replicas = Replicas(self.hub, where, ground.peers)
        part = settings.edge.cache // _RECORDINGS
        held = settings.edge.model_copy(update={"cache": settings.edge.cache - part})
        self._relay = HttpCacheProxy(
            UpstreamClient(where, ground.peers), self.channels.cached, self.protection, self._viewers, held
        )
        self._given = ChannelEdge(settings.edge.channel, self._replicas, self._relay)
        self._recordings = EdgeRecordings(GatewayFiles(ground.gateways, self._relay.origin, ground.locator), part)
        self._teller = ViewerReporter(parts.identity.id, self._watched, ground.locator, ground.peers)
        self._address = ""
        self._shown: Mapping[str, object] = {}
        self.acquire_publisher: AcquirePublisher = refuse_publisher
        self.admission: Admission = NoPushes(self.channels.cached, parts.secrets, parts.events)
        self.streams: PlayableStreams = PulledStreams(self._replicas)
        slot = parts.identity.slot
        self.metrics_aggregator = MetricsAggregator(slot, parts.metrics, ground.peers) if slot is not None else None
        self.node_endpoint: NodeEndpoint | None = self._endpoint()
        self._pages = AdminPages(self._health, parts.metrics, parts.verifier, settings.limits.refusals_per_minute)
        self._pages.sums = self.metrics_aggregator
        if not settings.signing.secret.get_secret_value():
            log.info("play signs of gateways that have another secret do not count here: signing.secret is not set")

    @classmethod
    async def open(cls, parts: NodeParts) -> Edge:
        """Opens everything that the edge pulls with, and starts its tasks. Raises StoreUnusable, UnusableKey."""
        edge = cls(parts, await _ground(parts))
        for part in (edge._replicas, edge._relay, edge._recordings):
            await parts.stack.enter_async_context(part)
        parts.stack.callback(edge._viewers.close)
        await parts.stack.enter_async_context(parts.tasks)  # entered last, so tasks end first
        edge._start()
        return edge

    def _start(self) -> None:
        tasks = self._parts.tasks
        tasks.start(self.hub.run(), "replicas")
        tasks.start(self._ground.locator.run(), "look-ups")
        if self._ground.spread is not None:
            tasks.start(self._ground.spread.run(), "edges of channels")
        tasks.start(self._teller.run(), "viewers")
        self._parts.metrics.read_from(self.samples)

    async def join(self, ports: OpenPorts) -> None:
        """Adds this edge to the registry, if there is one."""
        tasks = self._parts.tasks
        if self._ground.registry is not None:
            self._address = await advertised(self._settings, ports)
            self._shown = registry_entry(host_of(self._address), ports, time.time())
            tasks.start(Membership(self._ground.registry, self._as_node).run(), "membership")
        if channel := self._settings.edge.channel:
            tasks.start(_until_idle(self._ground.locator, channel, self._parts.shutdown_signals), "channel")

    def is_needed(self) -> bool:
        """Returns whether a viewer plays by FLV or RTMP, or another node pulls from here."""
        return bool(self._replicas.lent) or any(any(stream.viewers.values()) for stream in self.hub)

    # ---- what answers at the ports ----

    def open_pushes(self, services: ListenerServices) -> list[OpenListeners]:
        """Binds RTMP, which is there for players."""
        return [open_rtmp(services)]

    async def playback(self, ports: OpenPorts) -> PlaybackRouter:
        settings, channels, recordings = self._settings, self.channels, self._recordings
        live = LivePlayback(
            self.streams,
            MediaRoutes.of(LadderPlayback(self.streams, self._viewers), _not_here),
            FlvViewers(settings.limits.viewer_backlog),
            self._viewers,
            settings.stream.wait_for_publisher,
            remote_files=self._relay,
        )
        return PlaybackRouter(
            PlaybackAccess(channels.cached, self.protection, channels.owners),
            live,
            Pages(lambda: ports),
            self._health,
            StoredPlayback(recordings),
            {"vod": VodFiles(recordings, self.protection, channels.owners)},
        )

    def admin(self) -> HttpServer:
        limits = admin_http_limits(self._settings)
        return HttpServer(self._pages, limits, Forwarded(self._settings.admin.forwarded_from))

    def _endpoint(self) -> NodeEndpoint:
        """Returns the endpoint for other nodes.

        They may request the status of this edge and, if it was started for one channel, the stream of this channel.
        They also report which channels have changed.
        """
        settings, ground, metrics, identity = self._settings, self._ground, self._parts.metrics, self._parts.identity
        machine = Machine(settings.data, {"channels": settings.channels.partition(":")[0]})
        siblings = SiblingProcesses(identity.id, ground.peers, identity.siblings)
        operations = GatewayOperations(
            siblings,
            self._own,
            ChannelReaders(ground.reader, self.channels.cached, self.channels.deleted),
            forget=self.channels.forget,
            distant=RemoteViewerCounts(),
            report=lambda: summary(machine, metrics, __version__),
        ).table()
        return NodeEndpoint(
            NodeAuthenticator(identity.secret, settings.limits.refusals_per_minute),
            siblings,
            PullableStreams(self._own, lambda stream: "", metrics.dropped, self._given.units),
            ground.reader,
            self._given.file,
            {name: operations[name] for name in ("node", "changed")}
            | ({SUMS: self.metrics_aggregator.operate} if self.metrics_aggregator is not None else {}),
        )

    def _as_node(self) -> Node:
        channel = self._settings.edge.channel
        return Node(self._parts.identity.id, NodeRole.EDGE, self._address, channel=channel, shown=self._shown)

    # ---- metrics ----

    def _watched(self) -> Mapping[str, Mapping[str, int]]:
        """Returns the number of viewers by stream and protocol."""
        watched = self._relay.viewers
        for stream in self.hub:
            watched.setdefault(stream.name, Counter()).update(stream.viewers)
        return watched

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of this edge."""
        viewers: Counter[str] = Counter(dict.fromkeys(FEEDS, 0))
        for stream in self.hub:
            viewers.update(stream.viewers)
        for protocol, count in viewers.items():
            yield MetricSample(metric_table.VIEWERS, count, (protocol,))
        yield from self._relay.samples()
        yield MetricSample(metric_table.PULLED, len(self._replicas))
        yield MetricSample(metric_table.PULLS, self._replicas.pulls)
        yield MetricSample(metric_table.LOOKUPS, self._ground.locator.asked)
        yield from self._packaging.samples()
        for reason, count in self._pages.refused.items():
            yield MetricSample(metric_table.REFUSED, count, ("api", reason))


def _not_here(request: Request, stream: Stream, rest: str) -> AnswerOrAwaitable:
    raise AssertionError("no stream is held here whose files could be asked for")
