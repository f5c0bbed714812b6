"""Packets of a WebRTC publisher: one track, each packet behind its length; frames, or nothing."""

from __future__ import annotations

from contextlib import suppress

from gateway.media.errors import InvalidData
from gateway.protocols.rtp.av1_depacketizer import Av1Depacketizer
from gateway.protocols.rtp.depacketizers import AssembledFrame, FrameDepacketizer, NalDepacketizer
from gateway.protocols.rtp.nack_list import MAX_ASKED
from gateway.protocols.rtp.packets import RtpPacket, header_extension, parse_packet
from gateway.protocols.rtp.receiver import Received, RtpReceiver
from gateway.protocols.rtp.timeline import RtpTimeline
from gateway.protocols.rtp.transport_feedback import TransportFeedback
from gateway.protocols.rtp.vp_depacketizers import Vp8Depacketizer, Vp9Depacketizer

_DEPACKETIZERS = (
    lambda: NalDepacketizer(h265=False),
    lambda: NalDepacketizer(h265=True),
    Vp8Depacketizer,
    Vp9Depacketizer,
    Av1Depacketizer,
    FrameDepacketizer,
)


def _seed(codec: int, *payloads: bytes) -> bytes:
    """A track of one frame a payload, with transport-wide numbers."""
    data = bytes((codec,))
    for n, payload in enumerate(payloads):
        head = b"\x90\xe0" + n.to_bytes(2, "big") + (3_000 * n).to_bytes(4, "big") + b"\0\0\0\x01"
        packet = head + b"\xbe\xde\x00\x01\x31" + n.to_bytes(2, "big") + b"\0" + payload
        data += len(packet).to_bytes(2, "big") + packet
    return data


SEEDS = [
    _seed(0, b"\x18\x00\x02\x67a\x00\x02\x68b\x00\x02\x65\x88", b"\x41abc", b"\x7c\xc5\x88bc"),
    _seed(1, b"\x60\x01\x00\x03\x42\x01a\x00\x03\x26\x01\xaf", b"\x02\x01abc", b"\x62\x01\xd3\xafbc"),
    _seed(2, b"\x90\xf0\x92\x34\x07\x20\x10\x02\x00\x9d\x01\x2a\x80\x02\x68\x01", b"\x10\x11abc", b"\x10\x11abc"),
    _seed(3, b"\x8e\x80\x01\x18\x02\x80\x01\x68\x01\x04\x01\x82\x49\x83\x42\x00\x27\xf0\x16\x70\x00", b"\xcc\x02\x86"),
    _seed(4, b"\x28\x0c\x08\x00\x00\x00\x2c\xd5\x9f\x3f\xdd\xaf\x99\x00\x30\x10abc", b"\x10\x30\x30abc"),
    _seed(5, b"\xf8\xff\xfe", b"\xf8", b"\xf8\xff\xfe"),
]  # fmt: skip


def _compare(one_by_one: RtpReceiver, together: RtpReceiver, packets: list[RtpPacket], now: float) -> None:
    """Oracle: packets that come together give what they give one by one."""
    expected = [item for packet in packets for item in one_by_one.push(packet, now)]
    assert together.push_all(packets, [now] * len(packets)) == expected
    assert together.due(now) == one_by_one.due(now)
    assert together.report(now) == one_by_one.report(now)


def fuzz(data: bytes) -> None:
    """Oracle: no error at all; frames are no larger than what came; requests are bounded, and end."""
    codec = data[0] % len(_DEPACKETIZERS) if data else 0
    track = RtpReceiver(1, 96, 90_000, _DEPACKETIZERS[codec](), nack=True)
    alone = _DEPACKETIZERS[codec]()
    one_by_one, together = (RtpReceiver(1, 96, 90_000, _DEPACKETIZERS[codec](), nack=True) for _ in range(2))
    waiting: list[RtpPacket] = []
    feedback, timeline = TransportFeedback(), RtpTimeline((90_000,))
    received: list[Received] = []
    at, now = 1, 0.0
    while at + 2 <= len(data):
        size = data[at] << 8 | data[at + 1]
        raw = data[at + 2 : at + 2 + size]
        at += 2 + size
        now += 0.01
        number = header_extension(raw, 3)
        if number is not None:
            assert 1 <= len(number) <= 255
            feedback.received(int.from_bytes(number, "big") & 0xFFFF, now)
        packet = parse_packet(raw, empty=True)
        if packet is None:
            continue
        assert len(packet.payload) <= len(raw) - 12
        received += track.push(packet, now, repaired=bool(size & 0x100))
        waiting.append(packet)
        if size & 3 == 0:  # any number of packets may come together
            _compare(one_by_one, together, waiting, now)
            waiting = []
        due = track.due(now)
        assert len(due.nacks) <= MAX_ASKED
        received += due.received
        if packet.payload:
            with suppress(InvalidData):
                alone.push(packet)
            alone.begins_key(packet.payload)
            timeline.stamp(0, packet.timestamp, now * 1000)
    received += track.due(now + 9).received
    assert track.due(now + 9).nacks == ()
    frames = [item for item in received if isinstance(item, AssembledFrame)]
    assert sum(len(frame.payload) for frame in frames) <= 5 * len(data)
    assert not frames or frames[0].key
    report = track.report(now)
    assert 0 <= report.fraction_lost <= 255
    for part in feedback.write(1, 2, now):
        assert len(part) % 4 == 0
