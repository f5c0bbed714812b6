"""What answers at the ports of a gateway: pushes, playback, other nodes and the API."""

from __future__ import annotations

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
from gateway.app.channel_caches import ChannelCaches
from gateway.app.node_parts import NodeParts
from gateway.app.output_factory import OutputFactory
from gateway.channels.addresses import OpenPorts
from gateway.channels.media_owners import StoredDeletions
from gateway.http.admin_listener import AdminLimits, AdminListener
from gateway.http.forwarded import Forwarded
from gateway.http.server import HttpServer
from gateway.ingest.admission import Admission
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.pending_connections import PendingConnections
from gateway.ingest.registry import all_listeners
from gateway.ingest.services import IngestServices
from gateway.lib.refusals import Refusals
from gateway.lib.sockets import Opener
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
    from gateway.cluster.cluster_member import ClusterMember
    from gateway.cluster.node_endpoint import NodeEndpoint, Operation
    from gateway.processes.worker_link import WorkerLink


class GatewayServers:
    """Implements app.listeners.NodeServers.

    share: the membership in a cluster; None: the node runs alone. seat: a worker's link to its master. Raises
    UnusableKey.
    """

    def __init__(
        self,
        parts: NodeParts,
        stores: Stores,
        makers: OutputFactory,
        admin: ApiContextFactory,
        share: ClusterMember | None = None,
        seat: WorkerLink | None = None,
    ) -> None:
        settings = self._settings = parts.settings
        self._parts = parts
        self._stores = stores
        self._admin_part = admin
        self._makers = makers
        self._share = share
        self._node = admin.node()
        self._distant = RemoteViewerCounts()
        self._seat = seat
        self._siblings: SiblingServer | None = None
        self._sums: MetricsAggregator | None = None
        self._streams: PlayableStreams = makers.hub if share is None else share.streams
        self._channels = ChannelCaches(stores.channels, StoredDeletions(stores.channels))
        self._protection = listener_options.protection(settings, parts.secrets)
        self._admission = Admission(
            stores.channels,
            parts.secrets,
            parts.events,
            publishers_per_address=settings.limits.publishers_per_address,
            refusals=Refusals(settings.limits.refusals_per_minute),
        )
        self.pending = PendingConnections(settings.limits.pending_per_address, settings.limits.pending_bytes)
        self._node_door: NodeEndpoint | None = None
        self._ports = OpenPorts()

    def open_pushes(self, opener: Opener, tls: ssl.SSLContext | None) -> list[OpenListeners]:
        services = IngestServices(
            settings=self._settings,
            opener=opener,
            tls=tls,
            tasks=self._parts.tasks,
            lease=self._makers.hub.lease if self._share is None else self._share.lease,
            admission=self._admission,
            pending=self.pending,
            streams=self._streams,
            channels=self._channels.cached,
            protection=self._protection,
            workers=self._makers.workers,
            relays=self._makers.relays,
            ports=lambda: self._ports,
        )
        return [listener.open(services) for listener in all_listeners()]

    async def playback(self, ports: OpenPorts) -> HttpServer:
        self._ports = ports
        if self._share is not None:
            self._share.locate(await advertised(self._settings, ports), ports)
        return await self._make_http()

    def siblings(self) -> SiblingServer | None:
        return self._siblings

    def admin(self) -> AdminListener:
        context = self._admin_part.context(
            lambda: self._shown_ports,
            self._channels.forget,
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
        return AdminListener(make_app(context), admin_limits, Forwarded(self._settings.admin.forwarded_from))

    @property
    def _shown_ports(self) -> OpenPorts:
        """The ports in addresses shown to users."""
        settings = self._settings
        if not settings.tls.in_front:
            return self._ports
        secure = {f"{listener.name}s" for listener in all_listeners()}
        return self._ports.with_tls(**{name: port for name, port in settings.tls_ports().items() if name in secure})

    @property
    def refused(self) -> Mapping[str, Mapping[str, int]]:
        """Refused pushes, plays and requests of other nodes, by reason."""
        nodes = self._node_door.refused if self._node_door is not None else {}
        return {"publish": self._admission.refused, "play": self._protection.refused, "node": nodes}

    # ---- HTTP ----

    async def _make_http(self) -> HttpServer:
        settings, limits = self._settings, self._settings.limits
        protection, channels, audience = self._protection, self._channels, HttpViewers()
        recordings = RecordingFiles(self._stores.objects, self._stores.media)
        films = VodFiles(recordings, protection, channels.owners)
        live = LivePlayback(
            self._streams,
            self._routes(audience),
            FlvViewers(limits.viewer_backlog),
            audience,
            settings.stream.wait_for_publisher,
            ready,
            await self._share.relay(channels.cached, protection, audience, settings.edge) if self._share else None,
        )
        playback = PlaybackRouter(
            PlaybackAccess(channels.cached, protection, channels.owners),
            live,
            Pages(lambda: self._shown_ports),
            Health(self._parts.readiness.missing),
            StoredPlayback(recordings, Posters(self._stores.objects, self._parts.tasks)),
            {"vod": films},
        )
        if self._share is None:
            return listener_options.playback_server(settings, playback)
        statuses, routes = playback.statuses, self._routes(UNCOUNTED)
        inner = InternalPlayback(self._makers.hub, channels.cached, channels.owners, routes, statuses, recordings)
        operations = {**self._operations(self._share), "film": films.unjudged}
        if self._seat is not None:
            self._sums = MetricsAggregator(self._seat.slot, self._parts.metrics, self._share.peers)
            operations[SUMS] = self._sums.operate
        self._node_door = door = self._share.door(self._stores.channels, inner, operations, limits.refusals_per_minute)
        if self._seat is not None and self._sums is not None:
            http_limits = listener_options.http_limits(settings)
            self._siblings = SiblingServer(self._seat.slot, door, http_limits, self._sums.keep)
        return listener_options.playback_server(settings, playback, door)

    def _operations(self, share: ClusterMember) -> Mapping[str, Operation]:
        """Returns the operations that other nodes may request from this one."""
        from gateway.cluster.gateway_operations import ChannelReaders, GatewayOperations

        operations = GatewayOperations(
            share.siblings,
            self._makers.hub,
            ChannelReaders(self._channels.fresh, self._channels.cached, self._channels.deleted),
            forget=self._channels.forget,
            distant=self._distant,
            report=lambda: summary(self._node, self._parts.metrics, __version__),
        )
        return operations.table()

    def _routes(self, audience: HttpViewers) -> MediaRoutes:
        ladders = LadderPlayback(self._makers.hub, audience)
        return MediaRoutes.of(
            hls, ladders.cmaf, ladders.index, ladders.rung, SnapshotResponder(self._makers.jpegs.latest)
        )
