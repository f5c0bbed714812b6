"""ChannelEdge: serves the streams of one channel to other nodes, so that they need not pull from the holder."""

from __future__ import annotations

from typing import Final

from gateway.channels.names import channel_of
from gateway.cluster.http_cache_proxy import HttpCacheProxy
from gateway.cluster.node_endpoint import NOT_HERE
from gateway.cluster.pull import PullSource
from gateway.cluster.replicas import Replicas
from gateway.http.request import Request
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.ports.errors import NoSuchStream

# Sent with every request of such an edge to another node. An edge of the same channel refuses these requests, so that
# edges do not pull from each other in a circle.
HEADER: Final = "x-millrace-edge-of"
_WAIT_SECONDS: Final = 3.0  # to wait for a stream that is not pulled yet


class ChannelEdge:
    """Serves one channel to other nodes. channel: its id; "" to serve none."""

    def __init__(self, channel: str, replicas: Replicas, relay: HttpCacheProxy) -> None:
        self._channel = channel
        self._replicas = replicas
        self._relay = relay

    async def units(self, request: Request, name: str) -> PullSource:
        """Lends a stream to another node. The `give` function of NodeEndpoint. Raises NoSuchStream, AtCapacity.

        Refuses requests for the original stream, because this edge only has a replica.
        """
        if not self._gives(request, name) or request.query.get("original") == "1":
            raise NoSuchStream(name)
        return await self._replicas.lend(name, _WAIT_SECONDS)

    def file(self, request: Request, name: str, path: str) -> AnswerOrAwaitable:
        """Answers a node's request for a file of a stream. The `files` function of NodeEndpoint."""
        return self._relay.given(request, name, path) if self._gives(request, name) else NOT_HERE

    def _gives(self, request: Request, name: str) -> bool:
        channel = channel_of(name)
        return channel == self._channel and request.headers.get(HEADER) != channel
