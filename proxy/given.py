"""Given: what an edge that was started for one channel gives to other nodes, so that they need not ask its holder."""

from __future__ import annotations

from typing import Final

from gateway.hub.errors import NoSuchStream
from gateway.hub.names import channel_of
from gateway.nodes.door import NOT_HERE
from gateway.nodes.pulling import Source
from gateway.nodes.relay import Relay
from gateway.nodes.replicas import Replicas
from gateway.servers.playback import Answering
from gateway.servers.request import Request

# Of every request of such an edge to another node. Whoever is taken for the holder and is an edge of the same channel
# says no: edges do not pull from each other in a circle.
HEADER: Final = "x-millrace-edge-of"
_WAIT_SECONDS: Final = 3.0  # until a stream that is not pulled yet has to have come


class Given:
    """channel: the only one that is given; "": none is."""

    def __init__(self, channel: str, replicas: Replicas, relay: Relay) -> None:
        self._channel = channel
        self._replicas = replicas
        self._relay = relay

    async def units(self, request: Request, name: str) -> Source:
        """A door's Give. A replica is no original. Raises NoSuchStream, AtCapacity."""
        if not self._gives(request, name) or request.query.get("original") == "1":
            raise NoSuchStream(name)
        return await self._replicas.lend(name, _WAIT_SECONDS)

    def file(self, request: Request, name: str, path: str) -> Answering:
        """One of a door's Files."""
        return self._relay.given(request, name, path) if self._gives(request, name) else NOT_HERE

    def _gives(self, request: Request, name: str) -> bool:
        channel = channel_of(name)
        return channel == self._channel and request.headers.get(HEADER) != channel
