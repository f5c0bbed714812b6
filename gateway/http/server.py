"""The HTTP/1.1 server: its sockets, the connections that it counts, its clock and its shutdown."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from email.utils import formatdate
from typing import Final

import structlog

from gateway.http.connection import HttpConnection, HttpLimits
from gateway.http.connection_slot import ConnectionSlot
from gateway.http.forwarded import Forwarded, plain_address
from gateway.http.request import HeadParser, Request, RequestError
from gateway.http.response import Handler, Response, service_unavailable, text
from gateway.lib.quota import Quota
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.sockets import BACKLOG, accept_tls
from gateway.lib.tasks import Tasks

log = structlog.get_logger(__name__)

_PREFLIGHT_SECONDS: Final = 86_400
_MAX_REFUSED: Final = 256  # connections above their address's limit that may wait for their 429
_LOST_SECONDS: Final = 1.0  # to wait until aborted connections are gone
_MAX_COMPRESSING: Final = 1  # bodies compressed in threads at once: more would slow the loop down


class HttpServer:
    """Answers requests with `handler(request)`, on any number of sockets, plain and TLS. Used by one loop.

    A handler's plain Response is sent at once, without a task.
    A coroutine runs in a task that is cancelled when the client leaves.
    An exception is logged and answered with 500; the connection stays open.
    Counters: `requests`, `bytes_out` (of Responses, heads included), `refused` (400s, time-outs and limits), `errors`.
    `len(server)` is the number of connections.
    """

    def __init__(
        self,
        handler: Handler,
        limits: HttpLimits,
        forwarded: Forwarded | None = None,
        methods: Iterable[str] = ("GET", "HEAD"),
        hidden_methods: Iterable[str] = (),
        exempts: Callable[[Request], bool] = lambda request: False,
    ) -> None:
        """hidden_methods: methods that the handler checks itself, and that no answer lists.

        exempts: whether a request's connection is not limited; called for each request, so it must be fast.
        """
        self.exempts = exempts
        self.handler = handler
        self.limits = replace(
            limits, head_seconds=limits.head_seconds or math.inf, stall_seconds=limits.stall_seconds or math.inf
        )
        self.forwarded = forwarded or Forwarded(())
        self.methods = frozenset((*methods, *hidden_methods))
        self.parser = HeadParser(limits.target_bytes)
        self.quota = Quota(limits.per_address)
        self.scheduler = ReadScheduler()
        self.closing = False
        self.keeps = True  # connections stay open after an answer
        self.requests = 0
        self.bytes_out = 0
        self.refused = 0
        self.errors = 0
        self.now = 0.0  # monotonic time of the last tick: exact enough for time-outs
        self.date = b""
        self.connections: set[HttpConnection] = set()  # without those taken over
        self.tasks = Tasks("http", self.crashed)
        self._compressing = asyncio.Semaphore(_MAX_COMPRESSING)
        allow = ", ".join(sorted({*self.methods, "OPTIONS"}.difference(hidden_methods)))
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
        self.too_many = service_unavailable("too many connections from this address", 10, 429)
        self._leases: set[ConnectionSlot] = set()
        self._refusing = 0  # number of leases with `over`
        self._servers: list[asyncio.Server] = []
        self._accepting: list[asyncio.Task[object]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._leases)

    async def listen(self, sockets: Iterable[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Serves on listening sockets, which it closes at the end."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._tick()
        for one in sockets:
            if tls is not None:
                accepting = accept_tls(one, tls, self.limits.head_seconds, self._arrived, self.tasks)
                self._accepting.append(self.tasks.start(accepting, "TLS connections"))
            elif one.family == socket.AF_UNIX:
                self._servers.append(
                    await loop.create_unix_server(lambda: HttpConnection(self), sock=one, backlog=BACKLOG)
                )
            else:
                self._servers.append(await loop.create_server(lambda: HttpConnection(self), sock=one, backlog=BACKLOG))

    def retire(self) -> None:
        """Stops accepting.

        Open connections get one more answer and are then closed; taken-over connections continue.
        """
        self.keeps = False
        self._stop_accepting()

    async def close(self, grace: float = 0.0) -> None:
        """Stops accepting and closes idle connections.

        grace: seconds for present answers and taken-over connections to finish.
        """
        self.closing, self.keeps = True, False
        self._stop_accepting()
        await asyncio.sleep(0)  # a socket accepted in this turn of the loop is a connection in the next
        await asyncio.sleep(0)
        for connection in list(self.connections):
            connection.drain()
        await self._left_by_all(grace)
        await self.tasks.close()
        for lease in list(self._leases):
            if lease.transport is not None:
                lease.transport.abort()
        await self._left_by_all(_LOST_SECONDS)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_accepting(self) -> None:
        for server in self._servers:
            server.close()
        for accepting in self._accepting:
            accepting.cancel()  # a waiting accept would keep its socket open
        self._servers, self._accepting = [], []

    async def _left_by_all(self, seconds: float) -> None:
        if self._leases:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=seconds)
            self._empty = None

    # ---- for connections ----

    def entered(self, address: str) -> ConnectionSlot | None:
        """Counts a new connection; None if it must be closed at once, because there are too many in all."""
        limits = self.limits
        if limits.connections and len(self._leases) >= limits.connections:
            self.refused += 1
            return None
        trusted = self.forwarded.trusts(address)
        counted = (address,) if not trusted and self.quota.take(address) else ()
        over = not counted and not trusted
        if over:
            if self._refusing >= _MAX_REFUSED:
                self.refused += 1
                return None
            self._refusing += 1
        lease = ConnectionSlot(self, counted, over)
        self._leases.add(lease)
        return lease

    def _arrived(self, address: str) -> HttpConnection | None:
        """Returns the connection of a TCP client before its TLS handshake; None if it is refused."""
        lease = self.entered(plain_address(address))
        return HttpConnection(self, lease) if lease is not None else None

    def moved(self, lease: ConnectionSlot, client: str) -> bool:
        """Counts a lasting connection also for the client behind the proxy.

        Returns False if that client has too many.
        """
        if not self.forwarded.trusts(client):
            if not self.quota.take(client):
                return False
            lease.counted += (client,)
        return True

    def exempted(self, lease: ConnectionSlot) -> None:
        for address in lease.counted:
            self.quota.give(address)
        lease.counted = ()
        self._refusing -= lease.over
        lease.over = False

    def left(self, lease: ConnectionSlot) -> None:
        if lease in self._leases:
            self._leases.remove(lease)
            self._refusing -= lease.over
            for address in lease.counted:
                self.quota.give(address)
            if self._empty is not None and not self._leases and not self._empty.done():
                self._empty.set_result(None)

    async def compress(self, response: Response) -> None:
        """Compresses a large body in a thread, one at a time. If the client leaves, the work still runs to its end."""
        await self._compressing.acquire()
        if not response.slow_to_compress:  # another request did it
            self._compressing.release()
            return
        work = asyncio.get_running_loop().run_in_executor(None, response.gzipped)
        work.add_done_callback(lambda _: self._compressing.release())
        await asyncio.shield(work)

    def failed(self, request: Request, error: Exception) -> Response:
        """Returns the answer to a request whose handler raised."""
        if isinstance(error, RequestError):
            return text(error.status, str(error))
        self.errors += 1
        log.error("request failed", path=request.path[:200], peer=request.peer, exc_info=error)
        return text(500, "something went wrong here; the log says what")

    def _tick(self) -> None:
        """Updates, once a second, the clock and the Date header, and handles deadlines that have passed."""
        self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)
        self.now = now = time.monotonic()
        self.date = f"Date: {formatdate(usegmt=True)}\r\n".encode("ascii")
        for connection in [c for c in self.connections if c.deadline <= now]:
            connection.timed_out()

    def crashed(self, name: str, error: BaseException) -> None:
        self.errors += 1
        log.error("answering failed", task=name, exc_info=error)
