"""What answers at the ports of an edge: playback over HTTP and RTMP, other nodes, and the admin pages."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.app import listener_options
from gateway.app.channel_caches import ChannelCaches
from gateway.app.node_parts import NodeParts
from gateway.channels.addresses import OpenPorts
from gateway.cluster.http_cache_proxy import HttpCacheProxy
from gateway.cluster.node_endpoint import NodeEndpoint
from gateway.cluster.replicas import Replicas
from gateway.http.forwarded import Forwarded
from gateway.http.request import Request
from gateway.http.server import HttpServer
from gateway.ingest.admission import Admission
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.rtmp.setup import open_rtmp
from gateway.ingest.services import ListenerServices
from gateway.live.acquire_publisher import AcquirePublisher
from gateway.live.stream import Stream
from gateway.playback.flv import FlvViewers
from gateway.playback.health import Health
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.pages import Pages
from gateway.playback.protection import PlaybackProtection
from gateway.playback.router import (
    EventualAnswer,
    LivePlayback,
    MediaRoutes,
    PlayableStreams,
    PlaybackAccess,
    PlaybackRouter,
    StoredPlayback,
)
from gateway.playback.vod_files import VodFiles
from gateway.processes.metrics_aggregator import MetricsAggregator
from proxy.edge.admin_pages import AdminPages
from proxy.edge.no_pushes import NoPushes, refuse_publisher
from proxy.edge.recordings import EdgeRecordings


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


@dataclass(frozen=True, slots=True)
class PulledPlayback:
    """The sources of everything that an edge plays. files: HLS and DASH of the gateways."""

    channels: ChannelCaches
    protection: PlaybackProtection
    viewers: HttpViewers
    replicas: Replicas
    files: HttpCacheProxy
    recordings: EdgeRecordings


class EdgeServers:
    """Implements app.listeners.NodeServers. sums: set in a worker process."""

    def __init__(
        self, parts: NodeParts, pulled: PulledPlayback, door: NodeEndpoint, sums: MetricsAggregator | None
    ) -> None:
        self._settings = parts.settings
        self._pulled = pulled
        self._health = Health(parts.readiness.missing)
        self.lease: AcquirePublisher = refuse_publisher
        self.admission: Admission = NoPushes(pulled.channels.cached, parts.secrets, parts.events)
        self.streams: PlayableStreams = PulledStreams(pulled.replicas)
        self.channels = pulled.channels
        self.protection = pulled.protection
        self.door: NodeEndpoint | None = door
        self.sums = sums
        self.pages = AdminPages(self._health, parts.metrics, parts.verifier, parts.settings.limits.refusals_per_minute)
        self.pages.sums = sums

    def open_pushes(self, services: ListenerServices) -> list[OpenListeners]:
        """Binds RTMP, which is there for players."""
        return [open_rtmp(services)]

    async def playback(self, ports: OpenPorts) -> PlaybackRouter:
        settings, pulled = self._settings, self._pulled
        live = LivePlayback(
            self.streams,
            MediaRoutes.of(_not_here, _not_here, _not_here, _not_here, _not_here),
            FlvViewers(settings.limits.viewer_backlog),
            pulled.viewers,
            settings.stream.wait_for_publisher,
            elsewhere=pulled.files,
        )
        return PlaybackRouter(
            PlaybackAccess(pulled.channels.cached, pulled.protection, pulled.channels.owners),
            live,
            Pages(lambda: ports),
            self._health,
            StoredPlayback(pulled.recordings),
            {"vod": VodFiles(pulled.recordings, pulled.protection, pulled.channels.owners)},
        )

    def admin(self) -> HttpServer:
        limits = listener_options.admin_http_limits(self._settings)
        return HttpServer(self.pages, limits, Forwarded(self._settings.admin.forwarded_from))


def _not_here(request: Request, stream: Stream, rest: str) -> EventualAnswer:
    raise AssertionError("no stream is held here whose files could be asked for")
