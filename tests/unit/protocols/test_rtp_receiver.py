"""RtpReceiver: whole frames in order over networks that lose, repeat and reorder packets."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.rtp.depacketizers import AssembledFrame, FrameDepacketizer, NalDepacketizer
from gateway.protocols.rtp.jitter_buffer import MAX_BYTES, MAX_PACKETS, JitterBuffer, Lost
from gateway.protocols.rtp.nack_list import MAX_ASKED, MAX_MISSING, NackList
from gateway.protocols.rtp.packets import RtpPacket
from gateway.protocols.rtp.receiver import Received, RtpReceiver
from gateway.protocols.rtp.vp_depacketizers import Vp8Depacketizer
from tests.support.examples import examples

KEY = b"\x10\x02\x00\x9d\x01\x2a\x80\x02\x68\x01"
DELTA = b"\x11"


def receiver(*, nack: bool = True) -> RtpReceiver:
    return RtpReceiver(7, 96, 90_000, Vp8Depacketizer(), nack=nack)


def frame_packets(number: int, sequence: int, packets: int, *, key: bool, timestamp: int = 0) -> list[RtpPacket]:
    """The packets of VP8 frame `number`, which has its number in its bytes."""
    found = []
    for n in range(packets):
        body = (KEY if key else DELTA) + number.to_bytes(4, "big") if n == 0 else bytes((n & 0xFF,)) * 3
        head = b"\x10" if n == 0 else b"\x00"
        at = (sequence + n) & 0xFFFF
        stamp = (timestamp + 3_000 * number) & 0xFFFFFFFF
        found.append(RtpPacket(96, n == packets - 1, at, stamp, head + body))
    return found


def payload_of(packets: list[RtpPacket]) -> bytes:
    return b"".join(p.payload[1:] for p in packets)


def frames(received: list[Received] | tuple[Received, ...]) -> list[AssembledFrame]:
    return [item for item in received if isinstance(item, AssembledFrame)]


@dataclass
class Stream:
    """The packets of each frame of a sender, and which frames are key frames."""

    frames: list[list[RtpPacket]]
    keys: list[bool]

    @property
    def packets(self) -> list[RtpPacket]:
        return [packet for packets in self.frames for packet in packets]


def stream(sizes: list[int], keys: list[bool], sequence: int, timestamp: int) -> Stream:
    sent, at = [], sequence
    for number, (size, key) in enumerate(zip(sizes, keys, strict=True)):
        sent.append(frame_packets(number, at, size, key=key, timestamp=timestamp))
        at += size
    return Stream(sent, keys)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=40))
    keys = [True, *draw(st.lists(st.integers(0, 5).map(lambda n: n == 0), min_size=len(sizes), max_size=len(sizes)))]
    sequence = draw(st.sampled_from((0, 30_000, 65_500, 65_535)))
    return stream(sizes, keys[: len(sizes)], sequence, draw(st.sampled_from((0, 0xFFFFFFF0))))


def expected(sent: Stream, lost: set[int]) -> list[bytes]:
    """The reference: whole frames that are key frames, or whose predecessor was passed on."""
    found, decodable, at = [], False, 0
    for packets, key in zip(sent.frames, sent.keys, strict=True):
        whole = not any(at + n in lost for n in range(len(packets)))
        decodable = whole and (key or decodable)
        if decodable:
            found.append(payload_of(packets))
        at += len(packets)
    return found


@settings(max_examples=examples(80, 300), deadline=None)
@given(sent=streams(), seed=st.integers(0, 1 << 32), share=st.sampled_from((0.0, 0.02, 0.1, 0.4)))
def test_after_losses_and_repetitions_all_decodable_frames_are_passed_on(sent: Stream, seed: int, share: float) -> None:
    chance, packets = random.Random(seed), sent.packets
    lost = {n for n in range(1, len(packets)) if chance.random() < share}
    track, found, now = receiver(nack=chance.random() < 0.5), [], 0.0
    for n, packet in enumerate(packets):
        now += 0.004
        if n not in lost:
            for _ in range(chance.choice((1, 1, 1, 3))):
                found += frames(track.push(packet, now))
        if chance.random() < 0.5:
            found += frames(track.due(now).received)
    found += frames(track.due(now + 5).received)
    assert [frame.payload for frame in found] == expected(sent, lost)


@settings(max_examples=examples(80, 300), deadline=None)
@given(sent=streams(), seed=st.integers(0, 1 << 32), share=st.sampled_from((0.0, 0.05, 0.3)))
def test_packets_in_any_order_give_only_whole_decodable_frames(sent: Stream, seed: int, share: float) -> None:
    chance, packets = random.Random(seed), sent.packets
    arrivals = [(0.0, packets[0])]
    for n, packet in enumerate(packets[1:], 1):
        if chance.random() >= share:
            arrivals += [(0.004 * n + chance.random() * 0.05, packet) for _ in range(chance.choice((1, 1, 2)))]
    track, found, now = receiver(), [], 0.0
    for now, packet in sorted(arrivals, key=lambda arrival: arrival[0]):
        found += frames(track.push(packet, now)) + frames(track.due(now).received)
    found += frames(track.due(now + 5).received)
    by_payload = {payload_of(sent_packets): n for n, sent_packets in enumerate(sent.frames)}
    numbers = [by_payload[frame.payload] for frame in found]
    assert numbers == sorted(set(numbers))
    assert all(sent.keys[n] or n - 1 in numbers for n in numbers)
    assert [frame.key for frame in found] == [sent.keys[n] for n in numbers]
    assert [frame.timestamp for frame in found] == [sent.frames[n][0].timestamp for n in numbers]
    if share == 0.0:
        assert numbers == list(range(len(sent.frames)))


# ---- packets that come together ----


@settings(max_examples=examples(80, 300), deadline=None)
@given(sent=streams(), seed=st.integers(0, 1 << 32), share=st.sampled_from((0.0, 0.01, 0.1, 0.4)))
def test_a_batch_of_packets_gives_the_same_as_single_packets(sent: Stream, seed: int, share: float) -> None:
    chance = random.Random(seed)
    packets: list[RtpPacket] = []
    for packet in sent.packets:
        if chance.random() < share / 4:
            packet = replace(packet, payload=b"")  # padding
        elif chance.random() < share / 4:
            packet = replace(packet, payload_type=97)
        elif chance.random() < share / 4:
            packet = replace(packet, payload=b"\x80")  # broken
        elif chance.random() < share / 8:
            packet = replace(packet, sequence=chance.randrange(1 << 16))  # a jump
        if chance.random() >= share:
            packets += [packet] * (2 if chance.random() < share else 1)
    for at in range(len(packets) - 1):
        if chance.random() < share:
            packets[at : at + 2] = reversed(packets[at : at + 2])
    nack = chance.random() < 0.5
    together, alone = receiver(nack=nack), receiver(nack=nack)
    now = 0.0
    while packets:
        batch = [packets.pop(0) for _ in range(min(len(packets), chance.choice((1, 2, 5, 16))))]
        arrivals = [now := now + chance.choice((0.0, 0.0001, 0.02)) for _ in batch]
        expected = [item for packet, at in zip(batch, arrivals, strict=True) for item in alone.push(packet, at)]
        assert together.push_all(batch, arrivals) == expected
        if chance.random() < 0.3:
            assert together.due(now) == alone.due(now)
            assert together.report(now) == alone.report(now)
        assert together.is_repairing == alone.is_repairing and together._reception._jitter == alone._reception._jitter
    assert together.due(now + 5) == alone.due(now + 5) and together.report(now) == alone.report(now)
    counted = (together.lost, together.broken, together.dropped, together._buffer.late, together._missing.repaired)
    assert counted == (alone.lost, alone.broken, alone.dropped, alone._buffer.late, alone._missing.repaired)


# ---- a link that loses ----


def test_a_link_with_loss_is_repaired_without_a_long_freeze() -> None:
    """5 % loss in both directions and 80 ms round trip, 5 minutes of 2.5 Mbit/s."""
    track, lost, plis, freeze, given_on = _simulate(seconds=300, loss=0.05, delay=0.04)
    assert 1 - track.lost / lost > 0.999
    assert plis <= 1
    assert freeze < 0.5
    assert given_on >= 300 * 30 - 60
    assert 0.075 < track._missing.round_trip < 0.1


def _simulate(*, seconds: int, loss: float, delay: float) -> tuple[RtpReceiver, int, int, float, int]:
    """Returns the receiver, packets lost on the way, PLIs, longest time without a frame, and frames given on."""
    chance = random.Random(14)
    track = receiver()
    sent: dict[int, RtpPacket] = {}
    network: list[tuple[float, int, RtpPacket]] = []  # on the way to the receiver
    requests: list[tuple[float, tuple[int, ...], bool]] = []  # on the way to the sender
    sequence, lost, plis, freeze, given_on = 65_000, 0, 0, 0.0, 0
    last, key_wanted = 0.0, True

    def send(packet: RtpPacket, at: float) -> None:
        nonlocal lost
        if chance.random() < loss:
            lost += packet.sequence == (sequence & 0xFFFF)  # not those of a repetition
        else:
            network.append((at + delay + chance.random() * 0.004, len(sent), packet))

    for step in range(seconds * 200):
        now = step * 0.005
        if step % 6 == 0 and step // 6 < seconds * 30:
            key = key_wanted or step // 6 % 60 == 0
            key_wanted = False
            for n, packet in enumerate(frame_packets(step // 6, sequence, 60 if key else 8, key=key)):
                sent[packet.sequence] = packet
                send(packet, now + n * 0.0005)
                sequence += 1
        for at, numbers, pli in [r for r in requests if r[0] <= now]:
            key_wanted |= pli
            for number in numbers:
                send(sent[number], at)
        requests = [r for r in requests if r[0] > now]
        arrived = sorted((a for a in network if a[0] <= now), key=lambda a: a[0])
        network[:] = [a for a in network if a[0] > now]
        whole = [f for at, _, packet in arrived for f in frames(track.push(packet, at))]
        due = track.due(now)
        whole += frames(due.received)
        plis += due.pli
        if (due.nacks or due.pli) and chance.random() >= loss:
            requests.append((now + delay, due.nacks, due.pli))
        if whole:
            freeze = max(freeze, now - last) if given_on else 0.0
            last = now
            given_on += len(whole)
    return track, lost, plis, freeze, given_on


# ---- single cases ----


def test_an_unrepaired_loss_asks_for_a_key_frame_at_most_twice_a_second() -> None:
    track = receiver()
    assert len(frames(track.push(frame_packets(0, 0, 1, key=True)[0], 0.0))) == 1
    track.push(frame_packets(2, 2, 1, key=False)[0], 0.0)
    asked = [n for n in range(1_000) if track.due(n / 1_000).pli]
    assert asked == [699, 700, 701][asked[0] - 699 :][:1]
    track.push(frame_packets(3, 3, 1, key=False)[0], 1.0)
    assert [n for n in range(1_000, 2_000) if track.due(n / 1_000).pli] == [asked[0] + 500, asked[0] + 1_000]
    (frame,) = frames(track.push(frame_packets(4, 4, 1, key=True)[0], 2.0))
    assert frame.key
    assert not track.due(10.0).pli
    assert (track.lost, track.dropped) == (1, 2)


def test_a_stream_that_begins_inside_a_picture_asks_for_a_key_frame() -> None:
    track = receiver()
    packets = frame_packets(0, 0, 4, key=True) + frame_packets(1, 4, 1, key=False)
    assert [track.push(p, 0.0) for p in packets[2:]] == [[]] * 3
    assert track.due(0.0).pli


def test_requests_begin_after_a_reorder_wait_and_end_when_the_packet_comes() -> None:
    track = receiver()
    packets = [p for n in range(4) for p in frame_packets(n, 65_534 + n, 1, key=n == 0)]
    track.push(packets[0], 0.0)
    track.push(packets[3], 0.0)
    assert track.due(0.005).nacks == ()
    assert track.due(0.01).nacks == (65_535, 0)
    assert track.due(0.05).nacks == ()
    assert len(frames(track.push(packets[1], 0.05, repaired=True))) == 1
    assert track._missing.round_trip == pytest.approx(0.04)
    assert track.due(0.06).nacks == (0,)
    assert len(frames(track.push(packets[2], 0.1))) == 2
    assert (track._missing.repaired, track.due(0.3)) == (2, track.due(9.0))
    assert track.push(packets[2], 0.3) == []
    assert track._buffer.late == 1


def test_waiting_time_and_requests_follow_the_round_trip_time() -> None:
    missing = NackList(nack=True)
    patience = []
    for seconds in (0.0, 0.08, 5.0):
        missing = NackList(nack=True)
        missing.measured(seconds)
        patience.append(missing.patience)
    assert patience == [0.25, pytest.approx(0.58), 1.0]
    missing = NackList(nack=True)
    missing.measured(0.02)
    missing.add(1, 2, 0.0)
    tries = [n for n in range(2_000) if missing.due(n / 1_000)]
    assert len(tries) == 10
    assert not missing.expired(0.2)
    assert missing.expired(0.26)


def test_no_more_than_a_datagram_of_packets_is_asked_for_at_once() -> None:
    missing = NackList(nack=True)
    missing.add(0, MAX_MISSING, 0.0)
    assert [len(missing.due(0.01)) for _ in range(3)] == [MAX_ASKED, MAX_MISSING - MAX_ASKED, 0]


def test_without_nacks_the_receiver_waits_only_briefly_for_missing_packets() -> None:
    track = RtpReceiver(7, 111, 48_000, FrameDepacketizer(), nack=False)
    sound = [RtpPacket(111, False, n, 960 * n, bytes((n,))) for n in range(6)]
    assert [f.payload for f in frames(track.push(sound[0], 0.0))] == [b"\0"]
    assert track.push(sound[2], 0.02) == []
    assert track.due(0.07).received == ()
    due = track.due(0.09)
    assert due.nacks == ()
    assert not due.pli
    lost, frame = due.received
    assert lost == Lost(1)
    assert isinstance(frame, AssembledFrame)
    assert (frame.timestamp, frame.key) == (1920, True)
    assert track.push(sound[1], 0.1) == []  # too late


def test_packets_of_padding_and_of_other_types_only_keep_the_order() -> None:
    track = receiver()
    first, second = frame_packets(0, 0, 1, key=True), frame_packets(1, 3, 1, key=False)
    assert len(frames(track.push(first[0], 0.0))) == 1
    assert len(frames(track.push(second[0], 0.0))) == 0
    assert track.push(RtpPacket(96, False, 1, 0, b""), 0.0) == []
    assert len(frames(track.push(RtpPacket(13, True, 2, 0, b"x"), 0.0))) == 1


def test_a_sender_that_begins_with_new_numbers_is_followed() -> None:
    track = receiver()
    track.push(frame_packets(0, 100, 1, key=True)[0], 0.0)
    assert track.push(frame_packets(1, 40_000, 1, key=True)[0], 0.0) == []
    lost, frame = track.push(frame_packets(2, 40_001, 1, key=True)[0], 0.0)
    assert isinstance(lost, Lost)
    assert isinstance(frame, AssembledFrame)
    assert track.report(0.0).lost == 0


def test_a_sender_that_begins_with_slightly_lower_numbers_is_followed() -> None:
    track = receiver()
    for n in range(5):
        track.push(frame_packets(n, 2_000 + n, 1, key=n == 0)[0], 0.0)
    given_on = [n for n in range(60) if frames(track.push(frame_packets(n, 500 + n, 1, key=True)[0], 0.0))]
    assert given_on == list(range(32, 60))


def test_a_key_frame_ends_the_wait_for_earlier_packets() -> None:
    track = receiver()
    track.push(frame_packets(0, 0, 1, key=True)[0], 0.0)
    track.push(frame_packets(2, 2, 1, key=False)[0], 0.0)
    assert track.due(2.0).pli  # the loss is given up
    track.push(frame_packets(4, 4, 1, key=False)[0], 2.0)
    lost, frame = track.push(frame_packets(6, 6, 1, key=True)[0], 2.0)
    assert lost == Lost(2)
    assert isinstance(frame, AssembledFrame)
    assert frame.key
    assert track.due(2.02).nacks == ()


def test_a_broken_picture_is_treated_as_lost() -> None:
    track = receiver()
    track.push(frame_packets(0, 0, 1, key=True)[0], 0.0)
    assert track.push(RtpPacket(96, True, 1, 3_000, b"\x00abc"), 0.0) == []
    assert track.push(frame_packets(2, 2, 1, key=False)[0], 0.0) == []
    assert track.due(0.0).pli
    assert len(frames(track.push(frame_packets(3, 3, 1, key=True)[0], 0.0))) == 1
    assert (track.broken, track.dropped) == (1, 1)


def test_pictures_before_an_open_key_frame_are_dropped_after_a_loss() -> None:
    track = RtpReceiver(7, 96, 90_000, NalDepacketizer(h265=True), nack=False)
    cra, rasl, trail = b"\x42\x01sps", b"\x10\x01rasl", b"\x02\x01trail"
    found = []
    for n, (payload, marker) in enumerate(
        [
            (cra, False),
            (b"\x2a\x01\xafcra", True),
            (rasl, True),
            (trail, True),
            (b"\x2a\x01\xafcra", True),
            (rasl, True),
        ]
    ):
        found += frames(track.push(RtpPacket(96, marker, n, 3_000 * n, payload), 0.0))
    assert [frame.leading for frame in found] == [False, False, False, True]


@pytest.mark.parametrize("begin", [b"\x9a", b"\x4d"], ids=["whole", "without its first slice"])
def test_after_a_loss_h264_without_idr_pictures_continues_at_a_recovery_point(begin: bytes) -> None:
    """With intra refresh or an open GOP, only the first picture is an IDR picture."""
    track = RtpReceiver(7, 96, 90_000, NalDepacketizer(h265=False), nack=False)
    sets, recovery = [bytes.fromhex("6742c01f"), bytes.fromhex("68ce3c80")], bytes((6, 6, 1, 0xC4, 0x80))
    found, sequence = [], 0
    for number in range(10):
        body = b"%d" % number
        units = [b"\x41\x9ap" + body]
        if number == 0:
            units = [*sets, b"\x65\x88i"]
        elif number in (5, 8):
            units = [*sets, recovery, b"\x41" + (begin if number == 5 else b"\x9a") + b"i" + body]
        for unit in units:
            packet = RtpPacket(96, unit is units[-1], sequence, 3_000 * number, unit)
            sequence += 1
            if number != 2:
                found += frames(track.push(packet, number / 30))
        found += frames(track.due(number / 30 + 0.03).received)
    resumed = 5 if begin == b"\x9a" else 8
    assert [(frame.timestamp // 3_000, frame.key) for frame in found] == [
        (number, number in (0, 5, 8)) for number in (0, 1, *range(resumed, 10))
    ]


# ---- bounds ----


def test_a_buffer_holds_a_bounded_number_of_packets_and_bytes() -> None:
    for payload, most in ((b"x", MAX_PACKETS), (bytes(60_000), MAX_BYTES // 60_000)):
        buffer = JitterBuffer(NackList(nack=True))
        buffer.push(0, RtpPacket(96, False, 0, 0, b"x"), 0.0)
        given_on = []
        for number in range(2, most + 3):
            given_on = buffer.push(number, RtpPacket(96, False, number, 0, payload), 0.0)
        assert given_on[0] == Lost(1)
        assert len(given_on) == most + 2


def test_a_gap_that_is_too_large_is_skipped_at_once() -> None:
    missing = NackList(nack=True)
    buffer = JitterBuffer(missing)
    packet = RtpPacket(96, False, 0, 0, b"x")
    buffer.push(0, packet, 0.0)
    assert buffer.push(2, packet, 0.0) == []
    assert buffer.push(3 + MAX_MISSING, packet, 0.0) == [Lost(1), packet, Lost(MAX_MISSING), packet]
    assert len(missing) == 0


@settings(max_examples=examples(40, 100), deadline=None)
@given(seed=st.integers(0, 1 << 32), spread=st.sampled_from((3, 40, 700, 5_000, 65_535)))
def test_random_numbers_keep_the_buffer_bounded_and_its_numbers_complete(seed: int, spread: int) -> None:
    chance, track, at = random.Random(seed), receiver(), 0
    for n in range(400):
        at = (at + chance.randint(-spread // 2, spread)) & 0xFFFF
        payload = chance.choice((b"\x10" + KEY, b"\x10\x11", b"\x00a", b"", b"\x90"))
        track.push(RtpPacket(96, chance.random() < 0.5, at, chance.getrandbits(32), payload), n * 0.001)
        assert len(track.due(n * 0.001).nacks) <= MAX_ASKED
    track.due(9.0)
    assert track.due(9.0).nacks == ()
