"""Reads the small body of one request. The server itself reads no bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

from gateway.http.connection_slot import ConnectionSlot
from gateway.http.request import Request
from gateway.http.response import Answer, Response, Takeover, text
from gateway.lib.scheduled_reads import ScheduledReads

_READ_BYTES: Final = 4096
_MAX_DIGITS: Final = 9


def read_body(request: Request, max_bytes: int, seconds: float, respond: Callable[[bytes], Response]) -> Answer:
    """Answers with `respond(body)` when the whole body has arrived, and closes the connection.

    The body needs a Content-Length of at most `max_bytes`. A client that is slower than `seconds` is disconnected.
    """
    if "transfer-encoding" in request.headers:
        return text(411, "the body needs a Content-Length")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        return text(400, "malformed Content-Length")
    if len(length) > _MAX_DIGITS or int(length) > max_bytes:
        return text(413, f"the body has more than {max_bytes} bytes")
    size = int(length)

    def begin(transport: asyncio.Transport, rest: bytes, slot: ConnectionSlot) -> asyncio.BaseProtocol:
        reader = _BodyReader(transport, slot, size, respond)
        reader.start(seconds, rest)
        return reader

    return Takeover(begin)


class _BodyReader(ScheduledReads):
    """A connection whose remaining input is one body."""

    __slots__ = ("_answered", "_body", "_respond", "_size", "_slot", "_timer")

    def __init__(
        self, transport: asyncio.Transport, slot: ConnectionSlot, size: int, respond: Callable[[bytes], Response]
    ) -> None:
        super().__init__(slot.scheduler, _READ_BYTES)
        self._transport = transport
        self._slot = slot
        self._size = size
        self._respond = respond
        self._body = b""
        self._answered = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float, rest: bytes) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)
        self.bytes_received(rest)

    def bytes_received(self, data: bytes) -> None:
        if self._answered:
            return  # bytes after the body are ignored
        self._body += data
        if len(self._body) < self._size:
            return
        self._answered = True
        response = self._respond(self._body[: self._size])
        body = response.body or b""
        assert isinstance(body, bytes), "the answer to a small body is not a stream"
        date = f"Date: {formatdate(usegmt=True)}\r\nConnection: close\r\n\r\n".encode("ascii")
        self._transport.write(response.head() + date + body)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._slot.release()
