"""The slot of a TCP connection, with which the server counts and limits connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.tasks import Tasks


@dataclass(slots=True, eq=False)
class ConnectionSlot:
    """One TCP connection. The server counts it from accept until `release`, also after a takeover.

    addresses: the peer, unless it is a trusted proxy. client: behind this proxy, of a connection that is taken over.
        The connection uses the quota of each.
    over_quota: whether its address already had too many connections.
    scheduler, tasks: of the server, for a protocol that takes over the connection. The server logs the tasks' errors.
    transport: None before the end of the TLS handshake.
    lent_by: the transport of an HTTP/2 connection, one of whose streams has the slot now; it stays after the stream.
    """

    addresses: tuple[str, ...]
    over_quota: bool
    scheduler: ReadScheduler
    tasks: Tasks
    _release: Callable[[ConnectionSlot], None]
    transport: asyncio.Transport | None = None
    lent_by: asyncio.Transport | None = None
    client: str = ""

    def release(self) -> None:
        """Called when the connection is closed. Idempotent."""
        self._release(self)
