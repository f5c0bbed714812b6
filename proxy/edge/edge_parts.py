"""Opens the services of an edge in their order: each one gets those before it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.app.node_parts import NodeParts
from gateway.app.viewer_parts import ViewerParts, build_viewers
from gateway.cluster.calls.viewer_reporter import ViewerReporter, total_viewers
from gateway.cluster.files.http_cache_proxy import HttpCacheProxy
from gateway.cluster.files.upstream_client import UpstreamClient
from gateway.cluster.streams.pulled_streams import PulledStreams
from gateway.lib.metric_table import LOOKUPS, VIEWERS, MetricSample
from gateway.live.hub import NODES_SECONDS, StreamLimits
from gateway.packaging.services import PackagingServices
from gateway.playback.format_outputs import output_specs
from gateway.playback.formats import FEEDS
from gateway.settings import Settings
from proxy.edge.edge_cluster import EdgeCluster, open_cluster
from proxy.edge.gateways import GatewayFiles
from proxy.edge.recordings import EdgeRecordings
from proxy.edge.site import RemoteSite

_RECORDINGS_DIVISOR = 8  # the cache of recordings is edge.cache divided by this


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
    recordings: EdgeRecordings

    def start(self) -> None:
        """Starts the background tasks."""
        node, cluster, tasks = self.node, self.cluster, self.node.tasks
        self.pulled.start(tasks)
        cluster.start(tasks)
        reporter = ViewerReporter(
            node.identity.id, self._viewer_counts, cluster.locator, cluster.peers, node.experience
        )
        tasks.start(reporter.run(), "viewers")
        node.metrics.read_from(self._samples)

    def _viewer_counts(self) -> Mapping[str, Mapping[str, int]]:
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
    cluster = await open_cluster(node)
    site = RemoteSite(cluster.gateways, cluster.peers, separate_stores=cluster.registry is None)
    viewers = build_viewers(node, cluster.reader, cluster.deleted, site.table, site.site)
    packaging = PackagingServices(settings, viewers.memory)
    pulled = PulledStreams(
        _stream_limits(settings), output_specs(packaging, pulled=True), cluster.source, cluster.peers
    )
    recordings_cache = settings.edge.cache // _RECORDINGS_DIVISOR
    cache_settings = settings.edge.model_copy(update={"cache": settings.edge.cache - recordings_cache})
    upstream = UpstreamClient(cluster.source, cluster.peers)
    http_cache = HttpCacheProxy(upstream, viewers.channels.cached, viewers.protection, viewers.counts, cache_settings)
    recordings = EdgeRecordings(GatewayFiles(cluster.gateways, upstream, cluster.locator), recordings_cache)
    for service in (pulled, http_cache, recordings):
        await stack.enter_async_context(service)
    stack.callback(viewers.counts.close)
    await stack.enter_async_context(node.tasks)  # entered last, so that tasks end before the services close
    return EdgeParts(node, cluster, site, viewers, packaging, pulled, http_cache, recordings)


def _stream_limits(settings: Settings) -> StreamLimits:
    stream = settings.stream
    # Other nodes pull only from an edge of one channel.
    beginning = NODES_SECONDS if settings.edge.channel else 0.0
    return StreamLimits(stream.takeover_after, stream.linger, stream.gop_seconds, stream.gop_bytes, beginning=beginning)
