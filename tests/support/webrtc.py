"""A WebRTC client without media: checks, DTLS, SRTP. It is connected to an endpoint in memory, by UDP or by TCP."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from OpenSSL import SSL
from pylibsrtp import Policy, Session

from gateway.lib.viewer_memory import ViewerMemory
from gateway.listeners.framing import FrameReader, framed
from gateway.protocols.sdp.offer import OfferedTransport
from gateway.protocols.stun.message import Attribute, StunKind, StunMessage, parse, write, xor_address
from gateway.settings.models import WebRtcSettings
from gateway.webrtc.certificate import DtlsCertificate, fingerprint_of, make_certificate
from gateway.webrtc.dtls import datagrams_of
from gateway.webrtc.endpoint import WebRtcEndpoint
from gateway.webrtc.handler import PeerEnd
from gateway.webrtc.peer import Peer
from gateway.webrtc.sockets import WebRtcSockets
from gateway.webrtc.srtp import keys_of, material_size
from gateway.webrtc.tcp import TcpLimits
from tests.support.clock import Clock
from tests.support.time_outs import at_most

GCM = b"SRTP_AEAD_AES_128_GCM"
_PROFILES = {
    GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    b"SRTP_AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    b"SRTP_AES128_CM_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
}


def webrtc_settings(**fields: Any) -> WebRtcSettings:
    """The default settings on any local port."""
    defaults: dict[str, Any] = {
        "host": "127.0.0.1", "port": 0, "advertise": (), "peers": 5000, "half_open": 1000, "half_open_per_address": 100,
        "connect_timeout": 10, "consent_timeout": 30, "tcp_connections": 2000,
        "ice_servers": (),
    }  # fmt: skip
    return WebRtcSettings(**{**defaults, **fields})


def tcp_limits(memory: int = 0, stall_seconds: float = 30.0) -> TcpLimits:
    return TcpLimits(ViewerMemory(memory), stall_seconds)


def rtp_packet(sequence: int, payload: bytes = b"payload", ssrc: int = 1234) -> bytes:
    return struct.pack(">BBHII", 0x80, 96, sequence & 0xFFFF, sequence * 3000 & 0xFFFFFFFF, ssrc) + payload


def receiver_report(ssrc: int = 77) -> bytes:
    return struct.pack(">BBHI", 0x80, 201, 1, ssrc)


@dataclass
class Recorder:
    """A handler that records its calls."""

    rtp_packets: list[bytes] = field(default_factory=list)
    rtcp_packets: list[bytes] = field(default_factory=list)
    was_connected: int = 0
    ends: list[PeerEnd] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    tolerates_delay: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def connected(self) -> None:
        self.was_connected += 1

    def receive_rtp(self, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
        self.rtp_packets += packets
        self.arrived.set()

    def receive_rtcp(self, packet: bytes, now: float) -> None:
        self.rtcp_packets.append(packet)
        self.arrived.set()

    def closed(self, reason: PeerEnd) -> None:
        self.ends.append(reason)
        self.ended.set()


class Client:
    """A full ICE agent and DTLS client. `out`: datagrams to send. answers: whether it answers our checks.

    server: it waits for the handshake of the endpoint, as ffmpeg does. certificate: its own; None: a new one.
    """

    def __init__(
        self,
        profiles: bytes = GCM,
        *,
        answers: bool = True,
        server: bool = False,
        certificate: DtlsCertificate | None = None,
    ) -> None:
        self.ufrag, self.password = os.urandom(4).hex(), os.urandom(12).hex()
        self.out: list[bytes] = []
        self.rtp: list[bytes] = []
        self.rtcp: list[bytes] = []
        self.responses: list[StunMessage] = []
        self.requests: list[StunMessage] = []
        self.answers = answers
        self.starts_dtls = True
        self.closed = False
        self.received_bytes = self.sent_bytes = 0
        self.address = ("192.0.2.77", 5000)
        self.remote = ("", "")
        self._certificate = certificate or make_certificate()
        context = SSL.Context(SSL.DTLS_METHOD)
        context.use_privatekey(self._certificate.key)
        context.use_certificate(self._certificate.certificate)
        context.set_tlsext_use_srtp(profiles)
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        self._dtls = SSL.Connection(context, None)
        if server:
            self._dtls.set_accept_state()
        else:
            self._dtls.set_connect_state()
        self.server = server
        self._dtls.set_ciphertext_mtu(1200)
        self._started = False
        self._inbound: Session | None = None
        self._outbound: Session | None = None
        self.server_fingerprint = ""

    @property
    def fingerprint(self) -> tuple[str, str]:
        return "sha-256", self._certificate.fingerprint

    @property
    def offer(self) -> OfferedTransport:
        return OfferedTransport(self.ufrag, self.password, self.fingerprint, self.server)

    @property
    def connected(self) -> bool:
        return self._outbound is not None

    def answer(self, peer: Peer) -> None:
        """Stores the credentials of the answer."""
        self.remote = (peer.ufrag, peer.password)

    def check(self, *, nominate: bool = True, role: Attribute = Attribute.ICE_CONTROLLING) -> bytes:
        """Builds a connectivity check."""
        attributes = [
            (Attribute.USERNAME, f"{self.remote[0]}:{self.ufrag}".encode()),
            (Attribute.PRIORITY, b"\x6e\x00\x1e\xff"),
            (role, os.urandom(8)),
        ]
        if nominate:
            attributes.append((Attribute.USE_CANDIDATE, b""))
        return write(StunKind.REQUEST, os.urandom(12), attributes, self.remote[1])

    def send_check(self, **options: Any) -> None:
        self.out.append(self.check(**options))

    def send_rtp(self, packet: bytes) -> bytes:
        assert self._outbound is not None
        sealed = self._outbound.protect(packet)
        self.out.append(sealed)
        return sealed

    def send_rtcp(self, packet: bytes) -> None:
        assert self._outbound is not None
        self.out.append(self._outbound.protect_rtcp(packet))

    def close(self) -> None:
        self._dtls.shutdown()
        self._flush()

    def start_dtls(self) -> None:
        self._started = True
        self._handshake()

    def retransmit(self) -> None:
        """Sends the last flight again if its timer is due."""
        self._dtls.DTLSv1_handle_timeout()
        self._flush()

    def receive(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if data[0] < 4:
            self._stun(parse(data))
        elif 128 <= data[0] < 192:
            assert self._inbound is not None, "media before the handshake"
            if 192 <= data[1] < 224:
                self.rtcp.append(self._inbound.unprotect_rtcp(data))
            else:
                self.rtp.append(self._inbound.unprotect(data))
        else:
            assert len(data) <= 1200
            self._dtls.bio_write(data)
            self._handshake()

    def _stun(self, message: StunMessage) -> None:
        if message.kind == StunKind.REQUEST:
            assert message.username == (self.ufrag, self.remote[0])
            assert message.is_signed_by(self.password)
            self.requests.append(message)
            if self.answers:
                value = [(Attribute.XOR_MAPPED_ADDRESS, xor_address("192.0.2.1", 1, message.transaction))]
                self.out.append(write(StunKind.SUCCESS, message.transaction, value, self.password))
        else:
            assert message.is_signed_by(self.remote[1])
            self.responses.append(message)
            if message.kind == StunKind.SUCCESS and not self._started and self.starts_dtls and not self.server:
                self.start_dtls()

    def _handshake(self) -> None:
        try:
            if not self.connected:
                self._dtls.do_handshake()
                self._keys()
            self._dtls.recv(4096)
        except SSL.WantReadError:
            self._flush()
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error:
            self.closed = True
            self._flush()

    def _flush(self) -> None:
        with suppress(SSL.WantReadError):
            self.out += datagrams_of(self._dtls.bio_read(65_536), 1200)

    def _keys(self) -> None:
        profile = self._dtls.get_selected_srtp_profile()
        if not profile:
            return
        material = self._dtls.export_keying_material(b"EXTRACTOR-dtls_srtp", material_size(profile))
        keys = keys_of(profile, material)
        own, other = (keys.server, keys.client) if self.server else (keys.client, keys.server)
        self._outbound = Session(Policy(own, Policy.SSRC_ANY_OUTBOUND, 0, _PROFILES[profile]))
        inbound = Policy(other, Policy.SSRC_ANY_INBOUND, 0, _PROFILES[profile])
        inbound.window_size = 2048
        self._inbound = Session(inbound)
        certificate = self._dtls.get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        self.server_fingerprint = fingerprint_of(certificate, "sha-256")


class MemoryUdp:
    """Replaces `UdpSocket` and keeps the sent packets. full: sends nothing."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, bytes]] = []
        self.full = False

    def send(self, packets: Sequence[bytes], address: Any) -> int:
        if self.full:
            return 0
        self.sent += [(address, packet) for packet in packets]
        return len(packets)

    def send_run(self, run: memoryview, size: int, address: Any) -> int:
        return self.send([bytes(run[at : at + size]) for at in range(0, len(run), size)], address)


class Wire:
    """An endpoint with clients, without sockets, on a simulated clock."""

    def __init__(self, **fields: Any) -> None:
        self.clock = Clock(1000.0)
        sockets = WebRtcSockets((), (), 8189)
        self.endpoint = WebRtcEndpoint(webrtc_settings(**fields), sockets, tcp_limits(), self.clock)
        self.udp = MemoryUdp()
        self.clients: list[Client] = []

    def open(
        self, client: Client, handler: Recorder | None = None, *, has_key: bool = False, **offer: Any
    ) -> tuple[Peer, Recorder]:
        recorder = handler or Recorder()
        fields = {"ufrag": client.ufrag, "password": client.password, "fingerprint": client.fingerprint,
                  "passive": client.server, **offer}  # fmt: skip
        peer = self.endpoint.open_peer(OfferedTransport(**fields), recorder, client.address[0], has_key=has_key)
        client.answer(peer)
        client.address = (client.address[0], 5000 + len(self.clients))
        self.clients.append(client)
        return peer, recorder

    def deliver(self, data: bytes, address: Any) -> None:
        """Delivers one datagram to the endpoint."""
        self.deliver_all([data], address)

    def deliver_all(self, datagrams: Sequence[bytes], address: Any) -> bool:
        """Delivers several datagrams together. Returns whether all were media of a connected peer."""
        for first in range(len(datagrams)):
            rest, times = datagrams[first:], [self.clock()] * (len(datagrams) - first)
            if self.endpoint.receive_datagrams(self.udp, address, rest, times):  # type: ignore[arg-type]
                return not first
        return False

    async def exchange(self) -> None:
        """Delivers datagrams until none is left. Fails if an unverified address gets more bytes than it sent."""
        while True:
            busy = False
            for client in self.clients:
                out, client.out = client.out, []
                for data in out:
                    busy = True
                    client.sent_bytes += len(data)
                    self.deliver(data, client.address)
            while len(self.endpoint.handshakes):
                await asyncio.sleep(0)
            sent, self.udp.sent = self.udp.sent, []
            for address, data in sent:
                for client in self.clients:
                    if client.address == address:
                        busy = True
                        client.receive(data)
            if not busy:
                return

    async def connect(self, client: Client | None = None, *, has_key: bool = False) -> tuple[Client, Peer, Recorder]:
        """Returns a connected client with its peer."""
        client = client or Client()
        peer, recorder = self.open(client, has_key=has_key)
        client.send_check()
        for _ in range(20):
            await self.exchange()
            if recorder.was_connected:
                return client, peer, recorder
            self.clock.now += 0.1
            self.endpoint.tick(self.clock())
            client.send_check()
        raise AssertionError(f"not connected: {self.endpoint.counters.dropped} {recorder.ends}")


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes], None]) -> None:
        self.datagram_received = lambda data, address: received(data)  # type: ignore[method-assign]


class NetworkClient:
    """Carries a client's datagrams over UDP or TCP."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._write: Callable[[bytes], None] = lambda data: None
        self._transport: Any = None
        self._changed = asyncio.Event()
        self._frames = FrameReader()

    async def over_udp(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._received), remote_addr=(host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
        )  # fmt: skip
        self._transport, self._write = transport, transport.sendto

    async def over_tcp(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        owner = self

        class Stream(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                for packet in owner._frames.receive(data):
                    owner._received(packet)

        self._transport, _ = await loop.create_connection(Stream, host, port)
        self._write = lambda data: self._transport.write(framed([data]))

    def flush(self) -> None:
        out, self.client.out = self.client.out, []
        for data in out:
            self._write(data)

    def _received(self, data: bytes) -> None:
        self.client.receive(data)
        self.flush()
        self._changed.set()

    async def until(self, holds: Callable[[], bool], *, checks: bool = False) -> None:
        """Waits for a condition of the client. checks: sends a check every 50 ms, as browsers do."""
        async with asyncio.timeout(at_most(20)):
            while not holds():
                self._changed.clear()
                if checks:
                    self.client.send_check()
                    self.flush()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05 if checks else 20):
                        await self._changed.wait()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
