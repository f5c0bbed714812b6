"""Shares UDP ports between a process and its successor, until the sessions of the older process have ended.

Both processes have the same sockets, and only the newer one reads them. It passes datagrams for other sessions to the
older process on a Unix socket. If the successor ends, the older process reads again.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, cast

import structlog

from gateway.lib.tasks import Tasks
from gateway.listeners.datagrams import Address
from gateway.listeners.framing import MAX_FRAME, FrameReader, framed
from gateway.protocols.errors import RemoteProtocolError

log = structlog.get_logger(__name__)

_MAX_UNSENT: Final = 1_000_000  # bytes that wait for the older process; beyond that, datagrams are dropped
_TAKEN: Final = b"\x00"  # message of the older process: it no longer reads the ports
_TAKEN_SECONDS: Final = 2.0  # longest wait for this message
_SOCKETS: Final = 16  # of one port, at most: one for each address of its host


class SharedPort(Protocol):
    """A UDP port. older(index of the socket, address, datagram): passes a datagram on to the older process."""

    older: Callable[[int, Address, bytes], None] | None

    def pause_udp(self) -> None:
        """Stops reading the UDP sockets."""

    def resume_udp(self) -> None:
        """Reads the UDP sockets again."""

    def passed_on(self, index: int, address: Address, data: bytes, now: float) -> None:
        """Handles a datagram that the successor has read. index: of the socket; there may be no such socket."""


class Handover:
    """The connections of a process to the older process and to its successors. Call `open` before reading the ports.

    ports: at most 8, in the same order in both processes.
    path: the Unix socket of this process. earlier: returns the paths of earlier processes, newest first.
    """

    def __init__(self, ports: Sequence[SharedPort], path: Path, earlier: Callable[[], Iterable[Path]]) -> None:
        self._ports = ports
        self._path = path
        self._earlier = earlier
        self._tasks = Tasks("handover of the UDP ports")
        self._server: asyncio.Server | None = None
        self._older: _Older | None = None
        self._successors: set[_Successor] = set()
        self._closed = False

    async def open(self) -> None:
        """Takes the ports from the process before this one, and waits for a successor. Raises OSError."""
        await self._connect()
        self._path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Successor(self), str(self._path))

    async def close(self) -> None:
        """Ends all connections."""
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
                self._older = older
                for number, port in enumerate(self._ports):
                    port.older = partial(older.send, number)
                log.info("UDP ports are shared with the older process", socket=path.name)
                return
            older.close()

    # ---- called by the connections ----

    def older_ended(self, older: _Older) -> None:
        """Called when the process before this one has ended. Connects to the one before that, if any."""
        if self._older is older:
            self._older = None
            for port in self._ports:
                port.older = None
            if not self._closed:
                self._tasks.start(self._connect(), "connect")

    def successor_came(self, successor: _Successor) -> None:
        self._successors.add(successor)
        for port in self._ports:
            port.pause_udp()

    def successor_left(self, successor: _Successor) -> None:
        self._successors.discard(successor)
        if not self._successors and not self._closed:
            for port in self._ports:
                port.resume_udp()

    def passed_on(self, frame: bytes) -> None:
        """Handles a datagram of the successor. Raises RemoteProtocolError."""
        index, address, data = unpack(frame)
        number, index = divmod(index, _SOCKETS)
        if number < len(self._ports):
            self._ports[number].passed_on(index, address, data, time.monotonic())


class _Link(asyncio.Protocol):
    """The connection to another process."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Older(_Link):
    """The connection to the process before this one."""

    def __init__(self, handover: Handover) -> None:
        super().__init__(handover)
        self.taken = asyncio.Event()  # the older process no longer reads, or the connection is lost
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.taken.set()

    def send(self, number: int, index: int, address: Address, data: bytes) -> None:
        """Passes a datagram of a port on. Above the bound it is dropped, as on a network."""
        if index >= _SOCKETS:
            return
        transport = self._transport
        frame = pack(number * _SOCKETS + index, address, data)
        if transport is not None and len(frame) <= MAX_FRAME and transport.get_write_buffer_size() < _MAX_UNSENT:
            transport.write(framed((frame,)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self.taken.set()  # ends the wait in `_connect`
        self._handover.older_ended(self)


class _Successor(_Link):
    """The connection of the process that replaces this one."""

    def __init__(self, handover: Handover) -> None:
        super().__init__(handover)
        self._frames = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._handover.successor_came(self)
        cast(asyncio.Transport, transport).write(_TAKEN)

    def data_received(self, data: bytes) -> None:
        """Takes datagrams that the successor has read. Hot path while this replaced process has sessions."""
        try:
            for frame in self._frames.receive(data):
                self._handover.passed_on(frame)
        except RemoteProtocolError as error:
            log.error("the successor sent invalid data", reason=str(error))
            self.close()

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
