"""RtpReceiver: joins the packets of one track to frames in order, and requests missing packets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.media.errors import InvalidData
from gateway.protocols.rtp.depacketizers import AssembledFrame, ResumableDepacketizer
from gateway.protocols.rtp.jitter_buffer import JitterBuffer, Lost, Ordered
from gateway.protocols.rtp.nack_list import NackList
from gateway.protocols.rtp.packets import RtpPacket
from gateway.protocols.rtp.reception import Reception
from gateway.protocols.rtp.rtcp import ReportBlock, SenderReport

_PLI_SECONDS: Final = 0.5  # between two requests: an encoder needs time, and its key frame is large

Received: TypeAlias = "AssembledFrame | Lost"


@dataclass(frozen=True, slots=True)
class Due:
    """The result of `due`.

    received: frames and gaps, as from `push`. nacks: sequence numbers to request, in order.
    pli: whether to request a key frame.
    """

    received: tuple[Received, ...] = ()
    nacks: tuple[int, ...] = ()
    pli: bool = False


_NOTHING: Final = Due()


class RtpReceiver:
    """Receives one track, which has one SSRC. The caller unwraps retransmitted packets (RFC 4588).

    A frame is returned when all its packets have come. If a packet is given up, frames are dropped up to
    the next key frame. Every frame of sound is a key frame, so a loss of sound leaves only a gap. Packets without
    payload or with another payload type only count for the order. Times are monotonic seconds.

    rate: ticks a second of the timestamps. nack: whether the sender answers requests for packets.
    """

    __slots__ = (
        "_awaiting_key", "_buffer", "_depacketizer", "_missing", "_next_pli", "_payload_type", "_picture_lost",
        "_reception", "_resumed", "_searching", "broken", "dropped", "lost",
    )  # fmt: skip

    def __init__(
        self, ssrc: int, payload_type: int, rate: int, depacketizer: ResumableDepacketizer, *, nack: bool
    ) -> None:
        self._payload_type = payload_type
        self._depacketizer = depacketizer
        self._reception = Reception(ssrc, rate)
        self._missing = NackList(nack=nack)
        self._buffer = JitterBuffer(self._missing)
        self._searching = True  # waits for a packet that surely begins a frame
        self._awaiting_key = True
        self._resumed = False  # the last key frame was the first one after a loss
        self._picture_lost = False  # a frame was lost, and no key frame has begun since
        self._next_pli = 0.0
        self.lost = 0  # packets that were given up
        self.broken = 0  # frames with invalid packets
        self.dropped = 0  # frames whose last packet came, but that were not returned

    @property
    def is_repairing(self) -> bool:
        """Whether `due` must be called every few milliseconds: packets are missing, or a key frame is awaited."""
        return self._picture_lost or len(self._missing) > 0

    def measured(self, round_trip: float) -> None:
        """Takes a round trip that was measured elsewhere."""
        self._missing.measured(round_trip)

    def push(self, packet: RtpPacket, now: float, *, repaired: bool = False) -> list[Received]:
        """Returns the frames that are complete, in order, and `Lost` where packets were given up. Hot path.

        repaired: the packet came as a retransmission in a stream of its own.
        """
        if repaired:
            number = self._reception.extend_repaired(packet.sequence)
        else:
            number = self._reception.receive(packet.sequence, packet.timestamp, now)
        if number < 0:
            return []
        buffer = self._buffer
        if self._picture_lost and 0 <= buffer.next < number and self._begins_key(packet):
            # Earlier packets cannot be shown, so the buffer does not wait for them.
            skipped = buffer.skip_to(number)
            if skipped:
                return self._assemble([Lost(skipped), *buffer.push(number, packet, now)])
        return self._assemble(buffer.push(number, packet, now))

    def push_all(self, packets: Sequence[RtpPacket], arrivals: Sequence[float]) -> list[Received]:
        """Takes packets in order of arrival, without repaired ones. Returns all that `push` would return. Hot path."""
        reception, buffer = self._reception, self._buffer
        if not len(self._missing) and buffer.next == reception.next and reception.receive_all(packets, arrivals):
            buffer.advance(len(packets))
            return self._assemble(packets)
        received: list[Received] = []
        for packet, now in zip(packets, arrivals, strict=True):
            received += self.push(packet, now)
        return received

    def due(self, now: float) -> Due:
        """Gives up and requests missing packets. It is called every few milliseconds while `is_repairing`."""
        received: list[Received] = []
        nacks: list[int] = []
        if len(self._missing):
            received = self._assemble(self._buffer.expire(now))
            nacks = self._missing.due(now)
        pli = self._picture_lost and now >= self._next_pli
        if pli:
            self._next_pli = now + max(_PLI_SECONDS, 3 * self._missing.round_trip)
        elif not received and not nacks:
            return _NOTHING
        return Due(tuple(received), tuple([number & 0xFFFF for number in nacks]), pli)

    def take_sender_report(self, report: SenderReport, now: float) -> None:
        """Takes a report of the sender. The next receiver report refers to it."""
        self._reception.take_sender_report(report, now)

    def report(self, now: float) -> ReportBlock:
        """Returns the block of a receiver report. The next one counts from here."""
        return self._reception.report(now)

    def _begins_key(self, packet: RtpPacket) -> bool:
        payload = packet.payload
        return bool(payload) and packet.payload_type == self._payload_type and self._depacketizer.begins_key(payload)

    def _lose(self, packets: int) -> None:
        """Counts lost packets, and waits for the next key frame. packets: 0 for a packet that came but is invalid."""
        self.lost += packets
        self._depacketizer.lost()
        self._searching = self._awaiting_key = self._picture_lost = True

    def _assemble(self, ready: Sequence[Ordered]) -> list[Received]:
        received: list[Received] = []
        for packet in ready:
            if isinstance(packet, Lost):
                self._lose(packet.packets)
                received.append(packet)
                continue
            if not packet.payload or packet.payload_type != self._payload_type:
                continue
            if self._awaiting_key:
                if self._depacketizer.begins_key(packet.payload):
                    self._searching = self._picture_lost = False
                elif self._searching:
                    self._picture_lost = True
                    self._searching = not packet.marker  # the next packet begins a frame
                    self.dropped += packet.marker
                    continue
            try:
                frames = self._depacketizer.push(packet)
            except InvalidData:
                self.broken += 1
                self._lose(0)
                self._searching = not packet.marker
                continue
            for frame in frames:
                if self._check_decodable(frame):
                    received.append(frame)
                else:
                    self.dropped += 1
        return received

    def _check_decodable(self, frame: AssembledFrame) -> bool:
        """Returns whether a decoder has all that this frame needs. A key frame ends the wait for one."""
        if frame.key:
            self._resumed, self._awaiting_key, self._picture_lost = self._awaiting_key, False, False
            return True
        if self._awaiting_key:
            self._picture_lost = True
            return False
        return not (frame.leading and self._resumed)
