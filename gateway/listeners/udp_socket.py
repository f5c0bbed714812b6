"""One UDP socket for all clients: bounded reads, and writes with segmentation offload."""

import asyncio
import errno
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

import structlog

from gateway.listeners.datagrams import MAX_READ, Address, Batch, datagram_reader

log = structlog.get_logger(__name__)

# Returns True if all datagrams were media of connected peers, which are cheap. Otherwise handles only the first one.
Receive: TypeAlias = Callable[["UdpSocket", Address, Sequence[bytes], Sequence[float]], bool]

_TURN_SECONDS: Final = 0.002  # of work in one turn of the event loop
# Seconds of a rest: an empty socket is not read while no client needs its packets at once. One read of many packets
# costs less than many reads.
_SHORTEST_REST: Final = 0.001
_BUFFERED: Final = 2_304  # bytes that a datagram takes in the kernel's buffer
_BUFFER_SHARE: Final = 4  # during a rest, at most a quarter of the buffer may be filled
_MOST_IN_REST: Final = 512  # datagrams that may arrive during a rest
_MAX_GROWTH: Final = 1.25  # a rest is at most this many times as long as the last one
_BUFFER: Final = 8 << 20  # bytes, of the kernel in each direction. It uses its own maximum if that is less.
_UDP_SEGMENT: Final = 103  # linux/udp.h
_MAX_SEGMENTS: Final = 64  # UDP_MAX_SEGMENTS of the oldest kernels
_MAX_SEND: Final = 65_000  # bytes of all segments together: one IP packet
# The device or the path cannot take segments: the packets are sent one by one.
_NO_SEGMENTS: Final = frozenset({errno.EMSGSIZE, errno.EIO, errno.EINVAL, errno.EOPNOTSUPP})


class UdpSocket:
    """A bound socket that the event loop reads.

    receive: called with the datagrams of one address that came one after the other, and their monotonic times. It
    returns False if it has handled the first one only.
    may_delay_reads: returns whether all clients tolerate a delay. If the last read had only media, and the kernel notes
    arrivals, then the socket is not read for up to `longest_rest` seconds (a rest).
    is_polled: whether the owner calls `read` all the time while reads may be delayed. Then an empty socket rests too.
    keeps_order: see `datagram_reader`.
    """

    __slots__ = (
        "_control", "_is_early", "_is_empty", "_is_media", "_is_polled", "_longest_rest", "_loop", "_may_delay_reads",
        "_most_in_rest", "_read_since_rest", "_reader", "_receive", "_rest", "_rest_seconds", "_socket",
        "_waiting", "segments",
    )  # fmt: skip

    def __init__(
        self,
        opened: socket.socket,
        receive: Receive,
        may_delay_reads: Callable[[], bool] = lambda: False,
        longest_rest: float = 0.05,
        is_polled: bool = False,
        keeps_order: bool = False,
    ) -> None:
        self._socket = opened
        self._receive = receive
        self._may_delay_reads = may_delay_reads
        self._is_polled = is_polled
        self.segments = _has_segmentation(opened)  # whether several packets go to the kernel in one call
        self._control: dict[int, list[tuple[int, int, bytes]]] = {}  # by segment size; at most 2,048 sizes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rest: asyncio.TimerHandle | None = None  # set while the event loop does not read
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            opened.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        room = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // _BUFFERED
        self._most_in_rest = max(1, min(_MOST_IN_REST, room // _BUFFER_SHARE))
        self._reader = datagram_reader(opened, keeps_order)
        self._rest_seconds = self._longest_rest = longest_rest  # the first one: of the last rest
        self._read_since_rest = 0  # number of datagrams
        self._is_early = False  # whether the last rest ended before its time, so its datagrams are too few
        self._waiting: deque[Batch] = deque()  # read, and not handled yet
        self._is_empty = self._is_media = False  # whether the last read emptied the socket, and read only media

    def start(self) -> None:
        """Begins to read."""
        self.pause()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)

    def pause(self) -> None:
        """Stops reading. Sending continues. Datagrams that wait are lost, as on a network."""
        self._waiting.clear()
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        elif self._loop is not None:
            self._loop.remove_reader(self._socket)
        self._loop = None

    def wake(self) -> None:
        """Ends a rest, because a client waits now."""
        if self._rest is not None and self._loop is not None:
            self._rest.cancel()
            self._rest = self._loop.call_later(0.0, self._readable)

    def read(self) -> None:
        """Ends a rest, and reads what came. An error of a peer is raised."""
        if self._rest is not None:
            self._rest.cancel()
            self._is_early = True
            self._readable()

    def close(self) -> None:
        self.pause()
        self._socket.close()

    def _readable(self) -> None:
        """Reads some datagrams, and decides when the next ones are read."""
        wait: float | None = 0.0
        try:
            wait = self._turn()
        finally:  # an error of one peer must not end the reading
            loop = self._loop
            if loop is None:
                pass  # paused or closed meanwhile
            elif wait is not None:
                if self._rest is None:
                    loop.remove_reader(self._socket)
                self._rest = loop.call_later(wait, self._readable)
            elif self._rest is not None:
                self._rest = None
                loop.add_reader(self._socket, self._readable)

    def _turn(self) -> float | None:
        """Handles datagrams for about 2 ms, at most 64.

        Returns the seconds until the next turn; None: the next datagram starts it.
        """
        receive, clock = self._receive, time.monotonic
        until = clock() + _TURN_SECONDS
        waiting = self._waiting
        if not waiting:
            batches, count = self._reader.read()
            self._is_empty = count < MAX_READ
            self._is_media = self._reader.keeps_arrivals and (count > 0 or self._is_polled)
            waiting.extend(batches)
            self._read_since_rest += count
        while waiting:
            batch = waiting.popleft()
            if not receive(self, batch.address, batch.datagrams, batch.arrivals):
                self._is_media = False
                if len(batch.datagrams) > 1:
                    waiting.appendleft(Batch(batch.address, batch.datagrams[1:], batch.arrivals[1:]))
            if waiting and clock() >= until:
                return 0.0
        if not self._is_empty:
            return 0.0
        count, self._read_since_rest = self._read_since_rest, 0
        if not self._is_media or not self._may_delay_reads():
            return None
        growth, self._is_early = 1.0 if self._is_early else _MAX_GROWTH, False
        rest = self._rest_seconds * min(growth, self._most_in_rest / max(1, count))
        self._rest_seconds = rest = min(self._longest_rest, max(_SHORTEST_REST, rest))
        return rest

    def send(self, packets: Sequence[bytes], address: Address) -> int:
        """Sends packets of at most 2,048 bytes. Returns how many the kernel took. Hot path.

        Packets of equal length, and a shorter one after them, go to the kernel in one call.
        """
        count = len(packets)
        if count == 1 or not self.segments:
            return self._send_each(packets, address)
        sendmsg, source = self._socket.sendmsg, getattr(address, "source", None)
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
                sendmsg(packets[sent:end], control if source is None else [*control, source], 0, address)
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
        """Sends the bytes of `run` as packets of `size` bytes, at most 64. Hot path.

        The last packet may be shorter. Returns how many packets were sent.
        """
        total = len(run)
        if total <= size:
            return self._send_each([run], address)
        if self.segments:
            control = self._control.get(size) or self._new_control(size)
            if (source := getattr(address, "source", None)) is not None:
                control = [*control, source]
            try:
                self._socket.sendmsg((run,), control, 0, address)
                return -(-total // size)
            except OSError as error:
                if error.errno not in _NO_SEGMENTS:
                    return 0
                self._refused(error)
        return self._send_each([run[at : at + size] for at in range(0, total, size)], address)

    def _refused(self, error: OSError) -> None:
        """Notes that the kernel did not segment packets."""
        if error.errno == errno.EIO:
            self.segments = False
            log.warning("the network device cannot segment UDP packets: they are sent one by one")

    def _send_each(self, packets: Sequence[bytes | memoryview], address: Address) -> int:
        sendto, source = self._socket.sendto, getattr(address, "source", None)
        for number, packet in enumerate(packets):
            try:
                if source is None:
                    sendto(packet, address)
                else:
                    self._socket.sendmsg((packet,), (source,), 0, address)
            except OSError:  # no buffer, no route, or forbidden: the caller counts the packets
                return number
        return len(packets)

    def _new_control(self, size: int) -> list[tuple[int, int, bytes]]:
        control = self._control[size] = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size))]
        return control


def _has_segmentation(opened: socket.socket) -> bool:
    """Whether the kernel has UDP_SEGMENT (Linux 4.18)."""
    with suppress(OSError):
        opened.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
        return True
    return False
