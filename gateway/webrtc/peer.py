"""One WebRTC connection: its ICE state, its DTLS handshake, and its encrypted media."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Literal, Protocol, cast

import structlog
from OpenSSL import SSL

from gateway.lib.token_bucket import TokenBucket
from gateway.protocols.sdp.offer import OfferedTransport
from gateway.protocols.stun.message import StunMessage
from gateway.webrtc.certificate import matches
from gateway.webrtc.counters import Dropped, EndpointCounters
from gateway.webrtc.dtls import DtlsError, DtlsSession
from gateway.webrtc.dtls_alerts import DtlsAlerts
from gateway.webrtc.handler import PeerEnd, PeerHandler
from gateway.webrtc.handshakes import HandshakeQueue
from gateway.webrtc.ice import IceAgent, check_credentials, new_credentials
from gateway.webrtc.paths import Path
from gateway.webrtc.srtp import SrtpReceiver, SrtpSender

log = structlog.get_logger(__name__)

_MAX_QUEUED: Final = 8  # handshake datagrams of one peer in the queue
_MAX_EARLY: Final = 16  # reads of media, each of at most 64 packets, that wait for these datagrams
_MAX_HANDSHAKE_BYTES: Final = 65_536  # received; a handshake with a certificate takes 1 to 5 kB
# Seconds after the handshake until its DTLS session is freed at the latest. Until then, the session repeats our last
# flight if it was lost (RFC 6347 §4.2.4).
_DTLS_KEPT_SECONDS: Final = 10.0
_SILENT_SECONDS: Final = 2.0  # after the choice of the path, until we begin the handshake of a push ourselves
_HANDSHAKE, _CLIENT_HELLO = 22, 1  # content type of a record; type of a handshake message, behind 13 bytes
# RTCP of one peer, bytes a second and at once; further packets are dropped. Browsers send some hundred bytes a second,
# and while they lose packets about 10 kB.
_RTCP_RATE: Final = 25_000.0
_LEAST_RTCP: Final = 100  # bytes that the limit counts for a packet, at least


class PeerHost(Protocol):
    """The endpoint, as a peer uses it. check_interval: seconds between two checks of a path."""

    check_interval: float
    counters: EndpointCounters
    handshakes: HandshakeQueue

    @property
    def context(self) -> SSL.Context: ...

    def peer_connected(self, peer: Peer) -> None: ...

    def peer_restarted(self, peer: Peer) -> None: ...

    def peer_ended(self, peer: Peer) -> None: ...


class Peer:
    """One connection. `WebRtcEndpoint.open_peer` makes it.

    client: address of the request that opened it. opened: monotonic time. has_key: see `WebRtcEndpoint.open_peer`.
    has_ended: whether it has ended, for any reason.
    ufrags: ours, under which the endpoint finds the peer, oldest first.
    """

    __slots__ = (
        "_alerts", "_begin_at", "_dtls", "_early", "_flight", "_flight_path", "_free_dtls_at", "_handler",
        "_handshake_bytes", "_host", "_queued", "_receiver", "_remote", "_resend_at", "_rtcp", "_sender", "client",
        "has_ended", "has_key", "ice", "opened", "ufrags",
    )  # fmt: skip

    def __init__(
        self, host: PeerHost, remote: OfferedTransport, handler: PeerHandler, client: str, now: float, *, has_key: bool
    ) -> None:
        """Raises RemoteProtocolError if the credentials of the offer are invalid."""
        self._host = host
        self._remote = remote
        self._handler = handler
        self.client = client
        self.opened = now
        self.has_key = has_key
        credentials = check_credentials(remote.ufrag, remote.password)
        self.ice = IceAgent(new_credentials(), credentials, now, host.check_interval)
        self.ufrags = [self.ufrag]
        self._dtls: DtlsSession | None = None
        self._alerts: DtlsAlerts | None = None
        self._sender: SrtpSender | None = None
        self._receiver: SrtpReceiver | None = None
        self.has_ended = False
        self._queued = 0  # our datagrams in the queue of handshakes
        self._early: list[tuple[Sequence[bytes], Sequence[float]]] = []  # media that came while these wait
        self._handshake_bytes = 0
        self._flight: list[bytes] = []  # handshake datagrams that the path does not allow yet
        self._flight_path: Path | None = None
        self._resend_at: float | None = None
        self._begin_at: float | None = None  # when we begin the handshake if the client does not
        self._free_dtls_at = 0.0
        self._rtcp = TokenBucket(_RTCP_RATE, _RTCP_RATE)

    # ---- state ----

    @property
    def ufrag(self) -> str:
        return self.ice.local.ufrag

    @property
    def password(self) -> str:
        return self.ice.local.password

    @property
    def remote_credentials(self) -> tuple[str, str]:
        """User name fragment and password of the client, of its offer or last restart."""
        return self._remote.ufrag, self._remote.password

    @property
    def address(self) -> str:
        """The remote address; "" until it is verified."""
        path = self.ice.selected
        return path.address if path is not None and path.verified else ""

    @property
    def protocol(self) -> Literal["udp", "tcp"]:
        path = self.ice.selected
        return "udp" if path is None else path.protocol

    @property
    def round_trip(self) -> float | None:
        """Seconds, of the last answered check; None before the first."""
        return self.ice.round_trip

    @property
    def tolerates_delay(self) -> bool:
        """Whether its packets may be handled up to 50 ms late."""
        return self._handler.tolerates_delay

    # ---- sending ----

    def send(self, packets: Sequence[bytes]) -> None:
        """Sends RTP packets, preferably of one frame: of equal length except the last. Hot path.

        Packets that the network does not take are dropped and counted. Packets with one SSRC and sequence number must
        be the same bytes: see SrtpSender.
        """
        sender, path = self._sender, self.ice.selected
        counters = self._host.counters
        if sender is None or path is None or not packets:
            counters.dropped[Dropped.NOT_CONNECTED] += len(packets)
            return
        if path.verified and (run := sender.protect_run(packets)) is not None:
            sent = path.send_run(run, len(packets[0]) + sender.tag)
            counters.datagrams_out += sent
            if sent == len(packets):
                counters.bytes_out += len(run)
            else:
                counters.bytes_out += sent * (len(packets[0]) + sender.tag)
                counters.dropped[Dropped.SEND_BUFFER] += len(packets) - sent
            return
        sealed = sender.protect(packets)
        sent = path.send(sealed)
        counters.datagrams_out += sent
        if sent == len(packets):
            counters.bytes_out += sum(map(len, sealed))
        else:
            counters.bytes_out += sum(map(len, sealed[:sent]))
            counters.dropped[Dropped.SEND_BUFFER if path.verified else Dropped.UNVERIFIED] += len(sealed) - sent
            counters.dropped[Dropped.UNSENDABLE] += len(packets) - len(sealed)

    def send_rtcp(self, packet: bytes) -> None:
        """Sends a compound RTCP packet of at most 1,350 bytes. Raises ValueError for a longer one."""
        sender, path = self._sender, self.ice.selected
        counters = self._host.counters
        if sender is None or path is None:
            counters.dropped[Dropped.NOT_CONNECTED] += 1
            return
        sealed = sender.protect_rtcp(packet)
        if path.send((sealed,)):
            counters.datagrams_out += 1
            counters.bytes_out += len(sealed)
        else:
            counters.dropped[Dropped.SEND_BUFFER if path.verified else Dropped.UNVERIFIED] += 1

    def restart(self, ufrag: str, password: str) -> None:
        """Begins an ICE restart: new credentials on both sides; media continue on the old path meanwhile.

        Raises RemoteProtocolError if the credentials are invalid.
        """
        credentials = check_credentials(ufrag, password)
        if not self.has_ended:
            self._remote = replace(self._remote, ufrag=ufrag, password=password)
            self.ice.restart(new_credentials(), credentials)
            self._host.peer_restarted(self)

    def close(self) -> None:
        """Ends the connection: sends `close_notify` and calls `closed` of the handler. It may be called repeatedly."""
        self.end(PeerEnd.CLOSED)

    # ---- receiving, called by the endpoint ----

    def receive(self, path: Path, data: bytes, now: float) -> None:
        """Handles a datagram that is not STUN (RFC 7983). Hot path."""
        first = data[0]
        if 128 <= first < 192:
            if len(data) > 1 and 192 <= data[1] < 224:  # RFC 5761 §4: the packet types of RTCP
                self._receive_rtcp(data, now)
            else:
                self.receive_rtp((data,), (now,))
        elif 20 <= first < 64:
            self._receive_dtls(path, data, now)
        else:
            self._host.counters.dropped[Dropped.MALFORMED] += 1

    def receive_rtp(self, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Handles datagrams that are SRTP. Hot path. arrivals: monotonic seconds of each."""
        receiver = self._receiver
        dropped = self._host.counters.dropped
        if receiver is None:
            # A DTLS server, such as ffmpeg, sends its first key frame right after its last flight, which waits here.
            if self.has_key and self._queued and len(self._early) < _MAX_EARLY:
                self._early.append((packets, arrivals))
            else:
                dropped[Dropped.EARLY] += len(packets)
            return
        opened = receiver.unprotect_all(packets)
        plain: Sequence[bytes]
        if None in opened:
            plain = [packet for packet in opened if packet is not None]
            arrivals = [arrival for packet, arrival in zip(opened, arrivals, strict=True) if packet is not None]
            dropped[Dropped.SRTP] += len(opened) - len(plain)
            if not plain:
                return
        else:
            plain = cast("list[bytes]", opened)
        self._deliver(partial(self._handler.receive_rtp, plain, arrivals))

    def _receive_rtcp(self, data: bytes, now: float) -> None:
        receiver = self._receiver
        dropped = self._host.counters.dropped
        if receiver is None:
            dropped[Dropped.EARLY] += 1
        elif (plain := receiver.unprotect_rtcp(data)) is None:
            dropped[Dropped.SRTP] += 1
        elif not self._rtcp.take(max(len(plain), _LEAST_RTCP), now):
            dropped[Dropped.RTCP] += 1
        else:
            self._deliver(partial(self._handler.receive_rtcp, plain, now))

    def _deliver(self, call: Callable[[], None]) -> None:
        """Gives authentic packets to the handler."""
        if self._dtls is not None:
            self._free_dtls()  # the peer has our keys, so it has our last flight
        self._call_handler(call)

    def _call_handler(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            log.exception("a handler of a WebRTC peer failed")
            self.end(PeerEnd.HANDLER_FAILED)

    def handle_request(self, message: StunMessage, path: Path, now: float) -> None:
        """Answers an authentic check. Then sends waiting handshake datagrams, as far as the path allows it."""
        if self._sender is None and (self._remote.passive or self._remote.active) and not path.verified:
            # Between our answer to its check and the end of the handshake, ffmpeg 8 sends no checks, and from then on
            # it answers none. So we verify its address first: it answers our check, and repeats its own.
            self._send_check(path, now)
            return
        path.send((self.ice.handle_request(message, path, now),))
        self._send_check(path, now)
        if self._remote.passive and self._dtls is None and self._sender is None:
            self._begin_handshake(path, now)
        self._send_flight()

    def handle_response(self, message: StunMessage, path: Path, now: float) -> bool:
        """Handles an answer to our check. Returns False if it is not authentic."""
        if not self.ice.handle_response(message, path, now):
            return False
        self._send_flight()
        return True

    def tick(self, now: float, connect_seconds: float, consent_seconds: float) -> None:
        """Checks all time limits: ten times a second before the handshake is finished, then once a second."""
        if self._sender is None and now >= self.opened + connect_seconds:
            self.end(PeerEnd.CONNECT_TIMEOUT)
        elif self._sender is not None and now >= self._last_consent() + consent_seconds:
            self.end(PeerEnd.CONSENT_EXPIRED)
        else:
            for path in tuple(self.ice.paths):
                self._send_check(path, now)
            if self._dtls is not None and self._sender is not None and now >= self._free_dtls_at:
                self._free_dtls()
            elif self._dtls is not None and self._resend_at is not None and now >= self._resend_at:
                self._resend(now)
            elif self._dtls is None and self._sender is None and self.has_key and not self._remote.active:
                self._begin_for_silent(now)

    def _last_consent(self) -> float:
        """Returns the monotonic time at which the peer last agreed to receive.

        RFC 7675 §5.1: consent ends "if a valid STUN binding response has not been received from the remote peer's
        transport address". A publisher gets no media, and ffmpeg answers no check: checks of a publisher count, too.
        """
        return self.ice.heard if self.has_key else self.ice.consented

    def end(self, reason: PeerEnd) -> None:
        """Ends the connection once: informs the peer, the endpoint and the handler."""
        if self.has_ended:
            return
        self.has_ended = True
        self._send_close_notify()
        self._dtls = self._alerts = self._sender = self._receiver = None
        self._flight, self._flight_path = [], None
        host = self._host
        host.counters.ended[reason] += 1
        host.peer_ended(self)
        try:
            self._handler.closed(reason)
        except Exception:
            log.exception("a handler of a WebRTC peer failed at its end")

    # ---- DTLS ----

    def _begin_handshake(self, path: Path, now: float) -> None:
        """Begins the handshake as client. `_send_flight` sends it."""
        dtls = self._dtls = DtlsSession(self._host.context, client=True)
        dtls.begin()
        self._flight, self._flight_path = dtls.take_outgoing(), path
        self._schedule_resend(dtls, now)

    def _begin_for_silent(self, now: float) -> None:
        """Begins the handshake of a publisher that has chosen its path, and then sends nothing.

        RootEncoder, the library of many Android apps, offers `actpass` and is a DTLS server whatever the answer says.
        """
        path = self.ice.chosen
        if path is None:
            return
        self._begin_at = self._begin_at or now + _SILENT_SECONDS
        if now >= self._begin_at:
            self._begin_handshake(path, now)
            self._send_flight()

    def _receive_dtls(self, path: Path, data: bytes, now: float) -> None:
        if self._alerts is not None:
            if self._alerts.ends(data):
                self.end(PeerEnd.CLOSED_BY_PEER)
        elif self._queued >= _MAX_QUEUED or not self._host.handshakes.add(partial(self._handshake, path, data, now)):
            self._host.counters.dropped[Dropped.HANDSHAKES] += 1
        else:
            self._queued += 1

    def _handshake(self, path: Path, data: bytes, now: float) -> None:
        """Handles one DTLS datagram, of the handshake or after it. The queue calls this method."""
        self._queued -= 1
        if self.has_ended or self._alerts is not None:
            return
        self._handshake_bytes += len(data)
        if self._handshake_bytes > _MAX_HANDSHAKE_BYTES:
            self.end(PeerEnd.HANDSHAKE_FAILED)
            return
        began = self._dtls is not None and self._dtls.client and not self._remote.passive
        if self._dtls is None or (began and data[:1] + data[13:14] == bytes((_HANDSHAKE, _CLIENT_HELLO))):
            self._dtls = DtlsSession(self._host.context)
        dtls = self._dtls
        failed = False
        try:
            dtls.receive(data)
        except DtlsError as error:
            log.debug("DTLS failed", reason=str(error))
            failed = True
        if flight := dtls.take_outgoing():
            self._flight, self._flight_path = flight, path
            self._send_flight()
        if failed or dtls.closed:
            self.end(PeerEnd.CLOSED_BY_PEER if self._sender is not None else PeerEnd.HANDSHAKE_FAILED)
        elif dtls.connected and self._sender is None:
            self._connect(dtls, path, now)
        else:
            self._schedule_resend(dtls, now)
        early, self._early = self._early, []
        for packets, arrivals in early:
            self.receive_rtp(packets, arrivals)

    def _connect(self, dtls: DtlsSession, path: Path, now: float) -> None:
        try:
            certificate, keys = dtls.certificate(), dtls.srtp_keys()
        except DtlsError as error:
            log.debug("DTLS failed", reason=str(error))
            self.end(PeerEnd.HANDSHAKE_FAILED)
            return
        if not matches(certificate, self._remote.fingerprint):
            self.end(PeerEnd.WRONG_FINGERPRINT)
            return
        own, other = (keys.client, keys.server) if dtls.client else (keys.server, keys.client)
        self._sender = SrtpSender(keys.profile, own)
        self._receiver = SrtpReceiver(keys.profile, other)
        self._resend_at = None
        self._free_dtls_at = now + _DTLS_KEPT_SECONDS
        if path in self.ice.paths:
            self.ice.mark_verified(path, now)  # the peer's Finished message proves that our datagrams reached it
        self._send_flight()
        self._host.counters.connected += 1
        self._host.peer_connected(self)
        self._call_handler(self._handler.connected)

    def _free_dtls(self) -> None:
        """Frees the DTLS session. From now on, only alerts are handled."""
        assert self._dtls is not None, "the callers checked it"
        self._alerts = self._dtls.make_alerts()
        self._dtls = None
        self._flight, self._flight_path = [], None

    def _schedule_resend(self, dtls: DtlsSession, now: float) -> None:
        timeout = dtls.timeout()
        self._resend_at = None if timeout is None else now + timeout

    def _resend(self, now: float) -> None:
        assert self._dtls is not None, "the caller checked it"
        try:
            self._dtls.resend()
        except DtlsError:
            self.end(PeerEnd.HANDSHAKE_FAILED)
            return
        if flight := self._dtls.take_outgoing():
            self._flight = flight
            self._send_flight()
        self._schedule_resend(self._dtls, now)

    def _send_flight(self) -> None:
        """Sends handshake datagrams that wait, as far as the path allows it."""
        path = self._flight_path
        if self._flight and path is not None:
            del self._flight[: path.send(self._flight)]

    def _send_check(self, path: Path, now: float) -> None:
        check = self.ice.due_check(path, now)
        if check is not None:
            path.send((check,))

    def _send_close_notify(self) -> None:
        """Sends `close_notify`, if the handshake is finished."""
        path = self.ice.selected
        if path is None or self._sender is None:
            return
        if self._alerts is not None:
            path.send((self._alerts.close_notify(),))
        elif self._dtls is not None:
            self._dtls.close()
            path.send(self._dtls.take_outgoing())
