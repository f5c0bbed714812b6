"""One stream of HTTP/2 as the transport of a protocol that answers one request of HTTP/1."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Protocol

from gateway.lib.scheduled_reads import ScheduledReads
from gateway.protocols.http2.heads import encoded_head

_END: Final = b"\r\n\r\n"
_MAX_HEAD: Final = 65_536  # bytes; the heads of our answers have a few hundred
_LAST_CHUNK: Final = b"0\r\n\r\n"
_PIECE: Final = 16_384  # bytes of input below which a piece that waits gets further ones


class StreamOwner(Protocol):
    """What a stream uses of its connection."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns what the transport of the whole connection says."""

    def send_soon(self, stream: Http2Stream) -> None:
        """Sends the output of the stream as soon as the client and the other streams allow."""

    def consumed(self, stream: Http2Stream, size: int) -> None:
        """Lets the client send `size` more bytes."""

    def reset(self, stream: Http2Stream) -> None:
        """Ends the stream with an error. Its bytes that wait are lost."""


class Http2Stream:
    """The transport of one request and its answer.

    The protocol above it writes an answer of HTTP/1: the head becomes headers, all further bytes are data, and `close`
    ends the stream. `abort` tells the client that the answer is not complete.

    The answer waits in a queue until the client and its connection take more. Above `high` bytes, the protocol is
    paused.

    id: of HTTP/2. protocol: the one above. headers: those of the answer, encoded, until they are sent.
    is_listed: whether the connection has it in its list of streams that can send.

    chunked: whether the protocol gets this body in chunks.
    """

    # fmt: off
    __slots__ = (
        "_chunked", "_counted", "_deliver_soon", "_head", "_high", "_inbox", "_is_closing", "_is_lost", "_low",
        "_owner", "_paused_reading", "_paused_writing", "_queue", "_queued", "headers", "id", "is_listed", "protocol",
    )
    # fmt: on

    def __init__(self, owner: StreamOwner, id: int, chunked: bool) -> None:
        self._owner = owner
        self._chunked = chunked  # the body of the request is passed on in chunks
        self._head: bytes | None = b""  # start of the head of the answer; None behind its end
        self._queue: deque[memoryview] = deque()
        self._queued = 0  # bytes
        self._high, self._low = 65_536, 16_384
        self._inbox: deque[bytearray] = deque()  # input while reading is paused …
        self._counted: deque[int] = deque()  # … and the bytes of flow control of each piece
        self._paused_reading = self._paused_writing = False
        self._deliver_soon: asyncio.Handle | None = None
        self._is_lost = False
        self.id = id
        self.headers: bytes | None = None
        self._is_closing = False
        self.is_listed = False
        self.protocol: Any = None

    # ---- the connection's side ----

    def begin(self, protocol: asyncio.BaseProtocol, head: bytes) -> None:
        """Connects the protocol that answers, and gives it the request's head."""
        self.protocol = protocol
        protocol.connection_made(self)  # type: ignore[arg-type]
        self.receive(head, 0)

    def receive(self, data: bytes, counted: int) -> None:
        """Takes input. counted: the bytes that flow control counts for it; 0: it is no part of the body."""
        if self._inbox and counted and self._counted[-1] and len(self._inbox[-1]) < _PIECE:
            self._inbox[-1] += data
            self._counted[-1] += counted
        elif self._paused_reading or self._inbox:
            self._inbox.append(bytearray(data))
            self._counted.append(counted)
        else:
            self._give(data, counted)

    def receive_end(self) -> None:
        """Takes the end of the request's body. Called once."""
        if self._chunked:
            self.receive(_LAST_CHUNK, 0)

    def take(self, limit: int) -> tuple[list[memoryview], int]:
        """Returns up to `limit` bytes of the answer's body, and their number."""
        pieces = []
        left = limit
        while self._queue and left:
            piece = self._queue[0]
            if len(piece) > left:
                pieces.append(piece[:left])
                self._queue[0] = piece[left:]
                left = 0
            else:
                pieces.append(self._queue.popleft())
                left -= len(piece)
        self._queued -= limit - left
        return pieces, limit - left

    def sent(self) -> None:
        """Continues the protocol when few enough bytes wait."""
        if self._paused_writing and self._queued <= self._low and not self._is_lost:
            self._paused_writing = False
            self.protocol.resume_writing()

    def lose(self, error: Exception | None) -> int:
        """Tells the protocol the end of the stream. Returns the bytes that it did not read. Idempotent."""
        if self._is_lost:
            return 0
        self._is_lost = self._is_closing = True
        unread = sum(self._counted)
        self._queue.clear()
        self._inbox.clear()
        self._queued = 0
        if self._deliver_soon is not None:
            self._deliver_soon.cancel()
        self.protocol.connection_lost(error)
        return unread

    @property
    def has_output(self) -> bool:
        """Whether headers, data or the end can be sent."""
        return self._head is None and (self.headers is not None or bool(self._queue) or self._is_closing)

    @property
    def has_data(self) -> bool:
        return bool(self._queue)

    @property
    def is_finished(self) -> bool:
        """Whether no data will follow."""
        return self._is_closing and not self._queue

    # ---- asyncio.Transport ----

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or not data:
            return
        if self._head is not None:
            self._write_head(bytes(data))
        else:
            self._put(data)
        if self._head is None:
            self._owner.send_soon(self)
        if self._queued > self._high and not self._paused_writing:
            self._paused_writing = True
            self.protocol.pause_writing()

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(pieces))

    def close(self) -> None:
        """Ends the answer behind the bytes that wait."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._head is not None:  # there is no whole answer
            self._owner.reset(self)
        else:
            self._owner.send_soon(self)

    def abort(self) -> None:
        if not self._is_lost:
            self._is_closing = True
            self._owner.reset(self)

    def is_closing(self) -> bool:
        return self._is_closing

    def can_write_eof(self) -> bool:
        return False  # the end of an answer ends the stream

    def get_write_buffer_size(self) -> int:
        return self._queued

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 65_536 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns that of the connection. The socket belongs to all streams, so no stream has it."""
        return default if name == "socket" else self._owner.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_reading(self) -> bool:
        return not self._paused_reading and not self._is_closing

    def pause_reading(self) -> None:
        self._paused_reading = True

    def resume_reading(self) -> None:
        self._paused_reading = False
        if self._inbox and self._deliver_soon is None:
            self._deliver_soon = asyncio.get_running_loop().call_soon(self._deliver)

    # ---- details ----

    def _write_head(self, data: bytes) -> None:
        head = self._head + data if self._head else data
        end = head.find(_END)
        if end < 0:
            self._head = head
            if len(head) > _MAX_HEAD:
                raise ValueError("the head of an answer is too large")
            return
        self._head = None
        self.headers = encoded_head(head[:end])
        if end + len(_END) < len(head):
            self._put(head[end + len(_END) :])

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        self._queue.append(memoryview(bytes(data) if isinstance(data, bytearray) else data))
        self._queued += len(data)

    def _deliver(self) -> None:
        self._deliver_soon = None
        while self._inbox and not self._paused_reading and not self._is_lost:
            self._give(bytes(self._inbox.popleft()), self._counted.popleft())

    def _give(self, data: bytes, counted: int) -> None:
        if data:
            if self._chunked and counted:
                data = b"%x\r\n%b\r\n" % (len(data), data)
            if isinstance(self.protocol, ScheduledReads):
                self.protocol.bytes_received(data)
            else:
                self.protocol.data_received(data)
        if counted:
            self._owner.consumed(self, counted)
