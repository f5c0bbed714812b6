"""The listeners of one process: pushes, playback HTTP(S) and admin; opened and closed together."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from gateway.app.channel_caches import ChannelCaches
from gateway.app.listener_options import http_limits
from gateway.app.node_parts import NodeParts
from gateway.channels.addresses import OpenPorts
from gateway.http.forwarded import Forwarded
from gateway.http.server import HttpServer
from gateway.ingest.admission import Admission
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.pending_connections import PendingConnections
from gateway.ingest.services import ListenerServices
from gateway.lib.metric_table import BYTES_OUT, REFUSED, MetricSample
from gateway.lib.sockets import Opener, listen, port_of, tls_context
from gateway.live.publisher import AcquirePublisher
from gateway.playback.play_format import PlayableStreams
from gateway.playback.protection import PlaybackProtection
from gateway.playback.router import PlaybackRouter
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.processes.sibling_server import SiblingServer

if TYPE_CHECKING:
    from gateway.cluster.node_endpoint import NodeEndpoint


class AdminServer(Protocol):
    """Answers at the admin port."""

    async def listen(self, sockets: Iterable[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Serves on listening sockets, which it closes at the end."""

    def retire(self) -> None:
        """Stops accepting, because another process has the port now."""

    async def close(self) -> None: ...


class NodeServers(Protocol):
    """Makes the servers for the ports of a gateway or an edge. The methods are called once, in this order.

    door, sums: for other nodes, and for other processes of this machine; None: there are none. Valid after `playback`.
    """

    lease: AcquirePublisher
    admission: Admission
    streams: PlayableStreams
    channels: ChannelCaches
    protection: PlaybackProtection
    door: NodeEndpoint | None
    sums: MetricsAggregator | None

    def open_pushes(self, services: ListenerServices) -> Sequence[OpenListeners]:
        """Binds the ports of the ingest protocols. Raises ListenError."""

    async def playback(self, ports: OpenPorts) -> PlaybackRouter:
        """Returns what answers players. ports: those that are open."""

    def admin(self) -> AdminServer: ...


class Listeners:
    """Opens all listeners of the settings. `ports` has the open ports after `open`."""

    def __init__(self, parts: NodeParts, servers: NodeServers) -> None:
        limits = parts.settings.limits
        self._parts = parts
        self._settings = parts.settings
        self._servers = servers
        self._pending = PendingConnections(limits.pending_per_address, limits.pending_bytes)
        self._pushes: Sequence[OpenListeners] = ()
        self._http: HttpServer | None = None
        self._admin: AdminServer | None = None
        self._siblings: SiblingServer | None = None
        self.ports = OpenPorts()

    async def open(self) -> None:
        """Binds every port first, so that a port in use leaves nothing half open. Then starts to accept.

        Raises ListenError.
        """
        settings, servers, seat = self._settings, self._servers, self._parts.seat
        tls = tls_context(settings.tls.cert, settings.tls.key) if settings.tls.cert is not None else None
        opener: Opener = listen if seat is None else seat.sockets
        self._pushes = servers.open_pushes(self._services(opener, tls))
        here = ("http", "https", "admin") if self._parts.first else ("http", "https")
        opened = {one.name: opener(one.name, one.host, one.port) for one in settings.listeners() if one.name in here}
        ports = {"admin": seat.ports["admin"]} if seat is not None else {}
        for listeners in self._pushes:
            ports |= listeners.ports
        self.ports = OpenPorts(**ports | {name: port_of(sockets) for name, sockets in opened.items()})
        self._http = self._playback(await servers.playback(self.ports))
        await self._http.listen(opened["http"])
        if tls is not None:
            await self._http.listen(opened["https"], tls)
        if self._siblings is not None:
            await self._siblings.open()
        if "admin" in opened:
            self._admin = servers.admin()
            await self._admin.listen(opened["admin"], tls if settings.admin.tls else None)
        for listeners in self._pushes:
            await listeners.start()

    def _services(self, opener: Opener, tls: ssl.SSLContext | None) -> ListenerServices:
        return ListenerServices(
            settings=self._settings,
            opener=opener,
            tls=tls,
            tasks=self._parts.tasks,
            lease=self._servers.lease,
            admission=self._servers.admission,
            pending=self._pending,
            streams=self._servers.streams,
            channels=self._servers.channels.cached,
            protection=self._servers.protection,
            ports=lambda: self.ports,
        )

    def _playback(self, router: PlaybackRouter) -> HttpServer:
        """Returns the server for players and other nodes. Makes the one for other processes of this machine too."""
        limits, forwarded = http_limits(self._settings), Forwarded(self._settings.http.forwarded_from)
        door, sums, slot = self._servers.door, self._servers.sums, self._parts.identity.slot
        if door is None:
            return HttpServer(router, limits, forwarded)
        router.add_folder("_node", door)
        if slot is not None and sums is not None:
            self._siblings = SiblingServer(slot, door, limits, sums.keep)
        return HttpServer(router, limits, forwarded, hidden_methods=("POST",), exempts=door.signed)

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of the listeners. Bytes of FLV and RTMP viewers are counted in their feeds."""
        yield MetricSample(BYTES_OUT, self._http.bytes_out if self._http is not None else 0, ("http",))
        servers = self._servers
        counts = {"publish": servers.admission.refused, "play": servers.protection.refused}
        if servers.door is not None:
            counts["node"] = servers.door.refused
        for what, reasons in counts.items():
            for reason, count in reasons.items():
                yield MetricSample(REFUSED, count, (what, reason))
        yield from self._pending.samples()

    def stop_accepting(self) -> None:
        """Refuses new publishers. Playback goes on until the streams end."""
        for listeners in self._pushes:
            listeners.close()

    def retire(self) -> None:
        """Stops accepting, because another process has these ports now. Open connections go on."""
        self.stop_accepting()
        if self._http is not None:
            self._http.retire()
        if self._admin is not None:
            self._admin.retire()

    async def finish(self) -> None:
        """Lets running answers and the last data for viewers finish, then closes the rest."""
        if self._http is not None:
            await self._http.close(grace=2.0)
        for listeners in self._pushes:
            await listeners.hang_up(grace=2.0)

    async def close(self) -> None:
        """Closes everything at once."""
        self.stop_accepting()
        if self._http is not None:
            await self._http.close()
        if self._admin is not None:
            await self._admin.close()
        if self._siblings is not None:
            await self._siblings.close()
