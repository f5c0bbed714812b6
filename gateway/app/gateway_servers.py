"""What answers at the ports of a gateway: pushes, playback, other nodes and the API."""

from __future__ import annotations

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
from gateway.ingest.admission import Admission
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.registry import all_listeners
from gateway.ingest.services import ListenerServices
from gateway.lib.refusals import Refusals
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

if TYPE_CHECKING:
    from gateway.cluster.cluster_member import ClusterMember
    from gateway.cluster.node_endpoint import NodeEndpoint, Operation


class GatewayServers:
    """Implements app.listeners.NodeServers. share: the membership in a cluster; None: the node runs alone.

    Raises UnusableKey.
    """

    def __init__(
        self,
        parts: NodeParts,
        stores: Stores,
        makers: OutputFactory,
        admin: ApiContextFactory,
        share: ClusterMember | None = None,
    ) -> None:
        settings = self._settings = parts.settings
        self._parts = parts
        self._stores = stores
        self._admin_part = admin
        self._makers = makers
        self._share = share
        self._node = admin.node()
        self._distant = RemoteViewerCounts()
        self._ports = OpenPorts()
        self.lease: AcquirePublisher = makers.hub.lease if share is None else share.lease
        self.streams: PlayableStreams = makers.hub if share is None else share.streams
        self.channels = ChannelCaches(stores.channels, StoredDeletions(stores.channels))
        self.protection = listener_options.protection(settings, parts.secrets)
        self.admission = Admission(
            stores.channels,
            parts.secrets,
            parts.events,
            publishers_per_address=settings.limits.publishers_per_address,
            refusals=Refusals(settings.limits.refusals_per_minute),
        )
        self.door: NodeEndpoint | None = None
        self.sums: MetricsAggregator | None = None

    def open_pushes(self, services: ListenerServices) -> list[OpenListeners]:
        return [listener.open(services, self._makers) for listener in all_listeners()]

    def admin(self) -> AdminListener:
        context = self._admin_part.context(
            lambda: self._shown_ports,
            self.channels.forget,
            self._node,
            self._distant,
            self._share.cluster if self._share is not None else None,
            self.sums,
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

    async def playback(self, ports: OpenPorts) -> PlaybackRouter:
        self._ports = ports
        settings, limits, share = self._settings, self._settings.limits, self._share
        if share is not None:
            share.locate(await advertised(settings, ports), ports)
        protection, channels, audience = self.protection, self.channels, HttpViewers()
        recordings = RecordingFiles(self._stores.objects, self._stores.media)
        films = VodFiles(recordings, protection, channels.owners)
        live = LivePlayback(
            self.streams,
            self._routes(audience),
            FlvViewers(limits.viewer_backlog),
            audience,
            settings.stream.wait_for_publisher,
            ready,
            await share.relay(channels.cached, protection, audience, settings.edge) if share else None,
        )
        playback = PlaybackRouter(
            PlaybackAccess(channels.cached, protection, channels.owners),
            live,
            Pages(lambda: self._shown_ports),
            Health(self._parts.readiness.missing),
            StoredPlayback(recordings, Posters(self._stores.objects, self._parts.tasks)),
            {"vod": films},
        )
        if share is None:
            return playback
        statuses, routes = playback.statuses, self._routes(UNCOUNTED)
        inner = InternalPlayback(self._makers.hub, channels.cached, channels.owners, routes, statuses, recordings)
        operations = {**self._operations(share), "film": films.unjudged}
        if self._parts.identity.slot is not None:
            self.sums = MetricsAggregator(self._parts.identity.slot, self._parts.metrics, share.peers)
            operations[SUMS] = self.sums.operate
        self.door = share.door(self._stores.channels, inner, operations, limits.refusals_per_minute)
        return playback

    def _operations(self, share: ClusterMember) -> Mapping[str, Operation]:
        """Returns the operations that other nodes may request from this one."""
        from gateway.cluster.gateway_operations import ChannelReaders, GatewayOperations

        operations = GatewayOperations(
            share.siblings,
            self._makers.hub,
            ChannelReaders(self.channels.fresh, self.channels.cached, self.channels.deleted),
            forget=self.channels.forget,
            distant=self._distant,
            report=lambda: summary(self._node, self._parts.metrics, __version__),
        )
        return operations.table()

    def _routes(self, audience: HttpViewers) -> MediaRoutes:
        ladders = LadderPlayback(self._makers.hub, audience)
        return MediaRoutes.of(
            hls, ladders.cmaf, ladders.index, ladders.rung, SnapshotResponder(self._makers.jpegs.latest)
        )
