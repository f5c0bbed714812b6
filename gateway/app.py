"""The composition root: settings become adapters, the hub and listeners; nothing else knows them all."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from gateway import __version__, welcome
from gateway.adapters import Stores, open_stores
from gateway.adapters.cloud import Cloud
from gateway.adapters.local.folder import data_folder
from gateway.adapters.local.host import shown_host, write_ports
from gateway.adapters.local.secrets import admin_token, signing_secret
from gateway.adapters.webhooks import Webhooks
from gateway.admin import Admin
from gateway.api.metrics import HubSamples
from gateway.hub.access import Secrets
from gateway.hub.addresses import Addresses, Ports, Presenter
from gateway.hub.errors import HubError
from gateway.hub.events import Event, Events, EventType
from gateway.hub.hub import Hub, StreamLimits
from gateway.hub.readiness import Readiness
from gateway.lib import log as logs
from gateway.lib.aio import Tasks
from gateway.lib.metrics import BYTES_OUT as SENT
from gateway.lib.metrics import REFUSED, Metrics, Sample
from gateway.listeners import Listeners
from gateway.outputs import Makers
from gateway.servers.listen import ListenError
from gateway.settings import Settings
from gateway.works import Works

log = structlog.get_logger(__name__)


def run(settings: Settings, *, greet: bool = False) -> int:
    """Serves until SIGTERM or Ctrl-C; the exit code. greet: print a channel to start with.

    What the operator has to put right (a taken port, an unusable store) is one line on stderr, exit code 1.
    """
    logs.configure(settings.log.level, settings.log.format)
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(settings, greet))
    except (HubError, ListenError, OSError) as error:
        print(f"millrace: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def serve(settings: Settings, greet: bool) -> int:
    """Opens everything in order, waits for a signal, closes all in reverse. Raises HubError, ListenError, OSError."""
    began = time.monotonic()
    _raise_file_limit()
    data_folder(settings.data)
    secrets = signing_secret(settings)
    verifier, new_token = admin_token(settings)
    metrics, events = Metrics(__version__), Events()
    async with contextlib.AsyncExitStack() as stack:
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
        makers = Makers(settings, stores, cloud, metrics, events, tls)
        await stack.enter_async_context(makers.kvs)
        await stack.enter_async_context(makers.stills)
        hub = Hub(_stream_limits(settings), (), events)
        hub.offer(makers.specs(hub))
        _follow_log_levels(events, hub)
        metrics.read_from(HubSamples(hub, events, settings.metrics.per_stream))
        tasks = await stack.enter_async_context(Tasks("gateway", _crashed))
        readiness = Readiness({"channel store": stores.channels.check})
        works = Works(settings, stores, cloud, secrets, events, makers, tasks)
        admin = Admin(settings, hub, stores, secrets, metrics, readiness, verifier, works, makers.workers, cloud, tls)
        listeners = Listeners(settings, hub, stores, secrets, events, readiness, admin, makers, tasks)
        hub_task = tasks.start(hub.run(), "hub")
        makers.start(tasks)
        works.start()
        tasks.start(metrics.sample_loop_lag(), "loop lag")
        stop = _stop_signal()
        metrics.read_from(lambda: counted(listeners))
        await listeners.open()
        stack.push_async_callback(listeners.close)
        write_ports(settings.data, listeners.ports)
        _calm_collector()
        log.info("ready", seconds=round(time.monotonic() - began, 2), **_open_ports(listeners.ports))
        if greet:
            print(await _greeting(settings, stores, secrets, listeners.ports), flush=True)  # noqa: T201
        if new_token is not None:
            print(f"Admin token, shown only now: {new_token}\n", flush=True)  # noqa: T201
        await stop
        log.info("shutting down", drain=settings.serve.drain)
        readiness.close()
        await _drain(hub, makers, listeners, settings.serve.drain)
        hub_task.cancel()
    return 0


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


async def _drain(hub: Hub, makers: Makers, listeners: Listeners, seconds: float) -> None:
    """Accepts nothing more, tells publishers and viewers, lets outputs finish and store what they made."""
    listeners.stop_accepting()
    hub.drain()
    try:
        async with asyncio.timeout(seconds or None):
            await hub.drained()
            await listeners.finish()
            await makers.flush()
    except TimeoutError:
        log.warning("not everything was finished in time", drain=seconds)


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


def _stop_signal() -> asyncio.Future[None]:
    """Done at the first SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def told(number: signal.Signals) -> None:
        if stop.done():
            os._exit(128 + number)
        stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
    return stop


def _calm_collector() -> None:
    """What start-up made stays, so the collector need not see it again. Media flows without cycles: looking at every
    unit in every window a few times, as the default thresholds would, costs a tenth of the processor and stops the
    loop for tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def _raise_file_limit() -> None:
    """As many sockets as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _open_ports(ports: Ports) -> dict[str, int]:
    return {name: port for name, port in ports.as_json().items() if port is not None}


def _crashed(name: str, error: BaseException) -> None:
    log.error("a task failed", task=name, exc_info=error)
