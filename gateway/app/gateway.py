"""Creates a gateway from its settings: adapters, the hub and the listeners."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gateway import __version__
from gateway.adapters.aws.scale_in_protection import ScaleInProtection
from gateway.adapters.cloud import Cloud
from gateway.adapters.local.credentials import admin_token, signing_secret
from gateway.adapters.local.data_folder import data_folder
from gateway.adapters.local.host import shown_host, write_ports
from gateway.adapters.secret_resolver import SecretResolver, warn_of_short_secrets
from gateway.adapters.stores import Stores, open_stores
from gateway.adapters.webhooks import Webhooks
from gateway.api.hub_samples import HubSamples
from gateway.app import first_run
from gateway.app.api_context import ApiContextFactory
from gateway.app.background_jobs import BackgroundJobs
from gateway.app.listeners import GatewayListeners
from gateway.app.node_parts import NodeParts
from gateway.app.output_factory import OutputFactory
from gateway.app.shutdown import ShutdownSignals, drain
from gateway.channels.addresses import Addresses, OpenPorts, Presenter
from gateway.channels.stream_key import SigningSecrets
from gateway.cluster.node_identity import NodeIdentity
from gateway.ingest.registry import push_addresses
from gateway.lib import log as logs
from gateway.lib.metric_table import BYTES_OUT as SENT
from gateway.lib.metric_table import REFUSED, MetricSample
from gateway.lib.metrics import Metrics
from gateway.lib.readiness import Readiness
from gateway.lib.sockets import ListenError
from gateway.lib.tasks import Tasks
from gateway.lib.tuning import private_files, raise_file_limit, tune_garbage_collector
from gateway.live.hub import NODES_SECONDS, Hub, StreamLimits
from gateway.live.session_record import session_item
from gateway.outputs.storage.archive import Archive
from gateway.ports.errors import HubError
from gateway.ports.events import Event, Events, EventType
from gateway.processes.worker_settings import REGISTRY_FILE, settings_for_worker, with_host_registry
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.cluster.cluster_member import ClusterMember
    from gateway.cluster.worker_slot import WorkerSlot
    from gateway.processes.worker_link import WorkerLink

log = structlog.get_logger(__name__)


def run(settings: Settings, *, greet: bool = False, seat: WorkerLink | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C and returns the exit code.

    greet: print a first channel. seat: a worker's link to its master. An error that the operator has to fix is one line
    on stderr, exit code 1. Examples are a port in use and an unusable store.
    """
    private_files()
    logs.configure(settings.log.level, settings.log.format, words={"process": seat.slot.name} if seat else None)
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(settings, greet, seat))
    except (HubError, ListenError, OSError) as error:
        print(f"millrace: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def serve(settings: Settings, greet: bool, seat: WorkerLink | None = None) -> int:
    """Opens everything in order, waits for a signal, and closes in reverse. Raises HubError, ListenError, OSError."""
    began = time.monotonic()
    slot = seat.slot if seat is not None else None
    settings = with_host_registry(settings_for_worker(settings, slot), slot) if slot is not None else _askable(settings)
    first = slot is None or slot.first
    if first:
        warn_of_short_secrets(settings)
    raise_file_limit()
    data_folder(settings.data)
    metrics, events = Metrics(__version__), Events()
    async with contextlib.AsyncExitStack() as stack:
        vault = await stack.enter_async_context(SecretResolver(settings))
        settings = vault.settings
        secrets = signing_secret(settings)
        verifier, new_token = admin_token(settings)
        vault.follow(secrets, verifier)
        ending = ShutdownSignals(seat)
        if seat is not None:
            stack.callback(seat.close)
        stores = await stack.enter_async_context(open_stores(settings))
        tls = outgoing_tls(settings.tls.ca)
        if settings.hooks.url:
            hooks = Webhooks(settings.hooks, metrics.hooks, user_agent=f"Millrace/{__version__}", tls=tls)
            events.listen((await stack.enter_async_context(hooks)).post)
        cloud = await stack.enter_async_context(Cloud(stores.aws, settings.kvs.role))
        hub = Hub(_stream_limits(settings, stores.registry is not None), (), events)
        archive = _archive(settings, stores, events, slot)
        makers = OutputFactory(settings, hub, archive, cloud, metrics, tls)
        await stack.enter_async_context(makers.kvs)
        await stack.enter_async_context(makers.jpegs)
        hub.offer(makers.specs())
        _follow_log_levels(events, hub)
        metrics.read_from(HubSamples(hub, events, settings.metrics.per_stream))
        tasks = await stack.enter_async_context(Tasks("gateway", _crashed))
        tasks.start(vault.run(), "secrets")
        share = _share(NodeIdentity.of(slot, vault.cluster), hub, stores, makers, metrics, tasks)
        if share is not None:
            await stack.enter_async_context(share)
            metrics.read_from(share.samples)
        readiness = Readiness({"channel store": stores.channels.check})
        parts = NodeParts(settings, secrets, events, metrics, readiness, tasks)
        works = BackgroundJobs(parts, stores, makers)
        admin = ApiContextFactory(parts, stores, makers, verifier, works)
        listeners = GatewayListeners(parts, stores, makers, admin, share, seat)
        hub_task = tasks.start(hub.run(), "hub")
        makers.start(tasks)
        if first:
            works.start()
        tasks.start(metrics.sample_loop_lag(), "loop lag")
        metrics.read_from(lambda: counted(listeners))
        if share is not None:
            share.start()
        protection = ScaleInProtection(lambda: _pushed(hub, share), shared=settings.data / "publishing.lock")
        if protection.available:
            tasks.start(protection.run(), "task protection")
        await listeners.open()
        stack.push_async_callback(listeners.close)
        await makers.locate(listeners.ports)
        if seat is None:
            write_ports(settings.data, listeners.ports)
        tune_garbage_collector()
        log.info("ready", seconds=round(time.monotonic() - began, 2), **listeners.ports.opened())
        if seat is not None:
            seat.ready()
        if first and await ending.opened():
            if greet:
                print(await _greeting(settings, stores, secrets, listeners.ports), flush=True)  # noqa: T201
            if new_token is not None:
                print(f"Admin token, shown only now: {new_token}\n", flush=True)  # noqa: T201
        if await ending.asked():
            log.info("retiring", retire=settings.serve.retire)
            works.stop()
            listeners.retire()
            hub.retire()
            await ending.unneeded(lambda: _needed(hub, share), settings.serve.retire)
        log.info("shutting down", drain=settings.serve.drain)
        readiness.close()
        if share is not None:
            share.drain()
        await drain(hub, makers, listeners, settings.serve.drain)
        hub_task.cancel()
    return 0


def _pushed(hub: Hub, share: ClusterMember | None) -> bool:
    """Whether this process has a publisher."""
    return any(s.publisher is not None for one in ((hub, share.carried) if share is not None else (hub,)) for s in one)


def _needed(hub: Hub, share: ClusterMember | None) -> bool:
    """Whether this process has a publisher or a viewer."""
    hubs = (hub, share.pulled, share.carried) if share is not None else (hub,)
    return any(s.publisher is not None or any(s.viewers.values()) for one in hubs for s in one)


def _archive(settings: Settings, stores: Stores, events: Events, slot: WorkerSlot | None) -> Archive:
    """Where finished files go. slot: of one of several processes that share the data folder."""
    spool, process = settings.data / "spool", slot.id if slot is not None else ""
    return Archive(stores.objects, settings.recording, events, media=stores.media, spool=spool, process=process)


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


def _share(
    identity: NodeIdentity,
    hub: Hub,
    stores: Stores,
    makers: OutputFactory,
    metrics: Metrics,
    tasks: Tasks,
) -> ClusterMember | None:
    """Returns the membership in the cluster; None where there is no registry."""
    if stores.registry is None:
        return None
    from gateway.cluster.cluster_member import ClusterMember, ClusterOutputs

    outputs = ClusterOutputs(
        makers.replicated(),
        lambda channel, address, started: session_item(channel, address, started, makers.task_sets.of(channel.id)),
        makers.spreads,
    )
    share = ClusterMember(identity, hub, stores.registry, outputs, metrics.dropped, tasks)
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


def counted(listeners: GatewayListeners) -> Iterator[MetricSample]:
    """Yields the metrics that the listeners count."""
    yield MetricSample(SENT, listeners.http_bytes, ("http",))
    for what, reasons in listeners.refused.items():
        for reason, count in reasons.items():
            yield MetricSample(REFUSED, count, (what, reason))
    yield from listeners.pending.samples()


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


async def _greeting(settings: Settings, stores: Stores, secrets: SigningSecrets, ports: OpenPorts) -> str:
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


def _crashed(name: str, error: BaseException) -> None:
    log.error("a task failed", task=name, exc_info=error)
