"""RTCP without I/O: reports, feedback and goodbyes (RFC 3550, 4585, 5104), compound or of reduced size (RFC 5506)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.protocols.errors import RemoteProtocolError

MAX_PACKETS: Final = 32  # of one datagram
MAX_BLOCKS: Final = 31  # of one report: its count has five bits
MAX_NACKED: Final = 2_000  # sequence numbers in one datagram. Browsers list at most 1,000 of a track.

_SENDER_REPORT: Final = 200
_RECEIVER_REPORT: Final = 201
_DESCRIPTION: Final = 202
_BYE: Final = 203
_TRANSPORT_FEEDBACK: Final = 205
_PAYLOAD_FEEDBACK: Final = 206
_NACK: Final = 1  # RFC 4585 §6.2.1
_PLI: Final = 1  # RFC 4585 §6.3.1
_FIR: Final = 4  # RFC 5104 §4.3.1

_NTP_EPOCH: Final = 2_208_988_800  # seconds from 1900 to 1970

_HEADER: Final = struct.Struct(">BBH")
_WORD: Final = struct.Struct(">I")
_TWO_WORDS: Final = struct.Struct(">II")
_SENDER: Final = struct.Struct(">IQIII")
_BLOCK: Final = struct.Struct(">IIIIII")
_LOST_PACKETS: Final = struct.Struct(">HH")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """The report of a receiver about one source (RFC 3550 §6.4.1).

    fraction_lost: lost packets of 256, since the last report. lost: packets since the begin, negative after duplicates.
    highest: the extended highest sequence number. jitter: ticks of the timestamps.
    last_report: middle 32 bits of the NTP time of the last sender report, 0 for none.
    delay: from the arrival of that report to this block, 1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    lost: int
    highest: int
    jitter: int
    last_report: int
    delay: int


@dataclass(frozen=True, slots=True)
class SenderReport:
    """A sender report (RFC 3550 §6.4.1).

    ntp: time of `timestamp`, 1/2^32 s since 1900. packets, octets: sent since the begin, modulo 2^32.
    """

    ssrc: int
    ntp: int
    timestamp: int
    packets: int
    octets: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    ssrc: int
    blocks: tuple[ReportBlock, ...]


@dataclass(frozen=True, slots=True)
class Nack:
    """Asks for lost packets. sender: SSRC of the receiver; media: SSRC of the packets. No sequence is listed twice."""

    sender: int
    media: int
    sequences: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pli:
    """Picture loss indication: asks for a key frame of `media`."""

    sender: int
    media: int


@dataclass(frozen=True, slots=True)
class Fir:
    """Full intra request. requests: SSRC and request number of each. A repeated number is a repeated request."""

    sender: int
    requests: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Bye:
    sources: tuple[int, ...]


RtcpPacket: TypeAlias = SenderReport | ReceiverReport | Nack | Pli | Fir | Bye


# ---- reading ----


def parse(data: bytes) -> list[RtcpPacket]:
    """Reads one datagram. Other packets, such as SDES, REMB and transport-wide feedback, are left out.

    Raises RemoteProtocolError if a packet is cut short, or if the datagram exceeds MAX_PACKETS or MAX_NACKED.
    """
    found: list[RtcpPacket] = []
    at, end, count, nacked = 0, len(data), 0, 0
    while at < end or not count:
        if end - at < 4 or data[at] >> 6 != 2:
            raise RemoteProtocolError(f"RTCP: no packet begins at {at} of {end} bytes")
        size = 4 + 4 * (data[at + 2] << 8 | data[at + 3])
        count += 1
        if at + size > end or count > MAX_PACKETS:
            raise RemoteProtocolError(f"RTCP: packet {count} has {size} bytes, {end - at} remain")
        stop = at + size
        if data[at] & 0x20:
            stop -= _padding(data[stop - 1], size)
        packet = _parse_packet(data, at, stop)
        if packet is not None:
            found.append(packet)
            if type(packet) is Nack:
                nacked += len(packet.sequences)
                if nacked > MAX_NACKED:
                    raise RemoteProtocolError(f"RTCP: more than {MAX_NACKED} packets are asked for")
        at += size
    return found


def _padding(declared: int, size: int) -> int:
    """Returns the bytes of padding (RFC 3550 §6.4.1: "including itself (it will be a multiple of four)")."""
    if not declared or declared % 4 or declared > size - 4:
        raise RemoteProtocolError(f"RTCP: {declared} bytes of padding in a packet of {size}")
    return declared


def _parse_packet(data: bytes, at: int, stop: int) -> RtcpPacket | None:
    kind, count = data[at + 1], data[at] & 31
    at += 4
    if kind == _SENDER_REPORT:
        _need(_SENDER.size + count * _BLOCK.size, stop - at, "sender report")
        ssrc, ntp, timestamp, packets, octets = _SENDER.unpack_from(data, at)
        return SenderReport(ssrc, ntp, timestamp, packets, octets, _parse_blocks(data, at + _SENDER.size, count))
    if kind == _RECEIVER_REPORT:
        _need(4 + count * _BLOCK.size, stop - at, "receiver report")
        return ReceiverReport(_WORD.unpack_from(data, at)[0], _parse_blocks(data, at + 4, count))
    if kind == _BYE:
        _need(4 * count, stop - at, "goodbye")
        return Bye(struct.unpack_from(f">{count}I", data, at))
    # In feedback, the field of the count has the format (RFC 4585 §6.1).
    if kind == _TRANSPORT_FEEDBACK and count == _NACK:
        _need(12, stop - at, "NACK")
        sender, media = _TWO_WORDS.unpack_from(data, at)
        return Nack(sender, media, _parse_nacked(data, at + 8, stop))
    if kind == _PAYLOAD_FEEDBACK and count == _PLI:
        _need(8, stop - at, "PLI")
        return Pli(*_TWO_WORDS.unpack_from(data, at))
    if kind == _PAYLOAD_FEEDBACK and count == _FIR:
        _need(16, stop - at, "FIR")
        requests = [(_WORD.unpack_from(data, n)[0], data[n + 4]) for n in range(at + 8, stop - 7, 8)]
        return Fir(_WORD.unpack_from(data, at)[0], tuple(requests))
    return None


def _need(wanted: int, size: int, what: str) -> None:
    if size < wanted:
        raise RemoteProtocolError(f"RTCP: a {what} of {size} bytes")


def _parse_blocks(data: bytes, at: int, count: int) -> tuple[ReportBlock, ...]:
    blocks = []
    for n in range(count):
        ssrc, loss, highest, jitter, last, delay = _BLOCK.unpack_from(data, at + n * _BLOCK.size)
        lost = loss & 0xFFFFFF
        if lost & 0x800000:
            lost -= 1 << 24
        blocks.append(ReportBlock(ssrc, loss >> 24, lost, highest, jitter, last, delay))
    return tuple(blocks)


def _parse_nacked(data: bytes, at: int, stop: int) -> tuple[int, ...]:
    """Returns the sequence numbers of a NACK: of each entry the first, and those of up to 16 later packets."""
    sequences: dict[int, None] = {}
    for here in range(at, stop - 3, 4):
        first, later = _LOST_PACKETS.unpack_from(data, here)
        sequences[first] = None
        while later:
            lowest = later & -later
            sequences[(first + lowest.bit_length()) & 0xFFFF] = None
            later ^= lowest
        if len(sequences) > MAX_NACKED:
            break  # `parse` refuses the datagram
    return tuple(sequences)


# ---- writing ----


def sender_report(report: SenderReport, cname: str) -> bytes:
    """Returns a sender report and the source description that must follow it. cname: at most 255 bytes."""
    head = _SENDER.pack(report.ssrc, report.ntp, report.timestamp, report.packets, report.octets)
    written = packet(_SENDER_REPORT, len(report.blocks), head + _write_blocks(report.blocks))
    return written + _source_description(report.ssrc, cname)


def receiver_report(ssrc: int, blocks: Sequence[ReportBlock], cname: str) -> bytes:
    """Returns a receiver report of at most MAX_BLOCKS sources, and the source description that must follow it."""
    written = packet(_RECEIVER_REPORT, len(blocks), _WORD.pack(ssrc) + _write_blocks(blocks))
    return written + _source_description(ssrc, cname)


def nack(sender: int, media: int, sequences: Sequence[int]) -> bytes:
    """Returns a request for these packets, in order of sequence. Not compound: RFC 5506 allows it if agreed."""
    entries = bytearray()
    first, later = -1, 0
    for sequence in sequences:
        ahead = (sequence - first - 1) & 0xFFFF
        if first >= 0 and ahead < 16:
            later |= 1 << ahead
            continue
        if first >= 0:
            entries += _LOST_PACKETS.pack(first, later)
        first, later = sequence, 0
    if first >= 0:
        entries += _LOST_PACKETS.pack(first, later)
    return feedback(_TRANSPORT_FEEDBACK, _NACK, sender, media, bytes(entries))


def pli(sender: int, media: int) -> bytes:
    """Returns a request for a key frame. The packet is not compound: RFC 5506 allows it if agreed."""
    return feedback(_PAYLOAD_FEEDBACK, _PLI, sender, media, b"")


def bye(ssrc: int) -> bytes:
    """Returns the goodbye of one source. It follows a report in one datagram."""
    return packet(_BYE, 1, _WORD.pack(ssrc))


def feedback(kind: int, format: int, sender: int, media: int, body: bytes) -> bytes:
    """Returns a feedback packet (RFC 4585 §6.1). kind: 205 transport, 206 payload. body: whole words."""
    return packet(kind, format, _TWO_WORDS.pack(sender, media) + body)


def packet(kind: int, count: int, body: bytes) -> bytes:
    """Returns one RTCP packet. count: five bits after version and padding. body: whole words of four bytes."""
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body


def _write_blocks(blocks: Sequence[ReportBlock]) -> bytes:
    return b"".join(
        [
            _BLOCK.pack(b.ssrc, b.fraction_lost << 24 | b.lost & 0xFFFFFF, b.highest, b.jitter, b.last_report, b.delay)
            for b in blocks
        ]
    )


def _source_description(ssrc: int, cname: str) -> bytes:
    name = cname.encode()
    chunk = _WORD.pack(ssrc) + bytes((1, len(name))) + name
    # RFC 3550 §6.5: "The list of items in each chunk MUST be terminated by one or more null octets".
    return packet(_DESCRIPTION, 1, chunk + bytes(4 - len(chunk) % 4))


# ---- times ----


def ntp_time(wall: float) -> int:
    """Returns the 64-bit NTP time of `wall`, seconds since 1970."""
    return int((wall + _NTP_EPOCH) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


def short_time(ntp: int) -> int:
    """Returns the middle 32 bits of an NTP time, as report blocks have it: 1/65536 s."""
    return ntp >> 16 & 0xFFFFFFFF


def round_trip(block: ReportBlock, wall: float) -> float | None:
    """Returns the seconds from our sender report to this block without the receiver's delay (RFC 3550 §6.4.1).

    wall: when the block came, on the clock of our reports. None before the receiver has one of our reports.
    """
    if not block.last_report:
        return None
    trip = (short_time(ntp_time(wall)) - block.last_report - block.delay) & 0xFFFFFFFF
    return trip / 65536 if trip < 1 << 31 else 0.0  # the receiver rounded its delay up
