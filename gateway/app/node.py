"""The life of a gateway or an edge: opens its parts in order, serves until a signal, and closes them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from gateway import __version__
from gateway.adapters.local.credentials import admin_token, signing_secret
from gateway.adapters.local.data_folder import data_folder
from gateway.adapters.local.host import write_ports
from gateway.adapters.secret_resolver import SecretResolver, warn_of_short_secrets
from gateway.app.listeners import Listeners, NodeServers
from gateway.app.node_parts import NodeParts
from gateway.app.process import crashed
from gateway.app.shutdown import ShutdownSignals
from gateway.channels.addresses import OpenPorts
from gateway.cluster.node_identity import NodeIdentity
from gateway.lib.metrics import Metrics
from gateway.lib.readiness import Readiness
from gateway.lib.tasks import Tasks
from gateway.lib.tuning import raise_file_limit, tune_garbage_collector
from gateway.live.hub import Hub
from gateway.ports.events import Events
from gateway.processes.worker_link import WorkerLink
from gateway.processes.worker_settings import settings_for_worker
from gateway.settings import Settings

log = structlog.get_logger(__name__)


class Role(NodeServers, Protocol):
    """The differences between a gateway and an edge. hub: of the streams that viewers play here."""

    ready: str = "ready"  # the line in the log when it serves
    words: Mapping[str, str] = {}  # more of that line
    hub: Hub

    async def join(self, ports: OpenPorts) -> None:
        """Does what needs the open ports."""

    async def greet(self, ports: OpenPorts) -> None:
        """Greets the operator. Called in the first process, when all serve."""

    def retire(self) -> None:
        """Stops what another process does from now on. Connections go on."""

    def needed(self) -> bool:
        """Returns whether a publisher or a viewer is here, for whom a replaced process stays."""
        return False

    def drain(self) -> None:
        """Tells those that come through this node to other nodes that it ends."""

    async def flush(self) -> None:
        """Returns when everything from the ended streams is finished and stored."""


async def serve(
    name: str, settings: Settings, seat: WorkerLink | None, open_role: Callable[[NodeParts], Awaitable[Role]]
) -> int:
    """Serves until SIGTERM or Ctrl-C. Returns the exit code. Raises GatewayError, ListenError, OSError.

    name: of the role's tasks. open_role: opens its parts on the stack and starts its tasks.
    """
    began = time.monotonic()
    slot = seat.slot if seat is not None else None
    if slot is not None:
        settings = settings_for_worker(settings, slot)
    if slot is None or slot.first:
        warn_of_short_secrets(settings)
    raise_file_limit()
    data_folder(settings.data)
    metrics = Metrics(__version__)
    async with contextlib.AsyncExitStack() as stack:
        vault = await stack.enter_async_context(SecretResolver(settings))
        settings = vault.settings
        secrets = signing_secret(settings)
        verifier, new_token = admin_token(settings)
        vault.follow(secrets, verifier)
        ending = ShutdownSignals(seat)
        if seat is not None:
            stack.callback(seat.close)
        parts = NodeParts(
            settings=settings,
            identity=NodeIdentity.of(slot, vault.cluster),
            seat=seat,
            secrets=secrets,
            verifier=verifier,
            events=Events(),
            metrics=metrics,
            readiness=Readiness(),
            ending=ending,
            stack=stack,
            tasks=Tasks(name, crashed),
        )
        role = await open_role(parts)
        listeners = Listeners(parts, role)
        parts.tasks.start(vault.run(), "secrets")
        parts.tasks.start(metrics.sample_loop_lag(), "loop lag")
        metrics.read_from(listeners.samples)
        await listeners.open()
        stack.push_async_callback(listeners.close)
        await role.join(listeners.ports)
        if seat is None:
            write_ports(settings.data, listeners.ports)
        tune_garbage_collector()
        seconds = round(time.monotonic() - began, 2)
        log.info(role.ready, seconds=seconds, **role.words, **listeners.ports.opened())
        if seat is not None:
            seat.ready()
        if parts.first and await ending.opened():
            await role.greet(listeners.ports)
            if new_token is not None:
                print(f"Admin token, shown only now: {new_token}\n", flush=True)  # noqa: T201
        if await ending.asked():
            log.info("retiring", retire=settings.serve.retire)
            listeners.retire()
            role.retire()
            await ending.unneeded(role.needed, settings.serve.retire)
        log.info("shutting down", drain=settings.serve.drain)
        parts.readiness.close()
        await _drain(role, listeners, settings.serve.drain)
    return 0


async def _drain(role: Role, listeners: Listeners, seconds: float) -> None:
    """Stops accepting, informs publishers and viewers, and lets outputs finish and store their files."""
    role.drain()
    listeners.stop_accepting()
    role.hub.drain()
    try:
        async with asyncio.timeout(seconds or None):
            await role.hub.drained()
            await listeners.finish()
            await role.flush()
    except TimeoutError:
        log.warning("not everything was finished in time", drain=seconds)
