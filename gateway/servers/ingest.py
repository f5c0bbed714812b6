"""The RTMP and RTMPS listeners: accept, PROXY protocol, TLS, and the once-a-second look at every connection."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Final

import structlog

from gateway.protocols import proxy_v2
from gateway.protocols.errors import RemoteProtocolError
from gateway.servers.forwarded import plain_address
from gateway.servers.listen import BACKLOG, Opener, listen, port_of
from gateway.servers.rtmp import RtmpSession
from gateway.servers.rtmp_door import RtmpDoor

log = structlog.get_logger(__name__)

PROXY_SECONDS: Final = 3.0  # contract: the header must be there by then
LAST_WORDS: Final = 0.5  # for peers to read why and to close first: a process that exits resets those who still send
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RtmpListener:
    """One port. `run` must run while it is open; closing it leaves sessions to the hub's drain."""

    def __init__(
        self,
        door: RtmpDoor,
        host: str,
        port: int,
        proxy_from: Sequence[Network],
        tls: ssl.SSLContext | None,
        opener: Opener = listen,
    ) -> None:
        self._door = door
        self._proxy_from = tuple(proxy_from)
        self._tls = tls
        self._name = "rtmps" if tls is not None else "rtmp"
        self._sockets = opener(self._name, host, port)
        self._port = port_of(self._sockets)
        self._sessions: set[RtmpSession] = set()
        self._servers: list[asyncio.Server] = []
        self._accepting: list[asyncio.Task[object]] = []
        # TLS has as long as the handshake behind it; asyncio's own bound, a minute, holds where ours is off.
        self._tls_seconds = (door.limits.handshake or None) if tls is not None else None

    @property
    def port(self) -> int:
        return self._port

    @property
    def connections(self) -> int:
        return len(self._sessions)

    async def start(self) -> None:
        """Accepts from now on."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            if self._proxy_from:
                self._accepting.append(self._door.tasks.start(self._accept(sock), f"{self._name} accept"))
            else:
                server = await loop.create_server(
                    self._session, sock=sock, ssl=self._tls, ssl_handshake_timeout=self._tls_seconds, backlog=BACKLOG
                )
                self._servers.append(server)

    async def run(self) -> None:
        """Looks at every connection once a second, until cancelled."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for session in list(self._sessions):
                session.tick(now)

    def close(self) -> None:
        """Accepts no more."""
        for server in self._servers:
            server.close()
        for task in self._accepting:
            task.cancel()  # an accept that waits would keep its socket open
        for sock in self._sockets:
            sock.close()

    async def hang_up(self, grace: float) -> None:
        """Closes every connection that is left; what is still to be sent to them has `grace` seconds to go out."""
        for session in list(self._sessions):
            session.shutdown()
        began = time.monotonic()
        while self._sessions and (waited := time.monotonic() - began) < grace:
            if waited > LAST_WORDS and not any(session.unsent for session in self._sessions):
                break
            await asyncio.sleep(0.02)

    def _session(self) -> asyncio.Protocol:
        return _Arriving(self._door, self._name, self._sessions)

    # ---- behind a load balancer ----

    async def _accept(self, sock: socket.socket) -> None:
        """Our own accept loop: the header comes before TLS, so the socket must be ours until it is read."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(sock)
            except OSError as error:
                if sock.fileno() < 0:
                    return
                log.warning("accept failed", listener=self._name, reason=str(error))
                await asyncio.sleep(0.1)  # out of file descriptors: give some time to close
                continue
            connection.setblocking(False)
            self._door.tasks.start(self._arrive(connection, _address(address)), f"{self._name} arrival")

    async def _arrive(self, connection: socket.socket, address: str) -> None:
        """One connection until its session has it, or it is closed."""
        loop = asyncio.get_running_loop()
        client, exempt, handed_over = address, False, False
        try:
            if self._trusted(address):
                async with asyncio.timeout(PROXY_SECONDS):
                    told = await _proxied(connection)
                if told is None or told.local:
                    return
                client, exempt = told.client or address, told.client is None
            session = RtmpSession(self._door, self._name, client, exempt=exempt, gone=self._sessions.discard)
            self._sessions.add(session)
            try:
                await loop.connect_accepted_socket(
                    lambda: session, connection, ssl=self._tls, ssl_handshake_timeout=self._tls_seconds
                )
                handed_over = True
            finally:
                if not handed_over:
                    self._sessions.discard(session)
        except (RemoteProtocolError, TimeoutError) as error:
            reason = str(error) or "no PROXY header in time"
            log.info("connection refused", peer=address, protocol=self._name, reason=reason)
        except OSError:  # gone already, or its TLS handshake failed
            log.debug("connection lost on arrival", peer=client, protocol=self._name)
        finally:
            if not handed_over:
                connection.close()

    def _trusted(self, address: str) -> bool:
        ip = ipaddress.ip_address(address)
        return any(ip in network for network in self._proxy_from)


class _Arriving(RtmpSession):
    """A session whose address is the socket's."""

    def __init__(self, door: RtmpDoor, protocol: str, sessions: set[RtmpSession]) -> None:
        super().__init__(door, protocol, "", exempt=False, gone=sessions.discard)
        self._sessions = sessions

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.address = _address(transport.get_extra_info("peername"))
        self._sessions.add(self)
        super().connection_made(transport)


def _address(peername: tuple[str, int] | None) -> str:
    """Without its port."""
    return plain_address(peername[0]) if peername else "0.0.0.0"  # gone before it was asked


async def _proxied(connection: socket.socket) -> proxy_v2.Proxied | None:
    """The header, read to its last byte and not one further; None where the connection closed without a byte."""
    prefix = await _exactly(connection, proxy_v2.PREFIX)
    if not prefix:
        return None
    if len(prefix) < proxy_v2.PREFIX:
        raise RemoteProtocolError("connection closed inside a PROXY header")
    length = proxy_v2.remaining(prefix)
    rest = await _exactly(connection, length)
    return proxy_v2.parse(prefix + rest)


async def _exactly(connection: socket.socket, size: int) -> bytes:
    """`size` bytes, or fewer where the peer closes."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        piece = await loop.sock_recv(connection, size - len(data))
        if not piece:
            break
        data += piece
    return data
