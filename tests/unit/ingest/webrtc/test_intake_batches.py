"""`WhipIntake` treats packets that arrive in a batch like packets that arrive one by one."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ingest.webrtc.intake import WhipIntake
from gateway.ingest.webrtc.received_track import TrackParameters
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.media.track import AccessUnit, Kind
from gateway.protocols.rtp.packetizers.nal_units import H264Packetizer
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD
from gateway.protocols.sdp.offer import OfferedCodec
from gateway.settings.layers import load
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.examples import examples
from tests.support.rtp_viewers import coded

VIDEO, RTX, AUDIO, UNKNOWN = 96, 97, 111, 120
EXTENSION = 3
SETTINGS = load(environ={})
PACKETIZER = H264Packetizer(builders.VIDEO.config)


def rtp(kind: int, sequence: int, timestamp: int, payload: bytes, number: int, *, marker: bool = True) -> bytes:
    """An RTP packet with a transport-wide sequence number. Its SSRC equals its payload type."""
    head = bytes((0x90, marker << 7 | kind)) + sequence.to_bytes(2, "big") + timestamp.to_bytes(4, "big")
    extension = b"\xbe\xde\x00\x01" + bytes((EXTENSION << 4 | 1,)) + number.to_bytes(2, "big") + b"\0"
    return head + kind.to_bytes(4, "big") + extension + payload


def film(chance: random.Random, pictures: int, faults: float) -> list[bytes]:
    """H.264 pictures of several packets and sound, with losses, retransmissions, reordering and foreign packets."""
    packets: list[bytes] = []
    sequence, sound, number = 65_530, 100, 65_500
    lost: list[tuple[int, int, bytes, bool]] = []

    def add(kind: int, at: int, timestamp: int, payload: bytes, *, marker: bool) -> None:
        nonlocal number
        packets.append(rtp(kind, at & 0xFFFF, timestamp, payload, number & 0xFFFF, marker=marker))
        number += 1

    for picture in range(pictures):
        unit = coded(picture * 33, picture % 10 == 0, chance.choice((300, 3_000, 9_000)))
        parts = PACKETIZER.split(unit.payload, MAX_PAYLOAD, unit.key)
        for n, payload in enumerate(parts):
            marker = n == len(parts) - 1
            if chance.random() < faults:
                lost.append((sequence, picture * 3_000, payload, marker))
            else:
                add(VIDEO, sequence, picture * 3_000, payload, marker=marker)
            sequence += 1
            if n == 1 and chance.random() < 0.5:
                add(AUDIO, sound, sound * 960, b"\xf8\xff\xfe", marker=False)
                sound += 1
        if lost and chance.random() < 0.5:
            at, timestamp, payload, marker = lost.pop()
            add(RTX, at, timestamp, (at & 0xFFFF).to_bytes(2, "big") + payload, marker=marker)
        if chance.random() < faults:
            add(UNKNOWN, 1, 1, b"x", marker=False)
            packets.append(chance.choice((b"", b"\x80", b"\x80\x60" + bytes(9), b"\xff" * 12, b"\xb0\x60" + bytes(14))))
            other = bytearray(packets[0])
            other[8:12] = b"\xff\0\0\1"  # another source
            packets.append(bytes(other))
    for at in range(len(packets) - 1):
        if chance.random() < faults:
            packets[at : at + 2] = reversed(packets[at : at + 2])
    return packets


class Push:
    """An intake without a connection and the media that it published."""

    def __init__(self) -> None:
        parameters = [
            TrackParameters(
                Kind.VIDEO, OfferedCodec(VIDEO, "H264", 90_000, 1, {}, frozenset({"nack"}), RTX), EXTENSION
            ),
            TrackParameters(Kind.AUDIO, OfferedCodec(AUDIO, "OPUS", 48_000, 2, {}, frozenset(), None), EXTENSION),
        ]
        publisher, errors = builders.publish(builders.hub()), list[str]()
        workers = WorkerPool(SETTINGS.workers, Counter(WORKER_RESTARTS))
        self.intake = WhipIntake(publisher, workers, parameters, errors.append, SETTINGS)
        self.intake._began = 0.0
        self.seen = builders.Recorder()
        publisher.stream.attach(self.seen)

    def pictures(self) -> list[tuple[int, int, bool, bytes]]:
        units = [item for item in self.seen.items if isinstance(item, AccessUnit)]
        return [(unit.dts, unit.cts, unit.key, unit.payload) for unit in units if unit.track.kind is Kind.VIDEO]

    def state(self, now: float) -> list[object]:
        """The feedback for the sender and the state of the intake. Times are seconds."""
        intake = self.intake
        found: list[object] = [intake._feedback.write(1, 2, now), intake.received, intake.last_packet]
        for track in intake.tracks:
            if track.receiver is not None:
                found += [track.ssrc, track.receiver.is_repairing, track.receiver.due(now), track.receiver.report(now)]
        return found


@settings(max_examples=examples(30, 100), deadline=None)
@given(seed=st.integers(0, 1 << 32), faults=st.sampled_from((0.0, 0.02, 0.2)))
def test_batched_packets_have_the_same_effect_as_single_packets(seed: int, faults: float) -> None:
    asyncio.run(_compare(random.Random(seed), faults))


async def _compare(chance: random.Random, faults: float) -> None:
    packets = film(chance, 25, faults)
    together, alone = Push(), Push()
    now = 1.0
    while packets:
        count = chance.choice((1, 3, 11, 16))
        batch, packets = packets[:count], packets[count:]
        now += chance.choice((0.001, 0.005, 0.03))
        together.intake.receive_rtp(batch, [now] * len(batch))
        for packet in batch:
            alone.intake.receive_rtp([packet], [now])
        if chance.random() < 0.3:
            assert together.state(now) == alone.state(now)
    assert together.state(now + 5) == alone.state(now + 5)
    assert together.pictures() == alone.pictures()
    if not faults:
        assert len(together.pictures()) == 25
