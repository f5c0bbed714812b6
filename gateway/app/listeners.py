"""The listeners of one process: pushes, playback HTTP(S) and admin; opened and closed together."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from gateway.app.node_parts import NodeParts
from gateway.channels.addresses import OpenPorts
from gateway.http.server import HttpServer
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.pending_connections import PendingConnections
from gateway.lib.metric_table import BYTES_OUT, REFUSED, MetricSample
from gateway.lib.sockets import Opener, listen, port_of, tls_context
from gateway.processes.sibling_server import SiblingServer
from gateway.processes.worker_link import WorkerLink


class AdminServer(Protocol):
    """Answers at the admin port."""

    async def listen(self, sockets: Iterable[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Serves on listening sockets, which it closes at the end."""

    def retire(self) -> None:
        """Stops accepting, because another process has the port now."""

    async def close(self) -> None: ...


class NodeServers(Protocol):
    """What answers at the ports of a gateway or an edge. The methods are called once, in this order.

    pending: bounds the connections that have shown no key yet.
    """

    pending: PendingConnections

    def open_pushes(self, opener: Opener, tls: ssl.SSLContext | None) -> Sequence[OpenListeners]:
        """Binds the ports of the ingest protocols. Raises ListenError."""

    async def playback(self, ports: OpenPorts) -> HttpServer:
        """Returns the server for playback. ports: those that are open."""

    def siblings(self) -> SiblingServer | None:
        """Returns the server for other processes of this machine; None: there are none."""

    def admin(self) -> AdminServer: ...

    @property
    def refused(self) -> Mapping[str, Mapping[str, int]]:
        """What was refused, by reason."""


class Listeners:
    """Opens all listeners of the settings. `ports` has the open ports after `open`.

    seat: a worker's link to its master, which has opened the ports.
    """

    def __init__(self, parts: NodeParts, servers: NodeServers, seat: WorkerLink | None = None) -> None:
        self._settings = parts.settings
        self._servers = servers
        self._seat = seat
        self._pushes: Sequence[OpenListeners] = ()
        self._http: HttpServer | None = None
        self._admin: AdminServer | None = None
        self._siblings: SiblingServer | None = None
        self.ports = OpenPorts()

    async def open(self) -> None:
        """Binds every port first, so that a port in use leaves nothing half open. Then starts to accept.

        Raises ListenError.
        """
        settings, servers = self._settings, self._servers
        tls = tls_context(settings.tls.cert, settings.tls.key) if settings.tls.cert is not None else None
        opener: Opener = listen if self._seat is None else self._seat.sockets
        self._pushes = servers.open_pushes(opener, tls)
        here = ("http", "https", "admin") if self._seat is None or self._seat.slot.first else ("http", "https")
        opened = {one.name: opener(one.name, one.host, one.port) for one in settings.listeners() if one.name in here}
        ports = {"admin": self._seat.ports["admin"]} if self._seat is not None else {}
        for listeners in self._pushes:
            ports |= listeners.ports
        self.ports = OpenPorts(**ports | {name: port_of(sockets) for name, sockets in opened.items()})
        self._http = await servers.playback(self.ports)
        await self._http.listen(opened["http"])
        if tls is not None:
            await self._http.listen(opened["https"], tls)
        self._siblings = servers.siblings()
        if self._siblings is not None:
            await self._siblings.open()
        if "admin" in opened:
            self._admin = servers.admin()
            await self._admin.listen(opened["admin"], tls if settings.admin.tls else None)
        for listeners in self._pushes:
            await listeners.start()

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of the listeners. Bytes of FLV and RTMP viewers are counted in their feeds."""
        yield MetricSample(BYTES_OUT, self._http.bytes_out if self._http is not None else 0, ("http",))
        for what, reasons in self._servers.refused.items():
            for reason, count in reasons.items():
                yield MetricSample(REFUSED, count, (what, reason))
        yield from self._servers.pending.samples()

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
