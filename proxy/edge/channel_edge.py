"""Serves streams to other nodes: those of one channel, or all to the nodes of its site.

This reduces the load on the node that holds a stream, and on the line to it.
"""

from dataclasses import dataclass
from typing import Final

from gateway.channels.names import channel_of
from gateway.cluster.calls.node_endpoint import NOT_HERE
from gateway.cluster.files.http_cache_proxy import HttpCacheProxy
from gateway.cluster.streams.browser_replicas import BrowserReplicas
from gateway.cluster.streams.pull import UnitSource
from gateway.cluster.streams.replicas import Replicas
from gateway.http.request import Request
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.ports.errors import NoSuchStream

# An edge of one channel sends this header with every request to another node. Other edges of that channel reject these
# requests, so that edges do not pull from each other in a circle.
HEADER: Final = "x-millrace-edge-of"
_WAIT_SECONDS: Final = 3.0  # maximum wait for a stream that is not pulled yet


@dataclass(frozen=True, slots=True)
class ChannelEdge:
    """Serves streams to other nodes. channel: the id of the only channel; "" for another edge.

    serves: whether other nodes may read all streams. EdgeSelector prevents circles among such edges.
    """

    channel: str
    replicas: Replicas
    browser_replicas: BrowserReplicas
    http_cache: HttpCacheProxy
    serves: bool = False

    async def find_replica(self, request: Request, name: str) -> UnitSource:
        """Returns a replica for another node's pull. Implements node_endpoint.FindReplica.

        Rejects requests for the original stream, because this edge only has a replica. Raises NoSuchStream,
        AtCapacity.
        """
        if not self._may_serve(request, name) or request.query.get("original") == "1":
            raise NoSuchStream(name)
        form = request.query.get("form")  # of the stream converted for WebRTC viewers; None: the stream itself
        if form is not None:
            return await self.browser_replicas.pull_source(name, form, _WAIT_SECONDS)
        return await self.replicas.pull_source(name, _WAIT_SECONDS)

    def file(self, request: Request, name: str, path: str) -> AnswerOrAwaitable:
        """Answers a node's request for a file of a stream. Implements node_endpoint.Files."""
        return self.http_cache.file_for_node(request, name, path) if self._may_serve(request, name) else NOT_HERE

    def _may_serve(self, request: Request, name: str) -> bool:
        channel = channel_of(name)
        return self.serves or (channel == self.channel and request.headers.get(HEADER) != channel)
