"""The place that one TCP connection takes in the server's counts."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.lib.scheduled_reads import ReadScheduler


class SlotOwner(Protocol):
    """The server, as a slot sees it."""

    scheduler: ReadScheduler

    def exempted(self, lease: ConnectionSlot) -> None:
        """Stops counting the connection for its addresses."""

    def left(self, lease: ConnectionSlot) -> None:
        """Called when the connection is closed. Idempotent."""


class ConnectionSlot:
    """One TCP connection as the server counts it: from accept until `release`, also after a takeover.

    counted: the addresses whose quota it uses: the peer's, and that of the client behind a proxy.
    over: its address had too many connections already. transport: None before the end of the TLS handshake.
    """

    __slots__ = ("_server", "counted", "over", "transport")

    def __init__(self, server: SlotOwner, counted: tuple[str, ...], over: bool) -> None:
        self._server = server
        self.transport: asyncio.Transport | None = None
        self.counted = counted
        self.over = over

    @property
    def scheduler(self) -> ReadScheduler:
        """The scheduler for a protocol that takes the connection over and is read in turns."""
        return self._server.scheduler

    def exempt(self) -> None:
        """Stops counting the connection: it belongs to another node, which needs many."""
        self._server.exempted(self)

    def release(self) -> None:
        """Called when the connection is closed. Idempotent."""
        self._server.left(self)
