"""RTCP datagrams and retransmitted packets of a viewer or a publisher."""

from __future__ import annotations

import struct
from contextlib import suppress

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.retransmission import unwrap, wrap
from gateway.protocols.rtp.rtcp import Bye, Fir, Nack, Pli, ReceiverReport, ReportBlock, RtcpPacket, SenderReport
from gateway.protocols.rtp.sender import rtp_packet

BLOCK = ReportBlock(1, 2, -3, 4, 5, 6, 7)
SEEDS = [
    rtcp.sender_report(SenderReport(1, 2, 3, 4, 5, (BLOCK,)), "name") + rtcp.bye(1),
    rtcp.receiver_report(1, [BLOCK] * 31, "n") + rtcp.nack(1, 2, [5, 6, 400]),
    rtcp.pli(1, 2), rtcp.feedback(206, 4, 1, 0, struct.pack(">IB3x", 7, 8)),
    rtcp.feedback(206, 15, 1, 0, b"REMB" + bytes(8)), rtcp.feedback(205, 15, 1, 2, bytes(12)),
    b"\xa1" + rtcp.nack(1, 2, [5])[1:3] + b"\x04" + bytes(11) + b"\x04",
    wrap(rtp_packet(96, True, 5, 6, 7, b"data"), 97, 8, 9),
    b"\xb2\x61" + bytes(18) + b"\xbe\xde\0\1" + bytes(7) + b"\2",
]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: the documented error, or packets that are written and read again as they were."""
    with suppress(RemoteProtocolError):
        found = rtcp.parse(data)
        assert len(found) <= rtcp.MAX_PACKETS
        assert sum(len(p.sequences) for p in found if isinstance(p, Nack)) <= rtcp.MAX_NACKED
        for packet in found:
            again = rtcp.parse(written(packet))
            if isinstance(packet, Nack):  # its sequences may have come in another order
                assert isinstance(again[0], Nack)
                assert set(again[0].sequences) == set(packet.sequences)
            else:
                assert again == [packet]
    original = unwrap(data, 96, 7)
    if original is not None:
        assert len(original) == len(data) - 2
        assert wrap(original, data[1] & 0x7F, int.from_bytes(data[8:12], "big"), data[2] << 8 | data[3]) == data


def written(packet: RtcpPacket) -> bytes:
    match packet:
        case SenderReport():
            return rtcp.sender_report(packet, "c")
        case ReceiverReport():
            return rtcp.receiver_report(packet.ssrc, packet.blocks, "c")
        case Nack():
            return rtcp.nack(packet.sender, packet.media, packet.sequences)
        case Pli():
            return rtcp.pli(packet.sender, packet.media)
        case Fir():
            requests = b"".join(struct.pack(">IB3x", *request) for request in packet.requests)
            return rtcp.feedback(206, 4, packet.sender, 0, requests)
        case Bye():
            return rtcp.packet(203, len(packet.sources), struct.pack(f">{len(packet.sources)}I", *packet.sources))
