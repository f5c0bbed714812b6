"""One UDP socket for all peers: bounded reads, and writes with segmentation offload."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final, Literal, TypeAlias

import structlog

from gateway.webrtc.paths import Path

log = structlog.get_logger(__name__)

Address: TypeAlias = Any  # of recvfrom: (host, port) or (host, port, flow, scope)
Receive: TypeAlias = Callable[["UdpSocket", Address, bytes, float], None]

MAX_DATAGRAM: Final = 2_048  # bytes; longer ones are no WebRTC and arrive cut
_TURN_DATAGRAMS: Final = 64  # read in one turn of the event loop
_TURN_SECONDS: Final = 0.002
_BUFFER: Final = 8 << 20  # bytes, of the kernel in each direction. It uses its own maximum if that is less.
_UDP_SEGMENT: Final = 103  # linux/udp.h
_MAX_SEGMENTS: Final = 64  # UDP_MAX_SEGMENTS of the oldest kernels
_MAX_SEND: Final = 65_000  # bytes of all segments together: one IP packet
# The device or the path cannot take segments: the packets are sent one by one.
_NO_SEGMENTS: Final = frozenset({errno.EMSGSIZE, errno.EIO, errno.EINVAL, errno.EOPNOTSUPP})


class UdpSocket:
    """A bound socket that the event loop reads. receive: called with each datagram and the monotonic time."""

    __slots__ = ("_control", "_loop", "_receive", "_segments", "_socket")

    def __init__(self, opened: socket.socket, receive: Receive) -> None:
        self._socket = opened
        self._receive = receive
        self._segments = _has_segmentation(opened)
        self._control: dict[int, list[tuple[int, int, bytes]]] = {}  # by segment size; at most 2,048 sizes
        self._loop: asyncio.AbstractEventLoop | None = None
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            opened.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

    @property
    def segments(self) -> bool:
        """Whether several packets go to the kernel in one call."""
        return self._segments

    def start(self) -> None:
        """Begins to read."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)

    def pause(self) -> None:
        """Stops reading. Sending continues."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket)

    def close(self) -> None:
        self.pause()
        self._socket.close()

    def _readable(self) -> None:
        """Reads some datagrams. The event loop calls it again for the others."""
        recvfrom, receive, clock = self._socket.recvfrom, self._receive, time.monotonic
        until = clock() + _TURN_SECONDS
        for _ in range(_TURN_DATAGRAMS):
            try:
                data, address = recvfrom(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # an ICMP error of an earlier packet
                log.debug("udp receive failed", reason=str(error))
                return
            now = clock()
            receive(self, address, data, now)
            if now >= until or self._socket.fileno() < 0:
                return

    def send(self, packets: Sequence[bytes], address: Address) -> int:
        """Sends packets of at most 2,048 bytes. Returns how many the kernel took. Hot path.

        Packets of equal length, and a shorter one after them, go to the kernel in one call.
        """
        count = len(packets)
        if count == 1 or not self._segments:
            return self._send_each(packets, address)
        sendmsg = self._socket.sendmsg
        sent = 0
        while sent < count:
            size = len(packets[sent])
            end, last = sent + 1, min(count, sent + min(_MAX_SEGMENTS, _MAX_SEND // size))
            while end < last and len(packets[end]) == size:
                end += 1
            if end < last and len(packets[end]) < size:
                end += 1
            control = self._control.get(size) or self._new_control(size)
            try:
                sendmsg(packets[sent:end], control, 0, address)
            except OSError as error:
                if error.errno not in _NO_SEGMENTS:
                    return sent
                self._refused(error)
                done = self._send_each(packets[sent:end], address)
                if done < end - sent:
                    return sent + done
            sent = end
        return count

    def send_run(self, run: memoryview, size: int, address: Address) -> int:
        """Sends packets of `size` bytes, the last one maybe shorter, at most 64. Returns how many went. Hot path."""
        total = len(run)
        if total <= size:
            try:
                self._socket.sendto(run, address)
            except OSError:
                return 0
            return 1
        if self._segments:
            control = self._control.get(size) or self._new_control(size)
            try:
                self._socket.sendmsg((run,), control, 0, address)
                return -(-total // size)
            except OSError as error:
                if error.errno not in _NO_SEGMENTS:
                    return 0
                self._refused(error)
        return self._send_each([run[at : at + size] for at in range(0, total, size)], address)

    def _refused(self, error: OSError) -> None:
        """The kernel did not segment packets."""
        if error.errno == errno.EIO:
            self._segments = False
            log.warning("the network device cannot segment UDP packets: they are sent one by one")

    def _send_each(self, packets: Sequence[bytes | memoryview], address: Address) -> int:
        sendto = self._socket.sendto
        for number, packet in enumerate(packets):
            try:
                sendto(packet, address)
            except OSError:  # no buffer, no route, or forbidden: the caller counts the packets
                return number
        return len(packets)

    def _new_control(self, size: int) -> list[tuple[int, int, bytes]]:
        control = self._control[size] = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size))]
        return control


class UdpPath(Path):
    """A path over UDP."""

    __slots__ = ("_socket", "_to")

    protocol: ClassVar[Literal["udp", "tcp"]] = "udp"

    def __init__(self, udp: UdpSocket, address: Address, now: float) -> None:
        super().__init__(plain_address(address[0]), address[1], now)
        self._socket = udp
        self._to = address

    @property
    def key(self) -> tuple[UdpSocket, Address]:
        """Identifies the path among those of the endpoint."""
        return self._socket, self._to

    def send_run(self, run: memoryview, size: int) -> int:
        return self._socket.send_run(run, size, self._to)

    def _write(self, datagrams: Sequence[bytes]) -> int:
        return self._socket.send(datagrams, self._to)


def plain_address(host: str) -> str:
    """Returns the address without zone, and an IPv4 address in its own form."""
    host = host.partition("%")[0]
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def _has_segmentation(opened: socket.socket) -> bool:
    """Whether the kernel has UDP_SEGMENT (Linux 4.18)."""
    with suppress(OSError):
        opened.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
        return True
    return False
