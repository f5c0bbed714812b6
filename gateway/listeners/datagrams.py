"""Reads several datagrams of a UDP socket in one call of the kernel, with their times of arrival."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog

log = structlog.get_logger(__name__)

Address: TypeAlias = Any  # of recvfrom: (host, port) or (host, port, flow, scope)

MAX_DATAGRAM: Final = 2_048  # bytes; longer datagrams are cut, because WebRTC does not send them
MAX_READ: Final = 64  # datagrams of one read
MAX_BATCH: Final = 16  # datagrams of one address
_MAX_ADDRESSES: Final = 4_096  # addresses that are cached in the form of recvfrom
_MAX_WAITED: Final = 1.0  # seconds; an older arrival means that the wall clock was set
_SO_TIMESTAMPNS: Final = 35  # asm-generic/socket.h; also the type of the control message
_NAME_SIZE: Final = 32  # of sockaddr_in6, and more
# cmsghdr, timespec; cmsghdr, in_pktinfo or in6_pktinfo. The kernel writes them in this order.
_CONTROL: Final = struct.Struct("@NiiqQNii20s4x")
_STAMP_SIZE: Final = struct.calcsize("@NiiqQ")
# By the family of a socket: the level and the option that tell which address of ours was reached, and the type of the
# control message that has it (linux/in.h, linux/in6.h).
_REACHED: Final = {socket.AF_INET: (socket.IPPROTO_IP, 8, 8), socket.AF_INET6: (socket.IPPROTO_IPV6, 49, 50)}
# struct mmsghdr: name, its length, buffers, their number, control, its length, flags, and the length of the datagram.
_HEADER: Final = struct.Struct("@PIPNPNi0PI0P")
_LENGTHS: Final = struct.Struct("@8xI28xN4x4xI4x")  # of the name, of the control message, of the datagram
_BUFFER: Final = struct.Struct("@PN")  # struct iovec
_TRANSIENT: Final = frozenset({errno.EAGAIN, errno.EINTR})


class ReachedFrom(tuple[Any, ...]):
    """An address of `recvfrom` that has reached one of our addresses. It equals the plain address.

    source: the control message with which `sendmsg` sends from this address of ours. A machine may have several, of
    which the kernel would choose one by the route. Clients drop answers of an address that they have not called.
    """

    source: tuple[int, int, bytes]


def reached_from(address: Address, own: str) -> Address:
    """Returns an address with its `source`. own: the address of ours, of the same family."""
    family = socket.AF_INET6 if ":" in own else socket.AF_INET
    packed, (level, _, kind) = socket.inet_pton(family, own), _REACHED[family]
    found = ReachedFrom(address)
    # in6_pktinfo: address, interface; in_pktinfo: interface, own address, destination. 0: the route decides.
    found.source = level, kind, packed + bytes(4) if family == socket.AF_INET6 else bytes(4) + packed + bytes(4)
    return found


@dataclass(slots=True)
class Batch:
    """Datagrams of one address in the order in which they came, at most MAX_BATCH. arrivals: monotonic seconds."""

    address: Address
    datagrams: list[bytes]
    arrivals: list[float]


def datagram_reader(opened: socket.socket, keeps_order: bool = False) -> SingleReader | KernelBatchReader:
    """Returns the fastest reader that works here: `recvmmsg` needs Linux with 64 bits.

    keeps_order: whether the batches keep the order between addresses too. There are more of them then.
    """
    if sys.platform == "linux" and struct.calcsize("P") == 8 and sys.byteorder == "little":
        try:
            return KernelBatchReader(opened, keeps_order)
        except (AttributeError, OSError) as error:
            log.warning("datagrams are read one by one: recvmmsg is missing", reason=str(error))
    return SingleReader(opened, keeps_order)


class SingleReader:
    """Reads a socket that does not block with `recvfrom`. The time of arrival is the time of the read."""

    __slots__ = ("_keeps_order", "_socket")

    keeps_arrivals = False  # whether the kernel notes when a datagram comes

    def __init__(self, opened: socket.socket, keeps_order: bool = False) -> None:
        self._socket = opened
        self._keeps_order = keeps_order

    def read(self) -> tuple[list[Batch], int]:
        """Returns at most MAX_READ datagrams and their number. A smaller number means that the socket is empty.

        Datagrams of one address are in order.
        """
        recvfrom = self._socket.recvfrom
        received: list[tuple[Address, bytes, float]] = []
        try:
            while len(received) < MAX_READ:
                data, address = recvfrom(MAX_DATAGRAM)
                received.append((address, data, time.monotonic()))
        except (BlockingIOError, InterruptedError):
            pass  # the socket is empty
        except OSError as error:  # an ICMP error of an earlier packet
            log.debug("udp receive failed", reason=str(error))
        return _batches(received, self._keeps_order), len(received)


class KernelBatchReader:
    """Reads with `recvmmsg`. The kernel notes the arrivals, so a late read does not change them."""

    __slots__ = (
        "_addresses", "_control", "_data", "_empty", "_head", "_headers", "_keep", "_keeps_order", "_names",
        "_recvmmsg", "_socket",
    )  # fmt: skip

    keeps_arrivals = True

    def __init__(self, opened: socket.socket, keeps_order: bool = False) -> None:
        """Raises AttributeError or OSError if `recvmmsg` is missing or forbidden."""
        self._socket = opened
        self._keeps_order = keeps_order
        self._recvmmsg: Any = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
        opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        if opened.getsockname()[0] in ("0.0.0.0", "::"):
            level, option, _ = _REACHED[opened.family]
            with suppress(OSError):  # without it, answers come from the address that the kernel chooses
                opened.setsockopt(level, option, 1)
        sizes = (MAX_READ * MAX_DATAGRAM, MAX_READ * _NAME_SIZE, MAX_READ * _CONTROL.size, MAX_READ * _BUFFER.size)
        buffers = [ctypes.create_string_buffer(size) for size in (*sizes, MAX_READ * _HEADER.size)]
        data, names, control, vectors, head = map(ctypes.addressof, buffers)
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        self._data, self._names, self._control, _, headers = views
        for n in range(MAX_READ):
            _BUFFER.pack_into(buffers[3], n * _BUFFER.size, data + n * MAX_DATAGRAM, MAX_DATAGRAM)
        self._empty = b"".join(
            _HEADER.pack(
                names + n * _NAME_SIZE, _NAME_SIZE, vectors + n * _BUFFER.size, 1,
                control + n * _CONTROL.size, _CONTROL.size, 0, 0,
            )
            for n in range(MAX_READ)
        )  # fmt: skip
        self._head, self._headers = head, headers  # the address of the headers, and their bytes
        self._keep = buffers  # the kernel writes into them
        self._addresses: dict[bytes, Address] = {}
        headers[:] = self._empty
        peeks = socket.MSG_DONTWAIT | socket.MSG_PEEK
        if self._recvmmsg(opened.fileno(), self._head, 1, peeks, None) < 0 and ctypes.get_errno() not in _TRANSIENT:
            raise OSError(ctypes.get_errno(), "recvmmsg is not allowed")  # a sandbox

    def read(self) -> tuple[list[Batch], int]:
        """Returns datagrams like `SingleReader`. Hot path."""
        headers = self._headers
        headers[:] = self._empty
        count = self._recvmmsg(self._socket.fileno(), self._head, MAX_READ, socket.MSG_DONTWAIT, None)
        if count <= 0:
            error = ctypes.get_errno()
            if count and error not in _TRANSIENT:  # an ICMP error of an earlier packet
                log.debug("udp receive failed", reason=os.strerror(error))
            return [], 0
        return _batches(self._received(headers[: count * _HEADER.size]), self._keeps_order), count

    def _received(self, headers: memoryview) -> Iterator[tuple[Address, bytes, float]]:
        data, names = self._data, self._names
        now = time.monotonic()
        to_monotonic = now - time.time()
        earliest = now - _MAX_WAITED
        at, name_at = 0, 0
        stamps = _CONTROL.iter_unpack(self._control)
        for (name_size, control_size, size), stamp in zip(_LENGTHS.iter_unpack(headers), stamps, strict=False):
            arrival, own = now, b""
            if control_size >= _STAMP_SIZE and stamp[2] == _SO_TIMESTAMPNS:
                arrival = stamp[3] + stamp[4] * 1e-9 + to_monotonic
                if not earliest < arrival < now:
                    arrival = now
                if control_size > _STAMP_SIZE:
                    own = stamp[8]
            name = names[name_at : name_at + name_size].tobytes()
            address = self._addresses.get(name + own) or self._new_address(name, own)
            yield address, data[at : at + size].tobytes(), arrival
            at += MAX_DATAGRAM
            name_at += _NAME_SIZE

    def _new_address(self, name: bytes, own: bytes) -> Address:
        """Returns the address of a datagram. own: its `in_pktinfo` or `in6_pktinfo`; b"": not known."""
        if len(self._addresses) >= _MAX_ADDRESSES:
            self._addresses.clear()
        address = plain_sockaddr(name)
        if own and len(address) == 2:
            address = reached_from(address, socket.inet_ntop(socket.AF_INET, own[4:8]))
        elif own:
            address = reached_from(address, socket.inet_ntop(socket.AF_INET6, own[:16]))
        self._addresses[name + own] = address
        return address


def _batches(received: Iterable[tuple[Address, bytes, float]], keeps_order: bool) -> list[Batch]:
    """Groups datagrams by address, each with its time of arrival. Hot path."""
    batches: list[Batch] = []
    by_address: dict[Address, Batch] = {}
    for address, data, arrival in received:
        batch = by_address.get(address)
        if batch is None or len(batch.datagrams) == MAX_BATCH or (keeps_order and batch is not batches[-1]):
            batch = by_address[address] = Batch(address, [], [])
            batches.append(batch)
        batch.datagrams.append(data)
        batch.arrivals.append(arrival)
    return batches


def plain_sockaddr(name: bytes) -> Address:
    """Returns the address in a `sockaddr_in` or `sockaddr_in6`, in the form of `recvfrom`."""
    (family,) = struct.unpack_from("@H", name)
    (port,) = struct.unpack_from(">H", name, 2)
    if family == socket.AF_INET6:
        (flow,), (scope,) = struct.unpack_from(">I", name, 4), struct.unpack_from("@I", name, 24)
        return socket.inet_ntop(socket.AF_INET6, name[8:24]), port, flow, scope
    return socket.inet_ntop(socket.AF_INET, name[4:8]), port
