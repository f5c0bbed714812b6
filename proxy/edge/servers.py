"""What answers at the ports of an edge: playback over HTTP and RTMP, other nodes, and the admin pages."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.adapters.local.credentials import TokenVerifier
from gateway.app import listener_options
from gateway.app.channel_caches import ChannelCaches
from gateway.app.node_parts import NodeParts
from gateway.channels.addresses import OpenPorts
from gateway.cluster.http_cache_proxy import HttpCacheProxy
from gateway.cluster.node_endpoint import NodeEndpoint
from gateway.cluster.replicas import Replicas
from gateway.cluster.worker_slot import WorkerSlot
from gateway.http.forwarded import Forwarded
from gateway.http.request import Request
from gateway.http.server import HttpServer
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.pending_connections import PendingConnections
from gateway.ingest.rtmp.setup import open_rtmp
from gateway.ingest.services import ListenerServices
from gateway.lib.sockets import Opener
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
    PlaybackAccess,
    PlaybackRouter,
    StoredPlayback,
)
from gateway.playback.vod_files import VodFiles
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.processes.sibling_server import SiblingServer
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
    """Implements app.listeners.NodeServers.

    slot, sums: set in a worker process, whose master has opened the ports.
    """

    def __init__(
        self,
        parts: NodeParts,
        pulled: PulledPlayback,
        verifier: TokenVerifier,
        door: NodeEndpoint,
        slot: WorkerSlot | None,
        sums: MetricsAggregator | None,
    ) -> None:
        limits = parts.settings.limits
        self._parts = parts
        self._settings = parts.settings
        self._pulled = pulled
        self._node_door = door
        self._slot = slot
        self._sums = sums
        self._health = Health(parts.readiness.missing)
        self._admin_pages = AdminPages(self._health, parts.metrics, verifier, limits.refusals_per_minute)
        self._admin_pages.sums = sums
        self._pushes = NoPushes(pulled.channels.cached, parts.secrets, parts.events)
        self._streams = PulledStreams(pulled.replicas)
        self.pending = PendingConnections(limits.pending_per_address, limits.pending_bytes)

    def open_pushes(self, opener: Opener, tls: ssl.SSLContext | None) -> list[OpenListeners]:
        """Binds RTMP, which is there for players."""
        services = ListenerServices(
            settings=self._settings,
            opener=opener,
            tls=tls,
            tasks=self._parts.tasks,
            lease=refuse_publisher,
            admission=self._pushes,
            pending=self.pending,
            streams=self._streams,
            channels=self._pulled.channels.cached,
            protection=self._pulled.protection,
        )
        return [open_rtmp(services)]

    async def playback(self, ports: OpenPorts) -> HttpServer:
        settings, pulled = self._settings, self._pulled
        live = LivePlayback(
            self._streams,
            MediaRoutes.of(_not_here, _not_here, _not_here, _not_here, _not_here),
            FlvViewers(settings.limits.viewer_backlog),
            pulled.viewers,
            settings.stream.wait_for_publisher,
            elsewhere=pulled.files,
        )
        router = PlaybackRouter(
            PlaybackAccess(pulled.channels.cached, pulled.protection, pulled.channels.owners),
            live,
            Pages(lambda: ports),
            self._health,
            StoredPlayback(pulled.recordings),
            {"vod": VodFiles(pulled.recordings, pulled.protection, pulled.channels.owners)},
        )
        return listener_options.playback_server(settings, router, self._node_door)

    def siblings(self) -> SiblingServer | None:
        if self._slot is None or self._sums is None:
            return None
        limits = listener_options.http_limits(self._settings)
        return SiblingServer(self._slot, self._node_door, limits, self._sums.keep)

    def admin(self) -> HttpServer:
        limits = listener_options.admin_http_limits(self._settings)
        return HttpServer(self._admin_pages, limits, Forwarded(self._settings.admin.forwarded_from))

    @property
    def refused(self) -> Mapping[str, Mapping[str, int]]:
        """Number of refused pushes, plays, admin requests and requests of other nodes, by reason."""
        return {
            "publish": self._pushes.refused,
            "play": self._pulled.protection.refused,
            "api": self._admin_pages.refused,
            "node": self._node_door.refused,
        }


def _not_here(request: Request, stream: Stream, rest: str) -> EventualAnswer:
    raise AssertionError("no stream is held here whose files could be asked for")
