"""The slot of a TCP connection, with which the server counts and limits connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.tasks import Tasks

if TYPE_CHECKING:
    from gateway.http.server import HttpServer


class ConnectionSlot:
    """One TCP connection. The server counts it from accept until `release`, also after a takeover.

    addresses: the peer and the client behind a proxy. The connection uses the quota of each.
    over_quota: whether its address already had too many connections.
    transport: None before the end of the TLS handshake.
    """

    __slots__ = ("_server", "addresses", "over_quota", "transport")

    def __init__(self, server: HttpServer, addresses: tuple[str, ...], over_quota: bool) -> None:
        self._server = server
        self.transport: asyncio.Transport | None = None
        self.addresses = addresses
        self.over_quota = over_quota

    @property
    def scheduler(self) -> ReadScheduler:
        """The scheduler for a protocol that takes over the connection and is read in turns."""
        return self._server.scheduler

    @property
    def tasks(self) -> Tasks:
        """The tasks of the server, for a protocol that takes over the connection. The server logs their errors."""
        return self._server.tasks

    def exempt(self) -> None:
        """Stops counting the connection: it belongs to another node, which needs many."""
        self._server.exempt(self)

    def release(self) -> None:
        """Called when the connection is closed. Idempotent."""
        self._server.release(self)
