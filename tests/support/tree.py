"""Edges of one channel in one process: each pulls from a given node and serves other nodes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from gateway.channels.cached_channels import CachedChannels
from gateway.cluster.calls.node_endpoint import NodeEndpoint, PullableStreams
from gateway.cluster.files.http_cache_proxy import HttpCacheProxy
from gateway.cluster.files.upstream_client import UpstreamClient
from gateway.cluster.members.node_address import NodeAddress, StreamLocator
from gateway.cluster.members.node_authenticator import NodeAuthenticator
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams.browser_replicas import BrowserReplicas
from gateway.cluster.streams.replicas import Replicas
from gateway.http.server import HttpServer
from gateway.lib.metrics import Metrics
from gateway.lib.sockets import listen, port_of
from gateway.lib.tasks import Tasks
from gateway.live.output import OutputSpec
from gateway.live.shelf import StreamShelf
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.protection import PlaybackProtection
from gateway.settings.models import EdgeSettings
from proxy.edge.channel_edge import HEADER, ChannelEdge
from tests.support import builders
from tests.support.builders import channel
from tests.support.holders import SECRET
from tests.support.http import limits
from tests.support.playback import SECRETS, Channels, Idle


class Branch:
    """An edge of one channel. `cut` ends its connections, `die` also its listener."""

    def __init__(
        self, shelf: StreamShelf, replicas: Replicas, relay: HttpCacheProxy, server: HttpServer, port: int
    ) -> None:
        """Creates a branch. shelf: of the replicas."""
        self.shelf, self.replicas, self.relay, self.server, self.port = shelf, replicas, relay, server, port

    def place(self, claim: str = "k1") -> NodeAddress:
        return NodeAddress(f"e{self.port}", f"127.0.0.1:{self.port}", claim, edge=True)

    def cut(self) -> None:
        """Closes all connections."""
        for lease in list(self.server._slots):
            lease.transport.abort()

    async def die(self) -> None:
        """Closes the listener."""
        await self.server.close()
        self.cut()


@contextlib.asynccontextmanager
async def branch(where: StreamLocator, of: str = "c1", *, secret: str = SECRET) -> AsyncIterator[Branch]:
    """Runs an edge for channel `of`. secret: of the cluster. Players need a signature."""
    shelf = builders.shelf([OutputSpec("flv", lambda s: Idle(), lambda s: s.channel.flag("isFlv"))])
    audience = HttpViewers()
    protection = PlaybackProtection(auth="sign", referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=100)
    settings = EdgeSettings(upstream=(), cache=64_000_000, channel=of)
    channels = CachedChannels(Channels(channel("c1")))
    async with (
        Peers(secret, headers={HEADER: of}) as peers,
        Tasks("edge") as tasks,
        Replicas(shelf, where, peers) as replicas,
        HttpCacheProxy(UpstreamClient(where, peers), channels, protection, audience, settings) as relay,
    ):
        browser_replicas = BrowserReplicas(builders.shelf(), where, peers)
        given = ChannelEdge(of, replicas, browser_replicas, relay)
        endpoint = NodeEndpoint(
            NodeAuthenticator(secret, 0),
            SiblingProcesses("", peers),
            PullableStreams(None, Metrics("0").dropped, given.find_replica),
            channels,
            given.file,
            {},
        )
        server = HttpServer(
            lambda request: endpoint(request, request.path.removeprefix("/_node/")), limits(), hidden_methods=("POST",)
        )
        sockets = listen("http", "127.0.0.1", 0)
        port = port_of(sockets)
        await server.listen(sockets)
        tasks.start(shelf.run())
        try:
            yield Branch(shelf, replicas, relay, server, port)
        finally:
            await server.close()
            audience.close()


class Chain:
    """A `StreamLocator` that returns the first of its places that is not marked as lost."""

    def __init__(self, places: Sequence[NodeAddress]) -> None:
        self.places = list(places)
        self.lost_places: list[NodeAddress] = []

    def known(self, name: str) -> NodeAddress | None:
        return next(iter(self.places), None)

    async def find(self, name: str) -> NodeAddress | None:
        return self.known(name)

    def invalidate(self, name: str, node: NodeAddress) -> None:
        self.lost_places.append(node)
        if node in self.places:
            self.places.remove(node)


def times(items: Sequence[Any], kind: str = "video") -> list[int]:
    """The times of the units of one kind."""
    return [unit.dts for unit in items if str(unit.track.kind) == kind]
