"""Runs a gateway or an edge: opens its services in order, serves until a signal, and closes them in reverse."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog

from gateway import __version__
from gateway.adapters.local.credentials import AdminToken, admin_token, signing_secret
from gateway.adapters.local.data_folder import data_folder
from gateway.adapters.local.host import write_ports
from gateway.adapters.secret_resolver import SecretResolver, warn_of_short_secrets
from gateway.app.certificates import NodeCertificate
from gateway.app.listeners import Listeners
from gateway.app.node_parts import NodeParts
from gateway.app.own_address import OwnAddress
from gateway.app.role import Role
from gateway.app.shutdown import ShutdownSignals
from gateway.cluster.members.node_identity import NodeIdentity
from gateway.cluster.members.sibling_nodes import SiblingNodes
from gateway.diagnosis.experience import Experience
from gateway.lib.heap import return_free_memory
from gateway.lib.metrics import Metrics
from gateway.lib.readiness import Readiness
from gateway.lib.tasks import Tasks
from gateway.lib.traffic import TrafficCounts
from gateway.lib.tuning import raise_file_limit, tune_garbage_collector
from gateway.listeners.load_agent import LoadAgent
from gateway.ports.events import Events
from gateway.processes.worker_link import WorkerLink
from gateway.processes.worker_settings import settings_for_worker
from gateway.reports.free_capacity import FreeCapacity, FreeProcessor, Processes
from gateway.settings import Settings

log = structlog.get_logger(__name__)


async def serve(
    name: str, settings: Settings, link: WorkerLink | None, open_role: Callable[[NodeParts], Awaitable[Role]]
) -> int:
    """Serves until SIGTERM or Ctrl-C. Returns the exit code. Raises GatewayError, ListenError, OSError.

    name: of the group of tasks. open_role: opens the role's services on the stack and starts the role's tasks.
    """
    started = time.monotonic()
    slot = link.slot if link is not None else None
    if slot is not None:
        settings = settings_for_worker(settings, slot)
    if slot is None or slot.first:
        warn_of_short_secrets(settings)
    raise_file_limit()
    data_folder(settings.data)
    metrics = Metrics(__version__)
    role: Role | None = None
    async with contextlib.AsyncExitStack() as stack:
        shutdown_signals = ShutdownSignals(link)
        if link is not None:
            stack.callback(link.close)
        async with shutdown_signals.ends_start():
            secret_resolver = await stack.enter_async_context(SecretResolver(settings))
            settings = secret_resolver.settings
            secrets = signing_secret(settings)
            token = admin_token(settings)
            secret_resolver.follow(secrets, token.verifier)
            events = Events()
            certificate = NodeCertificate.open(settings, events if slot is None or slot.first else None)
            parts = NodeParts(
                settings=settings,
                identity=NodeIdentity.of(slot, secret_resolver.cluster, settings.cluster.site),
                link=link,
                secrets=secrets,
                token=token,
                events=events,
                metrics=metrics,
                experience=Experience(metrics),
                traffic=TrafficCounts(),
                readiness=Readiness(),
                shutdown_signals=shutdown_signals,
                stack=stack,
                tasks=Tasks(name),
                own_address=OwnAddress(settings, certificate),
                certificate=certificate,
            )
            role = await open_role(parts)
            processes = _processes(parts, role)
            capacity = FreeCapacity(FreeProcessor(), role.viewers.plays.limits, role.viewer_count, processes)
            parts.own_address.load = capacity.shown
            _find_siblings(parts, role)
            listeners = Listeners(parts, role, LoadAgent(lambda: capacity.percent))
            stack.push_async_callback(listeners.close)
            new_token = token.make() if parts.first and not token.is_known else ""
            parts.tasks.keep(token.follow, "admin token")
            parts.tasks.keep(secret_resolver.run, "secrets")
            parts.tasks.keep(metrics.sample_loop_lag, "loop lag")
            parts.tasks.keep(return_free_memory, "heap")
            if settings.log.load and parts.first:
                parts.tasks.keep(lambda: capacity.log_load(settings.log.load), "load")
            metrics.read_from(listeners.samples)
            await listeners.open()
            if certificate is not None:
                metrics.read_from(certificate.samples)
                certificate.start(parts.tasks)
                shutdown_signals.on_reload = lambda: parts.tasks.start(certificate.reload(), "certificate files")
            await role.join()
            if link is None:
                write_ports(settings.data, parts.own_address.ports)
            tune_garbage_collector()
            seconds = round(time.monotonic() - started, 2)
            log.info(role.ready, seconds=seconds, **role.ready_fields, **parts.own_address.ports.opened())
            if link is not None:
                link.report_ready()
        if role is None:
            log.info("stopped while it started")
            return 0
        if parts.first and await shutdown_signals.all_opened():
            if new_token:
                await _show(token, new_token)
            await role.welcome()
        if await shutdown_signals.was_replaced():
            log.info("retiring", retire=settings.serve.retire)
            listeners.retire()
            role.retire()
            await shutdown_signals.wait_until_unneeded(
                lambda: role.is_needed() or listeners.is_needed(), settings.serve.retire
            )
        log.info("shutting down", drain=settings.serve.drain)
        parts.readiness.close()
        await _drain(role, listeners, settings.serve.drain)
    return 0


def _processes(parts: NodeParts, role: Role) -> Processes:
    """Returns a function that returns the processes of this host, as the registry has them."""
    slot, nodes, settings = parts.identity.slot, role.nodes, parts.settings
    if slot is None or nodes is None:
        return tuple
    if parts.first and (settings.log.load or settings.cluster.agent_port >= 0):
        nodes.keep_fresh()
    return lambda: (node for node in nodes.live.values() if node.host == slot.host)


def _find_siblings(parts: NodeParts, role: Role) -> None:
    """Lets viewers whom the limits of this node refuse go to other nodes."""
    nodes, limits, protection = role.nodes, role.viewers.plays.limits, role.viewers.protection
    if nodes is None or not limits.node_mbps:
        return
    siblings = SiblingNodes(nodes, parts.identity.id, parts.identity.site)
    # The signature of CloudFront is not valid for the address of another node.
    limits.sibling = lambda channel: "" if protection.needs_cloudfront(channel) else siblings.url()
    nodes.keep_fresh()


async def _show(token: AdminToken, text: str) -> None:
    """Prints the new token, then stores it. A start that fails earlier stores none, so the next start prints one."""
    if token.claim is not None and not await token.claim():
        return  # another machine of the fleet was faster, and has printed the token
    print(f"Admin token, shown only now: {text}\n", flush=True)  # noqa: T201
    if not token.store():
        log.warning("another process has stored its own admin token: this one is not valid")


async def _drain(role: Role, listeners: Listeners, seconds: float) -> None:
    """Stops accepting, notifies publishers and viewers, and waits until outputs have stored their files."""
    await role.drain()
    listeners.stop_accepting()
    role.shelf.drain()
    try:
        async with asyncio.timeout(seconds or None):
            await role.shelf.drained()
            await listeners.finish()
            await role.flush()
    except TimeoutError:
        log.warning("not everything was finished in time", drain=seconds)
