"""Nodes in one process: a holder with a listener, and nodes that pull from it or push to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from gateway.cluster.calls.node_endpoint import HeldStreams, NodeEndpoint, Operation, PullableStreams
from gateway.cluster.members.node_address import NodeAddress
from gateway.cluster.members.node_authenticator import NodeAuthenticator
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams.pull import UnitSource
from gateway.cluster.streams.replicas import Replicas
from gateway.http.request import Request
from gateway.http.response import Response, text
from gateway.http.server import HttpServer
from gateway.lib.clocks import Clocks
from gateway.lib.metrics import Metrics
from gateway.lib.sockets import listen, port_of
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import StreamPublisher
from gateway.live.shelf import StreamShelf
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, TimedData, Tracks
from gateway.ports.errors import NoSuchStream
from gateway.protocols.nodes import Hello
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, channel, picture, publish, sound
from tests.support.http import limits
from tests.support.playback import Channels, Idle

SECRET = "the cluster's"


class Holder:
    """A node that holds streams. `cut` ends its connections, `stop` also its listener."""

    def __init__(self, hub: Hub, server: HttpServer, port: int, metrics: Metrics, endpoint: NodeEndpoint) -> None:
        self.hub, self.server, self.port, self.metrics, self.endpoint = hub, server, port, metrics, endpoint
        self.session = "s1"
        self._dts = 0

    def place(self, claim: str = "k1") -> NodeAddress:
        return NodeAddress(f"n{self.port}", f"127.0.0.1:{self.port}", claim)

    def live(self, name: str = "c1", **fields: Any) -> StreamPublisher:
        """A publisher that has already sent a key frame."""
        publisher = publish(self.hub, name, **fields)
        publisher.set_tracks(VIDEO, AUDIO, {"encoder": "test"})
        self.push(publisher, key=True)
        return publisher

    def push(self, publisher: StreamPublisher, *, key: bool = False, size: int = 100) -> None:
        publisher.push(picture(self._dts, key=key, size=size), time.monotonic())
        publisher.push(sound(self._dts), time.monotonic())
        self._dts += 40

    def cut(self) -> None:
        """Closes all connections."""
        for lease in list(self.server._slots):
            lease.transport.abort()

    @property
    def pulls(self) -> int:
        """The number of open connections."""
        return len(self.server)


async def nowhere(name: str) -> NodeAddress | None:
    return None


@contextlib.asynccontextmanager
async def holder(
    *,
    secret: str = SECRET,
    held: Callable[[str], Awaitable[NodeAddress | None]] = nowhere,
    operations: Mapping[str, Operation] | None = None,
    clock: Callable[[], float] = time.time,
    server: Mapping[str, Any] | None = None,
    refusals: int = 0,
    **bounds: Any,
) -> AsyncIterator[Holder]:
    """Runs a holder. server: limits of its listener; bounds: limits of its hub."""
    hub, metrics = (
        builders.hub([OutputSpec("flv", lambda s: Idle(), lambda s: s.channel.flag("isFlv"))], **bounds),
        Metrics("0"),
    )

    def files(request: Request, name: str, path: str) -> Response:
        return text(200, f"{name} {path}") if hub.find(name) is not None else text(404, f"{name} is not live")

    async with Peers(SECRET) as peers, Tasks("holder") as tasks:
        endpoint = NodeEndpoint(
            NodeAuthenticator(secret, refusals, Clocks(clock)),
            SiblingProcesses("", peers, node_with=held),
            PullableStreams(HeldStreams(hub, lambda stream: one.session, no_form), metrics.dropped),
            Channels(channel("c1"), channel("c2")),
            files,
            {} if operations is None else operations,
        )
        listener = HttpServer(
            lambda request: endpoint(request, request.path.removeprefix("/_node/")),
            limits(**(server or {})),
            hidden_methods=("POST",),
            exempts=endpoint.is_signed,
        )
        sockets = listen("http", "127.0.0.1", 0)
        one = Holder(hub, listener, port_of(sockets), metrics, endpoint)
        await listener.listen(sockets)
        tasks.start(hub.run())
        try:
            yield one
        finally:
            await listener.close()


class Taken:
    """A receiver that ignores everything."""

    def hello(self, hello: Hello) -> None: ...

    def channel(self, told: Mapping[str, Any]) -> None: ...

    def tracks(self, tracks: Tracks) -> None: ...

    def unit(self, unit: AccessUnit) -> None: ...

    def timed(self, timed: TimedData) -> None: ...


class Known:
    """A `StreamLocator` with a place set by the test."""

    def __init__(self, place: NodeAddress | None = None) -> None:
        self.place = place
        self.lost_places: list[NodeAddress] = []

    def known(self, name: str) -> NodeAddress | None:
        return self.place

    async def find(self, name: str) -> NodeAddress | None:
        await asyncio.sleep(0)
        return self.place

    def invalidate(self, name: str, node: NodeAddress) -> None:
        self.lost_places.append(node)


def no_form(stream: Stream, session: str, name: str) -> UnitSource:
    raise NoSuchStream(stream.name)


class Puller:
    """A node that plays streams of other nodes."""

    def __init__(self, replicas: Replicas, shelf: StreamShelf, where: Known) -> None:
        self.replicas, self.shelf, self.where = replicas, shelf, where


@contextlib.asynccontextmanager
async def puller(where: Known, **bounds: Any) -> AsyncIterator[Puller]:
    shelf = builders.shelf([OutputSpec("flv", lambda s: Idle(), lambda s: s.channel.flag("isFlv"))], **bounds)
    async with Peers(SECRET) as peers, Tasks("puller") as tasks, Replicas(shelf, where, peers) as replicas:
        tasks.start(shelf.run())
        yield Puller(replicas, shelf, where)
