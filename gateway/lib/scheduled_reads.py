"""Reads busy connections in turns, so that other connections are served in between.

All connections of the process share one small read buffer. Without this, uvloop would read 32 times 256 kB from one
socket before it serves another.
"""

import asyncio
import os
import ssl
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar, Final, cast

TURN_SECONDS: Final = 0.004  # time for all waiting connections in one turn of the loop
SLICE_SECONDS: Final = 0.001  # work of one connection before it must wait
DISCARD_SECONDS: Final = 0.0002  # cost to copy the discarded bytes of a full read
LARGEST_READ: Final = 98_304  # bytes; size of the shared buffer, and MERGED_SECONDS of 3.9 Mbit/s
SMALLEST_READ: Final = 1024  # bytes; minimum for connections with expensive bytes
_UNTIMED_BYTES: Final = 1024  # bytes; smaller reads of requests are not timed
MERGED_SECONDS: Final = 0.2  # pause between two reads of a connection with merged reads

# The buffer is filled and copied in one call, so that no connection gets bytes of another one.
_buffer: Final = memoryview(bytearray(LARGEST_READ))


def shared_view(size: int) -> memoryview:
    """Returns the first `size` bytes of the shared buffer, for subclasses that need a cheap `get_buffer`."""
    return _buffer[:size]


class ReadScheduler:
    """Resumes busy connections in the order in which they began to wait.

    Each turn of the event loop resumes at least one connection. It continues until the cost of their last reads reaches
    `turn_seconds`. So they delay other work by about this time per turn. Connections with merged reads
    join the queue after MERGED_SECONDS.
    """

    __slots__ = ("_merging", "_scheduled", "_turn_seconds", "_waiting")

    def __init__(self, turn_seconds: float = TURN_SECONDS) -> None:
        self._turn_seconds = turn_seconds
        self._waiting: deque[tuple[Callable[[], None], float]] = deque()  # function to call, cost
        self._scheduled = False
        self._merging: deque[tuple[float, Callable[[], None], float]] = deque()  # due time, function to call, cost

    def __len__(self) -> int:
        """Returns the number of connections in both queues."""
        return len(self._waiting) + len(self._merging)

    def wait_to_merge(self, resume: Callable[[], None], cost: float) -> None:
        """Calls `resume` in a turn after MERGED_SECONDS. cost: seconds that the last read needed."""
        loop = asyncio.get_running_loop()
        self._merging.append((loop.time() + MERGED_SECONDS, resume, cost))
        if len(self._merging) == 1:
            loop.call_later(MERGED_SECONDS, self._queue_merged)

    def _queue_merged(self) -> None:
        loop = asyncio.get_running_loop()
        merging = self._merging
        until = loop.time() + MERGED_SECONDS / 20  # includes connections that are due soon, which saves wake-ups
        while merging and merging[0][0] <= until:
            _, resume, cost = merging.popleft()
            self.wait(resume, cost)
        if merging:
            loop.call_later(merging[0][0] - loop.time(), self._queue_merged)

    def wait(self, resume: Callable[[], None], cost: float) -> None:
        """Calls `resume` in a later turn of the event loop. cost: seconds that the last reads needed."""
        self._waiting.append((resume, cost))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        left = self._turn_seconds
        waiting = self._waiting
        try:
            while waiting and left > 0:
                resume, cost = waiting.popleft()
                left -= cost
                resume()
        finally:  # an error of one connection must not delay the others
            self._scheduled = bool(waiting)
            if waiting:
                asyncio.get_running_loop().call_soon(self._turn)


class ScheduledReads(asyncio.BufferedProtocol):
    """A connection that is read in turns. Subclasses implement `bytes_received` and set `_transport`.

    `read_at_most` limits one read in bytes (at most LARGEST_READ), and so the work of one call. If a read costs more
    than a slice, the next ones are half as large, down to SMALLEST_READ. Cheap reads grow again.
    The owner calls `hold_reading` and `release_reading` for back-pressure.
    """

    __slots__ = (
        *("_discards", "_fd", "_is_reading", "_max_read", "_merges", "_read_held", "_read_size", "_read_waits"),
        *("_scheduler", "_slice_used", "_transport", "_view"),
    )

    _transport: Any  # an asyncio.Transport, or a similar one of uvloop; None after the connection is lost

    def __init__(self, scheduler: ReadScheduler, read_size: int) -> None:
        self._scheduler = scheduler
        self._max_read = read_size
        self._set_read_size(read_size)
        self._is_reading = True  # whether the transport reads
        self._read_held = False
        self._read_waits = False
        self._discards = False
        self._merges = False
        self._fd = -1  # the socket's descriptor, known when reads are merged
        self._slice_used = 0.0  # seconds of work since the socket was last empty or the connection last waited

    @abstractmethod
    def bytes_received(self, data: bytes) -> None:
        """Handles the bytes of one read."""

    def read_at_most(self, size: int) -> None:
        """Limits the following reads, in bytes: small for an unknown client, large for an accepted one.

        If the limit increases, cheap reads grow up to it.
        """
        self._max_read = size
        self._set_read_size(min(self._read_size, size))

    def discard_reads(self) -> None:
        """Discards all additional bytes of the client. The end of the connection is still noticed."""
        self._discards = True
        self._max_read = LARGEST_READ
        self._set_read_size(LARGEST_READ)
        self.release_reading()

    def merge_reads(self, merges: bool) -> None:
        """Sets whether an empty socket is not read for MERGED_SECONDS, so that one read returns several units.

        Use it for bytes that are not urgent: five reads a second cost a third of one read for each unit. They read the
        socket directly: that saves two changes of the poll and a copy. Do not use it below TLS, because TLS records are
        read one by one.
        """
        if merges and self._fd < 0:
            self._fd = self._transport.get_extra_info("socket").fileno()
        self._merges = merges

    # ---- asyncio.BufferedProtocol ----

    def get_buffer(self, sizehint: int) -> Any:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        if self._discards:
            if nbytes >= self._read_size:
                # The client may send much more, and the copy costs time too.
                self._wait_in_queue(self._scheduler.wait, DISCARD_SECONDS)
            return
        self._take(_buffer[:nbytes].tobytes())

    def _take(self, data: bytes) -> None:
        began = time.perf_counter()
        self.bytes_received(data)
        took = time.perf_counter() - began
        if took < SLICE_SECONDS and len(data) < self._read_size:
            self._slice_used = 0.0  # hot path: the socket is empty
            if self._merges:
                self._wait_in_queue(self._scheduler.wait_to_merge, took)
        else:
            self._charge(took, len(data))

    def _charge(self, took: float, nbytes: int) -> None:
        """Makes the connection wait for its turn after a full slice. took: seconds of the last read."""
        size = self._read_size
        slice_used = took
        if nbytes >= size:
            slice_used += self._slice_used  # the socket may have more to read
        if slice_used < SLICE_SECONDS:
            self._slice_used = slice_used
            if size < self._max_read and took < SLICE_SECONDS / 4:
                self._set_read_size(min(2 * size, self._max_read))
            return
        self._slice_used = 0.0
        if took > SLICE_SECONDS and size > SMALLEST_READ:
            self._set_read_size(max(size // 2, SMALLEST_READ))
        self._wait_in_queue(self._scheduler.wait, slice_used)

    def _wait_in_queue(self, wait: Callable[[Callable[[], None], float], None], cost: float) -> None:
        """Pauses reading until the scheduler resumes it. wait: a method of the scheduler. cost: seconds."""
        if not self._read_waits and not self._is_closing():
            self._read_waits = True
            self._set_reading()
            wait(self._read_merged if self._merges else self._read_again, cost)

    # ---- back-pressure of the owner ----

    def hold_reading(self) -> None:
        """Stops reading until `release_reading`. The bytes wait in the kernel. It may be called repeatedly."""
        self._read_held = True
        self._set_reading()

    def release_reading(self) -> None:
        """Reads again, now or at the turn of the connection. It may be called repeatedly."""
        self._read_held = False
        self._set_reading()

    def _set_reading(self) -> None:
        """Pauses or resumes the transport, which reads if neither the owner nor the scheduler stops it."""
        reads = not (self._read_held or self._read_waits)
        if reads != self._is_reading and not self._is_closing():
            self._is_reading = reads
            if reads:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _set_read_size(self, size: int) -> None:
        self._read_size = size
        self._view = _buffer[:size]

    def _is_closing(self) -> bool:
        return self._transport is None or bool(self._transport.is_closing())

    def _read_merged(self) -> None:
        """Reads the paused socket until it is empty, or until the connection must wait. The loop handles its end."""
        self._read_waits = False
        while self._merges and not (self._read_waits or self._read_held or self._is_closing()):
            try:
                data = os.read(self._fd, self._read_size)
            except BlockingIOError:
                self._wait_in_queue(self._scheduler.wait_to_merge, 0.0)
                return
            except OSError:
                break
            if not data:
                break
            self._take(data)
        self._set_reading()

    def _read_again(self) -> None:
        self._read_waits = False
        self._set_reading()


class RequestReads(ScheduledReads):
    """Scheduled reads of requests. A small read is not timed: it has a few requests and empties the socket.

    whole_view: the shared buffer of a class, whose size stays the same.
    """

    __slots__ = ()

    whole_view: ClassVar[memoryview]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Returns the shared buffer. Hot path."""
        return self.whole_view

    def buffer_updated(self, nbytes: int) -> None:
        """Handles a read. Hot path."""
        if nbytes < _UNTIMED_BYTES:
            self.bytes_received(_buffer[:nbytes].tobytes())
        else:
            super().buffer_updated(nbytes)


class ScheduledProtocol(ScheduledReads):
    """Puts scheduled reads below the protocol of a library. The protocol gets normal `data_received` calls.

    inner: the protocol from a connection factory. It has the real transport except for reading: if it pauses reading,
        the scheduler does not resume it.
    """

    __slots__ = ("_inner_transport", "inner")

    def __init__(self, inner: asyncio.Protocol, scheduler: ReadScheduler, read_size: int) -> None:
        super().__init__(scheduler, read_size)
        self.inner = inner
        self._inner_transport: _InnerTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not derived from asyncio's
        self._inner_transport = _InnerTransport(self, self._transport)
        self.inner.connection_made(cast(asyncio.Transport, self._inner_transport))

    def bytes_received(self, data: bytes) -> None:
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.inner.connection_lost(exc)
        self._transport = None
        inner_transport, self._inner_transport = self._inner_transport, None
        if inner_transport is not None:
            inner_transport.detach()

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()


class ScheduledTls(ScheduledProtocol):
    """Puts scheduled reads below TLS. Encrypted bytes are read in bounded pieces, also during the handshake.

    Without this, uvloop would read up to 256 kB of encrypted bytes at once. It would hold this memory for each
    connection.

    app: the protocol above TLS. Its `connection_made` is called after the handshake. If the handshake fails, `app` is
        not called; subclasses notice the end in `connection_lost`.

    read_size: encrypted bytes. handshake_seconds: None for the limit of asyncio, one minute.
    """

    __slots__ = ()

    inner: Any  # an SSLProtocol, of uvloop or of asyncio

    def __init__(
        self,
        app: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        scheduler: ReadScheduler,
        read_size: int,
        handshake_seconds: float | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        protocol_class = tls_protocol_class(loop)
        tls = protocol_class(loop, app, context, None, server_side=True, ssl_handshake_timeout=handshake_seconds)
        super().__init__(tls, scheduler, read_size)

    def bytes_received(self, data: bytes) -> None:
        inner = self.inner
        left = memoryview(data)
        while left:
            buffer = inner.get_buffer(len(left))
            size = min(len(buffer), len(left))
            buffer[:size] = left[:size]
            left = left[size:]
            inner.buffer_updated(size)


def tls_protocol_class(loop: asyncio.AbstractEventLoop) -> Any:
    """Returns the TLS class of uvloop, which works only with uvloop, or that of asyncio."""
    module = "uvloop.loop" if type(loop).__module__.startswith("uvloop") else "asyncio.sslproto"
    return import_module(module).SSLProtocol


class _InnerTransport:
    """The transport of the inner protocol.

    It does not refer to a lost connection. Libraries hold transports in reference cycles until the next garbage
    collection, and a TLS connection has a buffer of 256 kB.
    """

    __slots__ = ("_reads", "_transport", "write")

    def __init__(self, reads: ScheduledReads, transport: asyncio.Transport) -> None:
        self._reads = reads
        self._transport: Any = transport
        self.write: Any = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def detach(self) -> None:
        """Detaches from the lost connection."""
        self._transport = _LOST
        self.write = _LOST.write

    def is_reading(self) -> bool:
        """Whether the inner protocol has not paused reading."""
        return not self._reads._read_held and not self._transport.is_closing()

    def pause_reading(self) -> None:
        self._reads.hold_reading()

    def resume_reading(self) -> None:
        self._reads.release_reading()


class _LostTransport:
    """A transport without a connection. It accepts all calls and does nothing."""

    def is_closing(self) -> bool:
        return True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def __getattr__(self, name: str) -> Callable[..., int]:
        return _do_nothing


def _do_nothing(*arguments: Any, **options: Any) -> int:
    """Any other call of a transport. Returns 0, the number of waiting bytes."""
    return 0


_LOST: Final = _LostTransport()
