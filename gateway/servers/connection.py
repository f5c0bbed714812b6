"""Connection: one HTTP client, answered in order, kept alive, timed out, or handed over to who takes it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, Final, cast

from gateway.servers.forwarded import plain_address
from gateway.servers.request import BadRequest, Request, too_large
from gateway.servers.response import Answer, Response, Takeover, accepts_gzip, text

if TYPE_CHECKING:
    from gateway.servers.http import HttpServer, Lease

_UNSENT_HIGH: Final = 1024 * 1024  # bytes that wait for a client before its next request is looked at
_AHEAD: Final = 64 * 1024  # bytes of pipelined requests that are read while one is being answered
_LINGER: Final = 2.0  # seconds in which the rest of a refused request is read, so that no reset destroys the answer
_LINGER_BYTES: Final = 256 * 1024
_JOINED: Final = (
    16 * 1024
)  # bodies up to this size are copied behind their head: one buffer is cheaper to send than two

_KEEP: Final = b"\r\n"
_KEEP_10: Final = b"Connection: keep-alive\r\n\r\n"
_CLOSE: Final = b"Connection: close\r\n\r\n"


class Connection(asyncio.Protocol):
    """Requests are answered one after the other; what is pipelined behind waits in a bounded buffer.

    deadline: when `timed_out` is called, on the server's clock. A connection is done with (closing, lingering or taken)
    once `_done` is set; nothing more is parsed then.
    """

    # fmt: off
    __slots__ = (
        "_buffer", "_done", "_drained", "_exempt", "_fresh", "_lease", "_lingering", "_partial", "_reading", "_server",
        "_task", "_transport", "_unsent", "_unwritable", "deadline", "peer", "scheme",
    )
    # fmt: on

    _transport: asyncio.Transport
    _lease: Lease

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._buffer = b""
        self._task: asyncio.Task[object] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._unwritable = False  # too much waits for the client
        self._reading = True
        self._partial = False  # a head has begun
        self._done = False
        self._exempt = False  # it is another node's
        self._fresh = True  # it has asked for nothing yet
        self._lingering = -1  # bytes thrown away since the last answer; -1: not lingering
        self._unsent = 0
        self.deadline = math.inf
        self.peer = ""
        self.scheme = "http"

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        self._transport = tcp = cast(asyncio.Transport, transport)  # uvloop's is not derived from asyncio's
        tcp.set_write_buffer_limits(high=_UNSENT_HIGH)
        name = tcp.get_extra_info("peername")
        self.peer = plain_address(name[0]) if isinstance(name, tuple) else ""
        if tcp.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        self._lease = server.entered(self.peer, tcp)
        server.connections.add(self)
        self.deadline = server.now + server.limits.head_seconds
        if self._over or server.closing:
            self.deadline = server.now + _LINGER  # it only has to ask, to be told so or answered once

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._lease.release()
        self._done = True
        self._buffer = b""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._done:
            if self._lingering >= 0:
                self._lingering += len(data)
                if self._lingering > _LINGER_BYTES:
                    self._transport.abort()
            return
        if self._buffer:
            data = self._buffer + data
        if self._task is not None or self._unwritable:
            self._buffer = data
            if len(data) > _AHEAD and self._reading:
                self._reading = False
                self._transport.pause_reading()
        else:
            self._process(data)

    def pause_writing(self) -> None:
        self._unwritable = True
        self._unsent = 0
        self.deadline = self._server.now + self._server.limits.stall_seconds

    def resume_writing(self) -> None:
        self._unwritable = False
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
        if self._task is not None:
            self.deadline = math.inf
        elif not self._done:
            self._next()

    # ---- requests ----

    def _process(self, data: bytes) -> None:
        """Serves the requests in `data` until one takes time, or too much waits for the client."""
        server = self._server
        while data:
            if data[0] in b"\r\n":  # RFC 9112 §2.2: "ignore at least one empty line … prior to the request-line"
                data = data.lstrip(b"\r\n")
                continue
            end = data.find(b"\r\n\r\n") + 4
            if end == 3:
                self._await_rest(data)
                return
            if end == len(data):
                head, data = data, b""
            else:
                head, data = data[:end], data[end:]
            try:
                if end > server.limits.head_bytes:
                    raise too_large(head, server.limits.target_bytes)
                request = server.parser.parse(head, self.peer, self.scheme)
            except BadRequest as error:
                self._refuse(error)
                return
            self._partial = False
            self._buffer = data
            self._serve(request)
            if self._done or self._task is not None or self._unwritable:
                return
        self._buffer = b""
        self.deadline = server.now + server.limits.keep_alive

    def _await_rest(self, data: bytes) -> None:
        limits = self._server.limits
        self._buffer = data
        if len(data) > limits.head_bytes or (
            len(data) > limits.target_bytes + 64 and b"\r\n" not in data[: limits.target_bytes + 64]
        ):
            self._refuse(too_large(data, limits.target_bytes))
        elif not self._partial:
            self._partial = True
            self.deadline = self._server.now + limits.head_seconds

    def _serve(self, request: Request) -> None:
        server = self._server
        server.requests += 1
        self._fresh = False
        if server.forwarded:
            headers = request.headers
            request.peer = server.forwarded.client(self.peer, headers)
            request.scheme = server.forwarded.scheme(self.peer, headers, self.scheme)
            request.exempt = server.forwarded.trusts(request.peer)
        if request.has_body:
            request.keep_alive = False  # a body is never read: the connection ends with the answer
        if server.exempts(request):
            self._exempt = True
            self._lease.exempt()
        elif self._over:
            self._too_many(request)
            return
        if request.method not in server.methods:
            self._send(request, server.preflight if request.method == "OPTIONS" else server.not_allowed)
            return
        try:
            answer = server.handler(request)
        except Exception as error:
            answer = server.failed(request, error)
        if isinstance(answer, Response):
            body = answer.body
            if isinstance(body, bytes) or body is None:
                self._send(request, answer)
            else:
                self._begin(self._stream(request, answer, body))
        elif isinstance(answer, Takeover):
            self._hand_over(request, answer)
        else:
            self._begin(self._finish(request, answer))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self.deadline = math.inf
        self._task = self._server.tasks.start(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._server.crashed("http", error)
            self._done = True
            self._transport.abort()
        finally:
            self._task = None
        if not self._done:
            self._next()

    async def _finish(self, request: Request, awaited: Coroutine[Any, Any, Answer]) -> None:
        try:
            answer = await awaited
        except Exception as error:
            answer = self._server.failed(request, error)
        if isinstance(answer, Takeover):
            self._hand_over(request, answer)
        elif isinstance(answer.body, bytes) or answer.body is None:
            self._send(request, answer)
        else:
            await self._stream(request, answer, answer.body)

    def _next(self) -> None:
        """A request is answered: on to what came behind it."""
        if not self._server.keeps:
            self._end(False)
            return
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        self._process(self._buffer)

    # ---- answers ----

    def _send(self, request: Request, response: Response) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        headers = request.headers
        if response.status == 200:
            if "range" in headers:
                if_range = headers.get("if-range")
                if request.method == "GET" and (if_range is None or if_range == response.headers.get("ETag")):
                    response = response.ranged(headers["range"])
            elif response.compress and accepts_gzip(headers.get("accept-encoding", "")):
                response = response.gzipped()
        server = self._server
        keep = request.keep_alive and server.keeps
        try:
            head = response.head()
        except ValueError as error:
            response = server.failed(request, error)
            head = response.head()
        head += server.date + (_KEEP if keep and request.http11 else _connection(request, keep))
        body = response.body
        server.bytes_out += len(head)
        if not body or request.method == "HEAD":
            transport.write(head)
        else:
            assert isinstance(body, bytes)  # the callers stream the others
            server.bytes_out += len(body)
            if len(body) < _JOINED:
                transport.write(head + body)
            else:
                transport.write(head)
                transport.write(body)
        if not keep:
            self._end(request.has_body)

    async def _stream(self, request: Request, response: Response, body: AsyncIterator[bytes]) -> None:
        """Sends a body as it comes. Where it fails, the connection is cut short, so that the client notices."""
        transport, server, length = self._transport, self._server, response.length
        chunked = request.http11 and length is None
        keep = request.keep_alive and server.keeps and (chunked or length is not None)
        head = response.head() + server.date + (b"Transfer-Encoding: chunked\r\n" if chunked else b"")
        head += _connection(request, keep)
        sent = 0
        whole = request.method == "HEAD"
        try:
            if not transport.is_closing():
                transport.write(head)
                server.bytes_out += len(head)
            if not whole:
                async for piece in body:
                    if transport.is_closing():
                        return
                    if piece:
                        sent += len(piece)
                        data = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                        transport.write(data)
                        server.bytes_out += len(data)
                        if self._unwritable:
                            await self._drain()
                if chunked and not transport.is_closing():
                    transport.write(b"0\r\n\r\n")
                whole = length is None or sent == length
        except Exception as error:
            server.failed(request, error)
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()
        if not whole or not keep:
            self._end(request.has_body)

    async def _drain(self) -> None:
        while self._unwritable and not self._transport.is_closing():
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def _hand_over(self, request: Request, takeover: Takeover) -> None:
        server, transport, lease = self._server, self._transport, self._lease
        if transport.is_closing():  # the client has gone: connection_lost is on its way
            takeover.abandoned()
            return
        if request.peer != self.peer and not server.moved(lease, request.peer):
            takeover.abandoned()
            self._too_many(request)
            return
        rest, self._buffer = self._buffer, b""
        self._done = True
        self._task = None  # it is this call's: what takes the connection must not be cancelled by its loss
        try:
            protocol = takeover.begin(transport, rest, lease)
        except Exception as error:
            server.failed(request, error)
            transport.abort()
            return
        server.connections.discard(self)
        transport.set_protocol(protocol)
        if not self._reading:
            transport.resume_reading()

    # ---- refusals ----

    @property
    def _over(self) -> bool:
        """The address had too many connections when this one came."""
        return not self._lease.counted and not self._exempt and not self._server.forwarded.trusts(self.peer)

    def _too_many(self, request: Request) -> None:
        self._server.refused += 1
        request.keep_alive = False
        self._send(request, self._server.too_many)

    def _refuse(self, error: BadRequest) -> None:
        """The last answer: what follows cannot be told apart from the rest of what was wrong."""
        server = self._server
        server.refused += 1
        response = text(error.status, str(error))
        assert isinstance(response.body, bytes)
        self._transport.write(b"".join((response.head(), server.date, _CLOSE, response.body)))
        self._end(True)

    # ---- the end ----

    def _end(self, unread: bool) -> None:
        """Closes once what was written has been sent; where the client may still be sending, reads that first."""
        server, transport = self._server, self._transport
        self._done = True
        self._buffer = b""
        if transport.is_closing():
            return
        if unread and transport.can_write_eof():
            self._lingering = 0
            self.deadline = server.now + _LINGER
            transport.write_eof()
            if not self._reading:
                self._reading = True
                transport.resume_reading()
        else:
            self._unsent = 0
            self.deadline = server.now + server.limits.stall_seconds
            transport.close()

    def timed_out(self) -> None:
        """The deadline is over."""
        server, transport = self._server, self._transport
        unsent = transport.get_write_buffer_size()
        if unsent and self._lingering < 0 and (self._unsent == 0 or unsent < self._unsent):
            self._unsent = unsent  # it reads, if slowly
            self.deadline = server.now + server.limits.stall_seconds
        elif unsent or self._done:
            transport.abort()
        elif self._partial:
            self._refuse(BadRequest(408, "the request took too long"))
        else:
            self._end(False)

    def drain(self) -> None:
        """The server closes: ends at once where nothing is being answered, else with the answer. Where nothing was
        asked yet the request may be on its way, and to close before it would be a reset."""
        if self._task is None and not self._unwritable and not self._done:
            if self._fresh:
                self.deadline = self._server.now + _LINGER
            else:
                self._end(False)


def _connection(request: Request, keep: bool) -> bytes:
    """The end of a head: what becomes of the connection."""
    if not keep:
        return _CLOSE
    return _KEEP if request.http11 else _KEEP_10
