"""The HTTP/1.1 server: its sockets, the connections it counts, its clock and its end."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Final

import structlog

from gateway.lib.aio import Tasks
from gateway.lib.quota import Quota
from gateway.servers.connection import Connection
from gateway.servers.forwarded import Forwarded
from gateway.servers.listen import BACKLOG
from gateway.servers.request import BadRequest, HeadParser, Request
from gateway.servers.response import Handler, Response, text, try_later

log = structlog.get_logger(__name__)

_PREFLIGHT_SECONDS: Final = 86_400
_HANDSHAKE_SECONDS: Final = 60.0  # for a TLS handshake at most
_LOST_SECONDS: Final = 1.0  # for aborted connections to be gone


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Seconds and bytes that rule a connection (settings, sections `http` and `limits`).

    head_seconds: from a request's first byte (or the connection's start) to the end of its head. stall_seconds: in
    which a client that has something to read must read some of it. Both and per_address (connections): 0 is no limit.
    """

    head_bytes: int
    target_bytes: int
    head_seconds: float
    keep_alive: float
    stall_seconds: float
    per_address: int


class Lease:
    """One TCP connection as the server counts it: from accept until `release`, through any takeover.

    counted: the addresses whose quota it takes, the peer's own and that of the client behind a proxy.
    """

    __slots__ = ("_server", "counted", "transport")

    def __init__(self, server: HttpServer, transport: asyncio.Transport, counted: tuple[str, ...]) -> None:
        self._server = server
        self.transport = transport
        self.counted = counted

    def exempt(self) -> None:
        """It takes nobody's quota any more: another node's, which asks for many."""
        self._server.exempted(self)

    def release(self) -> None:
        """The connection is gone. Idempotent."""
        self._server.left(self)


class HttpServer:
    """Answers requests with `handler(request)`, on any number of sockets, plain and TLS. Touched by one loop.

    A handler's plain Response is sent at once, without a task; what it awaits runs in a task that is cancelled when the
    client leaves. What it raises is logged and answered 500; the connection goes on. Counters: `requests`, `bytes_out`
    (of Responses, heads included), `refused` (400s, time-outs and limits), `errors`; `len(server)` is connections.
    """

    def __init__(
        self,
        handler: Handler,
        limits: HttpLimits,
        forwarded: Forwarded | None = None,
        methods: Iterable[str] = ("GET", "HEAD"),
        unshown: Iterable[str] = (),
        exempts: Callable[[Request], bool] = lambda request: False,
    ) -> None:
        """unshown: methods that are for the handler to judge, and that no answer speaks of. exempts: whether a request
        comes from somebody whose connections are not limited; asked for each, so it has to be quick."""
        self.exempts = exempts
        self.handler = handler
        self.limits = replace(
            limits, head_seconds=limits.head_seconds or math.inf, stall_seconds=limits.stall_seconds or math.inf
        )
        self.forwarded = forwarded or Forwarded(())
        self.methods = frozenset((*methods, *unshown))
        self.parser = HeadParser(limits.target_bytes)
        self.quota = Quota(limits.per_address)
        self.closing = False
        self.keeps = True  # connections go on after an answer
        self.requests = 0
        self.bytes_out = 0
        self.refused = 0
        self.errors = 0
        self.now = 0.0  # monotonic, as of the last tick: exact enough for time-outs
        self.date = b""
        self.connections: set[Connection] = set()  # without the taken ones
        self.tasks = Tasks("http", self.crashed)
        allow = ", ".join(sorted({*self.methods, "OPTIONS"}.difference(unshown)))
        self.not_allowed = text(405, "this method is not served here", headers={"Allow": allow})
        self.preflight = Response(
            204,
            None,
            headers={
                "Allow": allow,
                "Access-Control-Allow-Methods": allow,
                "Access-Control-Allow-Headers": "*, Range",
                "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
            },
        )
        self.too_many = try_later("too many connections from this address", 10, 429)
        self._leases: set[Lease] = set()
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._leases)

    async def listen(self, sockets: Iterable[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Serves on listening sockets, which it closes at the end."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._tick()
        handshake = min(self.limits.head_seconds, _HANDSHAKE_SECONDS) if tls else None
        for one in sockets:
            if one.family == socket.AF_UNIX:
                server = await loop.create_unix_server(lambda: Connection(self), sock=one, backlog=BACKLOG)
            else:
                server = await loop.create_server(
                    lambda: Connection(self), sock=one, ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=handshake
                )
            self._servers.append(server)

    def retire(self) -> None:
        """Stops accepting; who is connected is served, but asks elsewhere after the next answer. Taken connections
        go on."""
        self.keeps = False
        for server in self._servers:
            server.close()
        self._servers = []

    async def close(self, grace: float = 0.0) -> None:
        """Stops accepting, closes idle connections, lets answers and taken connections finish for `grace` seconds."""
        self.closing, self.keeps = True, False
        for server in self._servers:
            server.close()
        self._servers = []
        await asyncio.sleep(0)  # who was accepted in this very turn is a connection in the next
        await asyncio.sleep(0)
        for connection in list(self.connections):
            connection.drain()
        await self._left_by_all(grace)
        await self.tasks.close()
        for lease in list(self._leases):
            lease.transport.abort()
        await self._left_by_all(_LOST_SECONDS)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _left_by_all(self, seconds: float) -> None:
        if self._leases:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=seconds)
            self._empty = None

    # ---- what connections ask ----

    def entered(self, address: str, transport: asyncio.Transport) -> Lease:
        """Counts a new connection; where its address has too many already, it is not counted, and to be refused."""
        counted = (address,) if not self.forwarded.trusts(address) and self.quota.take(address) else ()
        lease = Lease(self, transport, counted)
        self._leases.add(lease)
        return lease

    def moved(self, lease: Lease, client: str) -> bool:
        """A connection that stays is also counted for the client behind the proxy. False where that has too many."""
        if not self.forwarded.trusts(client):
            if not self.quota.take(client):
                return False
            lease.counted += (client,)
        return True

    def exempted(self, lease: Lease) -> None:
        for address in lease.counted:
            self.quota.give(address)
        lease.counted = ()

    def left(self, lease: Lease) -> None:
        if lease in self._leases:
            self._leases.remove(lease)
            for address in lease.counted:
                self.quota.give(address)
            if self._empty is not None and not self._leases and not self._empty.done():
                self._empty.set_result(None)

    def failed(self, request: Request, error: Exception) -> Response:
        """The answer to a request whose handler raised."""
        if isinstance(error, BadRequest):
            return text(error.status, str(error))
        self.errors += 1
        log.error("request failed", path=request.path[:200], peer=request.peer, exc_info=error)
        return text(500, "something went wrong here; the log says what")

    def _tick(self) -> None:
        """Once a second: the clock, the Date header, and every connection whose time is over."""
        self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)
        self.now = now = time.monotonic()
        self.date = f"Date: {formatdate(usegmt=True)}\r\n".encode("ascii")
        for connection in [c for c in self.connections if c.deadline <= now]:
            connection.timed_out()

    def crashed(self, name: str, error: BaseException) -> None:
        self.errors += 1
        log.error("answering failed", task=name, exc_info=error)
