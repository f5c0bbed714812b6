"""Shares a UDP port between a process and the one that replaces it, until the sessions of the first one have ended.

Both have the same sockets. Only the newer process reads them. It passes on what is not for its own peers, on a Unix
socket of the older one. An older process that loses its successor reads again.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, cast

import structlog

from gateway.lib.tasks import Tasks
from gateway.protocols.errors import RemoteProtocolError
from gateway.webrtc.datagrams import Address
from gateway.webrtc.framing import MAX_FRAME, FrameReader, framed

log = structlog.get_logger(__name__)

_MAX_UNSENT: Final = 1_000_000  # bytes that wait for the older process; beyond that, datagrams are dropped
_TAKEN: Final = b"\x00"  # the older process no longer reads
_TAKEN_SECONDS: Final = 2.0


class SharedPort(Protocol):
    """The endpoint. older: takes what is not for its peers: (index of the UDP socket, address, datagram)."""

    older: Callable[[int, Address, bytes], None] | None

    def pause_udp(self) -> None:
        """Stops reading the UDP sockets."""

    def resume_udp(self) -> None:
        """Reads the UDP sockets again."""

    def passed_on(self, index: int, address: Address, data: bytes, now: float) -> None:
        """Handles a datagram that the successor has read."""


class Handover:
    """Both sides of one process. `open` must be called before the endpoint reads its UDP sockets.

    path: of the socket of this process. earlier: returns those of the processes before it, newest first.
    """

    def __init__(self, port: SharedPort, path: Path, earlier: Callable[[], Iterable[Path]]) -> None:
        self._port = port
        self._path = path
        self._earlier = earlier
        self._tasks = Tasks("handover of the WebRTC port", _failed)
        self._server: asyncio.Server | None = None
        self._older: _Older | None = None
        self._successors: set[_Successor] = set()
        self._closed = False

    async def open(self) -> None:
        """Takes the port from the process before this one, and waits for a successor. Raises OSError."""
        await self._connect()
        self._path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Successor(self), str(self._path))

    async def close(self) -> None:
        """Ends both connections."""
        self._closed = True
        self._path.unlink(missing_ok=True)
        if self._server is not None:
            self._server.close()
        for successor in tuple(self._successors):
            successor.close()
        if self._older is not None:
            self._older.close()
        await self._tasks.close()

    async def _connect(self) -> None:
        """Connects to the newest process that still runs."""
        loop = asyncio.get_running_loop()
        for path in self._earlier():
            older = _Older(self)
            with suppress(OSError, TimeoutError):
                await loop.create_unix_connection(lambda: older, str(path))  # noqa: B023
                async with asyncio.timeout(_TAKEN_SECONDS):
                    await older.taken.wait()
            if older.taken.is_set() and not older.is_lost and not self._closed:
                self._older, self._port.older = older, older.send
                log.info("shares the WebRTC port with the process before", socket=path.name)
                return
            older.close()

    # ---- called by the connections ----

    def older_ended(self, older: _Older) -> None:
        """The process before this one has ended. One before it may still run."""
        if self._older is older:
            self._older = self._port.older = None
            if not self._closed:
                self._tasks.start(self._connect(), "connect")

    def successor_came(self, successor: _Successor) -> None:
        self._successors.add(successor)
        self._port.pause_udp()

    def successor_left(self, successor: _Successor) -> None:
        self._successors.discard(successor)
        if not self._successors and not self._closed:
            self._port.resume_udp()

    def passed_on(self, frame: bytes) -> None:
        """Handles a datagram of the successor. Raises RemoteProtocolError."""
        self._port.passed_on(*unpack(frame), time.monotonic())


class _Older(asyncio.Protocol):
    """The connection to the process before this one."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._transport: asyncio.Transport | None = None
        self.taken = asyncio.Event()
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.taken.set()

    def send(self, index: int, address: Address, data: bytes) -> None:
        """Passes a datagram on. Above the bound it is dropped, like on a network."""
        transport = self._transport
        frame = pack(index, address, data)
        if transport is not None and len(frame) <= MAX_FRAME and transport.get_write_buffer_size() < _MAX_UNSENT:
            transport.write(framed((frame,)))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self.taken.set()  # nobody waits any longer
        self._handover.older_ended(self)


class _Successor(asyncio.Protocol):
    """The connection of the process that replaces this one."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._handover.successor_came(self)
        self._transport.write(_TAKEN)

    def data_received(self, data: bytes) -> None:
        """Hot path while a replaced process has sessions."""
        try:
            for frame in self._frames.receive(data):
                self._handover.passed_on(frame)
        except RemoteProtocolError as error:
            log.error("the successor sent invalid data", reason=str(error))
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._handover.successor_left(self)


# A frame: index of the socket (1 byte), length of the host (1 byte), host, port (2 bytes); for IPv6 flow and scope
# (4 bytes each); the datagram. The index has its highest bit set for IPv6.
_V6: Final = 0x80


def pack(index: int, address: Address, data: bytes) -> bytes:
    """Returns a frame. index: of the UDP socket, below 128. address: of recvfrom."""
    host, port, *more = address
    name = str(host).encode("ascii")
    flags = index | _V6 if more else index
    numbers = struct.pack(">H", port) + (struct.pack(">II", *more) if more else b"")
    return bytes((flags, len(name))) + name + numbers + data


def unpack(frame: bytes) -> tuple[int, Any, bytes]:
    """Returns index, address and datagram. Raises RemoteProtocolError."""
    size = 2 + frame[1] + 2 if len(frame) > 1 else 2
    end = size + 8 if frame and frame[0] & _V6 else size
    if len(frame) < end:
        raise RemoteProtocolError("a frame without an address")
    try:
        host = frame[2 : size - 2].decode("ascii")
    except UnicodeDecodeError:
        raise RemoteProtocolError("a host that is not ASCII") from None
    port = int.from_bytes(frame[size - 2 : size], "big")
    more = tuple(int.from_bytes(frame[at : at + 4], "big") for at in range(size, end, 4))
    return frame[0] & ~_V6, (host, port, *more), frame[end:]


def _failed(name: str, error: BaseException) -> None:
    log.error("the handover of the WebRTC port failed", exc_info=error)
