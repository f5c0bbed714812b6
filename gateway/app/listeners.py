"""The listeners of one process: RTMP(S), playback HTTP(S), WebSocket and admin; opened and closed together."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.adapters.advertise import advertised
from gateway.adapters.stores import Stores
from gateway.api.routes import make_app
from gateway.api.status import summary
from gateway.app import listener_options
from gateway.app.api_context import ApiContextFactory
from gateway.channels.addresses import OpenPorts
from gateway.channels.cached_channels import CachedChannels
from gateway.channels.media_owners import MediaOwners, StoredDeletions
from gateway.http.admin_listener import AdminLimits, AdminListener
from gateway.http.forwarded import Forwarded
from gateway.http.server import HttpServer
from gateway.ingest.admission import Admission
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.pending_connections import PendingConnections
from gateway.ingest.registry import all_listeners
from gateway.ingest.services import IngestServices
from gateway.lib.refusals import Refusals
from gateway.lib.sockets import Opener, listen, port_of, tls_context
from gateway.live.acquire_publisher import AcquirePublisher
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.playback.flv import FlvViewers
from gateway.playback.health import Health
from gateway.playback.hls import hls
from gateway.playback.http_viewers import UNCOUNTED, HttpViewers
from gateway.playback.internal_playback import InternalPlayback
from gateway.playback.ladder import LadderPlayback
from gateway.playback.pages import Pages
from gateway.playback.playlist_response import ready
from gateway.playback.posters import Posters
from gateway.playback.protection import PlaybackProtection
from gateway.playback.recording_files import RecordingFiles
from gateway.playback.router import (
    LivePlayback,
    MediaRoutes,
    PlayableStreams,
    PlaybackAccess,
    PlaybackRouter,
    StoredPlayback,
)
from gateway.playback.snapshot import SnapshotResponder
from gateway.playback.vod_files import VodFiles
from gateway.processes.metrics_aggregator import OPERATION as SUMS
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.processes.sibling_server import SiblingServer

if TYPE_CHECKING:
    from gateway.app.node_parts import NodeParts
    from gateway.app.output_factory import OutputFactory
    from gateway.cluster.cluster_member import ClusterMember
    from gateway.cluster.node_endpoint import NodeEndpoint, Operation
    from gateway.processes.worker_link import WorkerLink


class GatewayListeners:
    """Opens all listeners of `settings`. `ports` has the open ports. Raises ListenError, UnusableKey."""

    def __init__(
        self,
        parts: NodeParts,
        stores: Stores,
        makers: OutputFactory,
        admin: ApiContextFactory,
        share: ClusterMember | None = None,
        seat: WorkerLink | None = None,
    ) -> None:
        """Prepares the listeners; `open` opens them.

        share: the membership in a cluster; None: the node runs alone. seat: a worker's link to its master, which has
        opened the ports.
        """
        hub = makers.hub
        settings = self._settings = parts.settings
        self._parts = parts
        self._hub = hub
        self._stores = stores
        self._admin_part = admin
        self._makers = makers
        self._tasks = parts.tasks
        self._share = share
        self._node = admin.node()
        self._distant = RemoteViewerCounts()
        self._seat = seat
        self._opener: Opener = listen if seat is None else seat.sockets
        self._siblings: SiblingServer | None = None
        self._sums: MetricsAggregator | None = None
        self._streams: PlayableStreams = hub if share is None else share.streams
        self._lease: AcquirePublisher = hub.lease if share is None else share.lease
        self._channels = CachedChannels(stores.channels)
        self._deleted = CachedChannels(StoredDeletions(stores.channels))
        self._owners = MediaOwners(self._channels, self._deleted)
        self._admission = Admission(
            stores.channels,
            parts.secrets,
            parts.events,
            publishers_per_address=settings.limits.publishers_per_address,
            refusals=Refusals(settings.limits.refusals_per_minute),
        )
        self.pending = PendingConnections(settings.limits.pending_per_address, settings.limits.pending_bytes)
        self._pushes: list[OpenListeners] = []
        self._http: HttpServer | None = None
        self._protection: PlaybackProtection | None = None
        self._node_door: NodeEndpoint | None = None
        self._admin: AdminListener | None = None
        self.ports = OpenPorts()

    async def open(self) -> None:
        """Binds every port first, so that a port in use leaves nothing half open. Then starts to accept."""
        settings = self._settings
        tls = tls_context(settings.tls.cert, settings.tls.key) if settings.tls.cert is not None else None
        self._protection = protection = listener_options.protection(settings, self._parts.secrets)
        services = self._services(tls, protection)
        self._pushes = [listener.open(services) for listener in all_listeners()]
        http, host = settings.http, settings.http.host
        plain = self._opener("http", host, http.port)
        secure = self._opener("https", host, settings.https.port) if tls is not None else []
        here = self._seat is None or self._seat.slot.first
        admin = self._opener("admin", settings.admin.host, settings.admin.port) if here else []
        self.ports = OpenPorts(
            **{name: port for listeners in self._pushes for name, port in listeners.ports.items()},
            http=port_of(plain),
            https=port_of(secure) if secure else None,
            admin=port_of(admin) if here or self._seat is None else self._seat.ports["admin"],
        )
        if self._share is not None:
            self._share.locate(await advertised(settings, self.ports), self.ports)
        self._http = await self._make_http(protection)
        await self._http.listen(plain)
        if tls is not None:
            await self._http.listen(secure, tls)
        if self._siblings is not None:
            await self._siblings.open()
        if admin:
            await self._open_admin(admin, tls if settings.admin.tls else None)
        for listeners in self._pushes:
            await listeners.start()

    async def _open_admin(self, sockets: list[socket.socket], tls: ssl.SSLContext | None) -> None:
        context = self._admin_part.context(
            lambda: self._shown_ports,
            self._forget,
            self._node,
            self._distant,
            self._share.cluster if self._share is not None else None,
            self._sums,
        )
        limits = self._settings.limits
        admin_limits = AdminLimits(
            head_seconds=limits.handshake,
            stall_seconds=limits.viewer_stall,
            per_address=limits.admin_per_address,
            connections=limits.admin_connections,
        )
        self._admin = AdminListener(make_app(context), admin_limits, Forwarded(self._settings.admin.forwarded_from))
        await self._admin.open(sockets, tls)

    def _forget(self, id: str) -> None:
        """Drops a changed or deleted channel from the caches."""
        self._channels.forget(id)
        self._deleted.forget(id)

    @property
    def _shown_ports(self) -> OpenPorts:
        """The ports in addresses shown to users."""
        settings = self._settings
        if not settings.tls.in_front:
            return self.ports
        secure = {f"{listener.name}s" for listener in all_listeners()}
        return self.ports.with_tls(**{name: port for name, port in settings.tls_ports().items() if name in secure})

    @property
    def http_bytes(self) -> int:
        """Bytes of answers on the playback listener, without those of feeds, which are counted separately."""
        return self._http.bytes_out if self._http is not None else 0

    @property
    def refused(self) -> Mapping[str, Mapping[str, int]]:
        """Refused pushes, plays and requests of other nodes, by reason."""
        plays = self._protection.refused if self._protection is not None else {}
        nodes = self._node_door.refused if self._node_door is not None else {}
        return {"publish": self._admission.refused, "play": plays, "node": nodes}

    def stop_accepting(self) -> None:
        """Refuses new publishers. Playback goes on until the streams end."""
        for listeners in self._pushes:
            listeners.close()

    def retire(self) -> None:
        """Stops accepting, because another process has these ports now. Open connections go on."""
        self.stop_accepting()
        if self._http is not None:
            self._http.retire()
        admin, self._admin = self._admin, None
        if admin is not None:
            self._tasks.start(admin.close(), "admin")

    async def finish(self) -> None:
        """Lets running answers and the last data for viewers finish, then closes the rest."""
        if self._http is not None:
            await self._http.close(grace=2.0)
        for listeners in self._pushes:
            await listeners.hang_up(grace=2.0)

    async def close(self) -> None:
        self.stop_accepting()
        if self._http is not None:
            await self._http.close()
        if self._admin is not None:
            await self._admin.close()
        if self._siblings is not None:
            await self._siblings.close()

    # ---- pushes ----

    def _services(self, tls: ssl.SSLContext | None, protection: PlaybackProtection) -> IngestServices:
        return IngestServices(
            settings=self._settings,
            opener=self._opener,
            tls=tls,
            tasks=self._tasks,
            lease=self._lease,
            admission=self._admission,
            pending=self.pending,
            streams=self._streams,
            channels=self._channels,
            protection=protection,
            workers=self._makers.workers,
            relays=self._makers.relays,
            ports=lambda: self.ports,
        )

    # ---- HTTP ----

    async def _make_http(self, protection: PlaybackProtection) -> HttpServer:
        settings, limits = self._settings, self._settings.limits
        audience = HttpViewers()
        recordings = RecordingFiles(self._stores.objects, self._stores.media)
        films = VodFiles(recordings, protection, self._owners)
        live = LivePlayback(
            self._streams,
            self._routes(audience),
            FlvViewers(limits.viewer_backlog),
            audience,
            settings.stream.wait_for_publisher,
            ready,
            await self._share.relay(self._channels, protection, audience, settings.edge) if self._share else None,
        )
        playback = PlaybackRouter(
            PlaybackAccess(self._channels, protection, self._owners),
            live,
            Pages(lambda: self._shown_ports),
            Health(self._parts.readiness.missing),
            StoredPlayback(recordings, Posters(self._stores.objects, self._tasks)),
            {"vod": films},
        )
        http_limits, forwarded = listener_options.http_limits(settings), Forwarded(settings.http.forwarded_from)
        if self._share is None:
            return HttpServer(playback, http_limits, forwarded)
        statuses, routes = playback.statuses, self._routes(UNCOUNTED)
        inner = InternalPlayback(self._hub, self._channels, self._owners, routes, statuses, recordings)
        operations = {**self._operations(self._share), "film": films.unjudged}
        if self._seat is not None:
            self._sums = MetricsAggregator(self._seat.slot, self._parts.metrics, self._share.peers)
            operations[SUMS] = self._sums.operate
        self._node_door = door = self._share.door(self._stores.channels, inner, operations, limits.refusals_per_minute)
        playback.add_folder("_node", door)
        if self._seat is not None and self._sums is not None:
            self._siblings = SiblingServer(self._seat.slot, door, http_limits, self._sums.keep)
        return HttpServer(playback, http_limits, forwarded, unshown=("POST",), exempts=door.signed)

    def _operations(self, share: ClusterMember) -> Mapping[str, Operation]:
        """Returns the operations that other nodes may request from this one."""
        from gateway.cluster.gateway_operations import ChannelReaders, GatewayOperations

        operations = GatewayOperations(
            share.siblings,
            self._hub,
            ChannelReaders(self._stores.channels, self._channels, self._deleted),
            forget=self._forget,
            distant=self._distant,
            report=lambda: summary(self._node, self._parts.metrics, __version__),
        )
        return operations.table()

    def _routes(self, audience: HttpViewers) -> MediaRoutes:
        ladders = LadderPlayback(self._hub, audience)
        return MediaRoutes.of(
            hls, ladders.cmaf, ladders.index, ladders.rung, SnapshotResponder(self._makers.jpegs.latest)
        )
