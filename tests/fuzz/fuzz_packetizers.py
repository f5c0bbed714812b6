"""Access units of a publisher, split into RTP payloads. The first byte chooses the codec, the second the limit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from gateway.media import nal
from gateway.media.errors import InvalidData
from gateway.protocols.rtp.depacketizers import NalDepacketizer
from gateway.protocols.rtp.packetizers.av1 import Av1Packetizer
from gateway.protocols.rtp.packetizers.nal_units import H264Packetizer, H265Packetizer
from gateway.protocols.rtp.packetizers.packetizer import RtpPacketizer
from gateway.protocols.rtp.packetizers.vp8 import Vp8Packetizer
from gateway.protocols.rtp.packetizers.vp9 import Vp9Packetizer
from gateway.protocols.rtp.packets import parse_packet
from gateway.protocols.rtp.sender import group_runs
from tests.support.rtp_sender import RtpSender

AVCC = bytes.fromhex("0142c00dffe1000b6742c00d8c8d404181269001000468ce3c80")
HVCC = b"\x01" + bytes(20) + b"\x03\x00"
MAKERS: tuple[Callable[[], RtpPacketizer], ...] = (
    lambda: H264Packetizer(AVCC), lambda: H265Packetizer(HVCC), lambda: Av1Packetizer(b""), Vp8Packetizer,
    Vp9Packetizer,
)  # fmt: skip
SEEDS = [
    b"\x00\x00" + nal.join([b"\x06sei", b"\x65" + bytes(range(1, 250))]),
    b"\x00\x10" + nal.join([b"\x41" + bytes(range(1, 250)) * 3] * 3),
    b"\x01\x00" + nal.join([b"\x4e\x01sei", b"\x26\x01" + bytes(range(1, 250))]),
    b"\x02\x00" + bytes.fromhex("12000a0bcafe00000000000000000032fa01") + bytes(250),
    b"\x03\x00" + bytes(300),
    b"\x04\x00" + bytes.fromhex("824983420013f00b30") + bytes(300),
]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData, or payloads within the limit that carry no more than came and that receivers accept."""
    if len(data) < 2:
        return
    codec, limit, key = data[0] % len(MAKERS), 100 + data[1], bool(data[0] & 0x80)
    packetizer, payload = MAKERS[codec](), data[2:]
    with suppress(InvalidData):
        payloads = packetizer.split(payload, limit, key)
        assert all(0 < len(p) <= limit for p in payloads)
        assert sum(map(len, payloads)) <= 2 * len(payload) + 64
        packets = RtpSender(1, 96, 65_530).packets(payloads, 5, marker=True)
        assert [p for run in group_runs(packets) for p in run] == packets
        if codec < 2 and all(len(p) > 2 for p in payloads):  # H.265 may send an end of sequence, which has two bytes
            depacketizer = NalDepacketizer(h265=codec == 1)
            for packet in packets:
                read = parse_packet(packet)
                assert read is not None
                depacketizer.push(read)
