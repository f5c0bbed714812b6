"""The RTP packets of one track, with their numbers and counts."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from gateway.protocols.rtp.rtcp import SenderReport, ntp_time
from gateway.protocols.rtp.sender import rtp_packet

_HEADER: Final = struct.Struct(">BBHII")


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
