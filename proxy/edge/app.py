"""The edge: creates its services from the settings. Shared code with the gateway is in `gateway.app.node`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import structlog

from gateway import __version__
from gateway.adapters.advertise import advertised, host_of
from gateway.adapters.stores import open_channels, open_registry
from gateway.api.node_status import NodeStatus
from gateway.api.servers import registry_entry
from gateway.api.status import summary
from gateway.app import node, process
from gateway.app.channel_caches import ChannelCaches
from gateway.app.listeners import admin_http_limits, playback_protection
from gateway.app.node_parts import NodeParts
from gateway.app.shutdown import ShutdownSignals
from gateway.app.viewer_parts import http_viewers, viewer_reports
from gateway.channels.addresses import OpenPorts
from gateway.channels.channel import Channel
from gateway.channels.media_owners import StoredDeletions
from gateway.channels.stores import ChannelReader
from gateway.channels.stream_key import SigningSecrets
from gateway.cluster import idle
from gateway.cluster.browser_replicas import BrowserReplicas
from gateway.cluster.cluster_client import ClusterClient
from gateway.cluster.edge_selector import EdgeSelector
from gateway.cluster.gateway_operations import ChannelReaders, GatewayOperations, to_response
from gateway.cluster.http_cache_proxy import HttpCacheProxy
from gateway.cluster.membership import Membership
from gateway.cluster.node_authenticator import NodeAuthenticator
from gateway.cluster.node_endpoint import NodeEndpoint, Operation, PullableStreams
from gateway.cluster.node_identity import SiblingProcesses
from gateway.cluster.peers import Peers
from gateway.cluster.registry_locator import Finder, RegistryLocator
from gateway.cluster.replicas import Replicas
from gateway.cluster.session_forwarder import SessionForwarder, no_nodes
from gateway.cluster.upstream_client import UpstreamClient
from gateway.cluster.viewer_reporter import ViewerReporter, total_viewers
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
from gateway.lib.refusals import Refusals
from gateway.live.hub import NODES_SECONDS, Hub, StreamLimits
from gateway.live.publisher import AcquirePublisher, StreamPublisher
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.packaging.backlog import Backlogs
from gateway.packaging.rtp.output import KIND as WHEP
from gateway.packaging.services import PackagingServices
from gateway.playback.flv import FlvViewers
from gateway.playback.formats import FEEDS, output_specs
from gateway.playback.health import Health
from gateway.playback.ladder import LadderPlayback
from gateway.playback.obs_configuration import PER_MINUTE
from gateway.playback.pages import Pages
from gateway.playback.play_format import AnswerOrAwaitable, PlayableStreams
from gateway.playback.public_channels import ChannelList
from gateway.playback.router import (
    LivePlayback,
    MediaRoutes,
    PlaybackAccess,
    PlaybackRouter,
    PublisherRoutes,
    StoredPlayback,
)
from gateway.playback.vod_files import VodFiles
from gateway.playback.webrtc.signalling import RemoteSessions
from gateway.playback.webrtc.whep import BrowserMedia
from gateway.ports.errors import PushesNotAccepted
from gateway.ports.events import Events
from gateway.ports.nodes import Node, NodeRole
from gateway.ports.stores import Registry
from gateway.processes.metrics_aggregator import OPERATION as METRICS_OPERATION
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.processes.worker_link import WorkerLink
from gateway.settings import Settings
from proxy.edge import channel_edge, gateways
from proxy.edge.admin_pages import AdminPages
from proxy.edge.channel_edge import ChannelEdge
from proxy.edge.gateways import GatewayFiles, GatewayList, Gateways, UpstreamFinder
from proxy.edge.public_channels import RemotePublicChannels
from proxy.edge.publishers import PublisherRequests
from proxy.edge.recordings import EdgeRecordings
from proxy.edge.remote_channels import HolderFirstChannels, RemoteChannels

log = structlog.get_logger(__name__)

_RECORDINGS_DIVISOR = 8  # the cache of recordings is edge.cache divided by this
_NO_PUSHES = "this is an edge, which only plays"


def run(settings: Settings, link: WorkerLink | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C. Returns the exit code. link: to the master, in a worker process."""
    return process.run(settings, lambda: node.serve("edge", settings, link, Edge.open), link)


async def _stop_when_idle(locator: RegistryLocator, channel: str, shutdown_signals: ShutdownSignals) -> None:
    """Stops this edge when its channel is idle. The gateway that started it may no longer run."""
    await idle.wait_until_idle(locator, channel)
    shutdown_signals.stop()


@dataclass(frozen=True, slots=True)
class _EdgeServices:
    """The services that find streams and channels. registry: None if the settings list gateways.

    nodes: returns all nodes that are known to be alive.
    """

    registry: Registry | None
    locator: RegistryLocator
    edge_selector: EdgeSelector | None
    peers: Peers
    gateways: Gateways
    reader: ChannelReader
    deleted: ChannelReader
    nodes: Callable[[], Awaitable[Sequence[Node]]]


async def _open_services(parts: NodeParts) -> _EdgeServices:
    """Opens the services that find streams and channels. Raises StoreUnusable."""
    settings, stack, id = parts.settings, parts.stack, parts.identity.id
    channel = settings.edge.channel
    headers = {channel_edge.HEADER: channel} if channel else {}
    peers = await stack.enter_async_context(Peers(parts.identity.secret, headers=headers))
    registry = await stack.enter_async_context(open_registry(settings))
    stored = await stack.enter_async_context(open_channels(settings))
    edge_selector: EdgeSelector | None = None
    finder: Finder
    live_gateways: GatewayList
    nodes: Callable[[], Awaitable[Sequence[Node]]]
    checks: dict[str, Check]
    if registry is not None:
        finder, checks = registry, {"registry": registry.check}
        locator = RegistryLocator(finder)
        edge_selector = EdgeSelector(locator, registry, id, channel)
        cluster = await stack.enter_async_context(ClusterClient(id, registry, locator, peers))
        live_gateways, nodes = gateways.registry_gateways(cluster.nodes), cluster.nodes
    else:
        finder = upstreams = UpstreamFinder(settings.edge.upstream, peers)
        locator, checks = RegistryLocator(finder), {"gateways": upstreams.check}
        live_gateways, nodes = gateways.configured_gateways(settings.edge.upstream), no_nodes
    all_gateways = Gateways(live_gateways)
    if stored is not None:
        checks["channel store"] = stored.check
    reader: ChannelReader = RemoteChannels(all_gateways, locator, peers)
    deleted: ChannelReader = RemoteChannels(all_gateways, locator, peers, "deleted")
    if stored is not None:
        reader, deleted = HolderFirstChannels(stored, locator, peers), StoredDeletions(stored)
    for name, check in checks.items():
        parts.readiness.add(name, check)
    return _EdgeServices(registry, locator, edge_selector, peers, all_gateways, reader, deleted, nodes)


class Edge(node.Role):
    """Pulls streams from gateways and serves them to viewers and other nodes."""

    ready = "edge ready"

    def __init__(self, parts: NodeParts, services: _EdgeServices) -> None:
        settings = parts.settings
        self._parts = parts
        self._settings = settings
        self._services = services
        self.words = {"node": parts.identity.id}
        self._health = Health(parts.readiness.missing)
        self.channels = ChannelCaches(services.reader, services.deleted)
        self.protection = playback_protection(settings, parts.secrets)
        self._viewers = http_viewers(parts)
        self.viewer_memory = Backlogs(settings.limits.viewer_memory)
        self._packaging = PackagingServices(settings, self.viewer_memory)
        stream = settings.stream
        # Other nodes pull only from an edge of one channel.
        beginning_seconds = NODES_SECONDS if settings.edge.channel else 0.0
        limits = StreamLimits(
            stream.takeover_after, stream.linger, stream.gop_seconds, stream.gop_bytes, beginning=beginning_seconds
        )
        outputs = output_specs(self._packaging, pulled=True)
        self.hub = Hub(limits, [spec for spec in outputs if spec.name != WHEP], Events())  # of the pulled streams
        self._empty_hub = Hub(limits, (), Events())  # always empty, because an edge has no own streams
        locator = services.edge_selector or services.locator
        self._replicas = Replicas(self.hub, locator, services.peers)
        self._browser_replicas = BrowserReplicas(limits, outputs, locator, services.peers)
        recordings_cache = settings.edge.cache // _RECORDINGS_DIVISOR
        cache_settings = settings.edge.model_copy(update={"cache": settings.edge.cache - recordings_cache})
        upstream = UpstreamClient(locator, services.peers)
        self._http_cache = HttpCacheProxy(
            upstream, self.channels.cached, self.protection, self._viewers, cache_settings
        )
        self._channel_edge = ChannelEdge(
            settings.edge.channel, self._replicas, self._browser_replicas, self._http_cache
        )
        files = GatewayFiles(services.gateways, upstream, services.locator)
        self._recordings = EdgeRecordings(files, recordings_cache)
        self._viewer_reporter = ViewerReporter(
            parts.identity.id, self._viewer_counts, services.locator, services.peers, parts.experience
        )
        self._address = ""
        self._registry_fields: Mapping[str, object] = {}
        self.acquire_publisher: AcquirePublisher = refuse_publisher
        self.admission: Admission = NoPushes(self.channels.cached, parts.secrets, parts.events)
        self.streams: PlayableStreams = self._replicas
        slot = parts.identity.slot
        self.metrics_aggregator = MetricsAggregator(slot, parts.metrics, services.peers) if slot is not None else None
        self.browser_streams: PlayableStreams = self._browser_replicas
        self.browser_media: BrowserMedia = self._browser_replicas
        self._siblings = SiblingProcesses(parts.identity.id, services.peers, parts.identity.siblings)
        secret = parts.identity.secret
        self._session_forwarder = SessionForwarder(self._siblings, secret, services.nodes) if secret else None
        self.remote_sessions: RemoteSessions | None = self._session_forwarder
        self.node_endpoint: NodeEndpoint | None = self._endpoint()
        self._pages = AdminPages(self._health, parts.metrics, parts.verifier, settings.limits.refusals_per_minute)
        self._pages.total_metrics = self.metrics_aggregator
        if not settings.signing.secret.get_secret_value():
            log.info("play signatures of other gateways cannot be verified: signing.secret is not set")

    @classmethod
    async def open(cls, parts: NodeParts) -> Edge:
        """Opens the services of the edge, and starts its tasks. Raises StoreUnusable, UnusableKey."""
        edge = cls(parts, await _open_services(parts))
        for service in (edge._replicas, edge._browser_replicas, edge._http_cache, edge._recordings):
            await parts.stack.enter_async_context(service)
        parts.stack.callback(edge._viewers.close)
        await parts.stack.enter_async_context(parts.tasks)  # entered last, so that tasks end before the services close
        edge._start()
        return edge

    def _start(self) -> None:
        tasks = self._parts.tasks
        tasks.start(self.hub.run(), "replicas")
        self._browser_replicas.start(tasks)
        tasks.start(self._services.locator.run(), "lookups")
        if self._services.edge_selector is not None:
            tasks.start(self._services.edge_selector.run(), "edges of channels")
        tasks.start(self._viewer_reporter.run(), "viewers")
        self._parts.metrics.read_from(self.samples)

    async def join(self, ports: OpenPorts) -> None:
        """Adds this edge to the registry, if there is one."""
        tasks = self._parts.tasks
        if self._services.registry is not None:
            self._address = await advertised(self._settings, ports)
            self._registry_fields = registry_entry(host_of(self._address), ports, time.time())
            tasks.start(Membership(self._services.registry, self._as_node).run(), "membership")
        if channel := self._settings.edge.channel:
            tasks.start(_stop_when_idle(self._services.locator, channel, self._parts.shutdown_signals), "channel")

    def is_needed(self) -> bool:
        """Whether a viewer plays FLV, RTMP or WebRTC, or another node pulls a stream from this edge."""
        readers = self._replicas.readers + self._browser_replicas.readers
        return bool(readers) or any(any(stream.viewers.values()) for stream in self._streams)

    def drain(self) -> None:
        self._browser_replicas.drain()

    @property
    def _streams(self) -> Iterator[Stream]:
        """All replicas."""
        return chain(self.hub, self._browser_replicas.hub)

    # ---- servers ----

    def open_pushes(self, services: ListenerServices) -> list[OpenListeners]:
        """Binds the RTMP port, for players only."""
        return [open_rtmp(services)]

    async def playback(self, ports: OpenPorts) -> PlaybackRouter:
        settings, channels, recordings = self._settings, self.channels, self._recordings
        live = LivePlayback(
            self.streams,
            MediaRoutes.of(LadderPlayback(self.streams, self._viewers), _no_local_stream),
            FlvViewers(settings.limits.viewer_backlog),
            self._viewers,
            settings.stream.wait_for_publisher,
            remote_files=self._http_cache,
            reports=viewer_reports(self._parts, self._http_cache),
        )
        services = self._services
        # Behind a CDN, one address has the requests of many. Then limits by address are off.
        limit = Refusals(PER_MINUTE if settings.limits.refusals_per_minute else 0)
        publishers = PublisherRequests(services.gateways, services.peers, self._parts.tasks, limit)
        public = RemotePublicChannels(services.gateways, services.peers, separate_stores=services.registry is None)
        return PlaybackRouter(
            PlaybackAccess(channels.cached, self.protection, channels.owners),
            live,
            Pages(settings.playback.public_url, settings.playback.player_hosts),
            self._health,
            StoredPlayback(
                recordings,
                public_channels=ChannelList(public.entries, self._parts.tasks),
                publishers=PublisherRoutes(publishers.ports, publishers.servers, publishers.obs),
            ),
            {"vod": VodFiles(recordings, recordings.film_page, self.protection, channels.owners)},
        )

    def admin(self) -> HttpServer:
        limits = admin_http_limits(self._settings)
        return HttpServer(self._pages, limits, Forwarded(self._settings.admin.forwarded_from))

    def _endpoint(self) -> NodeEndpoint:
        """Returns the endpoint for other nodes.

        They may request the status of this edge. If it serves one channel, they may also request that stream. They
        also report changed channels.
        """
        settings, services, metrics, identity = (
            self._settings,
            self._services,
            self._parts.metrics,
            self._parts.identity,
        )
        node_status = NodeStatus(settings.data, {"channels": settings.channels.partition(":")[0]})
        siblings = self._siblings
        operations = GatewayOperations(
            siblings,
            self._empty_hub,
            ChannelReaders(services.reader, self.channels.cached, self.channels.deleted),
            forget=self.channels.forget,
            remote_viewers=RemoteViewerCounts(),
            report=lambda: summary(node_status, metrics, __version__),
        ).table()
        others: dict[str, Operation] = {}
        if self.metrics_aggregator is not None:
            others[METRICS_OPERATION] = self.metrics_aggregator.operate
        if self._session_forwarder is not None:
            others |= self._session_forwarder.operations(to_response)
        return NodeEndpoint(
            NodeAuthenticator(identity.secret, settings.limits.refusals_per_minute),
            siblings,
            PullableStreams(self._empty_hub, lambda stream: "", metrics.dropped, self._channel_edge.find_replica),
            services.reader,
            self._channel_edge.file,
            {name: operations[name] for name in ("node", "changed")} | others,
        )

    def _as_node(self) -> Node:
        channel = self._settings.edge.channel
        return Node(self._parts.identity.id, NodeRole.EDGE, self._address, channel=channel, shown=self._registry_fields)

    # ---- metrics ----

    def _viewer_counts(self) -> Mapping[str, Mapping[str, int]]:
        """Returns the number of viewers by stream and protocol."""
        pulled, browsers = ({s.name: s.viewers for s in hub} for hub in (self.hub, self._browser_replicas.hub))
        return total_viewers(self._http_cache.viewers, pulled, browsers)

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of this edge."""
        viewers: Counter[str] = Counter(dict.fromkeys(FEEDS, 0))
        for stream in self._streams:
            viewers.update(stream.viewers)
        for protocol, count in viewers.items():
            yield MetricSample(metric_table.VIEWERS, count, (protocol,))
        yield from self._http_cache.samples()
        yield MetricSample(metric_table.PULLED, len(self._replicas) + len(self._browser_replicas))
        yield MetricSample(metric_table.PULLS, self._replicas.pulls + self._browser_replicas.pulls)
        yield MetricSample(metric_table.LOOKUPS, self._services.locator.lookups)
        yield from self._packaging.samples()
        for reason, count in self._pages.refused.items():
            yield MetricSample(metric_table.REFUSED, count, ("api", reason))


class NoPushes(Admission):
    """An Admission that rejects every push, without a lookup of the channel."""

    def __init__(self, channels: ChannelReader, secrets: SigningSecrets, events: Events) -> None:
        super().__init__(channels, secrets, events, publishers_per_address=0, refusals=Refusals(0))

    async def channel(
        self, id: str, key: str | None, address: str, *, exempt: bool = False, input: str = ""
    ) -> Channel:
        """Raises PushesNotAccepted."""
        raise PushesNotAccepted(_NO_PUSHES)


async def refuse_publisher(
    channel: Channel, *, protocol: str, peer: str, evict: Callable[[EndReason], None], input: str = ""
) -> StreamPublisher:
    """Implements live.publisher.AcquirePublisher. Always raises PushesNotAccepted."""
    raise PushesNotAccepted(_NO_PUSHES)


def _no_local_stream(request: Request, stream: Stream, rest: str) -> AnswerOrAwaitable:
    raise AssertionError("an edge has no local streams")
