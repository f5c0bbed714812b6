"""The listeners of RTMP and RTMPS: each accepts connections, reads PROXY headers, and adds TLS."""

import asyncio
import ipaddress
import socket
import ssl
import time
from typing import Final

import structlog

from gateway.ingest.rtmp.session import RtmpSession
from gateway.ingest.services import ListenerServices
from gateway.lib.scheduled_reads import ScheduledTls
from gateway.lib.sockets import BACKLOG
from gateway.listeners.pending_connections import TLS_READ
from gateway.listeners.port_listener import OpenListeners, PortListener, peer_address
from gateway.protocols import proxy_v2
from gateway.protocols.errors import RemoteProtocolError

log = structlog.get_logger(__name__)

PROXY_SECONDS: Final = 3.0  # public, must not change: time limit for the header
# Time for peers to read the reason and to close. When the process exits, connections that still send are reset.
HANG_UP_SECONDS: Final = 0.5


def open_rtmp(services: ListenerServices) -> OpenListeners:
    """Binds the ports of RTMP and RTMPS. Raises ListenError."""
    listeners = [RtmpListener(services, address.host, address.port, tls) for address, tls in services.addresses("rtmp")]
    return OpenListeners(listeners, services.tasks)


class RtmpListener(PortListener[RtmpSession]):
    """One port of RTMP or RTMPS."""

    def __init__(self, services: ListenerServices, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._services = services
        self._tls = tls
        super().__init__("rtmps" if tls is not None else "rtmp", host, port, services.opener)
        self._servers: list[asyncio.Server] = []
        self._accepting: list[asyncio.Task[object]] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            if self._services.settings.rtmp.proxy_from:
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
        return self._with_tls(RtmpSession(self._services, self.name, "", self._sessions, exempt=False))

    def _with_tls(self, session: RtmpSession) -> asyncio.BufferedProtocol:
        """Returns the session, or its TLS layer if the listener uses TLS."""
        if self._tls is None:
            return session
        return _TlsSession(session, self._tls, self._services)

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
            session = RtmpSession(self._services, self.name, client, self._sessions, exempt=exempt)
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
        return any(ip in network for network in self._services.settings.rtmp.proxy_from)


class _TlsSession(ScheduledTls):
    """The TLS layer of a session. The connection is counted before the handshake.

    The TLS handshake has the time limit of the RTMP handshake after it. Without that limit, asyncio's limit of a minute
    applies.
    """

    def __init__(self, session: RtmpSession, context: ssl.SSLContext, services: ListenerServices) -> None:
        seconds = services.settings.limits.handshake or None
        super().__init__(session, context, services.reads, TLS_READ, seconds)
        self._rtmp = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._rtmp.enter(transport):
            super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rtmp.tls_lost()


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
