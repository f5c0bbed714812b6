"""The RTP packets of one track: their headers, numbers and counts, and their runs of equal length."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from gateway.protocols.rtp.rtcp import SenderReport, ntp_time

SRTP_BYTES: Final = 16  # the longest tag that SRTP adds to a packet

_MAX_SEGMENTS: Final = 64  # Linux: UDP_MAX_SEGMENTS
_MAX_RUN: Final = 65_000  # bytes. A UDP datagram of IPv4 carries 65,507 before it is segmented.

_HEADER: Final = struct.Struct(">BBHII")


def rtp_packet(
    payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int, payload: bytes | memoryview
) -> bytes:
    """Returns an RTP packet without extension and padding (RFC 3550 §5.1)."""
    return _HEADER.pack(0x80, marker << 7 | payload_type, sequence, timestamp, ssrc) + payload


def rewritten(
    packets: Sequence[bytes], payload_type: int, sequence_shift: int = 0, timestamp_shift: int = 0
) -> list[bytes]:
    """Returns copies for a receiver that differs from the others.

    payload_type: the number that it offered for the format. The shifts are added to numbers and times, so that these
    continue where the receiver changes from one rendition to another.
    """
    pack, unpack = _HEADER.pack, _HEADER.unpack_from
    copies = []
    for packet in packets:
        first, second, sequence, timestamp, ssrc = unpack(packet)
        sequence = (sequence + sequence_shift) & 0xFFFF
        timestamp = (timestamp + timestamp_shift) & 0xFFFFFFFF
        copies.append(pack(first, second & 0x80 | payload_type, sequence, timestamp, ssrc) + packet[12:])
    return copies


class RtpSender:
    """Numbers the packets of one track for all of its receivers, and counts them for sender reports.

    sequence: of the first packet. It should be random (RFC 3550 §5.1) and below 2^15 (RFC 3711 §3.3.1).
    """

    __slots__ = ("_octets", "_packets", "_payload_type", "_sequence", "ssrc")

    def __init__(self, ssrc: int, payload_type: int, sequence: int) -> None:
        self.ssrc = ssrc
        self._payload_type = payload_type
        self._sequence = sequence
        self._packets = 0
        self._octets = 0

    def packets(self, payloads: Sequence[bytes], timestamp: int, *, marker: bool) -> list[bytes]:
        """Returns the packets of one access unit.

        timestamp: ticks of the packetizer's clock rate, modulo 2^32. marker: of the last packet. For video it ends the
        picture. For sound it begins speech after silence.
        """
        if not payloads:
            return []
        pack, kind, ssrc, sequence = _HEADER.pack, self._payload_type, self.ssrc, self._sequence
        packets = []
        octets = 0
        for payload in payloads:
            packets.append(pack(0x80, kind, sequence, timestamp, ssrc) + payload)
            octets += len(payload)
            sequence = (sequence + 1) & 0xFFFF
        if marker:
            packets[-1] = rtp_packet(kind, True, (sequence - 1) & 0xFFFF, timestamp, ssrc, payloads[-1])
        self._sequence = sequence
        self._packets += len(packets)
        self._octets += octets
        return packets

    def report(self, wall: float, timestamp: int) -> SenderReport:
        """Returns a sender report. timestamp: of the moment `wall`, which is seconds since 1970."""
        return SenderReport(self.ssrc, ntp_time(wall), timestamp, self._packets & 0xFFFFFFFF, self._octets & 0xFFFFFFFF)


def segments(packets: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """Groups packets, in order, into runs that one `sendmsg` with UDP_SEGMENT sends.

    All packets of a run have the length of its first; the last may be shorter. SRTP adds the same to each packet, so
    the runs remain valid. A run has at most 64 packets and 65,000 bytes with SRTP.
    """
    runs: list[tuple[bytes, ...]] = []
    begin, end = 0, len(packets)
    while begin < end:
        size = len(packets[begin])
        most = min(end, begin + min(_MAX_SEGMENTS, _MAX_RUN // (size + SRTP_BYTES)))
        at = begin + 1
        while at < most and len(packets[at]) == size:
            at += 1
        if at < most and len(packets[at]) < size:
            at += 1
        runs.append(tuple(packets[begin:at]))
        begin = at
    return runs
