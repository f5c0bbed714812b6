"""The gateway: creates its services from the settings. Code that the edge also uses is in `gateway.app.node`."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gateway import __version__
from gateway.adapters.advertise import advertised
from gateway.adapters.aws.scale_in_protection import ScaleInProtection
from gateway.adapters.cloud import AwsServices
from gateway.adapters.local.data_folder import GATEWAY_RUN, data_folder, folder_lock
from gateway.adapters.local.host import shown_host
from gateway.adapters.stores import Stores, open_stores
from gateway.adapters.webhooks import Webhooks
from gateway.api.clips import make_clip
from gateway.api.cluster_queries import ClusterQueries, SingleNode
from gateway.api.context import AddressDefaults, Context, RequestLimits, hostname
from gateway.api.hub_samples import HubSamples
from gateway.api.key_servers import KeyServers
from gateway.api.routes import make_app
from gateway.api.status import summary
from gateway.app import first_run, node, process
from gateway.app.api_parts import REQUEST_SECONDS, UploadOrigin, authenticators, cloudfront_signer, node_status
from gateway.app.background_jobs import BackgroundJobs
from gateway.app.channel_caches import ChannelCaches
from gateway.app.listeners import playback_protection
from gateway.app.node_parts import NodeParts
from gateway.app.node_values import NodeValues
from gateway.app.output_factory import OutputFactory
from gateway.app.viewer_parts import http_viewers, viewer_reports
from gateway.channels.addresses import Addresses, OpenPorts, push_ports
from gateway.channels.media_owners import StoredDeletions
from gateway.diagnosis.event_log import EventLog
from gateway.diagnosis.health_monitor import HealthMonitor
from gateway.diagnosis.recorder import Recorder, stream_values
from gateway.diagnosis.refusal_log import RefusalLog
from gateway.http.admin_listener import AdminLimits, AdminListener
from gateway.http.forwarded import Forwarded
from gateway.http.response import JSON, Response
from gateway.ingest.admission import Admission
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.registry import all_listeners
from gateway.ingest.services import ListenerServices
from gateway.inputs.channel_inputs import ChannelInputs
from gateway.inputs.descriptor import InputServices
from gateway.inputs.previews import InputPreviews
from gateway.lib import log as logs
from gateway.lib.refusals import Refusals
from gateway.lib.sockets import ListenError
from gateway.live.hub import NODES_SECONDS, Hub, StreamLimits
from gateway.live.publisher import AcquirePublisher
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.session_record import session_item
from gateway.live.stream import Stream
from gateway.outputs.browser.browser_pictures import PicturesOnDemand
from gateway.outputs.clips.clip_service import ClipService
from gateway.outputs.clips.sources import ClipSources
from gateway.outputs.storage.archive import Archive
from gateway.packaging.rtp.output import KIND as WHEP
from gateway.playback.film_pages import FilmPages
from gateway.playback.flv import FlvViewers
from gateway.playback.health import Health
from gateway.playback.http_viewers import UNCOUNTED, HttpViewers
from gateway.playback.internal_playback import InternalPlayback
from gateway.playback.ladder import LadderPlayback
from gateway.playback.obs_configuration import PER_MINUTE as OBS_REQUESTS_PER_MINUTE
from gateway.playback.obs_configuration import ObsConfiguration
from gateway.playback.pages import Pages
from gateway.playback.play_format import PlayableStreams
from gateway.playback.playlist_response import ready
from gateway.playback.posters import Posters
from gateway.playback.public_channels import ChannelList, PublicChannels, live_public_channels, viewer_count
from gateway.playback.recording_files import RecordingFiles
from gateway.playback.rewind import Rewind
from gateway.playback.rewind_pictures import RewindPictures
from gateway.playback.router import (
    LivePlayback,
    MediaRoutes,
    PlaybackAccess,
    PlaybackRouter,
    PublisherRoutes,
    StoredPlayback,
)
from gateway.playback.snapshot import SnapshotResponder
from gateway.playback.vod_files import VodFiles
from gateway.playback.webrtc.signalling import RemoteSessions
from gateway.playback.webrtc.whep import BrowserMedia
from gateway.ports.events import Event, Events, EventType
from gateway.processes.metrics_aggregator import OPERATION as SUMS
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.processes.worker_settings import REGISTRY_FILE, with_host_registry
from gateway.settings import Settings

log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    from gateway.cluster.cluster_member import ClusterMember
    from gateway.cluster.node_endpoint import NodeEndpoint, Operation
    from gateway.processes.worker_link import WorkerLink


def run(settings: Settings, *, welcome: bool = False, link: WorkerLink | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C and returns the exit code.

    welcome: print a first channel. link: a worker's link to its master.
    """

    async def work() -> int:
        slot = link.slot if link is not None else None
        node_settings = with_host_registry(settings, slot) if slot is not None else _with_registry(settings)
        return await node.serve("gateway", node_settings, link, lambda parts: Gateway.open(parts, welcome))

    # Of several processes, the master has the lock.
    return process.run(settings, work, link, folder_lock(settings.data / GATEWAY_RUN) if link is None else None)


class Gateway(node.Role):
    """Receives pushes, produces media and serves them."""

    def __init__(
        self,
        parts: NodeParts,
        stores: Stores,
        outputs: OutputFactory,
        member: ClusterMember | None,
        event_log: EventLog,
        welcome: bool,
    ) -> None:
        self._parts = parts
        self._stores = stores
        self._outputs = outputs
        self.viewer_memory = outputs.viewer_memory
        self._member = member
        self._event_log = event_log
        self._welcome = welcome
        self._settings = settings = parts.settings
        self._background_jobs = BackgroundJobs(parts, stores, outputs)
        self._node_status = node_status(settings, outputs.workers)
        self._remote_viewers = RemoteViewerCounts()
        self._recorder = Recorder(
            outputs.hub,
            NodeValues(parts.metrics, self._node_status),
            stream_values(self._viewers_of),
            settings.data / f"history-{parts.identity.slot.number if parts.identity.slot is not None else 1}.bin",
        )
        sources = ClipSources(stores.objects, outputs.archive, outputs.finalizer)
        self.clips = ClipService(stores.objects, outputs.archive, sources, parts.events, settings.clips)
        self._ports = OpenPorts()
        self.hub = outputs.hub
        self.acquire_publisher: AcquirePublisher = outputs.hub.lease if member is None else member.claims.acquire
        self.streams: PlayableStreams = outputs.hub if member is None else member.streams
        self.channels = ChannelCaches(stores.channels, StoredDeletions(stores.channels))
        self.protection = playback_protection(settings, parts.secrets)
        self.admission = Admission(
            stores.channels,
            parts.secrets,
            parts.events,
            publishers_per_address=settings.limits.publishers_per_address,
            refusals=Refusals(settings.limits.refusals_per_minute),
        )
        services = InputServices(settings, outputs.workers, outputs.egress, outputs.tls, stores.objects)
        self.inputs = ChannelInputs(outputs.hub, settings.inputs, services, parts.events, self._viewers_of)
        self.inputs.join(self.channels.cached, None if member is None else member.claims.hold)
        parts.metrics.read_from(self.inputs.samples)
        self.previews = InputPreviews(outputs.hub, self.inputs, outputs.jpegs)
        self._rewind = Rewind(stores.objects, parts.tasks)
        self.refusals = RefusalLog()
        parts.events.listen(self.refusals.listen)
        self.browser_streams: PlayableStreams = outputs.hub if member is None else member.browser_streams
        pictures: BrowserMedia = PicturesOnDemand()
        self.browser_media = pictures if member is None else member.browser_media(pictures)
        self._session_forwarder = None if member is None else member.session_forwarder()
        self.remote_sessions: RemoteSessions | None = self._session_forwarder
        self.node_endpoint: NodeEndpoint | None = None
        self.metrics_aggregator: MetricsAggregator | None = None
        self._running = parts.tasks.start(self.hub.run(), "hub")
        parts.tasks.start(self.inputs.run(), "inputs")

    @classmethod
    async def open(cls, parts: NodeParts, welcome: bool) -> Gateway:
        """Opens stores, cloud and outputs. welcome: print a first channel. Raises GatewayError, ListenError."""
        settings, metrics, stack, events = parts.settings, parts.metrics, parts.stack, parts.events
        stores = await stack.enter_async_context(open_stores(settings))
        parts.readiness.add("channel store", stores.channels.check)
        parts.readiness.degraded = stores.unusable
        for name, reason in stores.unusable().items():
            log.error("a store cannot be used, live streams go on without it", store=name, reason=reason)
        tls = outgoing_tls(settings.tls.ca)
        if settings.hooks.url:
            hooks = Webhooks(settings.hooks, metrics.hooks, user_agent=f"Millrace/{__version__}", tls=tls)
            events.listen((await stack.enter_async_context(hooks)).post)
        event_log = EventLog(stores.events, parts.identity.id, settings.events, metrics.events)
        events.listen((await stack.enter_async_context(event_log)).record)
        cloud = await stack.enter_async_context(AwsServices(stores.aws, settings.kvs.role))
        hub = Hub(_stream_limits(settings, stores.registry is not None), (), events)
        outputs = OutputFactory(settings, hub, _archive(parts, stores), cloud, metrics, tls)
        await stack.enter_async_context(outputs.kvs)
        await stack.enter_async_context(outputs.jpegs)
        hub.add_outputs(outputs.specs())
        _follow_log_levels(events, hub)
        metrics.read_from(HubSamples(hub, events, settings.metrics.per_stream))
        health = HealthMonitor(hub, events)
        metrics.read_from(health)
        await stack.enter_async_context(parts.tasks)
        parts.tasks.start(health.run(), "health")
        member = _join_cluster(parts, stores, outputs)
        if member is not None:
            await stack.enter_async_context(member)
            metrics.read_from(member.samples)
        gateway = cls(parts, stores, outputs, member, event_log, welcome)
        health.by_webrtc = gateway._is_watched_by_webrtc
        stack.push_async_callback(gateway._recorder.save)  # after the recording has ended
        gateway._start()
        return gateway

    def _start(self) -> None:
        """Starts the background tasks."""
        tasks = self._parts.tasks
        tasks.start(self._recorder.run(), "history")
        self._outputs.start(tasks)
        if self._parts.first:
            self._background_jobs.start()
            tasks.start(self.inputs.scan(self._stores.channels), "inputs without a push")
        if self._member is not None:
            self._member.start(self._parts.experience)
        protection = ScaleInProtection(self._has_publisher, shared=self._parts.settings.data / "publishing.lock")
        if protection.available:
            tasks.start(protection.run(), "task protection")

    async def join(self, ports: OpenPorts) -> None:
        self._parts.stack.callback(self._running.cancel)  # before the listeners close
        await self._outputs.find_own_address(ports)

    async def welcome(self) -> None:
        if self._welcome:
            text = await first_run.welcome_text(self._parts, self._stores, self._shown_ports)
            print(text, flush=True)  # noqa: T201

    def retire(self) -> None:
        self._background_jobs.stop()
        self._recorder.stop_saving()  # the process that replaces this one has the file now
        self.hub.retire()
        self.inputs.retire()

    def is_needed(self) -> bool:
        member = self._member
        hubs: tuple[Hub, ...] = (self.hub,)
        if member is not None:
            hubs += (member.pulled, member.browser_replicas.hub, member.forwards.hub)
        return any(s.publisher is not None or any(s.viewers.values()) for hub in hubs for s in hub)

    def _viewers_of(self, stream: Stream) -> int:
        """Returns the number of viewers of a stream on all nodes."""
        return sum(stream.viewers.values()) + sum(self._remote_viewers.of(stream.name).values())

    def _is_watched_by_webrtc(self, stream: Stream) -> bool:
        """Whether a stream has viewers by WHEP on any node."""
        return stream.viewers[WHEP] + self._remote_viewers.of(stream.name).get(WHEP, 0) > 0

    def _has_publisher(self) -> bool:
        """Whether this process has a publisher."""
        hubs = (self.hub, self._member.forwards.hub) if self._member is not None else (self.hub,)
        return any(stream.publisher is not None for hub in hubs for stream in hub)

    def drain(self) -> None:
        if self._member is not None:
            self._member.drain()

    async def flush(self) -> None:
        await self._outputs.flush()

    # ---- the servers of the ports ----

    def open_pushes(self, services: ListenerServices) -> list[OpenListeners]:
        return [listener.open(services, self._outputs) for listener in all_listeners()]

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
            inputs=self.inputs,
            previews=self.previews,
            channels=self._stores.channels,
            domains=self._stores.domains,
            secrets=self._parts.secrets,
            authenticators=authenticators(self._parts, self._stores.console, self._outputs.tls),
            node_status=self._node_status,
            address_defaults=AddressDefaults(
                ports=lambda: self._shown_ports,
                push_host=shown_host(settings.rtmp.host),
                pull_host=shown_host(settings.http.host),
                public_url=playback.public_url,
                play_auth=playback.auth,
                sign_ttl=playback.sign_ttl,
            ),
            limits=RequestLimits(limits.api_body, limits.item, REQUEST_SECONDS, limits.viewer_stall),
            readiness=self._parts.readiness,
            metrics=self._parts.metrics,
            recorder=self._recorder,
            experience=self._parts.experience,
            drop_cached=self.channels.forget,
            cluster=self._cluster,
            remote_viewers=self._remote_viewers,
            refusals=self.refusals,
            events=self._parts.events,
            event_log=self._event_log,
            vod_service=self._background_jobs.vod_service,
            kvs=self._background_jobs.kvs,
            objects=self._stores.objects,
            clips=self.clips,
            media_deletion=self._background_jobs.media_deletion,
            ivs=self._outputs.cloud,
            cloudfront=cloudfront_signer(settings.cloudfront),
            proxies=proxies,
            metrics_of_all=self.metrics_aggregator,
            broadcast_servers=self._background_jobs.broadcast_servers,
            servers_by_key=self._key_servers.list,
            pages=settings.admin.console,
            tasks=settings.workers.runner == "ecs",
            upload_origin=UploadOrigin(self._stores.objects if self._stores.bucket else None),
        )

    @property
    def _cluster(self) -> ClusterQueries:
        return self._member.cluster if self._member is not None else SingleNode()

    @property
    def _key_servers(self) -> KeyServers:
        return KeyServers(self._parts.secrets, self.channels.cached, self._cluster, lambda: self._shown_ports)

    @property
    def _shown_ports(self) -> OpenPorts:
        """The ports in addresses shown to users."""
        settings = self._settings
        if not settings.tls.in_front:
            return self._ports
        secure = {f"{listener.name}s" for listener in all_listeners()}
        return self._ports.with_tls(**{name: port for name, port in settings.tls_ports().items() if name in secure})

    async def _push_ports(self, host: str = "") -> Response:
        """Answers `/broadcast.json`. host: of this gateway, for the pages of other nodes."""
        domains = await self._stores.domains.get_domains()
        return Response(200, json.dumps(push_ports(domains, self._shown_ports, host)).encode(), JSON)

    async def _push_addresses(self, host: str) -> Addresses:
        """Returns the addresses for a client that requested this host. Raises StoreUnavailable."""
        name = hostname(host) or shown_host(self._settings.rtmp.host)
        return Addresses.of(await self._stores.domains.get_domains(), self._shown_ports, name, name)

    async def playback(self, ports: OpenPorts) -> PlaybackRouter:
        self._ports = self._outputs.ports = ports
        settings, limits, member = self._settings, self._settings.limits, self._member
        if member is not None:
            member.join(await advertised(settings, ports), ports)
        protection, channels, viewers = self.protection, self.channels, http_viewers(self._parts)
        pages = FilmPages(self._stores.films, self._stores.objects, channels.owners)
        recordings = RecordingFiles(self._stores.objects, self._stores.media, pages)
        vod_files = VodFiles(recordings, pages.film, protection, channels.owners)
        http_cache = None
        if member is not None:
            http_cache = await member.open_http_cache(channels.cached, protection, viewers, settings.edge)
        live = LivePlayback(
            self.streams,
            self._routes(viewers),
            FlvViewers(limits.viewer_backlog),
            viewers,
            settings.stream.wait_for_publisher,
            ready,
            http_cache,
            viewer_reports(self._parts, http_cache),
            lambda stream: viewer_count(stream, self._remote_viewers),
            self._rewind.status,
        )
        tasks = self._parts.tasks
        public = PublicChannels(self._stores.channels.list, self._live_public_channels, settings.playback.auth, tasks)
        channel_list = ChannelList(public.entries, tasks)
        obs = ObsConfiguration(
            channels.cached, self._parts.secrets, self._push_addresses, Refusals(OBS_REQUESTS_PER_MINUTE)
        )
        servers = self._key_servers.respond
        publishers = PublisherRoutes(lambda request: self._push_ports(), servers, obs.respond)
        playback = PlaybackRouter(
            PlaybackAccess(channels.cached, protection, channels.owners),
            live,
            Pages(settings.playback.public_url, settings.playback.player_hosts),
            Health(self._parts.readiness.missing, self._parts.readiness.degraded),
            StoredPlayback(recordings, Posters(self._stores.objects, tasks), channel_list, publishers),
            {"vod": vod_files},
        )
        if member is None:
            return playback
        statuses, routes = playback.statuses, self._routes(UNCOUNTED)
        internal_playback = InternalPlayback(self.hub, channels.cached, channels.owners, routes, statuses, recordings)
        operations: dict[str, Operation] = {
            **self._operations(member),
            "film": vod_files.serve_node,
            "public": channel_list,
            "push-ports": lambda request, rest: self._push_ports(hostname(request.host)),
            "push-servers": servers,
            "obs": obs.respond,
        }
        if self._parts.identity.slot is not None:
            self.metrics_aggregator = MetricsAggregator(self._parts.identity.slot, self._parts.metrics, member.peers)
            operations[SUMS] = self.metrics_aggregator.operate
        self.node_endpoint = member.node_endpoint(
            self._stores.channels, internal_playback, operations, limits.refusals_per_minute
        )
        return playback

    async def _live_public_channels(self) -> Mapping[str, int]:
        """Returns the number of viewers of the live public channels of all nodes, by id."""
        own = list(live_public_channels(self.hub, self._remote_viewers))
        found = await self._cluster.everywhere("public-live")
        entries = (entry for entries in (*found.answers.values(), own) for entry in entries)
        return {str(entry.get("id")): entry["viewers"] for entry in entries if type(entry.get("viewers")) is int}

    def _operations(self, member: ClusterMember) -> Mapping[str, Operation]:
        """Returns the operations that other nodes may request from this one."""
        from gateway.cluster.clip_operations import ClipOperations
        from gateway.cluster.diagnosis_operations import DiagnosisOperations
        from gateway.cluster.export_operations import ExportOperations
        from gateway.cluster.gateway_operations import ChannelReaders, GatewayOperations, to_response
        from gateway.cluster.input_operations import InputOperations

        operations = GatewayOperations(
            member.siblings,
            self.hub,
            ChannelReaders(self.channels.store, self.channels.cached, self.channels.deleted),
            forget=self.channels.forget,
            remote_viewers=self._remote_viewers,
            report=lambda: summary(self._node_status, self._parts.metrics, __version__),
        )
        diagnosis = DiagnosisOperations(
            member.siblings, self.hub, self._recorder, self._parts.experience, self.refusals
        )
        inputs = InputOperations(member.siblings, self.inputs, self.previews)
        clips = ClipOperations(
            member.siblings,
            self.hub,
            self.channels.cached,
            lambda channel, time: make_clip(self.clips, self.hub.find(channel.id), channel, time),
            self._parts.tasks,
        )
        exports = ExportOperations(member.siblings, self.hub, self.channels.cached, self.clips, self._parts.tasks)
        tables = (operations, diagnosis, inputs, clips, exports)
        found = {name: operation for each in tables for name, operation in each.table().items()}
        if self._session_forwarder is not None:
            found |= self._session_forwarder.operations(to_response)
        return found

    def _routes(self, viewers: HttpViewers) -> MediaRoutes:
        ladders = LadderPlayback(self.hub, viewers, rewind=self._rewind)
        jpegs = self._outputs.jpegs
        pictures = RewindPictures(
            self._rewind, lambda unit, longest: jpegs.picture([unit], longest=longest), self._parts.tasks
        )
        return MediaRoutes.of(ladders, SnapshotResponder(jpegs.latest), pictures)


def _archive(parts: NodeParts, stores: Stores) -> Archive:
    """Returns the archive of finished files. Several processes may share the data folder."""
    settings, slot = parts.settings, parts.identity.slot
    spool, process = settings.data / "spool", slot.id if slot is not None else ""
    return Archive(stores.objects, settings.recording, parts.events, media=stores.media, spool=spool, process=process)


def _with_registry(settings: Settings) -> Settings:
    """Returns the settings, with a registry if edges may need one.

    A single gateway with a cluster secret can have edges (`edge.upstream`). The gateway then has its own registry file,
    through which its streams are found.
    """
    if settings.registry or not settings.cluster.secret.get_secret_value():
        return settings
    data = data_folder(settings.data)
    for suffix in ("", "-wal", "-shm"):
        (data / f"{REGISTRY_FILE}{suffix}").unlink(missing_ok=True)  # its entries are from an earlier process
    return settings.model_copy(update={"registry": f"sqlite:///{(data / REGISTRY_FILE).absolute()}"})


def _join_cluster(parts: NodeParts, stores: Stores, outputs: OutputFactory) -> ClusterMember | None:
    """Returns the membership in the cluster; None if there is no registry."""
    if stores.registry is None:
        return None
    from gateway.cluster.cluster_member import ClusterMember, ClusterOutputs

    cluster_outputs = ClusterOutputs(
        outputs.replica_specs(),
        lambda channel, address, started: session_item(
            channel, address, started, outputs.task_sets.of(channel.id), outputs.ports
        ),
        outputs.starts_edges,
    )
    member = ClusterMember(
        parts.identity, outputs.hub, stores.registry, cluster_outputs, parts.metrics.dropped, parts.tasks
    )
    outputs.task_sets.listen(lambda channel, arns: member.claims.rewrite_row(channel))
    return member


def outgoing_tls(ca: Path | None) -> ssl.SSLContext | None:
    """Returns the TLS context of outgoing connections; None: only the system's certificate authorities are trusted.

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
