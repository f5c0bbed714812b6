"""Reads the small body of one request. The server itself reads no bodies."""

import asyncio
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any, Final, TypeAlias

from gateway.http.connection_slot import ConnectionSlot
from gateway.http.request import Request
from gateway.http.response import Answer, Response, Takeover, text
from gateway.lib.numbers import read_integer
from gateway.lib.scheduled_reads import ScheduledReads

_READ_BYTES: Final = 4096
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_FAILED: Final = text(500, "something went wrong here; the log says what")

# Returns the response to a body. A coroutine is cancelled when the client disconnects.
Respond: TypeAlias = Callable[[bytes], Response | Coroutine[Any, Any, Response]]


def read_body(request: Request, max_bytes: int, seconds: float, respond: Respond) -> Answer:
    """Answers with `respond(body)` when the whole body has arrived, and closes the connection.

    The body needs a Content-Length of at most `max_bytes`. A client that sends or reads slower than `seconds` is
    disconnected.
    """
    if "transfer-encoding" in request.headers:
        return text(411, "the body needs a Content-Length")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        return text(400, "malformed Content-Length")
    size = read_integer(length, max_bytes)
    if size is None:
        return text(413, f"the body has more than {max_bytes} bytes")

    def begin(transport: asyncio.Transport, rest: bytes, slot: ConnectionSlot) -> asyncio.BaseProtocol:
        if len(rest) < size and request.headers.get("expect", "").lower() == "100-continue":
            transport.write(_CONTINUE)  # RFC 9110 §10.1.1; old versions of curl wait for it for a second
        reader = _BodyReader(transport, slot, size, respond)
        reader.start(seconds, rest)
        return reader

    return Takeover(begin)


class _BodyReader(ScheduledReads):
    """A connection whose remaining input is one body."""

    __slots__ = ("_answered", "_body", "_respond", "_seconds", "_size", "_slot", "_task", "_timer")

    def __init__(self, transport: asyncio.Transport, slot: ConnectionSlot, size: int, respond: Respond) -> None:
        super().__init__(slot.scheduler, _READ_BYTES)
        self._transport = transport
        self._slot = slot
        self._size = size
        self._respond = respond
        self._body = b""
        self._answered = False
        self._seconds = 0.0
        self._task: asyncio.Task[Response] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float, rest: bytes) -> None:
        self._seconds = seconds
        self._start_timer()
        self.bytes_received(rest)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._transport.abort)

    def bytes_received(self, data: bytes) -> None:
        if self._answered:
            return  # bytes after the body are ignored
        self._body += data
        if len(self._body) < self._size:
            return
        self._answered = True
        answer = self._respond(self._body[: self._size])
        if isinstance(answer, Response):
            self._send(answer)
            return
        self._stop_timer()
        self._task = self._slot.tasks.start(answer, "answer to a body")
        self._task.add_done_callback(self._send_result)

    def _send_result(self, task: asyncio.Task[Response]) -> None:
        if not task.cancelled():
            self._send(_FAILED if task.exception() is not None else task.result())  # the server logs the exception

    def _send(self, response: Response) -> None:
        self._start_timer()
        body = response.body or b""
        assert isinstance(body, bytes), "the answer to a small body is not a stream"
        date = f"Date: {formatdate(usegmt=True)}\r\nConnection: close\r\n\r\n".encode("ascii")
        self._transport.write(response.head() + date + body)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()
        self._slot.release()
