"""The WebRTC ports of a process: admits peers, and gives each datagram to its peer."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeAlias

from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample, by_label
from gateway.lib.network import client_network, is_loopback
from gateway.lib.quota import Quota
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.sockets import BACKLOG
from gateway.lib.tasks import Tasks
from gateway.listeners.datagrams import Address
from gateway.listeners.udp_socket import UdpSocket
from gateway.ports.errors import AtCapacity
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.sdp.offer import OfferedTransport
from gateway.protocols.stun.message import StunKind, StunMessage, parse
from gateway.settings.models import WebRtcSettings
from gateway.webrtc.addresses import machine_addresses, resolve
from gateway.webrtc.candidates import candidate_lines, usable_address
from gateway.webrtc.counters import Dropped, EndpointCounters
from gateway.webrtc.handler import PeerEnd, PeerHandler
from gateway.webrtc.handshakes import HandshakeQueue
from gateway.webrtc.ice import CHECK_INTERVAL
from gateway.webrtc.paths import Path
from gateway.webrtc.sockets import WebRtcSockets
from gateway.webrtc.tcp import TcpConnection, TcpLimits, TcpPath
from gateway.webrtc.udp import UdpPath

if TYPE_CHECKING:  # at the first session: DTLS and SRTP take 20 MB
    from OpenSSL import SSL

    from gateway.webrtc.certificate import DtlsCertificate
    from gateway.webrtc.peer import Peer

Clock: TypeAlias = Callable[[], float]
Route: TypeAlias = tuple["Peer", Path]

TCP_FIRST_CHECK: Final = 5.0  # seconds for the first check on a TCP connection
_TICK_SECONDS: Final = 0.1
_TICKS: Final = 10  # ticks in which each connected peer has one turn
_REFRESH_SECONDS: Final = 60.0  # addresses of the machine and of advertised names
_CHECKS: Final = 3  # checks during `consent_timeout`, at least
_PUSH_RESERVE_DIVISOR: Final = 10  # 1/10 of the peers is reserved for pushes
_QUIET_SECONDS: Final = 15.0  # without a check, after which another peer may take over an address


class WebRtcEndpoint:
    """One UDP port and one TCP port for all peers of a process.

    Bounds: `peers`, `half_open` (in all and by address), `tcp_connections` of the settings; 8 addresses a peer. At a
    total bound, the oldest half-open viewer or TCP connection without a check is closed, so unknown clients cannot
    block others. A datagram from an unknown address costs no memory, except for a check with right credentials.

    counters: for the metrics. check_interval: see `PeerHost`.
    older: takes datagrams that are for no peer of this process, see `handover.py`; None: no other process reads them.
    """

    def __init__(
        self, settings: WebRtcSettings, sockets: WebRtcSockets, tcp_limits: TcpLimits, clock: Clock = time.monotonic
    ) -> None:
        self.counters = EndpointCounters()
        self.handshakes = HandshakeQueue()
        self.check_interval = min(CHECK_INTERVAL, settings.consent_timeout / _CHECKS)
        self.port = sockets.port
        self.tcp_limits = tcp_limits
        self.older: Callable[[int, Address, bytes], None] | None = None
        self._webrtc = settings
        self._clock = clock
        self._sockets = sockets
        self._tasks = Tasks("webrtc")
        self._addresses: list[str] = []
        self._has_ipv6 = any(opened.family == socket.AF_INET6 for opened in sockets.udp)
        self._udp = [UdpSocket(opened, self.receive_datagrams, self._may_delay_reads) for opened in sockets.udp]
        self._servers: list[asyncio.Server] = []
        self._tcp_reads = ReadScheduler()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._preparing = asyncio.Lock()

        self._peers: dict[str, Peer] = {}  # by our ufrags: two during an ICE restart
        self._open: dict[Peer, None] = {}
        self._half_open: dict[Peer, None] = {}  # in order of their opening
        self._urgent_peer: Peer | None = None  # a peer that needs its packets at once
        self._half_open_by_address = Quota(settings.half_open_per_address)
        self._turns: deque[Peer] = deque()  # connected peers in the order of their next tick
        self._udp_routes: dict[tuple[UdpSocket, Address], Route] = {}
        self._tcp: dict[TcpConnection, Route | None] = {}
        # Monotonic time at which a connection without a check, or with unsent bytes after its end, is aborted.
        self._tcp_deadlines: dict[TcpConnection, float] = {}
        self._pending_tcp_by_address = Quota(settings.half_open_per_address)

    async def start(self) -> None:
        """Finds the addresses for candidates, and begins to read the sockets."""
        await self._find_addresses()
        self._tasks.keep(self._refresh_addresses, "addresses")
        loop = asyncio.get_running_loop()
        for udp in self._udp:
            udp.start()
        for listening in self._sockets.tcp:
            server = await loop.create_server(self._new_connection, sock=listening, backlog=BACKLOG)
            self._servers.append(server)

    async def prepare(self) -> None:
        """Loads DTLS and SRTP, once. It takes 0.1 s of a thread, and `open_peer` would do it in the event loop."""
        async with self._preparing:
            if not self.is_prepared:
                await asyncio.to_thread(lambda: self.context)

    @property
    def is_prepared(self) -> bool:
        """Whether DTLS and SRTP are loaded."""
        return "context" in self.__dict__

    @cached_property
    def _certificate(self) -> DtlsCertificate:
        from gateway.webrtc.certificate import make_certificate

        return make_certificate()

    @cached_property
    def context(self) -> SSL.Context:
        """The context of all DTLS sessions, with our certificate."""
        from gateway.webrtc import peer as peer  # so that `open_peer` finds it
        from gateway.webrtc.dtls import make_context

        return make_context(self._certificate)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of our certificate."""
        return self._certificate.fingerprint

    def stop_accepting(self) -> None:
        """Accepts no more TCP connections. Open ones and UDP continue."""
        for server in self._servers:
            server.close()
        self._servers = []

    async def close(self) -> None:
        """Ends all peers with `close_notify`, and closes the ports."""
        self._closed = True
        for peer in tuple(self._open):
            peer.end(PeerEnd.SHUTDOWN)
        self.handshakes.clear()
        if self._timer is not None:
            self._timer.cancel()
        self.stop_accepting()
        for connection in tuple(self._tcp):
            connection.close()
        for udp in self._udp:
            udp.close()
        self._sockets.close()
        await self._tasks.close()

    @property
    def peers(self) -> int:
        """Number of all peers, also of those that are not connected yet."""
        return len(self._open)

    @property
    def half_open(self) -> int:
        """Number of peers that are not connected yet."""
        return len(self._half_open)

    @property
    def tcp_connections(self) -> int:
        return len(self._tcp)

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics. Every reason has a value from the beginning, so that rates are right."""
        counters, opening = self.counters, self.half_open
        states = {"opening": opening, "connected": self.peers - opening}
        yield from by_label(metric_table.WEBRTC_CONNECTIONS, states)
        yield MetricSample(metric_table.WEBRTC_TCP, self.tcp_connections)
        datagrams = {"in": counters.datagrams_in, "out": counters.datagrams_out}
        yield from by_label(metric_table.WEBRTC_DATAGRAMS, datagrams)
        yield from by_label(metric_table.WEBRTC_BYTES, {"in": counters.bytes_in, "out": counters.bytes_out})
        yield from by_label(metric_table.WEBRTC_DROPPED, {str(reason): counters.dropped[reason] for reason in Dropped})
        yield from by_label(metric_table.WEBRTC_ENDED, {str(reason): counters.ended[reason] for reason in PeerEnd})
        yield MetricSample(metric_table.WEBRTC_REFUSED, counters.refused)

    def candidates(self, host: str) -> list[str]:
        """Returns the values of our `a=candidate` lines.

        host: of the client's request. An address becomes the first candidate, unless advertised addresses are known.
        """
        own = self._addresses
        if not own or not self._webrtc.advertise:
            used = "127.0.0.1" if host == "localhost" else usable_address(host)
            if used and (self._has_ipv6 or ":" not in used):
                own = [used, *own]
            own = own or ["127.0.0.1"]
        return candidate_lines(own, self.port)

    def open_peer(self, remote: OfferedTransport, handler: PeerHandler, address: str, *, has_key: bool = False) -> Peer:
        """Returns a new peer that waits for its client. address: of the client, for the limit by address.

        has_key: whether the client has shown the key of a push. A tenth of the peers is kept for such clients, the
        limit by address does not count them, and they are never closed for others.
        Raises AtCapacity, and RemoteProtocolError if the credentials of the offer are invalid.
        """
        from gateway.webrtc.peer import Peer

        webrtc = self._webrtc
        peer = Peer(self, remote, handler, address, self._clock(), has_key=has_key)
        if not has_key and not self._half_open_by_address.take(address):
            self.counters.refused += 1
            raise AtCapacity(f"too many WebRTC connections of {client_network(address)} that are not finished")
        most = webrtc.peers if has_key else webrtc.peers - webrtc.peers // _PUSH_RESERVE_DIVISOR
        is_full = len(self._open) >= most or len(self._half_open) >= webrtc.half_open
        if self._closed or (is_full and not self._make_room()):
            if not has_key:
                self._half_open_by_address.give(address)
            self.counters.refused += 1
            raise AtCapacity("too many WebRTC connections")
        self._peers[peer.ufrag] = peer
        self._open[peer] = None
        self._half_open[peer] = None
        for udp in self._udp:
            udp.wake()
        self._start_timer()
        return peer

    def _make_room(self) -> bool:
        """Ends the oldest half-open viewer, preferably one that has sent no check. Returns False if there is none."""
        viewers = [peer for peer in self._half_open if not peer.has_key]
        if viewers:
            next((peer for peer in viewers if not peer.ice.paths), viewers[0]).end(PeerEnd.REPLACED)
        return bool(viewers)

    # ---- called by peers ----

    def peer_connected(self, peer: Peer) -> None:
        """Called by a peer whose handshake is finished."""
        self._remove_half_open(peer)
        self._turns.append(peer)

    def peer_restarted(self, peer: Peer) -> None:
        """Called by a peer with new credentials. Only these and the previous ones are valid."""
        peer.ufrags.append(peer.ufrag)
        self._peers[peer.ufrag] = peer
        while len(peer.ufrags) > 2:
            del self._peers[peer.ufrags.pop(0)]

    def peer_ended(self, peer: Peer) -> None:
        """Called by a peer at its end. Its TCP connections are closed."""
        self._remove_half_open(peer)
        del self._open[peer]
        for ufrag in peer.ufrags:
            del self._peers[ufrag]
        for path in tuple(peer.ice.paths):
            self._forget(path)

    def _remove_half_open(self, peer: Peer) -> None:
        if peer in self._half_open:
            del self._half_open[peer]
            if not peer.has_key:
                self._half_open_by_address.give(peer.client)

    def _forget(self, path: Path) -> None:
        """Removes the route of a path. Closes its TCP connection."""
        if isinstance(path, UdpPath):
            self._udp_routes.pop(path.key, None)
        elif isinstance(path, TcpPath):
            path.connection.close()
            self._tcp_deadlines[path.connection] = self._clock() + TCP_FIRST_CHECK

    def _may_delay_reads(self) -> bool:
        """Whether packets may wait, because no peer needs them at once."""
        if self._half_open:
            return False
        urgent = self._urgent_peer
        if urgent is None or urgent.has_ended or urgent.tolerates_delay:
            self._urgent_peer = next((peer for peer in self._open if not peer.tolerates_delay), None)
        return self._urgent_peer is None

    # ---- datagrams ----

    def receive_datagrams(
        self, udp: UdpSocket, address: Address, datagrams: Sequence[bytes], arrivals: Sequence[float]
    ) -> bool:
        """Handles UDP datagrams of one address if all are media of a connected peer; else only the first. Hot path.

        Returns False in the second case: other datagrams may be slow, so each one is handled in its own call.
        """
        route = self._udp_routes.get((udp, address))
        if (
            route is not None
            and route[1].verified
            and min(map(len, datagrams)) > 1
            # RFC 7983, and RFC 5761 §4: RTCP packet types are 192 to 223.
            and False not in [127 < data[0] < 192 and not 191 < data[1] < 224 for data in datagrams]
        ):
            counters = self.counters
            counters.datagrams_in += len(datagrams)
            counters.bytes_in += sum(map(len, datagrams))
            route[0].receive_rtp(datagrams, arrivals)
            return True
        self.receive_datagram(udp, address, datagrams[0], arrivals[0])
        return False

    def receive_datagram(self, udp: UdpSocket, address: Address, data: bytes, now: float) -> None:
        """Handles one UDP datagram. Hot path."""
        counters = self.counters
        counters.datagrams_in += 1
        counters.bytes_in += len(data)
        key = (udp, address)
        route = self._udp_routes.get(key)
        if route is None and self.older is not None and not self._is_for_us(data):
            self.older(self._udp.index(udp), address, data)
            return
        if route is not None:
            peer, path = route
            if not path.verified:
                path.received(len(data))
            if data and data[0] > 3:  # RFC 7983: a STUN message begins with 0 to 3
                peer.receive(path, data, now)
                return
        found = self._handle_datagram(route, data, now, lambda: UdpPath(udp, address, now))
        if found is not None:
            self._udp_routes[key] = found

    def _is_for_us(self, data: bytes) -> bool:
        """Whether a datagram from an unknown address is a check for a peer of this process."""
        if not data or data[0] > 3:
            return False
        try:
            message = parse(data)
        except RemoteProtocolError:
            return False
        return message.kind == StunKind.REQUEST and message.username[0] in self._peers

    # ---- SharedPort ----

    def pause_udp(self) -> None:
        for udp in self._udp:
            udp.pause()

    def resume_udp(self) -> None:
        if not self._closed:
            for udp in self._udp:
                udp.start()

    def passed_on(self, index: int, address: Address, data: bytes, now: float) -> None:
        if index < len(self._udp):
            self.receive_datagram(self._udp[index], address, data, now)

    def _handle_datagram(
        self, route: Route | None, data: bytes, now: float, new_path: Callable[[], Path]
    ) -> Route | None:
        """Handles a packet that is STUN, or comes from an unknown address. Returns a new route.

        new_path: makes the path for a check with right credentials.
        """
        dropped = self.counters.dropped
        if not data or data[0] > 3:
            dropped[Dropped.UNKNOWN_ADDRESS] += 1
            return None
        try:
            message = parse(data)
        except RemoteProtocolError:
            dropped[Dropped.MALFORMED] += 1
            return None
        if message.kind == StunKind.REQUEST:
            return self._handle_request(route, message, now, new_path)
        if message.kind in (StunKind.SUCCESS, StunKind.ERROR) and route is not None:
            peer, path = route
            if not peer.handle_response(message, path, now):
                dropped[Dropped.UNAUTHORIZED] += 1
        elif message.kind != StunKind.INDICATION:  # RFC 8445 §11: an indication keeps a NAT binding and needs no answer
            dropped[Dropped.UNKNOWN_ADDRESS] += 1
        return None

    def _handle_request(
        self, route: Route | None, message: StunMessage, now: float, new_path: Callable[[], Path]
    ) -> Route | None:
        """Handles a check. Wrong credentials get no answer: the sender may be forged."""
        peer = self._peers.get(message.username[0])
        if peer is None or not peer.ice.authenticates(message):
            self.counters.dropped[Dropped.UNAUTHORIZED] += 1
            return None
        if route is not None and route[0] is peer:
            peer.handle_request(message, route[1], now)
            return None
        if route is not None:
            other, old = route
            # Anybody with a session could otherwise take the address of another client by a forged source address.
            if isinstance(old, TcpPath) or now < old.heard + _QUIET_SECONDS:
                self.counters.dropped[Dropped.ADDRESS_IN_USE] += 1
                return None
            other.ice.remove(old)
        path = new_path()
        if not path.verified:
            # RootEncoder sends one check, and waits for the answer and for ours. Both together are longer than it.
            path.received(len(message.data) * (2 if peer.has_key else 1))
        replaced = peer.ice.add(path)
        if replaced is not None:
            self._forget(replaced)
        peer.handle_request(message, path, now)
        return peer, path

    # ---- ICE-TCP ----

    def _new_connection(self) -> TcpConnection:
        return TcpConnection(self, self._tcp_reads)

    def tcp_opened(self, connection: TcpConnection) -> bool:
        """Counts a new connection. Returns False above a limit."""
        is_full = len(self._tcp) >= self._webrtc.tcp_connections
        oldest = next(iter(self._tcp_deadlines), None)
        if self._closed or (is_full and oldest is None) or not self._pending_tcp_by_address.take(connection.address):
            self.counters.refused += 1
            return False
        if is_full and oldest is not None:
            self.counters.refused += 1
            del self._tcp_deadlines[oldest]
            oldest.abort()
        self._tcp[connection] = None
        self._tcp_deadlines[connection] = self._clock() + TCP_FIRST_CHECK
        self._start_timer()
        return True

    def receive_frame(self, connection: TcpConnection, packet: bytes, now: float) -> bool:
        """Handles one packet. Returns False if the first packet is not a check with right credentials."""
        self.counters.datagrams_in += 1
        self.counters.bytes_in += len(packet)
        route = self._tcp.get(connection)
        if route is not None and packet[0] > 3:
            peer, path = route
            peer.receive(path, packet, now)
            return True
        found = self._handle_datagram(route, packet, now, lambda: TcpPath(connection, now))
        if found is not None:
            del self._tcp_deadlines[connection]
            self._pending_tcp_by_address.give(connection.address)
            self._tcp[connection] = found
            connection.allow_large_reads()
        return route is not None or found is not None

    def tcp_lost(self, connection: TcpConnection) -> None:
        """Removes a connection. Its peer continues on another path, or waits for one until its consent ends."""
        self._tcp_deadlines.pop(connection, None)
        if connection not in self._tcp:
            return  # it was refused
        route = self._tcp.pop(connection)
        if route is None:
            self._pending_tcp_by_address.give(connection.address)
        else:
            peer, path = route
            if path in peer.ice.paths:
                peer.ice.remove(path)

    # ---- time ----

    def _start_timer(self) -> None:
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick_again)

    def _tick_again(self) -> None:
        self._timer = None
        try:
            self.tick(self._clock())
        finally:
            if self._open or self._tcp_deadlines:
                self._start_timer()

    def tick(self, now: float) -> None:
        """Checks time limits: of all half-open peers, and of each connected peer in one of ten calls."""
        connect, consent = self._webrtc.connect_timeout, self._webrtc.consent_timeout
        for peer in tuple(self._half_open):
            peer.tick(now, connect, consent)
        turns = self._turns
        for _ in range(-(-len(turns) // _TICKS)):
            peer = turns.popleft()
            if not peer.has_ended:
                peer.tick(now, connect, consent)
                turns.append(peer)
        while self._tcp_deadlines:  # in order of time
            connection, until = next(iter(self._tcp_deadlines.items()))
            if now < until:
                break
            del self._tcp_deadlines[connection]
            connection.abort()

    # ---- addresses ----

    async def _refresh_addresses(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            await self._find_addresses()

    async def _find_addresses(self) -> None:
        webrtc = self._webrtc
        if webrtc.advertise:
            self._addresses = await resolve(webrtc.advertise) or self._addresses
            return
        bound = [str(opened.getsockname()[0]) for opened in self._sockets.udp]
        found = [address for host in bound if (address := usable_address(host))]
        if len(found) < len(bound):  # an unspecified address means all addresses of the machine
            found += machine_addresses(ipv6="::" in bound)
        self._addresses = [address for address in found if len(found) == 1 or not is_loopback(address)]
