"""Edges of one channel in one process: each pulls from where it is told to, and gives what it pulls to other nodes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from gateway.hub.cache import CachedChannels
from gateway.hub.hub import Hub
from gateway.hub.output import OutputSpec
from gateway.lib.aio import Tasks
from gateway.lib.metrics import Metrics
from gateway.nodes.door import NodeDoor
from gateway.nodes.peers import Peers
from gateway.nodes.places import Place, Whereabouts
from gateway.nodes.relay import Relay
from gateway.nodes.replicas import Replicas
from gateway.servers.audience import Audience
from gateway.servers.http import HttpServer
from gateway.servers.listen import listen, port_of
from gateway.servers.protection import Protection
from gateway.settings.models import Edge as EdgeSettings
from proxy.given import HEADER, Given
from tests.support import builders
from tests.support.builders import channel
from tests.support.holders import SECRET, nowhere
from tests.support.http import limits
from tests.support.playback import SECRETS, Channels, Idle


class Branch:
    """An edge of one channel. `cut` ends its connections, `die` its listener too."""

    def __init__(self, hub: Hub, replicas: Replicas, relay: Relay, server: HttpServer, port: int) -> None:
        """hub: of the replicas."""
        self.hub, self.replicas, self.relay, self.server, self.port = hub, replicas, relay, server, port

    def place(self, claim: str = "k1") -> Place:
        return Place(f"e{self.port}", f"127.0.0.1:{self.port}", claim, edge=True)

    def cut(self) -> None:
        """Every connection breaks."""
        for lease in list(self.server._leases):
            lease.transport.abort()

    async def die(self) -> None:
        """Nobody listens any more."""
        await self.server.close()
        self.cut()


@contextlib.asynccontextmanager
async def branch(where: Whereabouts, of: str = "c1", *, secret: str = SECRET) -> AsyncIterator[Branch]:
    """An edge that was started for channel `of`. secret: of the cluster. Players would need a sign."""
    hub = builders.hub([OutputSpec("flv", lambda s: Idle(), lambda s: s.channel.is_flv)])
    audience = Audience()
    protection = Protection(
        auth="sign", referers=(), verify_play=SECRETS.verify_play, cloudfront=None, refusals_per_minute=100
    )
    settings = EdgeSettings(upstream=(), cache=64_000_000, stale=6, channel=of)
    channels = CachedChannels(Channels(channel("c1")))
    async with (
        Peers(secret, headers={HEADER: of}) as peers,
        Tasks("edge") as tasks,
        Replicas(hub, where, peers) as replicas,
        Relay(where, peers, channels, protection, audience, settings) as relay,
    ):
        given = Given(of, replicas, relay)
        door = NodeDoor(
            secret=secret,
            hub=builders.hub(),
            channels=channels,
            files=given.file,
            peers=peers,
            held=nowhere,
            operations={},
            dropped=Metrics("0").dropped,
            session=lambda stream: "",
            give=given.units,
        )
        server = HttpServer(
            lambda request: door(request, request.path.removeprefix("/_node/")), limits(), unshown=("POST",)
        )
        sockets = listen("http", "127.0.0.1", 0)
        port = port_of(sockets)
        await server.listen(sockets)
        tasks.start(hub.run())
        try:
            yield Branch(hub, replicas, relay, server, port)
        finally:
            await server.close()
            audience.close()


class Chain:
    """A Whereabouts that names the first of its places that was not lost."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = list(places)
        self.lost_places: list[Place] = []

    def known(self, name: str) -> Place | None:
        return next(iter(self.places), None)

    async def find(self, name: str) -> Place | None:
        return self.known(name)

    def lost(self, name: str, place: Place) -> None:
        self.lost_places.append(place)
        if place in self.places:
            self.places.remove(place)


def times(items: Sequence[Any], kind: str = "video") -> list[int]:
    """Of the units of one kind."""
    return [unit.dts for unit in items if str(unit.track.kind) == kind]
