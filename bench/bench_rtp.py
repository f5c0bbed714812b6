"""What outgoing RTP costs: microseconds of CPU an access unit. Run: python -m bench.bench_rtp"""

from __future__ import annotations

import os
from collections.abc import Callable

from bench.bench_packaging import AVCC, best
from gateway.media import nal
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.packetizers.av1 import Av1Packetizer
from gateway.protocols.rtp.packetizers.nal_units import H264Packetizer, H265Packetizer
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD, RtpPacketizer
from gateway.protocols.rtp.packetizers.vp8 import Vp8Packetizer
from gateway.protocols.rtp.packetizers.vp9 import Vp9Packetizer
from gateway.protocols.rtp.retransmission import wrap
from gateway.protocols.rtp.sender import group_runs
from gateway.protocols.rtp.sent_packets import SentPackets
from tests.support.rtp_sender import RtpSender

SIZE = 10_000  # bytes of a picture: 2.5 Mbit/s at 30 frames a second
HVCC = b"\x01" + bytes(20) + b"\x03\x00"
REPEAT = 400


def micros(work: Callable[[], object]) -> float:
    return best(work, REPEAT) * 1e6


def picture(name: str, packetizer: RtpPacketizer, unit: bytes) -> None:
    """Prints the packets of a picture and what they cost."""
    payloads = packetizer.split(unit, MAX_PAYLOAD, False)
    sender, sent, clock = RtpSender(1, 96, 0), SentPackets(), [0.0]
    packets = sender.packets(payloads, 5, marker=True)

    def whole() -> None:
        clock[0] += 1 / 30
        made = sender.packets(packetizer.split(unit, MAX_PAYLOAD, False), 5, marker=True)
        group_runs(made)
        sent.add(made, clock[0])

    print(
        f"{name:14} {len(packets):2} packets, {len(group_runs(packets))} sendmsg:"
        f" payloads {micros(lambda: packetizer.split(unit, MAX_PAYLOAD, False)):5.1f} µs,"
        f" headers {micros(lambda: sender.packets(payloads, 5, marker=True)):4.1f} µs,"
        f" all with ring {micros(whole):5.1f} µs"
    )


def main() -> None:
    slices = [b"\x41" + os.urandom(SIZE // 4 + n) for n in (-300, -100, 100, 300)]
    frame = b"\x30" + os.urandom(SIZE)  # an OBU without size
    picture("H.264", H264Packetizer(AVCC), nal.join([b"\x41" + os.urandom(SIZE)]))
    picture("H.264 4 slices", H264Packetizer(AVCC), nal.join(slices))
    picture("H.265", H265Packetizer(HVCC), nal.join([b"\x02\x01" + os.urandom(SIZE)]))
    picture("VP8", Vp8Packetizer(), frame)
    picture("VP9", Vp9Packetizer(), frame)
    picture("AV1", Av1Packetizer(b""), frame)
    packets = RtpSender(1, 96, 0).packets([os.urandom(MAX_PAYLOAD)] * 9, 5, marker=True)
    print(f"one packet again, as RTX {micros(lambda: wrap(packets[0], 97, 2, 7)):.1f} µs")
    report = rtcp.receiver_report(1, [rtcp.ReportBlock(2, 3, 4, 5, 6, 7, 8)], "x" * 16)
    lost = rtcp.nack(1, 2, [5, 6, 9, 400])
    print(
        f"RTCP read: report {micros(lambda: rtcp.parse(report)):.1f} µs, NACK {micros(lambda: rtcp.parse(lost)):.1f} µs"
    )


if __name__ == "__main__":
    main()
