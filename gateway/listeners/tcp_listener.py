"""A TCP port whose clients are counted as pending until they show a key: accepts, reads PROXY headers, adds TLS."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

import structlog

from gateway.lib.scheduled_reads import ReadScheduler, ScheduledReads, ScheduledTls
from gateway.lib.sockets import BACKLOG, Opener
from gateway.lib.tasks import Tasks
from gateway.listeners.pending_connections import (
    EARLY_READ,
    RTMP_BYTES,
    TLS_BYTES,
    TLS_READ,
    TLS_UNREAD,
    PendingConnection,
    PendingConnections,
)
from gateway.listeners.port_listener import PortListener, peer_address
from gateway.protocols import proxy_v2
from gateway.protocols.errors import RemoteProtocolError

log = structlog.get_logger(__name__)

PROXY_SECONDS: Final = 3.0  # public, must not change: time limit for the header
# Time for peers to read the reason and to close. When the process exits, connections that still send are reset.
HANG_UP_SECONDS: Final = 0.5
CLOSE_GRACE: Final = 0.25  # seconds over TLS between the last message and the close, so that the peer reads it
# Seconds until a peer that does not read is disconnected; a refused peer must be gone within 3 s.
CLOSE_BOUND: Final = 2.5
PLAY_CLOSE_BOUND: Final = 10.0  # like CLOSE_BOUND, for a player whose stream has ended: it still gets its backlog
MERGE_READS_AFTER: Final = 5.0  # seconds of a publish; earlier, a viewer may join that needs the stream's beginning
MAX_UNREAD_BYTES: Final = 262_144  # bytes of answers for a peer that sends requests without reading


class TcpServices(Protocol):
    """The parts of a process that the port uses; implemented by `ListenerServices`."""

    @property
    def opener(self) -> Opener: ...

    @property
    def tasks(self) -> Tasks: ...

    @property
    def reads(self) -> ReadScheduler: ...

    @property
    def pending(self) -> PendingConnections: ...


class TcpSession(ScheduledReads):
    """A connection of the port, which is pending until `_leave_pending`.

    With TLS, `enter` is called at the accept, before the TLS handshake. Otherwise `connection_made` calls it.
    protocol: the name of the port. address: the client's, if a load balancer has sent it; "": that of the socket.
    exempt: limits by address do not apply. sessions: contains this one while it is connected.
    """

    _transport: asyncio.Transport | None

    def __init__(
        self, services: TcpServices, protocol: str, address: str, sessions: set[Any], *, exempt: bool = False
    ) -> None:
        super().__init__(services.reads, EARLY_READ)
        self.address = address
        self._connections = services.pending
        self._protocol = protocol
        self._exempt = exempt
        self._sessions = sessions
        self._transport = None
        self._is_connected = False
        self._pending: PendingConnection | None = None
        self._closing = False
        self._abort_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0  # bytes of answers since the transport was last empty

    def enter(self, transport: asyncio.BaseTransport) -> bool:
        """Counts the accepted connection as pending, and closes it if there are too many."""
        self.address = self.address or peer_address(transport.get_extra_info("peername"))
        self._sessions.add(self)
        raw = cast(asyncio.Transport, transport)
        cost = RTMP_BYTES + (TLS_BYTES if self._protocol.endswith("s") else 0)
        self._pending = self._connections.enter(self.address, cost, raw.abort, exempt=self._exempt)
        if self._pending is None:
            log.debug("connection refused", peer=self.address, protocol=self._protocol, reason="too many connections")
            self._closing = True
            raw.abort()
        return self._pending is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._is_connected = True
        if self._pending is None and not self.enter(transport):
            return
        if transport.get_extra_info("ssl_object") is not None:
            self._transport.set_read_buffer_limits(TLS_UNREAD)  # type: ignore[attr-defined]

    def tls_lost(self) -> None:
        """Cleans up when the TLS connection is closed. Before the handshake, `connection_lost` is not called."""
        if not self._is_connected:
            self._leave_pending()
            self._sessions.discard(self)

    def _leave_pending(self) -> None:
        """Stops counting the connection as pending: it is accepted or closed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.leave()

    def _answer(self, data: bytes) -> bool:
        """Writes an answer. Returns False if the peer sends requests without reading: then nothing is written."""
        transport = self._transport
        if transport is None or self._closing or transport.is_closing():
            return True
        self._unread_bytes = self._unread_bytes + len(data) if transport.get_write_buffer_size() else 0
        if self._unread_bytes > MAX_UNREAD_BYTES:
            return False
        transport.write(data)
        return True

    def _half_close(self, bound: float = CLOSE_BOUND) -> None:
        """Closes, so that the last message arrives. bound: seconds until the connection is aborted.

        A plain connection is half-closed and still read.
        """
        transport = self._transport
        if self._closing or transport is None:
            return
        self._closing = True
        # Data is still read and discarded: unread bytes would cause a reset, and the peer would lose the last message.
        self.discard_reads()
        loop = asyncio.get_running_loop()
        if not transport.can_write_eof():
            loop.call_later(CLOSE_GRACE, transport.close)
        elif not transport.is_closing():
            transport.write_eof()
        self._abort_timer = loop.call_later(bound, transport.abort)

    def _abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def _lost(self) -> None:
        """Cleans up in `connection_lost`."""
        self._closing = True
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._leave_pending()
        self._transport = None
        self._sessions.discard(self)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the peer to read them."""
        transport = self._transport
        return 0 if transport is None or transport.is_closing() else transport.get_write_buffer_size()

    @abstractmethod
    def tick(self, now: float) -> None:
        """Ends a session that is late or silent. Called about once a second. now: monotonic seconds."""

    @abstractmethod
    def shutdown(self) -> None:
        """Ends the connection when the listener closes. The peer was informed when its stream ended."""


class MakeSession(Protocol):
    """Returns the session of a new connection, see TcpSession."""

    def __call__(self, name: str, address: str, sessions: set[Any], *, exempt: bool) -> TcpSession: ...


class TcpListener(PortListener[TcpSession]):
    """One TCP port, plain or over TLS.

    tls: None: it is plain. handshake: seconds for the TLS handshake; 0: the limit of asyncio, a minute.
    proxy_from: the networks of load balancers, which begin each connection with a PROXY header.
    """

    def __init__(
        self,
        services: TcpServices,
        address: tuple[str, str, int],
        tls: ssl.SSLContext | None,
        make: MakeSession,
        *,
        handshake: float = 0,
        proxy_from: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = (),
    ) -> None:
        """Binds the port. address: name, host and port. Raises ListenError."""
        super().__init__(*address, services.opener)
        self._services, self._tls, self._make = services, tls, make
        self._handshake, self._proxy_from = handshake, proxy_from
        self._servers: list[asyncio.Server] = []
        self._accepting: list[asyncio.Task[object]] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            if self._proxy_from:
                self._accepting.append(self._services.tasks.start(self._accept(sock), f"{self.name} accept"))
            else:
                self._servers.append(await loop.create_server(self._new_session, sock=sock, backlog=BACKLOG))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._accepting:
            task.cancel()  # a waiting accept would keep its socket open
        for sock in self._sockets:
            sock.close()

    async def hang_up(self, grace: float) -> None:
        for session in list(self._sessions):
            session.shutdown()
        began = time.monotonic()
        while self._sessions and (waited := time.monotonic() - began) < grace:
            if waited > HANG_UP_SECONDS and not any(session.unsent for session in self._sessions):
                break
            await asyncio.sleep(0.02)

    def _new_session(self) -> asyncio.BufferedProtocol:
        return self._with_tls(self._make(self.name, "", self._sessions, exempt=False))

    def _with_tls(self, session: TcpSession) -> asyncio.BufferedProtocol:
        """Returns the session, or its TLS layer if the listener uses TLS."""
        if self._tls is None:
            return session
        return _TlsSession(session, self._tls, self._services.reads, self._handshake)

    # ---- behind a load balancer ----

    async def _accept(self, sock: socket.socket) -> None:
        """Accepts connections without the event loop's server.

        The PROXY header comes before TLS, so the loop must not have the socket before the header is read.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(sock)
            except OSError as error:
                if sock.fileno() < 0:
                    return
                log.warning("accept failed", listener=self.name, reason=str(error))
                await asyncio.sleep(0.1)  # no file descriptors are left: wait until some are closed
                continue
            connection.setblocking(False)
            self._services.tasks.start(self._prepare(connection, peer_address(address)), f"{self.name} arrival")

    async def _prepare(self, connection: socket.socket, address: str) -> None:
        """Reads the PROXY header of one connection and gives the connection to a session, or closes it."""
        loop = asyncio.get_running_loop()
        client, exempt, handed_over = address, False, False
        try:
            if self._trusted(address):
                async with asyncio.timeout(PROXY_SECONDS):
                    proxied = await _read_proxy_header(connection)
                if proxied is None or proxied.local:
                    return
                client, exempt = proxied.client or address, proxied.client is None
            session = self._make(self.name, client, self._sessions, exempt=exempt)
            await loop.connect_accepted_socket(lambda: self._with_tls(session), connection)
            handed_over = True
        except (RemoteProtocolError, TimeoutError) as error:
            reason = str(error) or "no PROXY header in time"
            log.info("connection refused", peer=address, protocol=self.name, reason=reason)
        except OSError:  # already disconnected
            log.debug("connection lost on arrival", peer=client, protocol=self.name)
        finally:
            if not handed_over:
                connection.close()

    def _trusted(self, address: str) -> bool:
        ip = ipaddress.ip_address(address)
        return any(ip in network for network in self._proxy_from)


class _TlsSession(ScheduledTls):
    """The TLS layer of a session. The connection is counted before the handshake."""

    def __init__(self, session: TcpSession, context: ssl.SSLContext, reads: ReadScheduler, handshake: float) -> None:
        super().__init__(session, context, reads, TLS_READ, handshake or None)
        self._session = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._session.enter(transport):
            super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._session.tls_lost()


async def _read_proxy_header(connection: socket.socket) -> proxy_v2.ProxyHeader | None:
    """Reads exactly the PROXY header; None if the connection closed without sending a byte."""
    start = await _read_exactly(connection, proxy_v2.PREFIX_BYTES)
    if not start:
        return None
    if len(start) < proxy_v2.PREFIX_BYTES:
        raise RemoteProtocolError("connection closed inside a PROXY header")
    length = proxy_v2.remaining(start)
    rest = await _read_exactly(connection, length)
    return proxy_v2.parse(start + rest)


async def _read_exactly(connection: socket.socket, size: int) -> bytes:
    """Returns `size` bytes, or fewer if the peer closes."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        piece = await loop.sock_recv(connection, size - len(data))
        if not piece:
            break
        data += piece
    return data
