"""The HTTP server: its sockets, its clock and its shutdown."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Final

import structlog

from gateway.http.connection import HttpConnection
from gateway.http.connection_server import ConnectionServer
from gateway.http.connection_slot import ConnectionSlot
from gateway.http.forwarded import plain_address
from gateway.http.http2_connection import ByAlpn, Http2Connection, Http2Host
from gateway.http.request import HeadReader
from gateway.lib.sockets import BACKLOG, ChallengeContexts, accept_tls

log = structlog.get_logger(__name__)

_ABORT_SECONDS: Final = 1.0  # time-out for aborted connections to close


class HttpServer(ConnectionServer):
    """Answers requests with `handler(request)`, on any number of sockets, plain and TLS. Used by one event loop.

    If the handler returns a Response, it is sent at once, without a task.
    If it returns a coroutine, a task runs it. The task is cancelled when the client disconnects.
    If it raises, the error is logged and answered with 500; the connection stays open.
    The arguments are those of `ConnectionServer`.
    """

    _servers: tuple[asyncio.Server, ...] = ()
    _accepting: tuple[asyncio.Task[object], ...] = ()
    _timer: asyncio.TimerHandle | None = None

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
                self._accepting += (self.tasks.start(accepting, "TLS connections"),)
            else:
                create = loop.create_unix_server if listening.family == socket.AF_UNIX else loop.create_server
                self._servers += (await create(lambda: HttpConnection(self), sock=listening, backlog=BACKLOG),)

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
        self._servers = self._accepting = ()

    # ---- connections ----

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

        def hold_unsent(size: int) -> Callable[[], None] | None:
            release = self.unsent.hold(size, None)
            self.refused += release is None
            return release

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
            hold_unsent=hold_unsent,
        )
        return Http2Connection(host, slot.release)

    def _tick(self) -> None:
        """Runs once a second: updates the clock and the Date header, and handles deadlines that have passed."""
        self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)
        self.now = now = time.monotonic()
        self.date = f"Date: {formatdate(usegmt=True)}\r\n".encode("ascii")
        for connection in [c for c in self.connections if c.deadline <= now]:
            connection.timed_out()
