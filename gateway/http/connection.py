"""One HTTP client connection: answered in order, kept alive, timed out, or handed over to another protocol."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from gateway.http.connection_slot import ConnectionSlot
from gateway.http.forwarded import Forwarded, plain_address
from gateway.http.request import HeadParser, HeadReader, Request, RequestError, begins_badly, too_large
from gateway.http.response import Answer, Handler, Response, Takeover, accepts_gzip, text
from gateway.lib.scheduled_reads import SLICE_SECONDS, ReadScheduler, ScheduledReads, shared_view
from gateway.lib.tasks import Tasks

_READ: Final = 8 * 1024  # bytes of one read; a request has a few hundred
_VIEW: Final = shared_view(_READ)
_UNTIMED: Final = 1024  # bytes; a smaller read is not timed: it is a few requests, and then the socket is empty
_UNSENT_HIGH: Final = 1024 * 1024  # with more unsent bytes, the client's next request waits …
_UNSENT_PIPELINED: Final = 64 * 1024  # … and the bound for a client that pipelines its requests
_AHEAD: Final = 16 * 1024  # bytes of pipelined requests that are read while one is being answered
_LINGER: Final = 2.0  # seconds in which the rest of a refused request is read, so that no reset discards the answer
_LINGER_BYTES: Final = 256 * 1024
_JOINED: Final = 16 * 1024  # smaller bodies are copied after their head: sending one buffer is cheaper than two

_KEEP: Final = b"\r\n"
_KEEP_10: Final = b"Connection: keep-alive\r\n\r\n"
_CLOSE: Final = b"Connection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of a connection, in seconds and bytes (settings, sections `http` and `limits`).

    head_seconds: from a request's first byte (or the connection's start) to the end of its head; 0 is no limit.
    stall_seconds: time in which a client must read some of the waiting data; 0 is no limit.
    per_address: connections of one address at once; 0 is no limit.
    connections: connections of all addresses at once; 0 is no limit.
    """

    head_bytes: int
    target_bytes: int
    head_seconds: float
    keep_alive: float
    stall_seconds: float
    per_address: int
    connections: int = 0


class ConnectionServer(Protocol):
    """The state and services that the connections of a server share; `HttpServer` provides them.

    now: monotonic seconds. date: the Date header. keeps: connections go on after an answer. connections: without those
    that were taken over. The counters are those of HttpServer; the Responses are answers that are made once.
    """

    handler: Handler
    exempts: Callable[[Request], bool]
    limits: HttpLimits
    forwarded: Forwarded
    methods: frozenset[str]
    parser: HeadParser
    scheduler: ReadScheduler
    tasks: Tasks
    connections: set[HttpConnection]
    closing: bool
    keeps: bool
    now: float
    date: bytes
    requests: int
    refused: int
    bytes_out: int
    not_allowed: Response
    preflight: Response
    too_many: Response

    def entered(self, address: str) -> ConnectionSlot | None:
        """Counts a new connection; None where it is to be closed at once."""

    def moved(self, lease: ConnectionSlot, client: str) -> bool:
        """Counts a connection that stays for the client behind the proxy too. False where that has too many."""
        ...

    async def compress(self, response: Response) -> None:
        """Compresses a large body in a thread."""

    def failed(self, request: Request, error: Exception) -> Response:
        """Returns the answer to a request whose handler raised."""
        ...

    def crashed(self, name: str, error: BaseException) -> None:
        """Logs what went wrong outside of a request's answer."""


class HttpConnection(ScheduledReads):
    """Answers requests one after the other; pipelined requests wait in a bounded buffer.

    Pipelined requests are served for SLICE_SECONDS; then the connection waits for its turn among all that are read.
    deadline: when `timed_out` is called, on the server's clock.
    `_done` is set when the connection is closing, lingering or taken over; then nothing more is parsed.
    """

    # fmt: off
    __slots__ = (
        "_buffer", "_descriptor", "_done", "_drained", "_fresh", "_heads", "_lease", "_lingering", "_partial",
        "_pipelines", "_server", "_task", "_turn_awaited", "_unsent", "_unwritable", "deadline", "peer", "scheme",
    )
    # fmt: on

    def __init__(self, server: ConnectionServer, lease: ConnectionSlot | None = None) -> None:
        """lease: of a connection that was counted before its TLS handshake."""
        super().__init__(server.scheduler, _READ)
        self._server = server
        self._lease = lease
        self._heads = HeadReader(server.parser)
        self._buffer = b""
        self._task: asyncio.Task[object] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._unwritable = False  # too many bytes wait for the client
        self._turn_awaited = False  # pipelined requests wait for the scheduler
        self._pipelines = False  # the client has sent a request before the answer to another
        self._partial = False  # a head has begun
        self._done = False
        self._fresh = True  # it has sent no request yet
        self._lingering = -1  # bytes discarded since the last answer; -1: not lingering
        self._unsent = 0
        self._descriptor = -1  # of a plain socket, which may be written directly while the transport is idle
        self.deadline = math.inf
        self.peer = ""
        self.scheme = "http"

    # ---- ScheduledReads ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        self._transport = tcp = cast(asyncio.Transport, transport)  # uvloop's is not derived from asyncio's
        tcp.set_write_buffer_limits(high=_UNSENT_HIGH)
        name = tcp.get_extra_info("peername")
        self.peer = plain_address(name[0]) if isinstance(name, tuple) else ""
        if tcp.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        else:
            self._descriptor = tcp.get_extra_info("socket").fileno()
        if self._lease is None:
            self._lease = server.entered(self.peer)
            if self._lease is None:
                self._done = True
                tcp.abort()
                return
        self._lease.transport = tcp
        server.connections.add(self)
        self.deadline = server.now + server.limits.head_seconds
        if self._lease.over or server.closing:
            self.deadline = server.now + _LINGER  # long enough to send one request and get one answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._lease is not None:
            self._lease.release()
        self._done = True
        self._buffer = b""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Returns the shared buffer. Hot path."""
        return _VIEW

    def buffer_updated(self, nbytes: int) -> None:
        """Handles a read. Hot path."""
        if nbytes < _UNTIMED:
            self.bytes_received(_VIEW[:nbytes].tobytes())
        else:
            super().buffer_updated(nbytes)

    def bytes_received(self, data: bytes) -> None:
        if self._done:
            if self._lingering >= 0:
                self._lingering += len(data)
                if self._lingering > _LINGER_BYTES:
                    self._transport.abort()
            return
        if self._buffer:
            data = self._buffer + data
        if self._task is not None or self._unwritable or self._turn_awaited:
            self._buffer = data
            if len(data) > _AHEAD:
                self.hold_reading()
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
        elif not self._done and not self._turn_awaited:
            if self._buffer:  # it pipelines requests with large answers: each takes a turn
                self._await_turn(SLICE_SECONDS)
            else:
                self._next()

    # ---- requests ----

    def _process(self, data: bytes) -> None:
        """Serves the requests in `data`.

        Stops when one takes time, the slice is over, or too many bytes wait for the client.
        """
        server = self._server
        began = 0.0  # when the second request was served
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
                if not self._pipelines:
                    self._pipelines = True
                    self._transport.set_write_buffer_limits(high=_UNSENT_PIPELINED)
            try:
                if end > server.limits.head_bytes:
                    raise too_large(head, server.limits.target_bytes)
                request = self._heads.parse(head, self.peer, self.scheme)
            except RequestError as error:
                self._refuse(error)
                return
            self._partial = False
            self._buffer = data
            self._serve(request)
            if self._done or self._task is not None or self._unwritable:
                return
            if data:
                now = time.perf_counter()
                if not began:
                    began = now
                elif now - began > SLICE_SECONDS:
                    self._await_turn(now - began)
                    return
        self._buffer = b""
        if self._read_held:
            self.release_reading()
        self.deadline = server.now + server.limits.keep_alive

    def _await_turn(self, took: float) -> None:
        """Makes the buffered requests wait until the scheduler reaches this connection. took: seconds."""
        self._turn_awaited = True
        self.deadline = self._server.now + self._server.limits.keep_alive
        self.hold_reading()
        self._scheduler.wait(self._turn, took)

    def _turn(self) -> None:
        self._turn_awaited = False
        if not self._done and not self._unwritable:
            self._next()

    def _await_rest(self, data: bytes) -> None:
        limits = self._server.limits
        self._buffer = data
        self.release_reading()
        if len(data) > limits.head_bytes or (
            len(data) > limits.target_bytes + 64 and b"\r\n" not in data[: limits.target_bytes + 64]
        ):
            self._refuse(too_large(data, limits.target_bytes))
        elif begins_badly(data):
            self._refuse(RequestError(400, "malformed request"))
        elif not self._partial:
            self._partial = True
            self.deadline = self._server.now + limits.head_seconds

    def _serve(self, request: Request) -> None:
        server, lease = self._server, self._lease
        assert lease is not None, "a connection that is not counted is closed"
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
            lease.exempt()
        elif lease.over:
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
            if answer.slow_to_compress:
                await self._compress(request, answer)
            else:
                self._send(request, answer)
        else:
            await self._stream(request, answer, answer.body)

    async def _compress(self, request: Request, response: Response) -> None:
        """Sends a large body; if the client accepts gzip, a thread compresses it first."""
        if "range" not in request.headers and accepts_gzip(request.headers.get("accept-encoding", "")):
            await self._server.compress(response)
        self._send(request, response)

    def _next(self) -> None:
        """Continues with the next request after an answer."""
        if not self._server.keeps:
            self._end(False)
            return
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
                if response.slow_to_compress and self._task is None:
                    self._begin(self._compress(request, response))
                    return
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
        if not body or request.method == "HEAD":
            body = b""
        assert isinstance(body, bytes)  # the callers stream the others
        server.bytes_out += len(head) + len(body)
        self._write(head, body)
        if not keep:
            self._end(request.has_body)

    def _write(self, head: bytes, body: bytes) -> None:
        """Writes a whole answer. If nothing waits for the socket, it writes directly, a fifth cheaper than the
        transport.

        The transport collects the answers to pipelined requests, and keeps what the kernel does not accept.
        """
        transport = self._transport
        taken = 0
        if self._descriptor >= 0 and not self._buffer and not transport.get_write_buffer_size():
            try:
                taken = os.writev(self._descriptor, (head, body)) if body else os.write(self._descriptor, head)
            except BlockingIOError:
                pass  # the kernel accepts nothing now
            except OSError:
                return  # the peer is gone; the transport notices it itself
        if not taken and len(body) < _JOINED:
            transport.write(head + body)
            return
        if taken < len(head):
            transport.write(head[taken:])
        rest = max(0, taken - len(head))
        if rest < len(body):
            transport.write(memoryview(body)[rest:])

    async def _stream(self, request: Request, response: Response, body: AsyncIterator[bytes]) -> None:
        """Sends a body as it is made. If that fails, the connection is cut, so that the client notices it."""
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
        assert lease is not None, "a connection that is not counted is closed"
        if transport.is_closing():  # the client has gone: connection_lost follows
            takeover.abandoned()
            return
        if request.peer != self.peer and not server.moved(lease, request.peer):
            takeover.abandoned()
            self._too_many(request)
            return
        rest, self._buffer = self._buffer, b""
        self._done = True
        self._task = None  # the task runs this call; losing the connection must not cancel the takeover
        # The loop looks up how a protocol reads when reading begins. A turn that the scheduler still holds does not
        # resume reading.
        self.hold_reading()
        try:
            protocol = takeover.begin(transport, rest, lease)
        except Exception as error:
            server.failed(request, error)
            transport.abort()
            return
        server.connections.discard(self)
        transport.set_protocol(protocol)
        transport.resume_reading()

    # ---- refusals ----

    def _too_many(self, request: Request) -> None:
        self._server.refused += 1
        request.keep_alive = False
        self._send(request, self._server.too_many)

    def _refuse(self, error: RequestError) -> None:
        """Sends the last answer: after a bad request, the start of the next one cannot be found."""
        server = self._server
        server.refused += 1
        response = text(error.status, str(error))
        assert isinstance(response.body, bytes)
        self._transport.write(b"".join((response.head(), server.date, _CLOSE, response.body)))
        self._end(True)

    # ---- the end ----

    def _end(self, unread: bool) -> None:
        """Closes after all written data has been sent; if the client may still be sending, reads that first."""
        server, transport = self._server, self._transport
        self._done = True
        self._buffer = b""
        if transport.is_closing():
            return
        if unread and transport.can_write_eof():
            self._lingering = 0
            self.deadline = server.now + _LINGER
            transport.write_eof()
            self.release_reading()
        else:
            self._unsent = 0
            self.deadline = server.now + server.limits.stall_seconds
            transport.close()

    def timed_out(self) -> None:
        """Handles a deadline that has passed."""
        server, transport = self._server, self._transport
        unsent = transport.get_write_buffer_size()
        if unsent and self._lingering < 0 and (self._unsent == 0 or unsent < self._unsent):
            self._unsent = unsent  # it reads, but slowly
            self.deadline = server.now + server.limits.stall_seconds
        elif unsent or self._done:
            transport.abort()
        elif self._partial:
            self._refuse(RequestError(408, "the request took too long"))
        else:
            self._end(False)

    def drain(self) -> None:
        """Ends the connection when the server closes: at once if it is idle, otherwise after the present answer.

        If it has sent no request yet, one may be on its way, and closing first would reset it.
        """
        if self._task is None and not self._unwritable and not self._done:
            if self._fresh:
                self.deadline = self._server.now + _LINGER
            else:
                self._end(False)


def _connection(request: Request, keep: bool) -> bytes:
    """Returns the end of a head, which tells whether the connection stays open."""
    if not keep:
        return _CLOSE
    return _KEEP if request.http11 else _KEEP_10
