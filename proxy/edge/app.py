"""The edge: runs its services. Code that the gateway also uses is in `gateway.app.node`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import structlog

from gateway.adapters.local.data_folder import EDGE_RUN, folder_lock
from gateway.app import node, process
from gateway.app.listeners import admin_http_limits
from gateway.app.node_parts import NodeParts
from gateway.app.role import PlayedStreams, Role, Servers
from gateway.app.shutdown import ShutdownSignals
from gateway.cluster.members.membership import Membership, wait_until_idle
from gateway.cluster.members.node_list import NodeList
from gateway.http.forwarded import Forwarded
from gateway.http.server import HttpServer
from gateway.ingest.admission import Admission
from gateway.ingest.rtmp.listener import open_rtmp
from gateway.ingest.rtsp.listener import open_rtsp
from gateway.ingest.services import ListenerServices
from gateway.ingest.srt.listener import open_srt
from gateway.lib.refusals import Refusals
from gateway.listeners.port_listener import OpenListeners
from gateway.playback.health import Health
from gateway.ports.errors import StoreUnusable
from gateway.ports.nodes import NodeRole
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.processes.worker_link import WorkerLink
from gateway.settings import Settings
from gateway.webrtc.signalling import Signalling
from proxy.edge.admin_pages import AdminPages
from proxy.edge.edge_parts import EdgeCluster, EdgeParts, open_edge
from proxy.edge.node_endpoint_parts import build_node_endpoint
from proxy.edge.playback_parts import build_playback

log = structlog.get_logger(__name__)


def run(settings: Settings, link: WorkerLink | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C. Returns the exit code. link: to the master, in a worker process."""
    # If there are several processes, the master has the lock.
    lock = _lock_if_free(settings.data / EDGE_RUN) if link is None else None
    return process.run(settings, lambda: node.serve("edge", settings, link, Edge.open), link, lock)


@contextlib.contextmanager
def _lock_if_free(folder: Path) -> Iterator[None]:
    """Locks the folder, so that `millrace leave` finds this edge. Several edges may share a data folder."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(StoreUnusable):
            stack.enter_context(folder_lock(folder))
        yield


async def _stop_when_idle(cluster: EdgeCluster, channel: str, shutdown_signals: ShutdownSignals) -> None:
    """Stops this edge when its channel is idle. The gateway that started it may no longer run."""
    await wait_until_idle(cluster.locator, cluster.peers, channel)
    shutdown_signals.stop()


class Edge(Role):
    """Pulls streams from gateways and serves them to viewers and other nodes."""

    ready = "edge ready"

    def __init__(self, parts: EdgeParts) -> None:
        pulled = parts.pulled
        self._parts = parts
        self.ready_fields = {"node": parts.node.identity.id}
        self.shelf = pulled.shelf
        self.viewers = parts.viewers
        self.played = PlayedStreams(
            pulled.replicas, pulled.browsers.replicas, pulled.browsers, parts.cluster.session_forwarder
        )
        node = parts.node
        refusals = Refusals(node.settings.limits.refusals_per_minute)
        self.admission = Admission(None, node.secrets, node.events, publishers_per_address=0, refusals=refusals)
        if not parts.node.settings.signing.secret.get_secret_value():
            log.info("play signatures of other gateways cannot be verified: signing.secret is not set")

    @classmethod
    async def open(cls, node: NodeParts) -> Edge:
        """Opens the services of the edge, and starts its tasks. Raises StoreUnusable, UnusableKey."""
        edge = cls(await open_edge(node))
        edge._parts.start()
        return edge

    async def join(self) -> None:
        """Adds this edge to the registry, if there is one."""
        node, cluster, channel = self._parts.node, self._parts.cluster, self._parts.node.settings.edge.channel
        if cluster.registry is not None and cluster.nodes is not None:
            own, id = node.own_address, node.identity.id
            describe = partial(own.as_node, id, NodeRole.EDGE, channel)
            membership = Membership(cluster.registry, describe, cluster.nodes.observe)
            node.tasks.keep(membership.run, "membership")
        if channel:
            node.tasks.start(_stop_when_idle(cluster, channel, node.shutdown_signals), "channel")

    @property
    def nodes(self) -> NodeList | None:
        return self._parts.cluster.nodes

    def viewer_count(self) -> int:
        return sum(counts.total() for counts in self._parts.viewer_counts().values())

    def is_needed(self) -> bool:
        """Whether a viewer plays FLV, RTMP or WebRTC, or another node pulls a stream from this edge."""
        pulled = self._parts.pulled
        return bool(pulled.readers) or any(any(stream.viewers.values()) for stream in pulled)

    async def drain(self) -> None:
        self._parts.pulled.drain()

    def open_pushes(self, services: ListenerServices) -> list[OpenListeners]:
        """Binds the ports of RTMP, SRT and RTSP, for players only."""
        return [open_rtmp(services), open_srt(services), open_rtsp(services)]

    async def serve(self, sessions: Signalling) -> Servers:
        parts, node = self._parts, self._parts.node
        settings, slot, health = node.settings, node.identity.slot, Health(node.readiness.missing)
        aggregator = MetricsAggregator(slot, node.metrics, parts.cluster.peers) if slot is not None else None
        refusals = settings.limits.refusals_per_minute
        pages = AdminPages(health, node.metrics, node.token.verifier, refusals, aggregator)
        node.metrics.read_from(pages.samples)
        return Servers(
            build_playback(parts, health),
            lambda: HttpServer(pages, admin_http_limits(settings), Forwarded(settings.admin.forwarded_from)),
            build_node_endpoint(parts, aggregator, sessions),
            aggregator,
        )
