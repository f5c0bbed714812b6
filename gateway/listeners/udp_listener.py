"""UdpListener: one UDP port, its clients by address, and the limits for clients that have not shown a key yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from gateway.http.forwarded import plain_address
from gateway.lib.sockets import Opener
from gateway.listeners.datagrams import Address
from gateway.listeners.pending_connections import PendingConnection, PendingConnections
from gateway.listeners.port_listener import PortListener
from gateway.listeners.udp_socket import UdpSocket
from gateway.protocols.errors import RemoteProtocolError

log = structlog.get_logger(__name__)

CLIENT_BYTES: Final = 4_000  # memory of a client that has not shown a key yet
_KEY_SECONDS: Final = 60.0  # time limit for the key of a client, if none is set


class UdpSession(Protocol):
    """One client, as its protocol knows it."""

    def receive(self, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Takes datagrams in the order in which they came, at most 16. Hot path. Raises RemoteProtocolError.

        arrivals: monotonic seconds. Each datagram has at most 2,048 bytes; longer ones arrive cut.
        """

    def tick(self, now: float) -> None:
        """Checks time limits. Called once a second. now: monotonic seconds."""

    def closed(self, reason: str) -> None:
        """Frees everything. Called once. Datagrams can still be sent to the client."""


class UdpProtocol(Protocol):
    """A protocol over UDP, as its listener knows it."""

    def opens(self, datagram: bytes, address: Address) -> bool:
        """Whether a datagram of an unknown address may begin a session. It must cost little."""

    def answer(self, datagram: bytes, address: Address) -> bytes | None:
        """Returns the answer to a datagram that begins no session, for example a cookie; None: there is no answer.

        Nothing is kept for it. A longer answer than the datagram is not sent.
        """

    def session(self, client: UdpClient, address: Address) -> UdpSession:
        """Returns the session of a new client."""


@dataclass(frozen=True, slots=True)
class UdpLimits:
    """The limits of a listener.

    pending: counts the clients without a key. key_seconds: for the key of a client; 0: one minute.
    silence_seconds: after which a client without datagrams is gone.
    read_delay: seconds by which datagrams of clients with a key may be read later, many at once.
    may_delay_reads: while it returns true, the owner calls `UdpListener.read` more often than that.
    keeps_order: whether several addresses may be one client. Then datagrams keep their order between addresses.
    """

    pending: PendingConnections
    key_seconds: float
    silence_seconds: float
    read_delay: float = 0.0
    may_delay_reads: Callable[[], bool] = lambda: False
    keeps_order: bool = False


class UdpClient:
    """A client: an address on one of the sockets.

    A sender may forge its address. So a client without a key gets no more bytes than came from it, has a limited time,
    and goes first when `PendingConnections` needs room. `accept` ends these limits.

    address, port: of the client. endpoint: the socket, and the client's address on it. bytes: received.
    heard: monotonic time of the last datagram.
    """

    __slots__ = (
        "_limits", "_on_closed", "_opened", "_pending", "_sent", "_session", "_udp", "bytes", "endpoint", "heard",
    )  # fmt: skip

    def __init__(self, udp: UdpSocket, to: Address, limits: UdpLimits, on_closed: Callable[[UdpClient], None]) -> None:
        self.endpoint = udp, to
        self._udp = udp
        self._limits = limits
        self._on_closed = on_closed
        self._opened = self.heard = time.monotonic()
        self._session: UdpSession | None = None
        self._pending: PendingConnection | None = None
        self._sent = 0  # bytes, while it has shown no key
        self.bytes = 0

    def enter(self, protocol: UdpProtocol) -> bool:
        """Begins its session. Returns False if there are too many clients without a key."""
        self._pending = self._limits.pending.enter(self.address, CLIENT_BYTES, lambda: self.close("too many clients"))
        if self._pending is None:
            return False
        self._session = protocol.session(self, self.endpoint[1])
        return True

    @property
    def address(self) -> str:
        return plain_address(self.endpoint[1][0])

    @property
    def port(self) -> int:
        return int(self.endpoint[1][1])

    @property
    def is_accepted(self) -> bool:
        return self._pending is None

    def accept(self) -> None:
        """Notes that it has shown a valid key."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.leave()

    def hold(self, size: int) -> None:
        """Notes how many of its bytes wait for the check of its key. May close it, or another client."""
        if self._pending is not None:
            self._pending.hold(size)

    def receive(self, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Gives datagrams to the session. Hot path."""
        if self._session is None:
            return
        self.heard = arrivals[-1]
        self.bytes += sum(map(len, datagrams))
        try:
            self._session.receive(datagrams, arrivals)
        except RemoteProtocolError as error:
            self.close(str(error))

    def send(self, datagrams: Sequence[bytes]) -> int:
        """Sends datagrams of at most 2,048 bytes. Returns how many went; the rest are dropped."""
        if self._pending is not None:
            self._sent += sum(map(len, datagrams))
            if self._sent > self.bytes:
                return 0
        return self._udp.send(datagrams, self.endpoint[1])

    def tick(self, now: float) -> None:
        """Closes a client that is late or silent. now: monotonic seconds."""
        if self._pending is not None and now - self._opened > (self._limits.key_seconds or _KEY_SECONDS):
            self.close("no key in time")
        elif now - self.heard > self._limits.silence_seconds:
            self.close("nothing received for too long")
        elif self._session is not None:
            self._session.tick(now)

    def close(self, reason: str) -> None:
        """Forgets the client. Idempotent."""
        session, self._session = self._session, None
        if session is None:
            return
        self._on_closed(self)
        session.closed(reason)
        self.accept()
        log.debug("UDP client closed", peer=self.address, reason=reason)


class UdpListener(PortListener[UdpClient]):
    """One UDP port. `run` must run while it is open.

    A turn of the event loop works for about 2 ms. A datagram of an unknown address costs no memory if it opens nothing
    or `PendingConnections` is full. Implements `SharedPort`: several processes share the port, see `listen_shared`. A
    process passes datagrams on to the process that it replaces.
    """

    def __init__(
        self, name: str, host: str, port: int, opener: Opener, protocol: UdpProtocol, limits: UdpLimits
    ) -> None:
        super().__init__(name, host, port, opener, "udp")
        reads = limits.may_delay_reads, limits.read_delay, True, limits.keeps_order
        self._udp = [UdpSocket(opened, self._receive, *reads) for opened in self._sockets]
        self._protocol = protocol
        self._limits = limits
        self._clients: dict[tuple[UdpSocket, Address], UdpClient] = {}
        self._is_accepting = self._is_open = False
        self.older: Callable[[int, Address, bytes], None] | None = None

    async def start(self) -> None:
        self._is_accepting = self._is_open = True
        for udp in self._udp:
            udp.start()

    def read(self) -> None:
        """Reads what came while reads were delayed."""
        for udp in self._udp:
            udp.read()

    def close(self) -> None:
        self._is_accepting = False
        if not self._is_open:
            self.abort()

    async def hang_up(self, grace: float) -> None:
        self.abort()

    def abort(self) -> None:
        self._is_accepting = self._is_open = False
        for client in tuple(self._sessions):
            client.close("shutting down")
        for udp in self._udp:
            udp.close()

    def _receive(self, udp: UdpSocket, address: Address, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> bool:
        """Gives all datagrams to an accepted client; else handles the first one, and returns False. Hot path."""
        client = self._clients.get((udp, address))
        if client is not None and client.is_accepted:
            client.receive(datagrams, arrivals)
            return True
        client = client or self._new_client(udp, address, datagrams[0])
        if client is not None:
            client.receive(datagrams[:1], arrivals[:1])
        elif self.older is not None:
            self.older(self._udp.index(udp), address, datagrams[0])
        return False

    def _new_client(self, udp: UdpSocket, address: Address, datagram: bytes) -> UdpClient | None:
        if not self._is_accepting:
            return None
        if not self._protocol.opens(datagram, address):
            answer = self._protocol.answer(datagram, address)
            if answer is not None and len(answer) <= len(datagram):
                udp.send([answer], address)
            return None
        client = UdpClient(udp, address, self._limits, self._forget)
        if not client.enter(self._protocol):
            return None
        self._clients[client.endpoint] = client
        self._sessions.add(client)
        return client

    def _forget(self, client: UdpClient) -> None:
        self._clients.pop(client.endpoint, None)
        self._sessions.discard(client)

    # ---- SharedPort ----

    def pause_udp(self) -> None:
        for udp in self._udp:
            udp.pause()

    def resume_udp(self) -> None:
        if self._is_open:
            for udp in self._udp:
                udp.start()

    def passed_on(self, index: int, address: Address, data: bytes, now: float) -> None:
        client = self._clients.get((self._udp[index], address)) if index < len(self._udp) else None
        if client is not None:
            client.receive((data,), (now,))
        elif self.older is not None:
            self.older(index, address, data)
