"""The slot of a TCP connection, with which the server counts and limits connections."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.tasks import Tasks


class SlotOwner(Protocol):
    """The part of the server that a slot uses."""

    scheduler: ReadScheduler
    tasks: Tasks

    def release(self, slot: ConnectionSlot) -> None:
        """Called when the connection is closed. Idempotent."""


@dataclass(slots=True, eq=False)
class ConnectionSlot:
    """One TCP connection. The server counts it from accept until `release`, also after a takeover.

    addresses: the peer and the client behind a proxy. The connection uses the quota of each.
    over_quota: whether its address already had too many connections.
    transport: None before the end of the TLS handshake.
    lent_by: the transport of an HTTP/2 connection, one of whose streams has the slot now; it stays after the stream.
    """

    _server: SlotOwner
    addresses: tuple[str, ...]
    over_quota: bool
    transport: asyncio.Transport | None = None
    lent_by: asyncio.Transport | None = None

    @property
    def scheduler(self) -> ReadScheduler:
        """The scheduler for a protocol that takes over the connection and is read in turns."""
        return self._server.scheduler

    @property
    def tasks(self) -> Tasks:
        """The tasks of the server, for a protocol that takes over the connection. The server logs their errors."""
        return self._server.tasks

    def release(self) -> None:
        """Called when the connection is closed. Idempotent."""
        if self.lent_by is not None:
            self.transport, self.lent_by = self.lent_by, None
        else:
            self._server.release(self)
