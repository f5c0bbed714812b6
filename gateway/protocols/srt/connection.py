"""SrtConnection: an established connection, without I/O."""

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.protocols.srt.keys import ReceiveKeys, SendKeys
from gateway.protocols.srt.packets import (
    CONTROL,
    HEAD,
    HEAD_SIZE,
    MASK31,
    ControlType,
    HandshakeExtension,
    control,
    decode_ranges,
    encode_ranges,
    unwrap_sequence,
)
from gateway.protocols.srt.receive_buffer import WINDOW, ReceiveBuffer
from gateway.protocols.srt.round_trip import Drift, RoundTrip
from gateway.protocols.srt.send_buffer import SendBuffer
from gateway.protocols.srt.statistics import LinkStatistics

TICK_SECONDS: Final = 0.01  # between two calls of `tick`: the interval of acknowledgements, §4.8.1
PEER_CLOSED: Final = "the peer has closed"  # `ended` after a SHUTDOWN
IDLE_SECONDS: Final = 5.0  # without a packet of the peer, after which the connection has ended, as in libsrt
_KEEP_ALIVE: Final = 1.0  # seconds without a packet to the peer
_LIGHT: Final = 64  # packets after which a light acknowledgement is due, §3.2.4
_SHORTEST_REPEAT: Final = 0.01  # seconds between two requests for the same packet
# The same before the round trip is known, if so few are missing: the shortest interval of libsrt.
_FIRST_REPEAT, _FIRST_MISSING = 0.02, 64
_REQUESTS: Final = 3  # for the same packet, in the time after which an answer counts as lost
_MAX_LISTS: Final = 16  # loss lists of the peer between two ticks; more are ignored: it repeats them
_MAX_DROPS: Final = 8  # answers to one loss list
_MAX_OPEN: Final = 256  # acknowledgements that wait for their own acknowledgement
_ANNOUNCE_SECONDS: Final = 0.5  # between two announcements of the same key
_LOSS_SECONDS: Final = 5  # over which the loss is told
_WORDS: Final = struct.Struct(">7I")
_WORD: Final = struct.Struct(">I")
_RANGE: Final = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Agreement:
    """The parameters that the handshake has fixed.

    socket, peer_socket: ids. first: number of the peer's first data packet. own_first: of ours. window: packets in
    flight that the peer allows. began: monotonic time of our time stamp 0. base: our clock minus the peer's clock.
    stamp: time stamp of the peer's handshake, microseconds. `receive_latency`, `send_latency`: seconds.
    `receive_keys`, `send_keys`: None: plain.
    """

    socket: int
    peer_socket: int
    first: int
    own_first: int
    window: int
    began: float
    base: float
    stamp: int
    receive_latency: float
    send_latency: float
    receive_keys: ReceiveKeys | None = None
    send_keys: SendKeys | None = None


class SrtConnection:
    """Both directions of a connection. `tick` must be called every 10 ms.

    out: datagrams to send; the caller takes them after each call. ended: why the connection has ended; "": it has not.
    undecrypted: packets without a known key. heard: monotonic time of the last packet of the peer.
    """

    __slots__ = (
        "_acknowledged", "_announced_at", "_began", "_drift", "_last_ack", "_last_counts", "_lists", "_losses",
        "_number", "_open", "_rates", "_receive_keys", "_send_keys", "_sent_at", "_since_ack", "agreement", "bytes",
        "ended", "heard", "out", "received", "round_trip", "sent", "undecrypted",
    )  # fmt: skip

    def __init__(self, agreement: Agreement, now: float) -> None:
        self.agreement = agreement
        self.received = ReceiveBuffer(agreement.first, agreement.base, agreement.receive_latency, agreement.stamp)
        keys = agreement.send_keys
        self.sent = SendBuffer(
            agreement.own_first, agreement.peer_socket, agreement.send_latency, min(agreement.window, WINDOW),
            keys.encrypt if keys is not None else None,
        )  # fmt: skip
        self.round_trip = RoundTrip()
        self.out: list[bytes] = []
        self.ended = ""
        self.heard = self._sent_at = now
        self.bytes = self.undecrypted = 0
        self._receive_keys = agreement.receive_keys
        self._send_keys = keys
        self._began = agreement.began
        self._drift = Drift()
        self._number = 0  # of the last full acknowledgement
        self._open: dict[int, float] = {}  # by number of an acknowledgement: when it was sent
        self._lists = 0  # loss lists since the last tick
        self._acknowledged = agreement.first
        self._last_ack = now
        self._since_ack = 0  # data packets since the last acknowledgement
        self._announced_at = 0.0
        # Each second: the greatest number that came, and the packets lost so far.
        self._losses: deque[tuple[float, int, int]] = deque([(now, self.received.highest, 0)])
        self._last_counts = (now, 0, 0)  # time, packets and bytes: for the rates in acknowledgements
        self._rates = (0, 0)

    # ---- receiving ----

    def receive(self, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Takes datagrams of the peer, in the order in which they came. Hot path. arrivals: monotonic seconds."""
        add, has_gap = self.received.add, False
        for datagram, arrival in zip(datagrams, arrivals, strict=True):
            size = len(datagram)
            if size < HEAD_SIZE:
                continue
            self.bytes += size
            if datagram[0] < 0x80:
                self._since_ack += 1
                if add(datagram, arrival):
                    has_gap = True
            else:
                self._control(datagram, arrival)
        now = self.heard = arrivals[-1]
        if has_gap:
            self._request(now)
        if self._since_ack >= _LIGHT:
            self._since_ack = 0
            self._send(ControlType.ACK, now, _WORD.pack(self.received.complete & MASK31))

    def _control(self, datagram: bytes, arrival: float) -> None:
        head, information, stamp, _ = HEAD.unpack_from(datagram)
        content = datagram[HEAD_SIZE:]
        match (head & ~CONTROL) >> 16:
            case ControlType.ACK if len(content) >= 4:
                self.sent.acknowledged(_WORD.unpack_from(content)[0], arrival)
                if information:
                    self._send(ControlType.ACKACK, arrival, information=information)
                if len(content) >= 12:
                    seconds, variance = _RANGE.unpack_from(content, 4)
                    self.round_trip.adopt(seconds * 1e-6, variance * 1e-6)
            case ControlType.NAK:
                self._lost(content, arrival)
            case ControlType.ACKACK:
                self._acknowledgement_came(information, stamp, arrival)
            case ControlType.DROP if len(content) >= 8:
                near = self.received.highest
                first, last = (unwrap_sequence(word, near) for word in _RANGE.unpack_from(content))
                self.received.leave_out(first, last)
            case ControlType.SHUTDOWN:
                self.ended = self.ended or PEER_CLOSED
            case ControlType.EXTENDED:
                self._key_material(head & 0xFFFF, content, arrival)

    def _lost(self, content: bytes, arrival: float) -> None:
        self._lists += 1
        if self._lists > _MAX_LISTS:
            return
        sent = self.sent
        gone = sent.lost(decode_ranges(content, sent.next), arrival, self.round_trip.resend_after)
        for first, last in gone[:_MAX_DROPS]:
            self._send(ControlType.DROP, arrival, _RANGE.pack(first & MASK31, last & MASK31))

    def _acknowledgement_came(self, number: int, stamp: int, arrival: float) -> None:
        sent_at = self._open.pop(number, None)
        if sent_at is None:
            return
        for older in [n for n in self._open if n < number]:
            del self._open[older]
        round_trip = arrival - sent_at
        self.round_trip.add(round_trip)
        buffer = self.received
        late = arrival - buffer.base - buffer.unwrapped_stamp(stamp) * 1e-6
        buffer.base += self._drift.add(late, round_trip)

    def _key_material(self, subtype: int, content: bytes, now: float) -> None:
        if subtype == HandshakeExtension.KEYS_REQUEST and self._receive_keys is not None:
            if self._receive_keys.renew(content, now):
                self._send(ControlType.EXTENDED, now, content, subtype=HandshakeExtension.KEYS)
        elif subtype == HandshakeExtension.KEYS and self._send_keys is not None:
            self._send_keys.confirmed(content)

    def due(self, now: float, most: int = WINDOW) -> list[bytes]:
        """Returns the first payloads whose time has come, in order; none if all were returned. Hot path."""
        payloads: list[bytes] = []
        while not payloads and (ready := self.received.due(now, most)):
            payloads = self._decrypted(ready)
        return payloads

    def _decrypted(self, ready: list[tuple[int, int, bytes]]) -> list[bytes]:
        """Returns the payloads that can be decrypted, and counts the others. Hot path."""
        keys = self._receive_keys
        if keys is None:
            self.undecrypted += sum(1 for _, key, _ in ready if key)
            return [payload for _, key, payload in ready if not key]
        payloads: list[bytes] = []
        apply = keys.cipher.apply
        for number, key, payload in ready:
            plain = apply(key, number & MASK31, payload) if key else None
            if plain is None:  # also a plain packet: the peer said that it encrypts
                self.undecrypted += 1
            else:
                payloads.append(plain)
        return payloads

    # ---- sending ----

    def push(self, payloads: Sequence[bytes], now: float) -> None:
        """Queues payloads of at most 1,456 bytes, and puts those that may be sent now into `out`. Hot path."""
        self.sent.push(payloads, self._stamp(now))
        self._take(now)

    def close(self, now: float, reason: str) -> None:
        """Tells the peer that the connection ends."""
        if not self.ended:
            self.ended = reason
            self._send(ControlType.SHUTDOWN, now, bytes(4))

    # ---- time ----

    def tick(self, now: float) -> None:
        """Sends what is due: acknowledgements, requests, packets again, keep-alives. Hot path."""
        if now - self.heard > IDLE_SECONDS:
            self.ended = self.ended or "nothing received for too long"
            return
        self._lists = 0
        buffer = self.received
        complete = buffer.complete
        if complete != self._acknowledged or (self._open and now - self._last_ack > self.round_trip.repeat_after):
            self._acknowledge(complete, now)
        self._request(now)
        if not self.sent.is_empty:
            self.sent.repeat_tail(now, self.round_trip.repeat_after + 2 * TICK_SECONDS)
            self._take(now)
        self._announce(now)
        if now - self._losses[-1][0] >= 1:
            self._losses.append((now, buffer.highest, buffer.lost - buffer.reordered))
            if len(self._losses) > _LOSS_SECONDS + 1:
                self._losses.popleft()
        if now - self._sent_at >= _KEEP_ALIVE:
            self._send(ControlType.KEEPALIVE, now, bytes(4))

    def statistics(self) -> LinkStatistics:
        """Returns the state of the link, as receiver and as sender."""
        _, highest, lost = self._losses[0]
        buffer, trip = self.received, self.round_trip
        expected, new_lost = buffer.highest - highest, buffer.lost - buffer.reordered - lost
        return LinkStatistics(
            rtt_ms=round(trip.seconds * 1000, 1) if trip.is_measured else None,
            loss_percent=round(100 * min(1.0, max(0, new_lost) / expected), 2) if expected else 0.0,
            retransmitted=buffer.retransmitted + self.sent.retransmitted,
            dropped=buffer.dropped + self.sent.dropped,
            latency_ms=round(1000 * buffer.latency),
            buffer_ms=round(1000 * buffer.waiting_seconds),
            links=(),
        )

    # ---- details ----

    def _stamp(self, now: float) -> int:
        return int((now - self._began) * 1e6)

    def _send(self, kind: int, now: float, content: bytes = b"", information: int = 0, subtype: int = 0) -> None:
        self._sent_at = now
        self.out.append(control(kind, self.agreement.peer_socket, self._stamp(now), content, information, subtype))

    def _take(self, now: float) -> None:
        datagrams = self.sent.take(now, self._stamp(now))
        if datagrams:
            self._sent_at = now
            self.out += datagrams

    def _acknowledge(self, complete: int, now: float) -> None:
        """Sends a full acknowledgement (§3.2.4)."""
        self._since_ack = 0
        self._acknowledged, self._last_ack = complete, now
        self._number = self._number % MASK31 + 1
        self._open[self._number] = now
        if len(self._open) > _MAX_OPEN:
            del self._open[next(iter(self._open))]
        self.received.settle()
        at, packets, size = self._last_counts
        if now - at >= 1:
            count = self.received.received
            self._rates = (int((count - packets) / (now - at)), int((self.bytes - size) / (now - at)))
            self._last_counts = (now, count, self.bytes)
        trip, (packet_rate, byte_rate) = self.round_trip, self._rates
        microseconds = (int(1e6 * trip.seconds), int(1e6 * trip.variance))
        # The capacity of the link is not measured: nobody uses it in live mode.
        content = _WORDS.pack(
            complete & MASK31, *microseconds, max(2, self.received.free), packet_rate, packet_rate, byte_rate
        )
        self._send(ControlType.ACK, now, content, information=self._number)

    def _request(self, now: float) -> None:
        """Sends a loss list (§3.2.5). A sender ignores the requests that come within a round trip of its answer.

        libsrt sends two in this time (§4.8.2). With three, less time passes from a lost answer to the next one.
        """
        trip, buffer = self.round_trip, self.received
        is_first = not trip.is_measured and buffer.missing <= _FIRST_MISSING
        after = _FIRST_REPEAT if is_first else trip.repeat_after / _REQUESTS
        missing = buffer.requests(now, max(_SHORTEST_REPEAT, after))
        if missing:
            self._send(ControlType.NAK, now, encode_ranges(missing))

    def _announce(self, now: float) -> None:
        keys = self._send_keys
        if keys is not None and keys.announcement and now - self._announced_at > _ANNOUNCE_SECONDS:
            self._announced_at = now
            self._send(ControlType.EXTENDED, now, keys.announcement, subtype=HandshakeExtension.KEYS_REQUEST)
