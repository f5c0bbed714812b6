"""The gateway: runs its services. Code that the edge also uses is in `gateway.app.node`."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING

from gateway.adapters.aws.scale_in_protection import ScaleInProtection
from gateway.adapters.local.data_folder import GATEWAY_RUN, data_folder, folder_lock
from gateway.app import first_run, node, process
from gateway.app.admin_on_demand import AdminOnDemand
from gateway.app.node_parts import NodeParts
from gateway.app.parts.cluster import played_streams
from gateway.app.parts.gateway_parts import GatewayParts, open_gateway
from gateway.app.parts.playback import build_playback
from gateway.app.role import AdminServer, Role, Servers
from gateway.ingest.registry import all_listeners
from gateway.ingest.services import ListenerServices
from gateway.listeners.port_listener import OpenListeners
from gateway.processes.worker_settings import REGISTRY_FILE, with_host_registry, with_memory_limit
from gateway.settings import Settings
from gateway.webrtc.signalling import Signalling

if TYPE_CHECKING:
    from gateway.cluster.members.node_list import NodeList
    from gateway.processes.worker_link import WorkerLink


def run(settings: Settings, *, welcome: bool = False, link: WorkerLink | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C and returns the exit code.

    welcome: print a first channel. link: this process's link to its master; None: a single process.
    """

    async def work() -> int:
        slot = link.slot if link is not None else None
        node_settings = with_host_registry(settings, slot) if slot is not None else _with_registry(settings)
        bounded = with_memory_limit(node_settings)
        return await node.serve("gateway", bounded, link, lambda parts: Gateway.open(parts, welcome))

    # If there are several processes, the master has the lock.
    return process.run(settings, work, link, folder_lock(settings.data / GATEWAY_RUN) if link is None else None)


class Gateway(Role):
    """Receives pushes, produces media and serves them. welcome: print a first channel."""

    def __init__(self, parts: GatewayParts, welcome: bool) -> None:
        self._parts = parts
        self._welcome = welcome
        # The pushes of this process: its own streams, and pushes that it forwards to other nodes.
        self._pushed = (parts.live.hub,) if parts.member is None else (parts.live.hub, parts.member.forwards.shelf)
        self.shelf = self._hub = parts.live.hub
        self.viewers = parts.viewers
        self.played = played_streams(parts.live, parts.member)
        self.acquire_publisher = parts.pushes.acquire
        self.admission = parts.pushes.admission
        self._hub_task = parts.node.tasks.keep(self._hub.run, "hub")

    @classmethod
    async def open(cls, node: NodeParts, welcome: bool) -> Gateway:
        """Opens the services and starts the background tasks. Raises GatewayError, ListenError."""
        gateway = cls(await open_gateway(node), welcome)
        gateway._start()
        return gateway

    def _start(self) -> None:
        parts, node = self._parts, self._parts.node
        tasks, inputs = node.tasks, parts.pushes.inputs
        tasks.keep(inputs.run, "inputs")
        tasks.keep(parts.diagnosis.recorder.run, "history")
        tasks.keep(parts.diagnosis.traffic.run, "traffic")
        tasks.keep(parts.diagnosis.shows.run, "shows")
        parts.live.outputs.start(tasks)
        if node.first:
            parts.jobs.start()
            tasks.keep(lambda: self._hub.feed.run(parts.backends.stores.channels), "stored channels")
        if parts.member is not None:
            parts.member.start()
        protection = ScaleInProtection(self._has_publisher, shared=node.settings.data / "publishing.lock")
        if protection.available:
            tasks.keep(protection.run, "task protection")

    async def join(self) -> None:
        self._parts.node.stack.callback(self._hub_task.cancel)  # before the listeners close

    async def welcome(self) -> None:
        if self._welcome:
            parts = self._parts
            text = await first_run.welcome_text(
                parts.node, parts.backends.stores.domains, parts.changes, parts.publishers.shown_ports()
            )
            print(text, flush=True)  # noqa: T201

    def retire(self) -> None:
        self._parts.jobs.stop()
        self._parts.diagnosis.recorder.stop_saving()  # the process that replaces this one now writes the file
        self._hub.retire()
        self._parts.pushes.inputs.retire()

    @property
    def nodes(self) -> NodeList | None:
        return self._parts.member.nodes if self._parts.member is not None else None

    def viewer_count(self) -> int:
        member = self._parts.member
        own = sum(stream.viewers.total() for stream in self._hub)
        return own + (member.viewer_count if member is not None else 0)

    def is_needed(self) -> bool:
        member = self._parts.member
        streams = chain(*self._pushed, () if member is None else member.pulled)
        return any(s.publisher is not None or any(s.viewers.values()) for s in streams)

    def _has_publisher(self) -> bool:
        """Whether this process has a publisher."""
        return any(stream.publisher is not None for stream in chain(*self._pushed))

    async def drain(self) -> None:
        if self._parts.member is not None:
            await self._parts.member.drain()

    async def flush(self) -> None:
        await self._parts.live.outputs.flush()

    def open_pushes(self, services: ListenerServices) -> list[OpenListeners]:
        outputs = self._parts.live.outputs
        services = replace(services, workers=outputs.workers, feed=self._hub.feed)
        return [listener.open(services, outputs) for listener in all_listeners()]

    async def serve(self, sessions: Signalling) -> Servers:
        parts, node, member = self._parts, self._parts.node, self._parts.member
        if member is None:
            return Servers(build_playback(parts, self.played).router, self._admin)
        from gateway.api.application import NodeServer
        from gateway.app.parts.api import build_admin, build_context
        from gateway.app.parts.node_endpoint import build_node_endpoint
        from gateway.processes.metrics_aggregator import MetricsAggregator

        member.join()
        playback = build_playback(parts, self.played)
        slot = node.identity.slot
        aggregator = MetricsAggregator(slot, node.metrics, member.peers) if slot is not None else None
        context = build_context(parts, aggregator)
        api = await node.stack.enter_async_context(NodeServer(context))
        endpoint = build_node_endpoint(parts, member, playback, api, aggregator, sessions)
        return Servers(playback.router, lambda: build_admin(node.settings, context), endpoint, aggregator)

    def _admin(self) -> AdminServer:
        """Returns the server of the admin port of a single node. Raises StoreUnusable, UnusableKey."""

        def build() -> AdminServer:
            from gateway.app.parts.api import build_admin, build_context

            return build_admin(settings, build_context(self._parts, None))

        settings = self._parts.node.settings
        if settings.oidc.issuer or settings.cloudfront.private_key.get_secret_value():
            return build()  # it checks them
        return AdminOnDemand(lambda: import_module("gateway.app.parts.api"), build)


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
