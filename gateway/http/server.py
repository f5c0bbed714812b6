"""The HTTP server: its sockets, its count of connections, its clock and its shutdown."""

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

from gateway.http.connection import HttpConnection
from gateway.http.connection_server import HttpLimits
from gateway.http.connection_slot import ConnectionSlot
from gateway.http.forwarded import Forwarded, plain_address
from gateway.http.http2_connection import ByAlpn, Http2Connection, Http2Host
from gateway.http.request import HeadParser, HeadReader, Request, RequestError
from gateway.http.response import Handler, Response, not_allowed, preflight, service_unavailable, text
from gateway.http.unsent import UnsentAnswers
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.sockets import BACKLOG, ChallengeContexts, accept_tls
from gateway.lib.tasks import Tasks

log = structlog.get_logger(__name__)

_MAX_REFUSED: Final = 256  # connections above the limit of their address that may wait for a 429 answer
_ABORT_SECONDS: Final = 1.0  # time-out for aborted connections to close
_MAX_COMPRESSING: Final = 1  # bodies compressed in threads at once; more would slow down the loop


class HttpServer:
    """Answers requests with `handler(request)`, on any number of sockets, plain and TLS. Used by one event loop.

    If the handler returns a Response, it is sent at once, without a task.
    If it returns a coroutine, a task runs it. The task is cancelled when the client disconnects.
    If it raises, the error is logged and answered with 500; the connection stays open.
    Counters: `requests`, `bytes_out` (of Responses, with heads), `refused` (400s, time-outs and limits), `errors`.
    `len(server)` is the number of connections. Its connections use all its attributes without an underscore.

    hidden_methods: methods that the handler checks itself. No answer of the server lists them.

    exempts: whether the connection of a request has no limits. Called for each request, so it must be fast.
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
        self.exempts = exempts
        self.handler = handler
        self.limits = replace(
            limits, head_seconds=limits.head_seconds or math.inf, stall_seconds=limits.stall_seconds or math.inf
        )
        self.forwarded = forwarded or Forwarded(())
        methods = frozenset(methods)
        self.methods = methods.union(hidden_methods)
        self.parser = HeadParser(limits.target_bytes)
        self.quota = limits.of_address
        self.scheduler = ReadScheduler()
        self.unsent = UnsentAnswers(limits.memory)
        self.closing = False
        self.keeps_alive = True  # connections stay open after an answer
        self.requests = 0
        self.bytes_out = 0
        self.refused = 0
        self.errors = 0
        self.now = 0.0  # monotonic time of the last tick, exact enough for time-outs
        self.date = b""
        # Without connections that were taken over; each HTTP/2 connection, and its streams.
        self.connections: set[HttpConnection | Http2Connection] = set()
        self.tasks = Tasks("http", self.task_failed)
        self._compressing = asyncio.Semaphore(_MAX_COMPRESSING)
        allow = ", ".join(sorted({*methods, "OPTIONS"}))
        self.not_allowed = not_allowed(allow)
        self.preflight = preflight(allow)
        self.too_many = service_unavailable("too many connections from this address", 10, 429)
        self._slots: set[ConnectionSlot] = set()
        self._over_quota = 0  # number of slots with `over_quota`
        self._servers: list[asyncio.Server] = []
        self._accepting: list[asyncio.Task[object]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def is_answering(self) -> bool:
        """Whether an answer is made or sent on any connection that was not taken over."""
        return any(connection.is_answering for connection in self.connections)

    async def listen(
        self,
        sockets: Iterable[socket.socket],
        tls: ssl.SSLContext | None = None,
        challenges: ChallengeContexts | None = None,
    ) -> None:
        """Serves on listening sockets, and closes them at the end. challenges: see `accept_tls`."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._tick()
        for listening in sockets:
            if tls is not None:
                seconds = self.limits.head_seconds
                accepting = accept_tls(listening, tls, seconds, self._accept_tls_client, self.tasks, challenges)
                self._accepting.append(self.tasks.start(accepting, "TLS connections"))
            else:
                create = loop.create_unix_server if listening.family == socket.AF_UNIX else loop.create_server
                self._servers.append(await create(lambda: HttpConnection(self), sock=listening, backlog=BACKLOG))

    def retire(self) -> None:
        """Stops accepting.

        Open connections close after their next answer; connections that were taken over continue.
        """
        self.keeps_alive = False
        self._stop_accepting()

    async def close(self, grace: float = 0.0) -> None:
        """Stops accepting and closes idle connections.

        grace: seconds for running answers and for connections that were taken over.
        """
        self.closing, self.keeps_alive = True, False
        self._stop_accepting()
        await asyncio.sleep(0)  # a socket accepted in this turn of the loop becomes a connection in the next turn
        await asyncio.sleep(0)
        for connection in list(self.connections):
            connection.drain()
        await self._wait_until_empty(grace)
        await self.tasks.close()
        for slot in list(self._slots):
            if slot.transport is not None:
                slot.transport.abort()
        await self._wait_until_empty(_ABORT_SECONDS)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_accepting(self) -> None:
        for server in self._servers:
            server.close()
        for accepting in self._accepting:
            accepting.cancel()  # a waiting accept would keep its socket open
        self._servers, self._accepting = [], []

    async def _wait_until_empty(self, seconds: float) -> None:
        if self._slots:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=seconds)
            self._empty = None

    # ---- for connections ----

    def open_slot(self, address: str) -> ConnectionSlot | None:
        """Counts a new connection. Returns None if it must be closed at once: there are too many."""
        limits = self.limits
        if limits.connections and len(self._slots) >= limits.connections:
            self.refused += 1
            return None
        trusted = self.forwarded.trusts(address)
        addresses = (address,) if not trusted and self.quota.take(address) else ()
        over_quota = not addresses and not trusted
        if over_quota:
            if self._over_quota >= _MAX_REFUSED:
                self.refused += 1
                return None
            self._over_quota += 1
        slot = ConnectionSlot(self, addresses, over_quota)
        self._slots.add(slot)
        return slot

    def _accept_tls_client(self, address: str) -> asyncio.BaseProtocol | None:
        """Returns the connection of a TCP client before its TLS handshake; None if it is refused."""
        slot = self.open_slot(plain_address(address))
        if slot is None:
            return None
        return ByAlpn(HttpConnection(self, slot), lambda transport: self._http2(slot, transport))

    def _http2(self, slot: ConnectionSlot, transport: asyncio.Transport) -> Http2Connection:
        """Returns an HTTP/2 connection. Its streams are counted like connections; one of them uses its own slot."""
        slot.transport = transport

        heads = HeadReader(self.parser, http11=False)

        def answering() -> HttpConnection:
            if slot.lent_by is not None:
                return HttpConnection(self, None, heads)
            slot.lent_by = transport
            return HttpConnection(self, slot, heads)

        limits, unsent = self.limits, self.unsent
        host = Http2Host(
            self.scheduler,
            self.connections,
            lambda: self.now,
            limits.head_seconds,
            limits.keep_alive,
            lambda: unsent.stall_limit(limits.stall_seconds),
            lambda: self.keeps_alive and not slot.over_quota,
            answering,
        )
        return Http2Connection(host, slot.release)

    def count_client(self, slot: ConnectionSlot, client: str) -> bool:
        """Counts a connection that is taken over. It also counts for the client behind the proxy.

        Returns False if this client has too many connections.
        """
        if not self.forwarded.trusts(client):
            if not self.quota.take(client):
                return False
            slot.addresses += (client,)
        return True

    def exempt(self, slot: ConnectionSlot) -> None:
        """Stops counting a connection for its addresses: it belongs to another node, which needs many."""
        for address in slot.addresses:
            self.quota.give(address)
        slot.addresses = ()
        self._over_quota -= slot.over_quota
        slot.over_quota = False

    def release(self, slot: ConnectionSlot) -> None:
        """Called when the connection is closed. Idempotent."""
        if slot in self._slots:
            self._slots.remove(slot)
            self._over_quota -= slot.over_quota
            for address in slot.addresses:
                self.quota.give(address)
            if self._empty is not None and not self._slots and not self._empty.done():
                self._empty.set_result(None)

    async def compress(self, response: Response) -> None:
        """Compresses a large body in a thread, one at a time. The work continues if the client disconnects."""
        await self._compressing.acquire()
        if not response.slow_to_compress:  # another request has compressed it
            self._compressing.release()
            return
        work = asyncio.get_running_loop().run_in_executor(None, response.gzipped)
        work.add_done_callback(lambda _: self._compressing.release())
        await asyncio.shield(work)

    def error_response(self, request: Request, error: Exception) -> Response:
        """Returns the answer if the handler raised `error`."""
        if isinstance(error, RequestError):
            return text(error.status, str(error))
        self.errors += 1
        log.error("request failed", path=request.path[:200], peer=request.peer, exc_info=error)
        return text(500, "something went wrong here; the log says what")

    def _tick(self) -> None:
        """Runs once a second: updates the clock and the Date header, and handles deadlines that have passed."""
        self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)
        self.now = now = time.monotonic()
        self.date = f"Date: {formatdate(usegmt=True)}\r\n".encode("ascii")
        for connection in [c for c in self.connections if c.deadline <= now]:
            connection.timed_out()

    def task_failed(self, name: str, error: BaseException) -> None:
        """Logs an error outside of an answer."""
        self.errors += 1
        log.error("answering failed", task=name, exc_info=error)
