"""Nodes in one process: a holder with its door on a port, and what pulls from it or pushes to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from gateway.hub.hub import Hub
from gateway.hub.output import OutputSpec
from gateway.hub.publisher import Publisher
from gateway.lib.aio import Tasks
from gateway.lib.metrics import Metrics
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.nodes.door import NodeDoor, Operation
from gateway.nodes.peers import Peers
from gateway.nodes.places import Place
from gateway.nodes.replicas import Replicas
from gateway.protocols.nodes import Hello
from gateway.servers.http import HttpServer
from gateway.servers.listen import listen, port_of
from gateway.servers.request import Request
from gateway.servers.response import Response, text
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, channel, picture, publish, sound
from tests.support.http import limits
from tests.support.playback import Channels, Idle

SECRET = "the cluster's"


class Holder:
    """A node that holds streams. `cut` ends its connections, `stop` its listener too."""

    def __init__(self, hub: Hub, server: HttpServer, port: int, metrics: Metrics) -> None:
        self.hub, self.server, self.port, self.metrics = hub, server, port, metrics
        self.session = "s1"
        self._dts = 0

    def place(self, claim: str = "k1") -> Place:
        return Place(f"n{self.port}", f"127.0.0.1:{self.port}", claim)

    def live(self, name: str = "c1", **fields: Any) -> Publisher:
        """A publisher that has sent a key frame."""
        publisher = publish(self.hub, name, **fields)
        publisher.set_tracks(VIDEO, AUDIO, {"encoder": "test"})
        self.push(publisher, key=True)
        return publisher

    def push(self, publisher: Publisher, *, key: bool = False, size: int = 100) -> None:
        publisher.push(picture(self._dts, key=key, size=size), time.monotonic())
        publisher.push(sound(self._dts), time.monotonic())
        self._dts += 40

    def cut(self) -> None:
        """Every connection breaks."""
        for lease in list(self.server._leases):
            lease.transport.abort()

    @property
    def pulls(self) -> int:
        """Connections that are open."""
        return len(self.server)


async def nowhere(name: str) -> Place | None:
    return None


@contextlib.asynccontextmanager
async def holder(
    *,
    secret: str = SECRET,
    held: Callable[[str], Awaitable[Place | None]] = nowhere,
    operations: Mapping[str, Operation] | None = None,
    clock: Callable[[], float] = time.time,
    server: Mapping[str, Any] | None = None,
    **bounds: Any,
) -> AsyncIterator[Holder]:
    """One that runs. server: limits of its listener; bounds: of its hub."""
    hub, metrics = (
        builders.hub([OutputSpec("flv", lambda s: Idle(), lambda s: s.channel.is_flv)], **bounds),
        Metrics("0"),
    )

    def files(request: Request, name: str, path: str) -> Response:
        return text(200, f"{name} {path}") if hub.find(name) is not None else text(404, f"{name} is not live")

    async with Peers(SECRET) as peers, Tasks("holder") as tasks:
        door = NodeDoor(
            secret=secret,
            hub=hub,
            channels=Channels(channel("c1"), channel("c2")),
            files=files,
            peers=peers,
            held=held,
            operations=operations or {},
            dropped=metrics.dropped,
            session=lambda stream: one.session,
            clock=clock,
        )
        listener = HttpServer(
            lambda request: door(request, request.path.removeprefix("/_node/")),
            limits(**(server or {})),
            unshown=("POST",),
            exempts=door.signed,
        )
        sockets = listen("http", "127.0.0.1", 0)
        one = Holder(hub, listener, port_of(sockets), metrics)
        await listener.listen(sockets)
        tasks.start(hub.run())
        try:
            yield one
        finally:
            await listener.close()


class Taken:
    """A Receiver that wants nothing."""

    def hello(self, hello: Hello) -> None: ...

    def channel(self, told: Mapping[str, Any]) -> None: ...

    def tracks(self, tracks: Tracks) -> None: ...

    def unit(self, unit: AccessUnit) -> None: ...

    def timed(self, timed: Timed) -> None: ...


class Known:
    """A Whereabouts that a test sets."""

    def __init__(self, place: Place | None = None) -> None:
        self.place = place
        self.lost_places: list[Place] = []

    def known(self, name: str) -> Place | None:
        return self.place

    async def find(self, name: str) -> Place | None:
        await asyncio.sleep(0)
        return self.place

    def lost(self, name: str, place: Place) -> None:
        self.lost_places.append(place)


class Puller:
    """A node that plays what others hold."""

    def __init__(self, replicas: Replicas, hub: Hub, where: Known) -> None:
        self.replicas, self.hub, self.where = replicas, hub, where


@contextlib.asynccontextmanager
async def puller(where: Known, **bounds: Any) -> AsyncIterator[Puller]:
    hub = builders.hub([OutputSpec("flv", lambda s: Idle(), lambda s: s.channel.is_flv)], **bounds)
    async with Peers(SECRET) as peers, Tasks("puller") as tasks, Replicas(hub, where, peers) as replicas:
        tasks.start(hub.run())
        yield Puller(replicas, hub, where)
