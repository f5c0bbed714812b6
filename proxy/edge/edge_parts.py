"""Opens the services of an edge in their order: each one gets those before it. Other nodes are found first."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.adapters.shared_admin_token import share_token, shares_token
from gateway.adapters.stores import open_channels, open_console, open_registry
from gateway.app.certificates import is_shared
from gateway.app.node_parts import NodeParts
from gateway.app.viewer_parts import ViewerParts, build_viewers
from gateway.channels.media_owners import StoredDeletions
from gateway.channels.stores import ChannelReader
from gateway.cluster.calls.cluster_client import ClusterClient
from gateway.cluster.calls.session_forwarder import FindNodes, SessionForwarder, no_nodes
from gateway.cluster.calls.viewer_reporter import ViewerReporter, total_viewers
from gateway.cluster.files.http_cache_proxy import HttpCacheProxy
from gateway.cluster.files.upstream_client import UpstreamClient
from gateway.cluster.members.dead_claims import DeadClaims
from gateway.cluster.members.edge_selector import EdgeSelector, Reader
from gateway.cluster.members.node_address import StreamLocator
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.node_list import NodeList
from gateway.cluster.members.peers import Peers
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.cluster.streams.browser_replicas import PulledStreams
from gateway.lib.metric_table import LOOKUPS, VIEWERS, MetricSample
from gateway.lib.tasks import Tasks
from gateway.live.shelf import NODES_SECONDS, StreamLimits
from gateway.packaging.services import PackagingServices
from gateway.playback.format_outputs import output_specs
from gateway.playback.formats import FEEDS
from gateway.ports.stores import Registry
from gateway.settings import Settings
from gateway.settings.option_types import IN_DATABASE
from proxy.edge import channel_edge, gateways
from proxy.edge.gateways import GatewayFiles, Gateways, UpstreamFinder
from proxy.edge.recordings import EdgeRecordings
from proxy.edge.remote_channels import HolderFirstChannels, RemoteChannels, RemoteSite

_RECORDINGS_DIVISOR = 8  # the cache of recordings is edge.cache divided by this


@dataclass(frozen=True, slots=True)
class EdgeCluster:
    """The services of an edge that find other nodes.
    registry, nodes, dead_claims, edge_selector: None if the settings list gateways.

    session_forwarder: reaches the WebRTC sessions of other processes; None without a secret of the cluster.
    reader: reads channels. deleted: reads what remains of deleted channels.
    """

    registry: Registry | None
    nodes: NodeList | None
    dead_claims: DeadClaims | None
    locator: RegistryLocator
    edge_selector: EdgeSelector | None
    peers: Peers
    siblings: SiblingProcesses
    session_forwarder: SessionForwarder | None
    gateways: Gateways
    reader: ChannelReader
    deleted: ChannelReader

    @property
    def source(self) -> StreamLocator:
        """The locator that finds the node from which a stream is pulled."""
        return self.edge_selector or self.locator

    def start(self, tasks: Tasks) -> None:
        """Starts the background tasks."""
        tasks.keep(self.locator.run, "lookups")
        if self.nodes is not None:
            tasks.keep(self.nodes.run, "nodes")
        if self.dead_claims is not None:
            tasks.keep(self.dead_claims.run, "dead claims")


@dataclass(frozen=True, slots=True)
class EdgeParts:
    """The services of an edge that exist before its ports are open."""

    node: NodeParts
    cluster: EdgeCluster
    site: RemoteSite
    viewers: ViewerParts
    packaging: PackagingServices
    pulled: PulledStreams
    http_cache: HttpCacheProxy
    files: GatewayFiles
    recordings: EdgeRecordings

    def start(self) -> None:
        """Starts the background tasks."""
        node, cluster, tasks = self.node, self.cluster, self.node.tasks
        self.pulled.start(tasks)
        cluster.start(tasks)
        reporter = ViewerReporter(
            node.identity.id, self.viewer_counts, cluster.locator, cluster.peers, node.experience, node.traffic
        )
        tasks.keep(reporter.run, "viewers")
        node.metrics.read_from(self._samples)

    def viewer_counts(self) -> Mapping[str, Counter[str]]:
        """Returns the number of viewers by stream and protocol."""
        return total_viewers(self.http_cache.viewers, *self.pulled.viewers())

    def _samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of streams and files."""
        viewers: Counter[str] = Counter(dict.fromkeys(FEEDS, 0))
        for stream in self.pulled:
            viewers.update(stream.viewers)
        for protocol, count in viewers.items():
            yield MetricSample(VIEWERS, count, (protocol,))
        yield from self.http_cache.samples()
        yield from self.pulled.samples()
        yield MetricSample(LOOKUPS, self.cluster.locator.lookups)
        yield from self.packaging.samples()


async def open_edge(node: NodeParts) -> EdgeParts:
    """Opens the services. From now on, the stack closes the tasks of the process. Raises StoreUnusable, UnusableKey."""
    settings, stack = node.settings, node.stack
    certificate = node.certificate if is_shared(settings) else None
    # In AWS, edges may not read the table of the console.
    takes_token = node.first and settings.admin.store == IN_DATABASE and shares_token(settings)
    if certificate is not None or takes_token:
        console = await stack.enter_async_context(open_console(settings))
        if certificate is not None:
            certificate.share(settings, console, None)
        if takes_token:
            await share_token(node.token, console, node.tasks)
    cluster = await open_cluster(node)
    site = RemoteSite(cluster.gateways, cluster.peers, separate_stores=cluster.registry is None)
    viewers = build_viewers(node, cluster.reader, cluster.deleted, site.table, site.site)
    packaging = PackagingServices(settings, viewers.memory)
    specs = output_specs(packaging, pulled=True)
    pulled = PulledStreams(_stream_limits(settings), specs, cluster.source, cluster.peers, node.traffic)
    recordings_cache = settings.edge.cache // _RECORDINGS_DIVISOR
    cache_settings = settings.edge.model_copy(update={"cache": settings.edge.cache - recordings_cache})
    upstream = UpstreamClient(cluster.source, cluster.peers)
    http_cache = HttpCacheProxy(upstream, viewers.channels.cached, viewers.protection, viewers.counts, cache_settings)
    files = GatewayFiles(cluster.gateways, upstream, cluster.locator)
    recordings = EdgeRecordings(files, recordings_cache)
    for service in (pulled, http_cache, recordings):
        await stack.enter_async_context(service)
    stack.callback(viewers.counts.close)
    await stack.enter_async_context(node.tasks)  # entered last, so that tasks end before the services close
    return EdgeParts(node, cluster, site, viewers, packaging, pulled, http_cache, files, recordings)


def _stream_limits(settings: Settings) -> StreamLimits:
    stream = settings.stream
    # Other nodes pull only from an edge of one channel, and from the edges of their site.
    beginning = NODES_SECONDS if settings.edge.channel or settings.cluster.site else 0.0
    return StreamLimits(stream.takeover_after, stream.linger, stream.gop_seconds, stream.gop_bytes, beginning=beginning)


async def open_cluster(parts: NodeParts) -> EdgeCluster:
    """Opens the services. Raises StoreUnusable."""
    settings, stack, identity = parts.settings, parts.stack, parts.identity
    channel = settings.edge.channel
    headers = {channel_edge.HEADER: channel} if channel else {}
    peers = await stack.enter_async_context(Peers(identity.secret, headers=headers))
    registry = await stack.enter_async_context(open_registry(settings))
    stored = await stack.enter_async_context(open_channels(settings))
    edge_selector: EdgeSelector | None = None
    known: NodeList | None = None
    dead_claims: DeadClaims | None = None
    nodes: FindNodes = no_nodes
    if registry is not None:
        parts.readiness.add("registry", registry.check)
        locator = RegistryLocator(registry)
        known, dead_claims = NodeList(registry), DeadClaims(registry, locator)
        own = Reader(identity.id, identity.site, channel, serves=bool(identity.site) and not channel)
        edge_selector = EdgeSelector(locator, known, own, identity.siblings)
        cluster = await stack.enter_async_context(ClusterClient(identity.id, registry, locator, peers))
        live_gateways, nodes = gateways.registry_gateways(cluster.nodes), cluster.nodes
    else:
        upstreams = UpstreamFinder(settings.edge.upstream, peers)
        parts.readiness.add("gateways", upstreams.check)
        locator, live_gateways = RegistryLocator(upstreams), gateways.configured_gateways(settings.edge.upstream)
    all_gateways = Gateways(live_gateways)
    reader: ChannelReader = RemoteChannels(all_gateways, locator, peers)
    deleted: ChannelReader = RemoteChannels(all_gateways, locator, peers, "deleted")
    if stored is not None:
        parts.readiness.add("channel store", stored.check)
        reader, deleted = HolderFirstChannels(stored, locator, peers), StoredDeletions(stored)
    siblings = SiblingProcesses(identity.id, peers, identity.siblings)
    session_forwarder = SessionForwarder(siblings, identity.secret, nodes) if identity.secret else None
    return EdgeCluster(
        registry, known, dead_claims, locator, edge_selector, peers, siblings, session_forwarder, all_gateways, reader,
        deleted,
    )  # fmt: skip
