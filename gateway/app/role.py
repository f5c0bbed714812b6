"""The parts of a node in which a gateway and an edge differ."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.app.viewer_parts import ViewerParts
from gateway.ingest.admission import Admission
from gateway.ingest.services import ListenerServices
from gateway.listeners.port_listener import OpenListeners
from gateway.live.publisher import AcquirePublisher
from gateway.live.shelf import StreamShelf
from gateway.playback.playable_streams import BrowserMedia, PlayableStreams
from gateway.playback.router import PlaybackRouter
from gateway.webrtc.signalling import RemoteSessions, Signalling

if TYPE_CHECKING:
    from gateway.cluster.calls.node_endpoint import NodeEndpoint
    from gateway.cluster.members.node_list import NodeList
    from gateway.processes.metrics_aggregator import MetricsAggregator


class AdminServer(Protocol):
    """The server on the admin port."""

    async def listen(self, sockets: Iterable[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Serves on listening sockets. Closes them at the end."""

    def retire(self) -> None:
        """Stops accepting connections, because another process now owns the port."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PlayedStreams:
    """The streams that viewers of this node play.

    of_browsers, browser_media: the streams and the media for viewers by WebRTC.
    remote_sessions: the WebRTC sessions of other processes; None: there are none.
    """

    streams: PlayableStreams
    of_browsers: PlayableStreams
    browser_media: BrowserMedia
    remote_sessions: RemoteSessions | None = None


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of the ports. They exist when the ports are open.

    admin: creates the server of the admin port, for the process that has it.
    node_endpoint: answers other nodes; None: a single node.
    metrics_aggregator: collects the metrics of sibling processes; None: a single process.
    """

    playback: PlaybackRouter
    admin: Callable[[], AdminServer]
    node_endpoint: NodeEndpoint | None = None
    metrics_aggregator: MetricsAggregator | None = None


class Role(Protocol):
    """A gateway or an edge with open services. shelf: has the streams that viewers play on this node."""

    ready: str = "ready"  # the log event when it serves
    ready_fields: Mapping[str, str] = {}  # additional fields of this event
    shelf: StreamShelf
    viewers: ViewerParts
    played: PlayedStreams
    admission: Admission
    acquire_publisher: AcquirePublisher | None = None  # None: an edge, whose `admission` refuses each push

    def open_pushes(self, services: ListenerServices) -> Sequence[OpenListeners]:
        """Binds the ports of the ingest protocols. Raises ListenError."""

    async def serve(self, sessions: Signalling) -> Servers:
        """Returns the servers. Called once, when all ports are open and `own_address` is known."""

    async def join(self) -> None:
        """Joins the cluster; called when the servers accept."""

    async def welcome(self) -> None:
        """Prints a first channel for the operator. Called in the first process, when all processes serve."""

    def retire(self) -> None:
        """Stops jobs that another process runs from now on. Connections continue."""

    @property
    def nodes(self) -> NodeList | None:
        """The other nodes; None without a registry."""

    def viewer_count(self) -> int:
        """Returns the number of viewers on this process."""
        return 0

    def is_needed(self) -> bool:
        """Returns whether there is a publisher or a viewer. A replaced process waits for them."""
        return False

    async def drain(self) -> None:
        """Tells publishers and viewers of other nodes' streams that this node ends."""

    async def flush(self) -> None:
        """Waits until all files of ended streams are finished and stored."""
