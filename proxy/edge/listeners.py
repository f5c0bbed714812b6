"""The listeners of an edge: playback HTTP(S), RTMP(S) for players, and admin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.app import listener_options
from gateway.app.node_parts import NodeParts
from gateway.channels.addresses import OpenPorts
from gateway.channels.cached_channels import CachedChannels
from gateway.channels.media_owners import MediaOwners
from gateway.cluster.http_cache_proxy import HttpCacheProxy
from gateway.cluster.node_endpoint import NodeEndpoint
from gateway.cluster.replicas import Replicas
from gateway.http.forwarded import Forwarded
from gateway.http.request import Request
from gateway.http.server import HttpServer
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.pending_connections import PendingConnections
from gateway.ingest.rtmp.setup import open_rtmp
from gateway.ingest.services import ListenerServices
from gateway.lib.sockets import Opener, listen, port_of, tls_context
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
from gateway.processes.worker_link import WorkerLink
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

    channels: CachedChannels
    owners: MediaOwners
    protection: PlaybackProtection
    viewers: HttpViewers
    replicas: Replicas
    files: HttpCacheProxy
    recordings: EdgeRecordings

    @property
    def access(self) -> PlaybackAccess:
        return PlaybackAccess(self.channels, self.protection, self.owners)


class EdgeListeners:
    """The listeners of an edge. `ports` has the open ports after `open`, which raises ListenError, UnusableKey."""

    def __init__(
        self,
        parts: NodeParts,
        pulled: PulledPlayback,
        admin: AdminPages,
        door: NodeEndpoint,
        seat: WorkerLink | None = None,
        sums: MetricsAggregator | None = None,
    ) -> None:
        """seat, sums: set in a worker process, whose master has opened the ports."""
        settings, tasks = parts.settings, parts.tasks
        self._seat = seat
        self._opener: Opener = listen if seat is None else seat.sockets
        self._siblings: SiblingServer | None = None
        if seat is not None and sums is not None:
            self._siblings = SiblingServer(seat.slot, door, listener_options.http_limits(settings), sums.keep)
        self._settings = settings
        self._protection = protection = pulled.protection
        self._admin_pages = admin
        self._tasks = tasks
        self._node_door = door
        channels = pulled.channels
        self._pushes = NoPushes(channels, parts.secrets, parts.events)
        streams = PulledStreams(pulled.replicas)
        limits = settings.limits
        live = LivePlayback(
            streams,
            MediaRoutes.of(_not_here, _not_here, _not_here, _not_here, _not_here),
            FlvViewers(limits.viewer_backlog),
            pulled.viewers,
            settings.stream.wait_for_publisher,
            elsewhere=pulled.files,
        )
        recordings = pulled.recordings
        self._playback = PlaybackRouter(
            pulled.access,
            live,
            Pages(lambda: self.ports),
            Health(parts.readiness.missing),
            StoredPlayback(recordings),
            {"vod": VodFiles(recordings, protection, pulled.owners), "_node": door},
        )
        self.pending = PendingConnections(limits.pending_per_address, limits.pending_bytes)
        self._streams, self._channels = streams, channels
        forwarded = Forwarded(settings.http.forwarded_from)
        self._http = HttpServer(
            self._playback, listener_options.http_limits(settings), forwarded, unshown=("POST",), exempts=door.signed
        )
        self._admin = HttpServer(
            admin, listener_options.admin_http_limits(settings), Forwarded(settings.admin.forwarded_from)
        )
        self._rtmp: OpenListeners | None = None
        self.ports = OpenPorts()

    async def open(self) -> None:
        """Binds every port first and then accepts connections, so that a used port leaves nothing half open."""
        settings = self._settings
        tls = tls_context(settings.tls.cert, settings.tls.key) if settings.tls.cert is not None else None
        services = ListenerServices(
            settings=settings,
            opener=self._opener,
            tls=tls,
            tasks=self._tasks,
            lease=refuse_publisher,
            admission=self._pushes,
            pending=self.pending,
            streams=self._streams,
            channels=self._channels,
            protection=self._protection,
        )
        self._rtmp = open_rtmp(services)
        http, host = settings.http, settings.http.host
        plain = self._opener("http", host, http.port)
        secure = self._opener("https", host, settings.https.port) if tls is not None else []
        here = self._seat is None or self._seat.slot.first
        admin = self._opener("admin", settings.admin.host, settings.admin.port) if here else []
        self.ports = OpenPorts(
            **self._rtmp.ports,
            http=port_of(plain),
            https=port_of(secure) if secure else None,
            admin=port_of(admin) if here or self._seat is None else self._seat.ports["admin"],
        )
        await self._http.listen(plain)
        if tls is not None:
            await self._http.listen(secure, tls)
        await self._admin.listen(admin, tls if settings.admin.tls else None)
        if self._siblings is not None:
            await self._siblings.open()
        await self._rtmp.start()

    @property
    def http_bytes(self) -> int:
        """Bytes of answers on the playback listener. Bytes of FLV and RTMP viewers are counted in their feeds."""
        return self._http.bytes_out

    @property
    def refused(self) -> Mapping[str, Mapping[str, int]]:
        """Number of refused pushes, plays, admin requests and requests of other nodes, by reason."""
        return {
            "publish": self._pushes.refused,
            "play": self._protection.refused,
            "api": self._admin_pages.refused,
            "node": self._node_door.refused,
        }

    def stop_accepting(self) -> None:
        """Accepts no new RTMP players."""
        if self._rtmp is not None:
            self._rtmp.close()

    def retire(self) -> None:
        """Accepts no new connections, as another process has these ports now. Open connections go on."""
        self.stop_accepting()
        self._http.retire()
        self._admin.retire()

    async def finish(self) -> None:
        """Waits at most 2 s for running answers and RTMP viewers, then closes the rest."""
        await self._http.close(grace=2.0)
        if self._rtmp is not None:
            await self._rtmp.hang_up(grace=2.0)

    async def close(self) -> None:
        """Closes everything at once."""
        self.stop_accepting()
        await self._http.close()
        await self._admin.close()
        if self._siblings is not None:
            await self._siblings.close()


def _not_here(request: Request, stream: Stream, rest: str) -> EventualAnswer:
    raise AssertionError("no stream is held here whose files could be asked for")
