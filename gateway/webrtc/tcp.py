"""ICE-TCP (RFC 6544): connections that clients open to our passive candidates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal, Protocol, cast

from gateway.lib.scheduled_reads import LARGEST_READ, ReadScheduler, ScheduledReads
from gateway.protocols.errors import RemoteProtocolError
from gateway.webrtc.framing import FrameReader, framed
from gateway.webrtc.paths import Path
from gateway.webrtc.udp import plain_address

# Bytes that wait for a slow client. Above it packets are dropped: 1 s of 4 Mbit/s.
MAX_UNSENT: Final = 512 * 1024
_EARLY_READ: Final = 2_050  # bytes of a read before the first check: one frame


class TcpOwner(Protocol):
    """The endpoint."""

    def tcp_opened(self, connection: TcpConnection) -> bool:
        """Counts a new connection. Returns False if it must be closed."""

    def tcp_frame(self, connection: TcpConnection, packet: bytes, now: float) -> bool:
        """Handles one packet. Returns False if the connection must be closed."""

    def tcp_lost(self, connection: TcpConnection) -> None: ...


class TcpConnection(ScheduledReads):
    """A connection of an unknown client, until its first check. address: of the client."""

    __slots__ = ("_frames", "_owner", "address", "port")

    def __init__(self, owner: TcpOwner, scheduler: ReadScheduler) -> None:
        super().__init__(scheduler, _EARLY_READ)
        self._owner = owner
        self._frames = FrameReader()
        self._transport: Any = None
        self.address = ""
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not derived from asyncio's
        name = transport.get_extra_info("peername") or ("", 0)  # nothing if the client has gone already
        self.address, self.port = plain_address(name[0]), name[1]
        if not self._owner.tcp_opened(self):
            self._transport.abort()

    def bytes_received(self, data: bytes) -> None:
        now = time.monotonic()
        try:
            for packet in self._frames.receive(data):
                if not self._owner.tcp_frame(self, packet, now):
                    self.abort()
                    return
        except RemoteProtocolError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._owner.tcp_lost(self)

    def accepted(self) -> None:
        """The client has shown right credentials: reads may be large."""
        self.read_at_most(LARGEST_READ)

    def write(self, packets: Sequence[bytes]) -> int:
        """Sends packets. Returns their number; 0 if MAX_UNSENT bytes wait already, or the connection is lost."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > MAX_UNSENT:
            return 0
        transport.write(framed(packets))
        return len(packets)

    def close(self) -> None:
        """Closes after the unsent bytes."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()


class TcpPath(Path):
    """A path over one TCP connection. Its handshake has verified the address."""

    __slots__ = ("connection",)

    protocol: ClassVar[Literal["udp", "tcp"]] = "tcp"

    def __init__(self, connection: TcpConnection, now: float) -> None:
        super().__init__(connection.address, connection.port, now)
        self.connection = connection
        self.verified = True

    def _write(self, datagrams: Sequence[bytes]) -> int:
        return self.connection.write(datagrams)
