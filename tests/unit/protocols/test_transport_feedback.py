"""TransportFeedback: a sender reads from it when its packets arrived."""

from __future__ import annotations

import random
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.rtp.transport_feedback import TransportFeedback
from tests.support.examples import examples


def read(packet: bytes) -> dict[int, int | None]:
    """Reads feedback by draft-holmer-rmcat-transport-wide-cc-extensions-01: ticks of 250 µs by number, None: lost."""
    first, kind, words, sender, media, base, count, last = struct.unpack_from(">BBHIIHHI", packet)
    assert (first & 0xDF, kind, sender, media) == (0x8F, 205, 1, 2)
    assert len(packet) == 4 * (words + 1)
    assert len(packet) <= 1_200
    end = len(packet) - (packet[-1] if first & 0x20 else 0)
    statuses: list[int] = []
    at = 20
    while len(statuses) < count:
        (chunk,) = struct.unpack_from(">H", packet, at)
        at += 2
        if not chunk & 0x8000:
            assert chunk & 0x1FFF
            statuses += [chunk >> 13] * (chunk & 0x1FFF)
        elif not chunk & 0x4000:
            statuses += [chunk >> 13 - n & 1 for n in range(14)]
        else:
            statuses += [chunk >> 12 - 2 * n & 3 for n in range(7)]
    assert not any(statuses[count:]), "behind the last packet there is nothing"
    found: dict[int, int | None] = {}
    time = (last >> 8) * 256
    for n, status in enumerate(statuses[:count]):
        if status == 1:
            time += packet[at]
        elif status == 2:
            time += int.from_bytes(packet[at : at + 2], "big", signed=True)
        else:
            assert status == 0
        at += status
        found[(base + n) & 0xFFFF] = time if status else None
    assert at == end
    return found


def test_packets_without_loss_are_reported_as_one_run() -> None:
    feedback = TransportFeedback()
    for n in range(20):
        feedback.received((65_530 + n) & 0xFFFF, 10 + n * 0.004)
    (packet,) = feedback.write(1, 2, 11.0)
    assert read(packet) == {(65_530 + n) & 0xFFFF: 40_000 + 16 * n for n in range(20)}
    assert struct.unpack_from(">H", packet, 20) == (1 << 13 | 20,)
    assert feedback.write(1, 2, 11.0) == []


def test_lost_packets_are_reported_once() -> None:
    feedback = TransportFeedback()
    for n in (0, 1, 4):
        feedback.received(n, 1.0)
    assert [n for n, time in read(feedback.write(1, 2, 1.0)[0]).items() if time is None] == [2, 3]
    feedback.received(7, 1.1)
    (packet,) = feedback.write(1, 2, 1.1)
    assert read(packet) == {5: None, 6: None, 7: 4_400}
    assert packet[19] == 1  # the count of feedback


def test_an_overtaken_packet_is_reported_again_with_those_behind_it() -> None:
    feedback = TransportFeedback()
    for n, now in ((0, 1.0), (1, 1.01), (3, 1.02)):
        feedback.received(n, now)
    feedback.write(1, 2, 1.02)
    feedback.received(2, 1.03)
    (packet,) = feedback.write(1, 2, 1.03)
    assert read(packet) == {2: 4_120, 3: 4_080}
    feedback.received(2, 1.04)  # repeated
    assert feedback.write(1, 2, 9.0) == []
    feedback.received(1, 9.0)  # too old
    assert feedback.write(1, 2, 9.0) == []


def test_a_long_pause_begins_another_packet() -> None:
    feedback = TransportFeedback()
    feedback.received(0, 1.0)
    feedback.received(1, 11.0)
    assert [read(packet) for packet in feedback.write(1, 2, 11.0)] == [{0: 4_000}, {1: 44_000}]


def test_the_reference_time_wraps() -> None:
    feedback = TransportFeedback()
    feedback.received(0, 0.064 * (1 << 24) + 1.0)
    assert read(feedback.write(1, 2, 0.0)[0]) == {0: 4_000}


def test_a_large_jump_of_numbers_starts_the_feedback_again() -> None:
    feedback = TransportFeedback()
    feedback.received(0, 1.0)
    feedback.received(30_000, 1.0)
    assert [read(packet) for packet in feedback.write(1, 2, 1.0)] == [{30_000: 4_000}]


def test_many_packets_are_reported_in_several() -> None:
    feedback = TransportFeedback()
    for n in range(2_000):
        feedback.received(n, 1 + n * 0.0005)
    found = [read(packet) for packet in feedback.write(1, 2, 2.0)]
    assert len(found) == 5
    assert {n: time for part in found for n, time in part.items()} == {
        n: int((1 + n * 0.0005) * 4_000) for n in range(2_000)
    }


@settings(max_examples=examples(100, 300), deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from((0.0, 0.05, 0.5, 0.95)),
    step=st.sampled_from((0.0005, 0.02, 0.09)),
    jitter=st.sampled_from((0.0, 0.001, 0.2)),
)
def test_every_arrival_is_reported_with_its_time(seed: int, loss: float, step: float, jitter: float) -> None:
    chance = random.Random(seed)
    first = chance.choice((0, 65_500))
    arrivals = [(n, 5 + n * step + chance.random() * jitter) for n in range(200) if n == 0 or chance.random() >= loss]
    arrivals[0] = (0, 5.0)
    feedback, reported = TransportFeedback(), {}
    for n, at in sorted(arrivals, key=lambda arrival: arrival[1]):
        feedback.received((first + n) & 0xFFFF, at)
        if chance.random() < 0.1:
            for packet in feedback.write(1, 2, at):
                reported.update({k: v for k, v in read(packet).items() if v is not None or k not in reported})
    for packet in feedback.write(1, 2, 99.0):
        reported.update({k: v for k, v in read(packet).items() if v is not None or k not in reported})
    assert {n: time for n, time in reported.items() if time is not None} == {
        (first + n) & 0xFFFF: int(at * 4_000) for n, at in arrivals
    }
    last = max(n for n, _ in arrivals)
    assert set(reported) == {(first + n) & 0xFFFF for n in range(last + 1)}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1 << 32), count=st.sampled_from((50, 600, 5_000)), spread=st.sampled_from((10, 8_000, 65_535))
)
def test_random_numbers_give_feedback_that_can_be_read(seed: int, count: int, spread: int) -> None:
    chance, feedback, at = random.Random(seed), TransportFeedback(), 0
    for n in range(count):
        at = (at + chance.randint(0, spread)) & 0xFFFF
        feedback.received(at, n * 0.001)
        if chance.random() < 0.001:
            feedback.write(1, 2, n * 0.001)
    for packet in feedback.write(1, 2, count * 0.001):
        base, size = struct.unpack_from(">HH", packet, 12)
        assert 0 < size <= 0xFFFF
        assert base <= 0xFFFF
        assert len(packet) <= 65_000
