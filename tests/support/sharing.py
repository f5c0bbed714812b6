"""Nodes that share streams in one process: real APIs, real requests between them, and an in-memory registry."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from gateway.api.application import NodeServer
from gateway.api.route import Route
from gateway.api.routes import ROUTES
from gateway.api.sessions import REMOTE_VIEWERS
from gateway.channels.media_owners import StoredDeletions
from gateway.cluster.calls.cluster_client import ClusterClient
from gateway.cluster.calls.diagnosis_operations import DiagnosisOperations
from gateway.cluster.calls.forwarded_requests import FORWARDED, ForwardedRequests
from gateway.cluster.calls.gateway_operations import GatewayOperations
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.peers import Peers
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.diagnosis.experience import Experience
from gateway.diagnosis.recorder import Recorder
from gateway.diagnosis.refusal_log import RefusalLog
from gateway.http.request import Request
from gateway.http.response import Answer, text
from gateway.http.server import HttpServer
from gateway.lib.sockets import listen, port_of
from gateway.lib.tasks import Tasks
from gateway.live.publisher import StreamPublisher
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.sink import EndReason
from gateway.playback.slugs import NamedChannel
from gateway.ports.errors import StoreUnavailable
from gateway.ports.nodes import Node, NodeRole, StreamClaim
from gateway.protocols import nodes
from gateway.reports.node_summary import summary
from tests.support.admin import PORTS, Admin, admin
from tests.support.http import limits

SECRET = "what-nodes-share"


@dataclass
class Directory:
    """A registry in memory. away: it is unavailable."""

    members: dict[str, Node] = field(default_factory=dict)
    held: dict[str, StreamClaim] = field(default_factory=dict)
    away: bool = False
    read: int = 0

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailable("the registry is away", 3)

    async def nodes(self) -> list[Node]:
        self._answer()
        self.read += 1
        return list(self.members.values())

    async def claim_of(self, stream: str) -> StreamClaim | None:
        self._answer()
        return self.held.get(stream)

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        self._answer()
        return {name: self.held[name] for name in streams if name in self.held and not self.held[name].left}


@dataclass
class Member:
    """One node: its API and its endpoint for other nodes. asked: the operations that it received."""

    id: str
    api: Admin
    cluster: ClusterClient
    distant: RemoteViewerCounts
    peers: Peers
    operations: GatewayOperations
    directory: Directory
    address: str
    asked: list[str]
    server: HttpServer

    async def push(self, id: str, evicted: list[EndReason] | None = None) -> StreamPublisher:
        """Pushes a stored channel to this node and registers the node as its holder."""
        publisher = await self.api.push(id, evicted)
        self.directory.held[id] = StreamClaim(id, self.id, self.address, f"claim of {self.id}", time.time())
        publisher.stream.when_ended(lambda reason: self.directory.held.pop(id, None) and None)
        return publisher


async def nobody(stream: str) -> None:
    """Reports that no sibling process holds a stream."""


class Dispatcher:
    """Checks the signature of a request and dispatches it to its operation."""

    def __init__(self) -> None:
        self.table: Mapping[str, Any] = {}
        self.asked: list[str] = []

    async def __call__(self, request: Request) -> Answer:
        target = f"{request.raw_path}?{request.raw_query}" if request.raw_query else request.raw_path
        if nodes.verify(SECRET, request.method, target, request.headers.get(nodes.HEADER, ""), time.time()):
            return text(401, "not signed")
        name, _, rest = request.path.removeprefix("/_node/.node/").partition("/")
        self.asked.append(name)
        answer: Answer = await self.table[name](request, rest)
        return answer


async def _no_names() -> dict[str, NamedChannel]:
    return {}


@contextlib.asynccontextmanager
async def member(
    id: str,
    folder: Path,
    directory: Directory,
    *,
    since: float = 0,
    clock: Any = time.monotonic,
    sockets: Mapping[str, str] | None = None,
    ports_of: Member | None = None,
    routes: Sequence[Route] = ROUTES,
    **options: Any,
) -> AsyncIterator[Member]:
    """Runs a node on the channel store of `folder`.

    sockets: of the processes of its host by node, including its own. ports_of: the process that accepts connections to
    their port. routes, options: of the API.
    """
    siblings = {node: path for node, path in (sockets or {}).items() if node != id}
    dispatcher, distant, refused = Dispatcher(), RemoteViewerCounts(), RefusalLog()
    server = HttpServer(dispatcher, limits(), methods=("GET", "HEAD", "POST"))
    listening = listen("http", "127.0.0.1", 0)
    address = f"127.0.0.1:{port_of(listening)}" if ports_of is None else ports_of.address
    if sockets is not None:
        own = socket.socket(socket.AF_UNIX)
        own.bind(sockets[id])
        listening.append(own)
    locator = RegistryLocator(directory, lambda: siblings)  # type: ignore[arg-type]
    services = {REMOTE_VIEWERS: distant}
    async with (
        Peers(SECRET) as peers,
        Tasks(id) as tasks,
        ClusterClient(id, directory, locator, peers, siblings=lambda: siblings, clock=clock) as cluster,
        admin(folder, cluster=cluster, services=services, refusals=refused, routes=routes, **options) as api,
        NodeServer(api.context, routes) as node_server,
    ):
        tasks.start(locator.run())
        node = api.node
        processes = SiblingProcesses(id, peers, lambda: siblings, nobody)
        operations = GatewayOperations(
            processes,
            api.hub,
            channels=api.store,
            deleted=StoredDeletions(api.store),
            changed=api.context.changes.follow_other_node,
            names=_no_names,
            remote_viewers=distant,
            report=lambda: summary(node, api.metrics),
        )
        recorder = Recorder(api.hub, dict, lambda stream: {})
        diagnosis = DiagnosisOperations(processes, api.hub, recorder, Experience(api.metrics), refused, cast(Any, None))
        forwarded = ForwardedRequests(processes, node_server.connection)
        dispatcher.table = {**operations.table(), **diagnosis.table(), FORWARDED: forwarded.operate}
        await server.listen(listening)
        directory.members[id] = Node(
            id, NodeRole.GATEWAY, address, 1, shown=PORTS.registry_entry(f"{id}.example.com", since)
        )
        try:
            yield Member(id, api, cluster, distant, peers, operations, directory, address, dispatcher.asked, server)
        finally:
            await server.close()
