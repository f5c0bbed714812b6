"""One HTTP client connection: answers in order, keep-alive, time-outs, and takeover by another protocol."""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, cast

from gateway.http.connection_server import ConnectionServer
from gateway.http.connection_slot import ConnectionSlot
from gateway.http.forwarded import plain_address
from gateway.http.request import HeadReader, Request, RequestError, is_malformed_start, too_large
from gateway.http.response import Answer, Response, Takeover, accepts_gzip, text
from gateway.lib.scheduled_reads import SLICE_SECONDS, RequestReads, shared_view

_READ: Final = 8 * 1024  # bytes of one read; a request has a few hundred
_UNSENT_HIGH: Final = 16 * 1024  # unsent bytes above which they are counted, and the client's next request waits
_MAX_PIPELINED: Final = 16 * 1024  # bytes of pipelined requests that are read during an answer
_LINGER: Final = 2.0  # seconds to read the rest of a refused request, because a reset would discard the answer
_LINGER_BYTES: Final = 256 * 1024
_MAX_JOINED_BODY: Final = 16 * 1024  # smaller bodies are copied behind their head: one buffer is cheaper than two
_TLS_PIECE: Final = 64 * 1024  # bytes that TLS encrypts at once, so that a slow client has few bytes of its own

_KEEP_ALIVE: Final = b"\r\n"  # HTTP/1.1
_KEEP_ALIVE_10: Final = b"Connection: keep-alive\r\n\r\n"
_CLOSE: Final = b"Connection: close\r\n\r\n"


class HttpConnection(RequestReads):
    """Answers requests one after the other; pipelined requests wait in a bounded buffer.

    Pipelined requests are served for SLICE_SECONDS. Then the connection waits for its turn in the scheduler.
    deadline: time at which `timed_out` is called, on the clock of the server.
    `_done` is set when the connection is closing, lingering or taken over. Then nothing more is parsed.

    slot: the slot, if the connection was counted before its TLS handshake. heads: of the streams of one client.
    """

    # fmt: off
    __slots__ = (
        "_awaits_first_request", "_buffer", "_descriptor", "_done", "_drained", "_heads", "_lingering", "_partial",
        "_release_unsent", "_rest", "_server", "_slot", "_task", "_turn_awaited", "_unsent", "_unwritable", "deadline",
        "peer", "scheme",
    )
    # fmt: on

    whole_view = shared_view(_READ)

    def __init__(
        self, server: ConnectionServer, slot: ConnectionSlot | None = None, heads: HeadReader | None = None
    ) -> None:
        super().__init__(server.scheduler, _READ)
        self._server = server
        self._slot = slot
        self._heads = heads or HeadReader(server.parser)
        self._buffer = b""
        self._task: asyncio.Task[object] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._unwritable = False  # the client has too many unsent bytes
        self._turn_awaited = False  # pipelined requests wait for the scheduler
        self._partial = False  # the head of a request is unfinished
        self._done = False
        self._awaits_first_request = True  # the client has not sent a request yet
        self._lingering = -1  # bytes discarded since the last answer; -1: not lingering
        self._unsent = 0  # unsent bytes at the last check
        self._release_unsent: Callable[[], None] | None = None  # ends the count of the unsent bytes
        self._rest: memoryview | None = None  # of the body, until the client has read more; only of a client with TLS
        self._descriptor = -1  # descriptor of a plain socket; it may be written directly if the transport is idle
        self.deadline = math.inf
        self.peer = ""
        self.scheme = "http"

    # ---- RequestReads ----

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
        if self._slot is None:
            self._slot = server.open_slot(self.peer)
            if self._slot is None:
                self._done = True
                tcp.abort()
                return
        self._slot.transport = tcp
        server.connections.add(self)
        self.deadline = server.now + server.limits.head_seconds
        if self._slot.over_quota or server.closing:
            self.deadline = server.now + _LINGER  # enough for one request and one answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._slot is not None:
            self._slot.release()
        self._done = True
        self._buffer, self._rest = b"", None
        self._count_sent()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

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
            if len(data) > _MAX_PIPELINED:
                self.hold_reading()
        else:
            self._process(data)

    def pause_writing(self) -> None:
        self._unwritable = True

    def _count_unsent(self, body: bytes | None) -> None:
        """Counts an answer that the client has not read. body: None if only the transport refers to it."""
        server = self._server
        self._limit_stall()
        if body is not None and self._descriptor >= 0:
            self._release_unsent = server.unsent.hold(0, body)
        else:  # TLS has a copy of what was written
            self._release_unsent = server.unsent.hold(self._unsent, body if self._rest is not None else None)
        if self._release_unsent is None:
            server.refused += 1
            self._transport.abort()

    def _limit_stall(self) -> None:
        """Limits the time in which the client reads nothing."""
        server = self._server
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = server.now + server.unsent.stall_limit(server.limits.stall_seconds)

    def _count_sent(self) -> None:
        release, self._release_unsent = self._release_unsent, None
        if release is not None:
            release()

    def resume_writing(self) -> None:
        self._unwritable = False
        if self._rest is not None:
            self._write_rest()
            if self._unwritable:
                self._limit_stall()
                return
        if self._done and self._lingering < 0:
            self._end(False)  # the rest was not written yet when the answer ended
        self._count_sent()
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
        if self._task is not None:
            self.deadline = math.inf
        elif not self._done and not self._turn_awaited:
            if self._buffer:  # pipelined requests with large answers: each waits for a turn
                self._await_turn(SLICE_SECONDS)
            else:
                self._next()

    # ---- requests ----

    def _process(self, data: bytes) -> None:
        """Serves the requests in `data`.

        Stops if an answer needs a task, the slice is over, or the client has too many unsent bytes.
        """
        server, heads = self._server, self._heads
        began = 0.0  # time at which the second request was served
        while data:
            if data == heads.head and heads.request is not None:  # a player asks again for the same playlist
                request, data = heads.request, b""
                request.reset()
            else:
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
                    request = heads.parse(head, self.peer, self.scheme)
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

    def _await_turn(self, cost: float) -> None:
        """Queues the buffered requests in the scheduler. cost: seconds that the last requests needed."""
        self._turn_awaited = True
        self.deadline = self._server.now + self._server.limits.keep_alive
        self.hold_reading()
        self._scheduler.wait(self._on_turn, cost)

    def _on_turn(self) -> None:
        self._turn_awaited = False
        if not self._done and not self._unwritable:
            self._next()

    def _await_rest(self, data: bytes) -> None:
        limits = self._server.limits
        self._buffer = data
        self.release_reading()
        # 64: the method and the version, which are in the request line beside the target.
        if len(data) > limits.head_bytes or (
            len(data) > limits.target_bytes + 64 and b"\r\n" not in data[: limits.target_bytes + 64]
        ):
            self._refuse(too_large(data, limits.target_bytes))
        elif is_malformed_start(data):
            self._refuse(RequestError(400, "malformed request"))
        elif not self._partial:
            self._partial = True
            self.deadline = self._server.now + limits.head_seconds

    def _serve(self, request: Request) -> None:
        server, slot = self._server, self._slot
        assert slot is not None, "a connection that is not counted is closed"
        server.requests += 1
        self._awaits_first_request = False
        if server.forwarded.networks:
            headers = request.headers
            request.peer = server.forwarded.client(self.peer, headers)
            request.scheme = server.forwarded.scheme(self.peer, headers, self.scheme)
            request.exempt = server.forwarded.trusts(request.peer)
            request.proxied = request.peer != self.peer
        if request.has_body:
            request.keep_alive = False  # a body is never read: the connection closes after the answer
        if server.exempts(request):
            server.exempt(slot)
        elif slot.over_quota:
            self._too_many(request)
            return
        if request.method not in server.methods:
            self._send(request, server.preflight if request.method == "OPTIONS" else server.not_allowed)
            return
        try:
            answer = server.handler(request)
        except Exception as error:
            answer = server.error_response(request, error)
        if isinstance(answer, Response):
            body = answer.body
            if isinstance(body, bytes) or body is None:
                self._send(request, answer)
            else:
                self._begin(self._stream(request, answer, body))
        elif isinstance(answer, Takeover):
            self._hand_over(request, answer)
        else:
            self._begin(self._answer_later(request, answer), answer)

    def _begin(self, work: Coroutine[Any, Any, None], *inner: Coroutine[Any, Any, object]) -> None:
        """Starts the task of an answer. inner: coroutines that `work` awaits."""
        self.deadline = math.inf
        self._task = self._server.tasks.start(self._run(work), inner=(work, *inner))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._server.task_failed("http", error)
            self._done = True
            self._transport.abort()
        finally:
            self._task = None
        if self._done:
            return
        if self._unwritable:
            self._limit_stall()  # `resume_writing` continues with the next request
        else:
            self._next()

    async def _answer_later(self, request: Request, awaited: Coroutine[Any, Any, Answer]) -> None:
        try:
            answer = await awaited
        except Exception as error:
            answer = self._server.error_response(request, error)
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
        """Sends a large body. If the client accepts gzip, a thread compresses it first."""
        if "range" not in request.headers and accepts_gzip(request.headers.get("accept-encoding", "")):
            await self._server.compress(response)
        self._send(request, response)

    def _next(self) -> None:
        """Continues with the next request after an answer."""
        if not self._server.keeps_alive:
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
        keep = request.keep_alive and server.keeps_alive
        end = _KEEP_ALIVE if keep and request.http11 else _connection_header(request, keep)
        try:
            head = response.whole_head(server.date, end)
        except ValueError as error:
            response = server.error_response(request, error)
            head = response.whole_head(server.date, end)
        body = response.body
        if not body or request.method == "HEAD":
            body = b""
        assert isinstance(body, bytes)  # the callers stream other bodies
        server.bytes_out += (size := len(head) + len(body))
        request.tally.sent += size
        self._write(head, body)
        if not keep:
            self._end(request.has_body)

    def _write(self, head: bytes, body: bytes) -> None:
        """Writes a whole answer. If the transport is idle, writes to the socket directly: this costs a fifth less.

        The transport collects the answers to pipelined requests, and sends the rest if the kernel accepts only a part.
        """
        transport = self._transport
        written = 0
        if self._descriptor >= 0 and not self._buffer and not transport.get_write_buffer_size():
            try:
                written = os.writev(self._descriptor, (head, body)) if body else os.write(self._descriptor, head)
            except BlockingIOError:
                pass  # the kernel accepts nothing now
            except OSError:
                return  # the peer has disconnected; the transport notices it itself
        if not written and len(body) < _MAX_JOINED_BODY:
            transport.write(head + body)
        else:
            if written < len(head):
                transport.write(head[written:])
            written_body = max(0, written - len(head))
            if written_body < len(body):
                rest = memoryview(body)[written_body:]
                if self._descriptor >= 0:
                    transport.write(rest)
                else:
                    self._rest = rest
                    self._write_rest()
        if self._unwritable:
            self._count_unsent(body)

    def _write_rest(self) -> None:
        """Writes the rest of a body to TLS, as far as the client reads."""
        rest, transport = self._rest, self._transport
        while rest and not self._unwritable and not transport.is_closing():
            transport.write(rest[:_TLS_PIECE])
            rest = rest[_TLS_PIECE:]
        self._rest = rest or None

    async def _stream(self, request: Request, response: Response, body: AsyncIterator[bytes]) -> None:
        """Sends the pieces of a body. If one fails, the connection is closed, so that the client notices it."""
        transport, server, length = self._transport, self._server, response.length
        chunked = request.http11 and length is None
        keep = request.keep_alive and server.keeps_alive and (chunked or length is not None)
        head = response.head() + server.date + (b"Transfer-Encoding: chunked\r\n" if chunked else b"")
        head += _connection_header(request, keep)
        sent = 0
        complete = request.method == "HEAD"
        try:
            if not transport.is_closing():
                transport.write(head)
                server.bytes_out += len(head)
            if not complete:
                async for piece in body:
                    if transport.is_closing():
                        return
                    if piece:
                        sent += len(piece)
                        data = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                        transport.write(data)
                        server.bytes_out += len(data)
                        request.tally.sent += len(data)
                        if self._unwritable:
                            self._count_unsent(None)
                            await self._drain()
                if chunked and not transport.is_closing():
                    transport.write(b"0\r\n\r\n")
                complete = length is None or sent == length
        except Exception as error:
            server.error_response(request, error)
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()
        if not complete and not request.http11:
            transport.abort()  # the end of the connection alone would be the end of the body
        elif not complete or not keep:
            self._end(request.has_body)

    async def _drain(self) -> None:
        while self._unwritable and not self._transport.is_closing():
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def _hand_over(self, request: Request, takeover: Takeover) -> None:
        server, transport, slot = self._server, self._transport, self._slot
        assert slot is not None, "a connection that is not counted is closed"
        if transport.is_closing():  # the client has disconnected: connection_lost follows
            takeover.abandoned()
            return
        if request.peer != self.peer and not server.count_client(slot, request.peer):
            takeover.abandoned()
            self._too_many(request)
            return
        rest, self._buffer = self._buffer, b""
        self._done = True
        self._task = None  # this task runs the call; a lost connection must not cancel the takeover
        # The loop checks the kind of a protocol when reading begins. With a hold, a queued turn of the scheduler does
        # not resume reading.
        self.hold_reading()
        try:
            protocol = takeover.begin(transport, rest, slot)
        except Exception as error:
            server.error_response(request, error)
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
        """Sends the last answer: after a bad request, the start of the next one is unknown."""
        server = self._server
        server.refused += 1
        response = text(error.status, str(error))
        assert isinstance(response.body, bytes)
        self._transport.write(b"".join((response.head(), server.date, _CLOSE, response.body)))
        self._end(True)

    # ---- the end ----

    def _end(self, unread: bool) -> None:
        """Closes after all written data has been sent. unread: first reads the data that the client still sends."""
        server, transport = self._server, self._transport
        self._done = True
        self._buffer = b""
        if transport.is_closing() or self._rest is not None:  # `resume_writing` ends it after the rest
            return
        if unread and transport.can_write_eof():
            self._lingering = 0
            self.deadline = server.now + _LINGER
            transport.write_eof()
            self.release_reading()
        else:
            self._limit_stall()
            transport.close()

    @property
    def is_answering(self) -> bool:
        """Whether an answer is made, or the client has not read one yet."""
        return self._task is not None or self._unwritable

    def timed_out(self) -> None:
        """Handles a deadline that has passed."""
        transport = self._transport
        unsent = transport.get_write_buffer_size()
        if unsent and self._lingering < 0 and (self._unsent == 0 or unsent < self._unsent):
            self._limit_stall()  # the client reads slowly
        elif unsent or self._done:
            transport.abort()
        elif self._partial:
            self._refuse(RequestError(408, "the request took too long"))
        else:
            self._end(False)

    def drain(self) -> None:
        """Ends the connection when the server closes: at once if it is idle, otherwise after the running answer.

        If the client has not sent a request yet, one may arrive soon. An immediate close would reset the connection.
        """
        if not self.is_answering and not self._done:
            if self._awaits_first_request:
                self.deadline = self._server.now + _LINGER
            else:
                self._end(False)


def _connection_header(request: Request, keep: bool) -> bytes:
    """Returns the end of a head, with the Connection header."""
    if not keep:
        return _CLOSE
    return _KEEP_ALIVE if request.http11 else _KEEP_ALIVE_10
