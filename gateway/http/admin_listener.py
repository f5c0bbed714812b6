"""The connections of the admin listener below aiohttp: limits, time-outs, and reads in turns.

aiohttp alone keeps an idle connection open for an hour, and reads a flood until its end. It also logs every malformed
request as an error.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from gateway.http.forwarded import Forwarded, plain_address
from gateway.http.http2_connection import ByAlpn, Http2Connection, Http2Host
from gateway.http.request import host_is_valid, is_malformed_start
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.numbers import read_integer
from gateway.lib.quota import Quota
from gateway.lib.scheduled_reads import ReadScheduler, ScheduledProtocol
from gateway.lib.sockets import BACKLOG, accept_tls
from gateway.lib.tasks import Tasks

_READ: Final = 8 * 1024  # bytes of one read
_KEEP_ALIVE: Final = 75.0  # seconds between two requests
_LINGER: Final = 2.0  # seconds in which a refused client can send its request and read the answer
_WINDOW: Final = 512 * 1024  # bytes of an upload by HTTP/2 on the way: 80 Mbit/s at a round trip of 50 ms
_ABORT_TURNS: Final = 4  # turns of the loop until an aborted connection with TLS is lost
_FIRST_COST: Final = 0.001  # assumed cost of the first request of a connection, seconds
_METHOD: Final = re.compile(rb"[A-Za-z]{1,32} ", re.ASCII)
# The known methods of RFC 9110 §9.3 and RFC 5789.
_KNOWN: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
_TOO_MANY: Final = service_unavailable("too many connections from this address", 10, 429)
_TOO_SLOW: Final = text(408, "the request took too long")
_MALFORMED: Final = text(400, "malformed request")
_UNKNOWN_METHOD: Final = text(501, "this method is not known here")


_Handle: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class AdminLimits:
    """Limits of connections; 0 is no limit.

    head_seconds: from the first byte of a request (or the start of the connection) to the end of its head.
    stall_seconds: time in which a client must read some of the sent data.
    per_address: simultaneous connections of one address.
    connections: simultaneous connections of all addresses.
    """

    head_seconds: float
    stall_seconds: float
    per_address: int
    connections: int


class AdminListener:
    """Serves an aiohttp application on any number of sockets. Used by one loop.

    A connection above the limit of its address gets 429. A connection above `connections` is closed at once. `refused`
    counts both kinds. The limit by address does not count connections of trusted proxies.
    """

    def __init__(self, app: web.Application, limits: AdminLimits, forwarded: Forwarded) -> None:
        self.limits = limits
        self.forwarded = forwarded
        self.quota = Quota(limits.per_address)
        self.scheduler = ReadScheduler()
        self.connections: set[AdminConnection | Http2Connection] = set()
        self.refused = 0
        self._tasks = Tasks("admin connections")
        self._retiring = Tasks("admin")
        self._closed = False
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, logger=_logger, keepalive_timeout=_KEEP_ALIVE
        )
        self._serving: dict[object, AdminConnection] = {}  # by the protocol of aiohttp
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self, sockets: Iterable[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Serves on listening sockets, and closes them at the end."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # set up
        server.request_handler = self._handler(server.request_handler)
        loop = asyncio.get_running_loop()
        for listening in sockets:
            if tls is None:
                self._servers.append(await loop.create_server(self._make_connection, sock=listening, backlog=BACKLOG))
            else:
                self._tasks.start(
                    accept_tls(listening, tls, self.limits.head_seconds, self._accept_tls_client, self._tasks),
                    "TLS connections",
                )
        self._tick()

    def retire(self) -> None:
        """Begins to close, because another process now has the port."""
        self._retiring.start(self.close())

    async def close(self) -> None:
        """Stops accepting, finishes the running answers, and closes all connections."""
        if self._closed:
            await self._retiring.close()
            return
        self._closed = True
        for server in self._servers:
            server.close()
        self._servers = []
        await self._tasks.close()
        for connection in list(self.connections):
            connection.drain()
        await self._runner.cleanup()  # closes the connections that aiohttp knows
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in list(self.connections):
            connection.abort()
        for _ in range(_ABORT_TURNS):
            await asyncio.sleep(0)

    # ---- for connections ----

    def admit(self, connection: AdminConnection, address: str) -> bool:
        """Counts a new connection. Returns False if it must be refused."""
        limits = self.limits
        if limits.connections and len(self.connections) >= limits.connections:
            self.refused += 1
            connection.abort()
            return False
        self.connections.add(connection)
        if self.forwarded.trusts(address):
            return True
        if not self.quota.take(address):
            self.refused += 1
            return False
        connection.counted_address = address
        return True

    def release(self, connection: AdminConnection) -> None:
        """Removes a connection. Idempotent."""
        self.connections.discard(connection)
        self._serving.pop(connection.inner, None)
        if connection.counted_address:
            self.quota.give(connection.counted_address)
            connection.counted_address = ""

    # ---- details ----

    def _make_connection(self) -> AdminConnection:
        server = self._runner.server
        assert server is not None  # it accepts only after its setup
        connection = AdminConnection(self, server())
        self._serving[connection.inner] = connection
        return connection

    def _accept_tls_client(self, address: str) -> asyncio.BaseProtocol | None:
        """Returns the connection of a TCP client before its TLS handshake; None if it is refused."""
        connection = self._make_connection()
        if self.admit(connection, plain_address(address)):
            return ByAlpn(connection, lambda transport: self._http2(connection))
        self.release(connection)
        return None

    def _http2(self, counted: AdminConnection) -> Http2Connection:
        """Returns an HTTP/2 connection. Each of its streams is counted beside it. counted: holds its place."""
        host = Http2Host(
            self.scheduler,
            self.connections,
            asyncio.get_running_loop().time,
            self.limits.head_seconds or math.inf,
            _KEEP_ALIVE,
            lambda: self.limits.stall_seconds or math.inf,
            lambda: not self._closed,
            self._make_connection,
            _WINDOW,
        )
        return Http2Connection(host, lambda: self.release(counted))

    def _handler(self, handle: _Handle) -> _Handle:
        """Returns a handler that waits for the turn of the connection and then calls `handle`."""

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            connection = self._serving.get(request.protocol)
            if connection is None:  # the client has disconnected
                return await handle(request)
            await connection.wait_for_turn(request.content)
            try:
                return _refusal(request) or await handle(request)
            finally:
                connection.answered()

        return handler

    def _tick(self) -> None:
        """Handles, once a second, every connection whose deadline has passed."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(1.0, self._tick)
        now = loop.time()
        for connection in [c for c in self.connections if c.deadline <= now]:
            connection.timed_out()


class AdminConnection(ScheduledProtocol):
    """One client of the admin listener.

    deadline: time at which `timed_out` is called, on the clock of the loop.
    counted_address: the address whose quota it uses.
    """

    # fmt: off
    __slots__ = (
        "_answering", "_body", "_connected", "_cost", "_half_closed", "_listener", "_loop", "_partial", "_turn_began",
        "_unsent", "counted_address", "deadline",
    )
    # fmt: on

    def __init__(self, listener: AdminListener, inner: asyncio.Protocol) -> None:
        super().__init__(inner, listener.scheduler, _READ)
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._answering = False
        self._partial = False  # the head of a request is unfinished
        self._connected = False  # aiohttp knows the connection; it never knows refused ones
        self._half_closed = False  # the client has closed its sending side
        self._body: StreamReader | None = None  # body of the last request; it may arrive after the answer
        self._unsent = 0  # unsent bytes at the last check
        self._turn_began = 0.0
        self._cost = _FIRST_COST  # seconds that the last request needed
        self.counted_address = ""
        self.deadline = math.inf

    # ---- asyncio's side ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not derived from asyncio's
        self.deadline = self._after(self._listener.limits.head_seconds)
        if self not in self._listener.connections:  # a TLS connection was counted at accept
            name = transport.get_extra_info("peername")
            if not self._listener.admit(self, plain_address(name[0]) if name else ""):
                self.deadline = self._loop.time() + _LINGER
                return
        self._connected = True
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.release(self)
        if self._connected:
            self._connected = False
            super().connection_lost(exc)

    def bytes_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if not self._connected:
            self._send_last(_TOO_MANY)
            return
        if not self._answering and not self._partial and (self._body is None or self._body.is_eof()):
            self._partial = True
            self.deadline = self._after(self._listener.limits.head_seconds)
            # The start of a later head may have arrived with the request before it: only aiohttp can check that.
            if self._body is None and (refusal := _early_refusal(data)) is not None:
                self._send_last(refusal)
                return
        super().bytes_received(data)

    def eof_received(self) -> bool | None:
        if not self._connected:
            return False
        keep_open = self._partial if not self._answering else self._body is None or self._body.is_eof()
        if keep_open and self._transport.get_extra_info("sslcontext") is None:
            self._half_closed = True  # RFC 9112 §9.6: the client may still read its answer
            return True
        return super().eof_received()

    def pause_writing(self) -> None:
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = self._after(self._listener.limits.stall_seconds)
        if self._connected:
            super().pause_writing()

    def resume_writing(self) -> None:
        self.deadline = math.inf if self._answering else self._loop.time() + _KEEP_ALIVE
        if self._connected:
            super().resume_writing()

    # ---- the listener's side ----

    async def wait_for_turn(self, body: StreamReader) -> None:
        """Handles the end of a head. Returns when it is the turn of this connection."""
        self._answering, self._partial, self._body = True, False, body
        self.deadline = math.inf
        if self._half_closed and not body.is_eof():
            self._transport.close()  # the rest will never arrive
        turn: asyncio.Future[None] = self._loop.create_future()
        self._scheduler.wait(lambda: None if turn.done() else turn.set_result(None), self._cost)
        await turn
        self._turn_began = self._loop.time()

    def answered(self) -> None:
        """Handles the end of a request. Its answer is sent now."""
        now = self._loop.time()
        self._answering = False
        self._cost = now - self._turn_began
        self.deadline = now + (_LINGER if self._half_closed else _KEEP_ALIVE)

    def timed_out(self) -> None:
        """Handles a deadline that has passed."""
        transport = self._transport
        unsent, before = transport.get_write_buffer_size(), self._unsent
        self._unsent = unsent
        if transport.is_closing() or 0 < before <= unsent:
            transport.abort()
        elif unsent:  # the client reads slowly
            self.deadline = self._after(self._listener.limits.stall_seconds)
        elif self._partial and not self._answering:
            self._send_last(_TOO_SLOW)
        else:
            self.deadline = self._loop.time() + _LINGER
            transport.close()

    def drain(self) -> None:
        """Closes the connection unless its request still needs an answer.

        aiohttp would wait 10 s for the rest of a body that the answer did not need.
        """
        if self._connected and not self._answering:
            self._transport.close()

    def abort(self) -> None:
        transport = getattr(self, "_transport", None)  # not set before the TLS handshake
        if transport is not None:
            transport.abort()

    def _after(self, seconds: float) -> float:
        """Returns the deadline after `seconds`; 0: never."""
        return self._loop.time() + (seconds or math.inf)

    def _send_last(self, response: Response) -> None:
        """Sends the last answer and closes."""
        assert isinstance(response.body, bytes)
        self._transport.write(response.head() + b"Connection: close\r\n\r\n" + response.body)
        self.deadline = self._loop.time() + _LINGER
        self._transport.close()


def _early_refusal(data: bytes) -> Response | None:
    """Returns the refusal if a request cannot begin with these bytes; otherwise None."""
    if is_malformed_start(data):
        return _MALFORMED
    method = _METHOD.match(data)
    if method is not None and method[0][:-1] not in _KNOWN:
        return _UNKNOWN_METHOD  # RFC 9110 §9.1; aiohttp would answer 400
    return None


def _refusal(request: web.BaseRequest) -> web.StreamResponse | None:
    """Returns the refusal of a request that aiohttp accepts and the application must not get; otherwise None."""
    if request.version not in ((1, 0), (1, 1)):
        return _final_response(505, "only HTTP/1.1 is supported")
    host = request.headers.get("Host", "")
    if not host_is_valid(host) and (host or request.version == (1, 1)):
        return _final_response(400, "malformed Host")
    if read_integer(request.headers.get("Content-Length", "0"), 2**63) is None:
        return _final_response(400, "malformed Content-Length")  # aiohttp would raise ValueError for many zeros
    if request.method == "OPTIONS" and request.raw_path == "*":  # RFC 9110 §9.3.7: for the whole server
        return web.Response(status=204, headers={"Allow": "GET, HEAD, POST, PUT, DELETE, OPTIONS"})
    return None


def _final_response(status: int, message: str) -> web.Response:
    """Returns a response after which the connection is closed."""
    response = web.Response(status=status, text=f"{message}\n")
    response.force_close()
    return response


class _PeerErrorFilter(logging.Filter):
    """Drops log records that any peer can cause: malformed requests and bodies, broken connections."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if isinstance(record.exc_info, tuple) else None
        return kind is None or not issubclass(kind, (HttpProcessingError, ConnectionError, web.RequestPayloadError))


_logger = logging.getLogger("gateway.admin.http")  # of the server of aiohttp
_logger.addFilter(_PeerErrorFilter())
