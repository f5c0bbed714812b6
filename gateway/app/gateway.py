"""The gateway: builds its parts from the settings. What it has in common with an edge is in `gateway.app.node`."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.adapters.advertise import advertised
from gateway.adapters.aws.scale_in_protection import ScaleInProtection
from gateway.adapters.cloud import AwsServices
from gateway.adapters.local.data_folder import data_folder
from gateway.adapters.local.host import shown_host
from gateway.adapters.stores import Stores, open_stores
from gateway.adapters.webhooks import Webhooks
from gateway.api.cluster_queries import SingleNode
from gateway.api.context import AddressDefaults, Context, RequestLimits
from gateway.api.hub_samples import HubSamples
from gateway.api.presenter import Presenter
from gateway.api.routes import make_app
from gateway.api.status import summary
from gateway.app import first_run, listener_options, node, process
from gateway.app.api_parts import REQUEST_SECONDS, UploadOrigin, authenticators, node_status
from gateway.app.background_jobs import BackgroundJobs
from gateway.app.channel_caches import ChannelCaches
from gateway.app.node_parts import NodeParts
from gateway.app.output_factory import OutputFactory
from gateway.channels.addresses import Addresses, OpenPorts
from gateway.channels.media_owners import StoredDeletions
from gateway.http.admin_listener import AdminLimits, AdminListener
from gateway.http.forwarded import Forwarded
from gateway.ingest.admission import Admission
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.registry import all_listeners, push_addresses
from gateway.ingest.services import ListenerServices
from gateway.lib import log as logs
from gateway.lib.refusals import Refusals
from gateway.lib.sockets import ListenError
from gateway.live.acquire_publisher import AcquirePublisher
from gateway.live.hub import NODES_SECONDS, Hub, StreamLimits
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.session_record import session_item
from gateway.outputs.storage.archive import Archive
from gateway.playback.flv import FlvViewers
from gateway.playback.health import Health
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
from gateway.ports.events import Event, Events, EventType
from gateway.processes.metrics_aggregator import OPERATION as SUMS
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.processes.worker_settings import REGISTRY_FILE, with_host_registry
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.cluster.cluster_member import ClusterMember
    from gateway.cluster.node_endpoint import NodeEndpoint, Operation
    from gateway.processes.worker_link import WorkerLink


def run(settings: Settings, *, greet: bool = False, seat: WorkerLink | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C and returns the exit code.

    greet: print a first channel. seat: a worker's link to its master.
    """

    async def work() -> int:
        slot = seat.slot if seat is not None else None
        with_registry = with_host_registry(settings, slot) if slot is not None else _askable(settings)
        return await node.serve("gateway", with_registry, seat, lambda parts: Gateway.open(parts, greet))

    return process.run(settings, work, seat)


class Gateway(node.Role):
    """Takes pushes, makes media and serves them."""

    def __init__(
        self, parts: NodeParts, stores: Stores, makers: OutputFactory, share: ClusterMember | None, greet: bool
    ) -> None:
        self._parts = parts
        self._stores = stores
        self._makers = makers
        self._share = share
        self._greet = greet
        self._settings = settings = parts.settings
        self._works = BackgroundJobs(parts, stores, makers)
        self._machine = node_status(settings, makers.workers)
        self._distant = RemoteViewerCounts()
        self._ports = OpenPorts()
        self.hub = makers.hub
        self.lease: AcquirePublisher = makers.hub.lease if share is None else share.claims.acquire
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
        self._running = parts.tasks.start(self.hub.run(), "hub")

    @classmethod
    async def open(cls, parts: NodeParts, greet: bool) -> Gateway:
        """Opens stores, cloud and outputs. greet: print a first channel. Raises GatewayError, ListenError."""
        settings, metrics, stack, events = parts.settings, parts.metrics, parts.stack, parts.events
        stores = await stack.enter_async_context(open_stores(settings))
        parts.readiness.add("channel store", stores.channels.check)
        tls = outgoing_tls(settings.tls.ca)
        if settings.hooks.url:
            hooks = Webhooks(settings.hooks, metrics.hooks, user_agent=f"Millrace/{__version__}", tls=tls)
            events.listen((await stack.enter_async_context(hooks)).post)
        cloud = await stack.enter_async_context(AwsServices(stores.aws, settings.kvs.role))
        hub = Hub(_stream_limits(settings, stores.registry is not None), (), events)
        makers = OutputFactory(settings, hub, _archive(parts, stores), cloud, metrics, tls)
        await stack.enter_async_context(makers.kvs)
        await stack.enter_async_context(makers.jpegs)
        hub.offer(makers.specs())
        _follow_log_levels(events, hub)
        metrics.read_from(HubSamples(hub, events, settings.metrics.per_stream))
        await stack.enter_async_context(parts.tasks)
        share = _share(parts, stores, makers)
        if share is not None:
            await stack.enter_async_context(share)
            metrics.read_from(share.samples)
        gateway = cls(parts, stores, makers, share, greet)
        gateway._start()
        return gateway

    def _start(self) -> None:
        """Starts the background tasks."""
        tasks = self._parts.tasks
        self._makers.start(tasks)
        if self._parts.first:
            self._works.start()
        if self._share is not None:
            self._share.start()
        protection = ScaleInProtection(self._pushed, shared=self._parts.settings.data / "publishing.lock")
        if protection.available:
            tasks.start(protection.run(), "task protection")

    async def join(self, ports: OpenPorts) -> None:
        self._parts.stack.callback(self._running.cancel)  # before the listeners close
        await self._makers.locate(ports)

    async def greet(self, ports: OpenPorts) -> None:
        if self._greet:
            text = await _greeting(self._parts, self._stores, ports)
            print(text, flush=True)  # noqa: T201

    def retire(self) -> None:
        self._works.stop()
        self.hub.retire()

    def needed(self) -> bool:
        share = self._share
        hubs = (self.hub, share.pulled, share.forwards.hub) if share is not None else (self.hub,)
        return any(s.publisher is not None or any(s.viewers.values()) for one in hubs for s in one)

    def _pushed(self) -> bool:
        """Whether this process has a publisher."""
        hubs = (self.hub, self._share.forwards.hub) if self._share is not None else (self.hub,)
        return any(stream.publisher is not None for hub in hubs for stream in hub)

    def drain(self) -> None:
        if self._share is not None:
            self._share.drain()

    async def flush(self) -> None:
        await self._makers.flush()

    # ---- what answers at the ports ----

    def open_pushes(self, services: ListenerServices) -> list[OpenListeners]:
        return [listener.open(services, self._makers) for listener in all_listeners()]

    def admin(self) -> AdminListener:
        limits = self._settings.limits
        admin_limits = AdminLimits(
            head_seconds=limits.handshake,
            stall_seconds=limits.viewer_stall,
            per_address=limits.admin_per_address,
            connections=limits.admin_connections,
        )
        proxies = Forwarded(self._settings.admin.forwarded_from)
        return AdminListener(make_app(self._api_context(proxies)), admin_limits, proxies)

    def _api_context(self, proxies: Forwarded) -> Context:
        settings, limits, playback = self._settings, self._settings.limits, self._settings.playback
        return Context(
            version=__version__,
            hub=self.hub,
            channels=self._stores.channels,
            domains=self._stores.domains,
            secrets=self._parts.secrets,
            people=authenticators(self._parts, self._stores.console, self._makers.tls),
            node=self._machine,
            shown=AddressDefaults(
                ports=lambda: self._shown_ports,
                push_host=shown_host(settings.rtmp.host),
                pull_host=shown_host(settings.http.host),
                public_url=playback.public_url,
                play_auth=playback.auth,
                sign_ttl=playback.sign_ttl,
            ),
            limits=RequestLimits(limits.api_body, limits.item, REQUEST_SECONDS),
            readiness=self._parts.readiness,
            metrics=self._parts.metrics,
            forget=self.channels.forget,
            cluster=self._share.cluster if self._share is not None else SingleNode(),
            distant=self._distant,
            studio=self._works.studio,
            kvs=self._works.kvs,
            objects=self._stores.objects,
            media_deletion=self._works.media_deletion,
            ivs=self._makers.cloud,
            proxies=proxies,
            sums=self.sums,
            broadcast_servers=self._works.broadcast_servers,
            upload_origin=UploadOrigin(self._stores.objects if self._stores.bucket else None),
        )

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
            share.join(await advertised(settings, ports), ports)
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
            await share.open_http_cache(channels.cached, protection, audience, settings.edge) if share else None,
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
        inner = InternalPlayback(self.hub, channels.cached, channels.owners, routes, statuses, recordings)
        operations = {**self._operations(share), "film": films.unjudged}
        if self._parts.identity.slot is not None:
            self.sums = MetricsAggregator(self._parts.identity.slot, self._parts.metrics, share.peers)
            operations[SUMS] = self.sums.operate
        self.door = share.node_endpoint(self._stores.channels, inner, operations, limits.refusals_per_minute)
        return playback

    def _operations(self, share: ClusterMember) -> Mapping[str, Operation]:
        """Returns the operations that other nodes may request from this one."""
        from gateway.cluster.gateway_operations import ChannelReaders, GatewayOperations

        operations = GatewayOperations(
            share.siblings,
            self.hub,
            ChannelReaders(self.channels.fresh, self.channels.cached, self.channels.deleted),
            forget=self.channels.forget,
            remote_viewers=self._distant,
            report=lambda: summary(self._machine, self._parts.metrics, __version__),
        )
        return operations.table()

    def _routes(self, audience: HttpViewers) -> MediaRoutes:
        ladders = LadderPlayback(self.hub, audience)
        return MediaRoutes.of(ladders, SnapshotResponder(self._makers.jpegs.latest))


def _archive(parts: NodeParts, stores: Stores) -> Archive:
    """Where finished files go. Several processes may share the data folder."""
    settings, slot = parts.settings, parts.identity.slot
    spool, process = settings.data / "spool", slot.id if slot is not None else ""
    return Archive(stores.objects, settings.recording, parts.events, media=stores.media, spool=spool, process=process)


def _askable(settings: Settings) -> Settings:
    """Returns the settings, with a registry where edges may need one.

    A gateway that runs alone but has a cluster secret can have edges (`edge.upstream`). It then finds its streams
    through a registry file of its own.
    """
    if settings.registry or not settings.cluster.secret.get_secret_value():
        return settings
    data = data_folder(settings.data)
    for suffix in ("", "-wal", "-shm"):
        (data / f"{REGISTRY_FILE}{suffix}").unlink(missing_ok=True)  # its entries are of an earlier process
    return settings.model_copy(update={"registry": f"sqlite:///{(data / REGISTRY_FILE).absolute()}"})


def _share(parts: NodeParts, stores: Stores, makers: OutputFactory) -> ClusterMember | None:
    """Returns the membership in the cluster; None where there is no registry."""
    if stores.registry is None:
        return None
    from gateway.cluster.cluster_member import ClusterMember, ClusterOutputs

    outputs = ClusterOutputs(
        makers.replicated(),
        lambda channel, address, started: session_item(channel, address, started, makers.task_sets.of(channel.id)),
        makers.spreads,
    )
    share = ClusterMember(parts.identity, makers.hub, stores.registry, outputs, parts.metrics.dropped, parts.tasks)
    makers.task_sets.listen(lambda channel, arns: share.claims.rewrite_row(channel))
    return share


def outgoing_tls(ca: Path | None) -> ssl.SSLContext | None:
    """Returns the TLS context of outgoing connections; None: only the system's authorities.

    Raises ListenError for an unusable file.
    """
    if ca is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise ListenError(f"tls.ca: {ca}: {error.strerror or 'no certificates in PEM form'}") from None
    return context


def _stream_limits(settings: Settings, shared: bool) -> StreamLimits:
    """Returns the limits of streams. shared: other nodes may pull streams from this one."""
    stream = settings.stream
    return StreamLimits(
        stream.takeover_after,
        stream.linger,
        stream.gop_seconds,
        stream.gop_bytes,
        settings.limits.publishers,
        NODES_SECONDS if shared else 0.0,
    )


def _follow_log_levels(events: Events, hub: Hub) -> None:
    """Applies a channel's logLevel while it is live."""

    def follow(event: Event) -> None:
        if event.type is EventType.STREAM_STARTED:
            stream = hub.find(str(event.data["stream"]))
            logs.levels.channel(event.channel, stream.channel.log_level if stream is not None else None)
        elif event.type is EventType.STREAM_ENDED:
            logs.levels.channel(event.channel, None)

    events.listen(follow)


async def _greeting(parts: NodeParts, stores: Stores, ports: OpenPorts) -> str:
    settings, secrets = parts.settings, parts.secrets
    channel = await first_run.first_channel(stores.channels, secrets, settings.limits.item)
    shown = {name: shown_host(getattr(settings, name).host) for name in ("rtmp", "http", "admin")}
    everywhere = {name: getattr(settings, name).host in ("0.0.0.0", "::") for name in shown}
    near = {name: "127.0.0.1" if everywhere[name] else host for name, host in shown.items()}
    domains = await stores.domains.get_domains()
    addresses = Addresses.of(domains, ports, near["rtmp"], near["http"], settings.playback.public_url)
    presenter = Presenter(addresses, secrets, push_addresses, settings.playback.auth, settings.playback.sign_ttl)
    scheme = "https" if settings.admin.tls else "http"
    host = f"[{near['admin']}]" if ":" in near["admin"] else near["admin"]
    elsewhere = shown["http"] if everywhere["http"] and shown["http"] != "127.0.0.1" else None
    return first_run.greeting(channel, addresses, presenter, f"{scheme}://{host}:{ports['admin']}/", elsewhere)
