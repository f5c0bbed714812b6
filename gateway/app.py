"""The composition root: settings become adapters, the hub and listeners; nothing else knows them all."""

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

from gateway import __version__, welcome
from gateway.adapters import Stores, open_stores
from gateway.adapters.aws.protection import Protection
from gateway.adapters.cloud import Cloud
from gateway.adapters.local.folder import data_folder
from gateway.adapters.local.host import shown_host, write_ports
from gateway.adapters.local.secrets import admin_token, signing_secret
from gateway.adapters.vault import Vault
from gateway.adapters.webhooks import Webhooks
from gateway.admin import Admin
from gateway.api.metrics import HubSamples
from gateway.cores.shares import REGISTRY, of_worker, registered
from gateway.ending import Ending, drain
from gateway.hub.access import Secrets
from gateway.hub.addresses import Addresses, Ports, Presenter
from gateway.hub.errors import HubError
from gateway.hub.events import Event, Events, EventType
from gateway.hub.hub import Hub, StreamLimits
from gateway.hub.readiness import Readiness
from gateway.hub.sessions import session_item
from gateway.lib import log as logs
from gateway.lib.aio import Tasks
from gateway.lib.metrics import BYTES_OUT as SENT
from gateway.lib.metrics import REFUSED, Metrics, Sample
from gateway.lib.tuning import calm_collector, raise_file_limit
from gateway.listeners import Listeners
from gateway.outputs import Makers
from gateway.servers.listen import ListenError
from gateway.settings import Settings
from gateway.works import Works

if TYPE_CHECKING:
    from gateway.cores.seat import Seat
    from gateway.hub.cluster_secret import ClusterSecret
    from gateway.nodes.host import Slot
    from gateway.nodes.share import Share

log = structlog.get_logger(__name__)


def run(settings: Settings, *, greet: bool = False, seat: Seat | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C; the exit code. greet: print a channel to start with. seat: of a worker process.

    What the operator has to put right (a taken port, an unusable store) is one line on stderr, exit code 1.
    """
    logs.configure(settings.log.level, settings.log.format, words={"process": seat.slot.name} if seat else None)
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(settings, greet, seat))
    except (HubError, ListenError, OSError) as error:
        print(f"millrace: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def serve(settings: Settings, greet: bool, seat: Seat | None = None) -> int:
    """Opens everything in order, waits for a signal, closes all in reverse. Raises HubError, ListenError, OSError."""
    began = time.monotonic()
    slot = seat.slot if seat is not None else None
    settings = registered(of_worker(settings, slot), slot) if slot is not None else _askable(settings)
    first = slot is None or slot.first
    raise_file_limit()
    data_folder(settings.data)
    metrics, events = Metrics(__version__), Events()
    async with contextlib.AsyncExitStack() as stack:
        vault = await stack.enter_async_context(Vault(settings))
        settings = vault.settings
        secrets = signing_secret(settings)
        verifier, new_token = admin_token(settings)
        vault.follow(secrets, verifier)
        ending = Ending(seat)
        if seat is not None:
            stack.callback(seat.close)
        stores = await stack.enter_async_context(open_stores(settings))
        tls = outgoing_tls(settings.tls.ca)
        if settings.hooks.url:
            hooks = Webhooks(
                settings.hooks.url,
                settings.hooks.secret.get_secret_value(),
                timeout=settings.hooks.timeout,
                most=settings.hooks.queue,
                results=metrics.hooks,
                user_agent=f"Millrace/{__version__}",
                tls=tls,
            )
            events.listen((await stack.enter_async_context(hooks)).post)
        cloud = await stack.enter_async_context(Cloud(stores.aws, settings.kvs.role))
        makers = Makers(settings, stores, cloud, metrics, events, tls, slot.id if slot is not None else "")
        await stack.enter_async_context(makers.kvs)
        await stack.enter_async_context(makers.stills)
        hub = Hub(_stream_limits(settings), (), events)
        hub.offer(makers.specs(hub))
        _follow_log_levels(events, hub)
        metrics.read_from(HubSamples(hub, events, settings.metrics.per_stream))
        tasks = await stack.enter_async_context(Tasks("gateway", _crashed))
        tasks.start(vault.run(), "secrets")
        share = _share(settings, hub, stores, makers, metrics, slot, tasks, vault.cluster)
        if share is not None:
            await stack.enter_async_context(share)
            metrics.read_from(share.samples)
        readiness = Readiness({"channel store": stores.channels.check})
        works = Works(settings, stores, cloud, secrets, events, makers, tasks)
        admin = Admin(settings, hub, stores, secrets, metrics, readiness, verifier, works, makers.workers, cloud, tls)
        listeners = Listeners(settings, hub, stores, secrets, events, readiness, admin, makers, tasks, share, seat)
        hub_task = tasks.start(hub.run(), "hub")
        makers.start(tasks)
        if first:
            works.start()
        tasks.start(metrics.sample_loop_lag(), "loop lag")
        metrics.read_from(lambda: counted(listeners))
        if share is not None:
            share.start()
        protection = Protection(lambda: _pushed(hub, share), shared=settings.data / "publishing.lock")
        if protection.available:
            tasks.start(protection.run(), "task protection")
        await listeners.open()
        stack.push_async_callback(listeners.close)
        await makers.locate(listeners.ports)
        if seat is None:
            write_ports(settings.data, listeners.ports)
        calm_collector()
        log.info("ready", seconds=round(time.monotonic() - began, 2), **_open_ports(listeners.ports))
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


def _pushed(hub: Hub, share: Share | None) -> bool:
    """Whether somebody pushes through this process."""
    return any(s.publisher is not None for one in ((hub, share.carried) if share is not None else (hub,)) for s in one)


def _needed(hub: Hub, share: Share | None) -> bool:
    """Whether somebody pushes or plays through this process."""
    hubs = (hub, share.pulled, share.carried) if share is not None else (hub,)
    return any(s.publisher is not None or any(s.viewers.values()) for one in hubs for s in one)


def _askable(settings: Settings) -> Settings:
    """A gateway that shares its streams with no other, but knows a secret by which edges may ask it (`edge.upstream`),
    finds what it holds through a registry of its own."""
    if settings.registry or not settings.cluster.secret.get_secret_value():
        return settings
    data = data_folder(settings.data)
    for suffix in ("", "-wal", "-shm"):
        (data / f"{REGISTRY}{suffix}").unlink(missing_ok=True)  # who stands in it is dead
    return settings.model_copy(update={"registry": f"sqlite:///{(data / REGISTRY).absolute()}"})


def _share(
    settings: Settings,
    hub: Hub,
    stores: Stores,
    makers: Makers,
    metrics: Metrics,
    slot: Slot | None,
    tasks: Tasks,
    secret: ClusterSecret,
) -> Share | None:
    """What shares the streams with other nodes, where there is a registry."""
    if stores.registry is None:
        return None
    from gateway.nodes.share import Share

    share = Share(
        settings,
        hub,
        stores.registry,
        _stream_limits(settings),
        makers.replicated(),
        dropped=metrics.dropped,
        row=lambda channel, address, started: session_item(channel, address, started, makers.crews.of(channel.id)),
        spreads=makers.spreads,
        slot=slot,
        tasks=tasks,
        secret=secret,
    )
    makers.crews.listen(lambda channel, arns: share.claims.told(channel))
    return share


def outgoing_tls(ca: Path | None) -> ssl.SSLContext | None:
    """What outgoing connections trust; None: the system's authorities alone. Raises ListenError for a useless file."""
    if ca is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise ListenError(f"tls.ca: {ca}: {error.strerror or 'no certificates in PEM form'}") from None
    return context


def counted(listeners: Listeners) -> Iterator[Sample]:
    """A source of metrics: what listeners count."""
    yield Sample(SENT, listeners.http_bytes, ("http",))
    for what, reasons in listeners.refused.items():
        for reason, count in reasons.items():
            yield Sample(REFUSED, count, (what, reason))


def _stream_limits(settings: Settings) -> StreamLimits:
    stream = settings.stream
    return StreamLimits(
        stream.takeover_after, stream.linger, stream.gop_seconds, stream.gop_bytes, settings.limits.publishers
    )


def _follow_log_levels(events: Events, hub: Hub) -> None:
    """A channel's logLevel holds while it is live."""

    def follow(event: Event) -> None:
        if event.type is EventType.STREAM_STARTED:
            stream = hub.find(str(event.data["stream"]))
            logs.levels.channel(event.channel, stream.channel.log_level if stream is not None else None)
        elif event.type is EventType.STREAM_ENDED:
            logs.levels.channel(event.channel, None)

    events.listen(follow)


async def _greeting(settings: Settings, stores: Stores, secrets: Secrets, ports: Ports) -> str:
    channel = await welcome.first_channel(stores.channels, secrets, settings.limits.item)
    shown = {name: shown_host(getattr(settings, name).host) for name in ("rtmp", "http", "admin")}
    everywhere = {name: getattr(settings, name).host in ("0.0.0.0", "::") for name in shown}
    near = {name: "127.0.0.1" if everywhere[name] else host for name, host in shown.items()}
    domains = await stores.domains.get_domains()
    addresses = Addresses.of(domains, ports, near["rtmp"], near["http"], settings.playback.public_url)
    presenter = Presenter(addresses, secrets, settings.playback.auth, settings.playback.sign_ttl)
    scheme = "https" if settings.admin.tls else "http"
    host = f"[{near['admin']}]" if ":" in near["admin"] else near["admin"]
    elsewhere = shown["http"] if everywhere["http"] and shown["http"] != "127.0.0.1" else None
    return welcome.words(channel, addresses, presenter, f"{scheme}://{host}:{ports.admin}/", elsewhere)


def _open_ports(ports: Ports) -> dict[str, int]:
    return {name: port for name, port in ports.as_json().items() if port is not None}


def _crashed(name: str, error: BaseException) -> None:
    log.error("a task failed", task=name, exc_info=error)
