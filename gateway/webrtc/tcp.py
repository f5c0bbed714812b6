"""ICE-TCP (RFC 6544): connections that clients open to our passive candidates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Protocol, cast

from gateway.http.forwarded import plain_address
from gateway.lib.scheduled_reads import ReadScheduler, ScheduledReads
from gateway.lib.viewer_memory import ViewerMemory
from gateway.listeners.framing import FrameReader, framed
from gateway.protocols.errors import RemoteProtocolError
from gateway.webrtc.paths import Path

# Bytes that wait for a slow client. Above it packets are dropped: 1 s of 4 Mbit/s.
MAX_UNSENT: Final = 512 * 1024
_ROOM_FOR_CHECKS: Final = 16_384  # additional bytes for checks: without them, a slow client loses its consent
_EARLY_READ: Final = 2_050  # bytes of a read before the first check: one frame
_READ: Final = 16_384  # bytes of a later read: all of its frames are handled at once


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """The limits of all connections. stall_seconds: time without progress until a connection is closed; 0: never."""

    memory: ViewerMemory
    stall_seconds: float


class TcpOwner(Protocol):
    """The endpoint, as its TCP connections use it."""

    tcp_limits: TcpLimits

    def tcp_opened(self, connection: TcpConnection) -> bool:
        """Counts a new connection. Returns False if it must be closed."""

    def receive_frame(self, connection: TcpConnection, packet: bytes, now: float) -> bool:
        """Handles one packet. Returns False if the connection must be closed."""

    def tcp_lost(self, connection: TcpConnection) -> None: ...


class TcpConnection(ScheduledReads):
    """One connection. Its client is unknown until its first check. address: of the client."""

    __slots__ = ("_counted", "_frames", "_owner", "_progress_at", "_taken", "_written", "address", "port")

    def __init__(self, owner: TcpOwner, scheduler: ReadScheduler) -> None:
        super().__init__(scheduler, _EARLY_READ)
        self._owner = owner
        self._frames = FrameReader()
        self._transport: Any = None
        self._counted = 0  # waiting bytes that the memory of all viewers counts
        self._written = 0  # bytes
        self._taken = 0  # bytes that the kernel has taken
        self._progress_at = 0.0  # monotonic time at which `_taken` grew last
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
                if not self._owner.receive_frame(self, packet, now):
                    self.abort()
                    return
        except RemoteProtocolError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._count(0)
        self._owner.tcp_lost(self)

    def allow_large_reads(self) -> None:
        """Allows large reads, because the client has shown right credentials."""
        self.read_at_most(_READ)

    def write(self, packets: Sequence[bytes]) -> int:
        """Sends packets. Returns their number; 0 if too many bytes wait already, or the connection is lost.

        At most MAX_UNSENT bytes wait, and no more than are free in three quarters of the memory of all viewers. A
        client that reads nothing for `stall_seconds` meanwhile is disconnected.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return 0
        limits, now, waiting = self._owner.tcp_limits, time.monotonic(), transport.get_write_buffer_size()
        memory = limits.memory
        self._count(waiting)
        if not waiting or self._written - waiting > self._taken:
            self._taken, self._progress_at = self._written - waiting, now
        elif (stall := memory.stall_limit(limits.stall_seconds)) and now - self._progress_at > stall:
            self.abort()
            return 0
        is_check = packets[0][0] < 4  # RFC 7983: STUN
        # The last quarter is for players over HTTP and RTMP, which need each byte. WebRTC media would come too late.
        most = min(MAX_UNSENT, max(0, memory.left - memory.limit // 4))
        if waiting > most + (_ROOM_FOR_CHECKS if is_check else 0):
            return 0
        data = framed(packets)
        transport.write(data)
        self._written += len(data)
        self._count(waiting + len(data))
        return len(packets)

    def _count(self, waiting: int) -> None:
        """Notes how many bytes wait now."""
        self._owner.tcp_limits.memory.bytes += waiting - self._counted
        self._counted = waiting

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
