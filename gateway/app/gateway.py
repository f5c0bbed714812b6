"""Creates a gateway from its settings: adapters, the hub and the listeners."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.adapters.aws.scale_in_protection import ScaleInProtection
from gateway.adapters.cloud import Cloud
from gateway.adapters.local.data_folder import data_folder
from gateway.adapters.local.host import shown_host
from gateway.adapters.stores import Stores, open_stores
from gateway.adapters.webhooks import Webhooks
from gateway.api.hub_samples import HubSamples
from gateway.app import first_run, node, process
from gateway.app.api_context import ApiContextFactory
from gateway.app.background_jobs import BackgroundJobs
from gateway.app.gateway_servers import GatewayServers
from gateway.app.node_parts import NodeParts
from gateway.app.output_factory import OutputFactory
from gateway.channels.addresses import Addresses, OpenPorts, Presenter
from gateway.ingest.registry import push_addresses
from gateway.lib import log as logs
from gateway.lib.sockets import ListenError
from gateway.live.hub import NODES_SECONDS, Hub, StreamLimits
from gateway.live.session_record import session_item
from gateway.outputs.storage.archive import Archive
from gateway.ports.events import Event, Events, EventType
from gateway.processes.worker_settings import REGISTRY_FILE, with_host_registry
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.cluster.cluster_member import ClusterMember
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
        self._works = BackgroundJobs(parts, stores, makers)
        admin = ApiContextFactory(parts, stores, makers, parts.verifier, self._works)
        super().__init__(makers.hub, GatewayServers(parts, stores, makers, admin, share))
        self._running = parts.tasks.start(makers.hub.run(), "hub")

    @classmethod
    async def open(cls, parts: NodeParts, greet: bool) -> Gateway:
        """Opens stores, cloud and outputs. greet: print a first channel. Raises HubError, ListenError."""
        settings, metrics, stack, events = parts.settings, parts.metrics, parts.stack, parts.events
        stores = await stack.enter_async_context(open_stores(settings))
        parts.readiness.add("channel store", stores.channels.check)
        tls = outgoing_tls(settings.tls.ca)
        if settings.hooks.url:
            hooks = Webhooks(settings.hooks, metrics.hooks, user_agent=f"Millrace/{__version__}", tls=tls)
            events.listen((await stack.enter_async_context(hooks)).post)
        cloud = await stack.enter_async_context(Cloud(stores.aws, settings.kvs.role))
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
        hubs = (self.hub, share.pulled, share.carried) if share is not None else (self.hub,)
        return any(s.publisher is not None or any(s.viewers.values()) for one in hubs for s in one)

    def _pushed(self) -> bool:
        """Whether this process has a publisher."""
        hubs = (self.hub, self._share.carried) if self._share is not None else (self.hub,)
        return any(stream.publisher is not None for hub in hubs for stream in hub)

    def drain(self) -> None:
        if self._share is not None:
            self._share.drain()

    async def flush(self) -> None:
        await self._makers.flush()


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
    makers.task_sets.listen(lambda channel, arns: share.claims.told(channel))
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
