"""VideoFeed: bursts, groups, retransmission, waiting viewers, slices, and the rule of SRTP."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.packaging import sliced_writes
from gateway.packaging.rtp import video_feed
from gateway.packaging.rtp.clock import VIDEO_RTX_SSRC, VIDEO_SSRC
from gateway.packaging.rtp.video_feed import VideoFeed
from gateway.packaging.rtp.viewer import PayloadTypes
from gateway.protocols.rtp import retransmission
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO
from tests.support.examples import examples
from tests.support.rtp_viewers import ALL, WITHOUT_RTX, Sender, Watcher, coded
from tests.support.time_outs import at_most


def live() -> tuple[Stream, VideoFeed, list[int]]:
    stream = builders.stream()
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    sizes: list[int] = []
    return stream, VideoFeed(stream, sizes.append), sizes


async def starting(*watchers: Watcher) -> None:
    """Returns when no burst is being sent."""
    async with asyncio.timeout(at_most(10)):
        while any(watcher.viewer.is_starting for watcher in watchers):
            await asyncio.sleep(0.005)


def rising(values: list[int], bits: int) -> bool:
    return all(0 < (b - a) & ((1 << bits) - 1) < 1 << (bits - 1) for a, b in itertools.pairwise(values))


async def test_a_viewer_gets_the_gop_in_a_burst_and_then_each_picture() -> None:
    stream, feed, sizes = live()
    units = [coded(n * 40, n == 0, 3000) for n in range(6)]
    for unit in units[:4]:
        stream.push(unit)
    watcher = Watcher()
    feed.join(watcher.viewer)
    for unit in units[4:]:
        stream.push(unit)
    await starting(watcher)
    slices = [unit.payload for unit in units]
    assert [picture[-3000:] for picture in watcher.pictures()] == [payload[-3000:] for payload in slices]
    packets = watcher.sender.packets()
    assert rising([packet.sequence for packet in packets], 16)
    stamps = [stamp for stamp, _ in itertools.groupby(packet.timestamp for packet in packets)]
    assert len(stamps) == 6 and rising(stamps, 32)
    assert {packet.payload_type for packet in packets} == {96}
    assert sum(sizes) == sum(len(packet) - 12 for packet in watcher.sender.raw())
    feed.leave(watcher.viewer)


async def test_the_burst_takes_less_time_than_one_picture_and_all_its_stamps_are_before_the_next_picture() -> None:
    stream, feed, _ = live()
    for n in range(120):
        stream.push(coded(n * 33, n == 0, 300))
    watcher = Watcher()
    feed.join(watcher.viewer)
    stream.push(coded(120 * 33, False, 300))
    await starting(watcher)
    stamps = [packet.timestamp for packet in watcher.sender.packets()]
    assert rising([stamp for stamp, _ in itertools.groupby(stamps)], 32)
    assert (stamps[-2] - stamps[0]) & 0xFFFFFFFF < 1_500
    feed.leave(watcher.viewer)


async def test_viewers_with_other_payload_types_get_the_same_bytes_behind_their_header() -> None:
    stream, feed, _ = live()
    stream.push(coded(0, True))
    one, other = Watcher(ALL), Watcher(WITHOUT_RTX)
    for watcher in (one, other):
        feed.join(watcher.viewer)
    stream.push(coded(40))
    await starting(one, other)
    assert {packet.payload_type for packet in other.sender.packets()} == {102}
    assert [packet[2:] for packet in one.sender.raw()] == [packet[2:] for packet in other.sender.raw()]
    assert [packet[1] >> 7 for packet in one.sender.raw()] == [packet[1] >> 7 for packet in other.sender.raw()]
    feed.leave(one.viewer)
    feed.leave(other.viewer)


@pytest.mark.parametrize("sequence", [0, 30, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
async def test_each_viewer_begins_in_the_lower_half_of_the_numbers(sequence: int) -> None:
    stream, feed, _ = live()
    feed._sequence = sequence
    first = Watcher()
    stream.push(coded(0, True, 5000))
    feed.join(first.viewer)
    stream.push(coded(40, False, 5000))
    second = Watcher()
    feed.join(second.viewer)
    stream.push(coded(80))
    await starting(first, second)
    for watcher in (first, second):
        assert watcher.sender.numbers()[0] < 0x8000
        assert rising(watcher.sender.numbers(), 16)
        feed.leave(watcher.viewer)


@pytest.mark.parametrize("types", [ALL, WITHOUT_RTX])
async def test_lost_packets_of_the_burst_and_after_it_are_sent_again(types: PayloadTypes) -> None:
    stream, feed, _ = live()
    stream.push(coded(0, True, 4000))
    watcher = Watcher(types)
    feed.join(watcher.viewer)
    await starting(watcher)
    stream.push(coded(40, False, 4000))
    sent = watcher.sender.raw()
    numbers = watcher.sender.numbers()
    feed.repeat(watcher.viewer, [numbers[1], numbers[-2]], 1.0)
    if types is ALL:
        again = watcher.sender.raw(VIDEO_RTX_SSRC)
        assert [packet[1] & 0x7F for packet in again] == [97, 97]
        assert [retransmission.unwrap(packet, 96, VIDEO_SSRC) for packet in again] == [sent[1], sent[-2]]
        assert rising([packet.sequence for packet in watcher.sender.packets(VIDEO_RTX_SSRC)], 16)
    else:
        assert watcher.sender.raw()[len(sent) :] == [sent[1], sent[-2]]
    assert len(watcher.pictures(lost=(1, len(sent) - 2))) == 2
    feed.leave(watcher.viewer)


async def test_requests_for_unknown_numbers_are_not_answered() -> None:
    stream, feed, _ = live()
    stream.push(coded(0, True))
    watcher = Watcher()
    feed.join(watcher.viewer)
    stream.push(coded(40))
    await starting(watcher)
    sent = len(watcher.sender.runs)
    first, last = watcher.sender.numbers()[0], watcher.sender.numbers()[-1]
    feed.repeat(watcher.viewer, [(first - 1) & 0xFFFF, (last + 1) & 0xFFFF, (last + 0x8000) & 0xFFFF], 1.0)
    assert len(watcher.sender.runs) == sent
    feed.leave(watcher.viewer)


async def test_numbers_from_before_a_second_burst_never_get_other_packets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(video_feed, "_RESTART_SECONDS", 0.0)
    stream, feed, _ = live()
    stream.push(coded(0, True, 4000))
    watcher = Watcher(WITHOUT_RTX)
    feed.join(watcher.viewer)
    for n in range(1, 20):
        stream.push(coded(n * 40, False, 4000))
    await starting(watcher)
    before = watcher.sender.numbers()
    feed.refresh(watcher.viewer)
    await starting(watcher)
    burst = watcher.sender.numbers()[len(before) :]
    assert burst and rising(before + burst, 16)
    watcher.viewer._forget_burst()
    stream.push(coded(20 * 40, False, 4000))
    feed.repeat(watcher.viewer, before, 1.0)  # Sender fails if a number comes with other bytes
    feed.repeat(watcher.viewer, burst, 1.0)
    assert watcher.sender.numbers()[len(before) + len(burst) :] == watcher.sender.numbers()[-4:], "only the new picture"
    feed.leave(watcher.viewer)


async def test_the_share_of_retransmissions_is_bounded() -> None:
    stream, feed, _ = live()
    stream.push(coded(0, True, 200_000))
    watcher = Watcher()
    feed.join(watcher.viewer)
    await starting(watcher)
    numbers = watcher.sender.numbers()
    feed.repeat(watcher.viewer, numbers, 1.0)
    first = sum(map(len, watcher.sender.raw(VIDEO_RTX_SSRC)))
    assert 60_000 < first <= 64_000
    feed.repeat(watcher.viewer, numbers, 1.0)
    assert sum(map(len, watcher.sender.raw(VIDEO_RTX_SSRC))) <= 64_000
    feed.repeat(watcher.viewer, numbers, 1.5)
    assert sum(map(len, watcher.sender.raw(VIDEO_RTX_SSRC))) <= first + 33_000
    feed.leave(watcher.viewer)


async def test_a_second_request_for_a_key_frame_within_two_seconds_does_nothing() -> None:
    stream, feed, _ = live()
    stream.push(coded(0, True))
    watcher = Watcher()
    feed.join(watcher.viewer)
    await starting(watcher)
    sent = len(watcher.sender.runs)
    for _ in range(5):
        feed.refresh(watcher.viewer)
    assert len(watcher.sender.runs) == sent
    watcher.viewer.started -= 2.1
    feed.refresh(watcher.viewer)
    feed.refresh(watcher.viewer)
    await starting(watcher)
    assert len(watcher.sender.raw()) == 2 * sum(map(len, watcher.sender.runs[:sent]))
    feed.leave(watcher.viewer)


async def test_without_a_gop_a_viewer_waits_for_the_next_key_frame() -> None:
    stream, feed, _ = live()
    watcher = Watcher()
    feed.join(watcher.viewer)
    stream.push(coded(0))
    assert not watcher.sender.runs
    stream.push(coded(40, True))
    stream.push(coded(80))
    assert len(watcher.pictures()) == 2
    feed.leave(watcher.viewer)


async def test_a_gop_that_is_too_large_is_not_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_feed, "MAX_BURST", 3000)
    stream, feed, _ = live()
    stream.push(coded(0, True, 4000))
    watcher = Watcher()
    feed.join(watcher.viewer)
    assert not watcher.sender.runs and watcher.viewer.waiting
    stream.push(coded(40))
    stream.push(coded(80, True, 500))
    assert len(watcher.pictures()) == 1
    feed.leave(watcher.viewer)


async def test_a_burst_is_paced_and_pictures_follow_it_in_order() -> None:
    stream, feed, _ = live()
    for n in range(60):
        stream.push(coded(n * 40, n == 0, 5000))
    watcher = Watcher()
    feed.join(watcher.viewer)
    assert watcher.viewer.is_starting and sum(map(len, watcher.sender.raw())) < 20_000
    stream.push(coded(60 * 40, False, 5000))
    await starting(watcher)
    assert len(watcher.pictures()) == 61 and rising(watcher.sender.numbers(), 16)
    feed.leave(watcher.viewer)


async def test_many_viewers_get_a_picture_in_slices_and_one_that_leaves_meanwhile_gets_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sliced_writes, "SLICE_SECONDS", 0.0)
    stream, feed, _ = live()
    watchers = [Watcher(ALL if n % 2 else WITHOUT_RTX) for n in range(150)]
    for watcher in watchers:
        feed.join(watcher.viewer)
    stream.push(coded(0, True, 100))
    served = [watcher for watcher in watchers if watcher.sender.runs]
    assert 0 < len(served) < 150
    gone = next(watcher for watcher in watchers if not watcher.sender.runs)
    feed.leave(gone.viewer)
    late = Watcher()
    feed.join(late.viewer)  # what is not written yet is written first
    assert [len(watcher.sender.runs) for watcher in watchers if watcher is not gone] == [1] * 149
    assert not gone.sender.runs
    stream.push(coded(40))
    stream.push(coded(80))
    for _ in range(20):
        await asyncio.sleep(0)
    await starting(late)
    assert {len(watcher.pictures()) for watcher in watchers if watcher is not gone} == {3}
    assert len(late.pictures()) == 3
    for watcher in [*watchers, late]:
        feed.leave(watcher.viewer)


async def test_the_feed_is_attached_only_while_it_has_viewers() -> None:
    stream, feed, _ = live()
    stream.push(coded(0, True))
    one, other = Watcher(), Watcher()
    feed.join(one.viewer)
    feed.join(other.viewer)
    feed.leave(one.viewer)
    feed.leave(one.viewer)
    assert feed._attached
    feed.leave(other.viewer)
    assert not feed._attached
    stream.push(coded(40))
    again = Watcher()
    feed.join(again.viewer)
    await starting(again)
    assert len(again.pictures()) == 2
    feed.leave(again.viewer)


async def test_another_codec_ends_the_viewers_and_another_size_does_not() -> None:
    stream, feed, _ = live()
    stream.push(coded(0, True))
    watcher = Watcher()
    feed.join(watcher.viewer)
    await starting(watcher)
    stream.set_tracks(MediaTrack(Kind.VIDEO, Codec.H264, 1000, builders.AVCC[:-1] + b"\x23"), AUDIO, {}, True)
    assert not watcher.ends
    hevc = MediaTrack(Kind.VIDEO, Codec.VP8, 1000, b"")
    stream.set_tracks(hevc, AUDIO, {}, True)
    assert watcher.ends == [EndReason.OUTPUT_OFF]


async def test_reordered_pictures_end_the_viewers_so_that_they_get_converted_ones() -> None:
    stream, feed, _ = live()
    stream.push(coded(0, True))
    watcher = Watcher()
    feed.join(watcher.viewer)
    await starting(watcher)
    for n, cts in enumerate((40, 40, 41, 120), 1):  # encoders that show each picture one later have the order
        stream.push(replace(coded(n * 40), cts=cts))
    assert not watcher.ends
    stream.push(replace(coded(200), cts=0))
    assert watcher.ends == [EndReason.OUTPUT_OFF]
    assert not feed._attached


async def test_the_end_of_the_stream_ends_all_viewers_once() -> None:
    hub = builders.hub(linger=0.0)
    publisher = builders.publish(hub)
    publisher.set_tracks(VIDEO, AUDIO, {})
    feed = VideoFeed(publisher.stream, lambda size: None)
    watchers = [Watcher(), Watcher()]
    for watcher in watchers:
        feed.join(watcher.viewer)
    stream = publisher.stream
    publisher.close()
    async with asyncio.timeout(at_most(5)):
        await stream.over()
    assert [len(watcher.ends) for watcher in watchers] == [1, 1]
    late = Watcher()
    feed.join(late.viewer)
    assert len(late.ends) == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("picture"), st.booleans(), st.integers(3, 9000)),
        st.tuples(st.just("join"), st.booleans(), st.just(0)),
        st.tuples(st.just("leave"), st.booleans(), st.integers(0, 5)),
        st.tuples(st.just("pli"), st.booleans(), st.integers(0, 5)),
        st.tuples(st.just("nack"), st.booleans(), st.integers(0, 0xFFFF)),
        st.tuples(st.just("turn"), st.booleans(), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=examples(40, 120), deadline=None)
@given(STEPS, st.sampled_from([0, 0x7FF0, 0xFFF0]))
def test_no_number_is_used_for_other_bytes_in_random_sessions(steps: list[tuple[str, bool, int]], first: int) -> None:
    async def play() -> None:
        stream, feed, _ = live()
        feed._sequence = first
        watchers: list[Watcher] = []
        senders: list[Sender] = []
        at = 0
        for kind, flag, value in steps:
            at += 40
            some = watchers[value % len(watchers)] if watchers else None
            if kind == "picture":
                stream.push(coded(at, flag, value, seed=at))
            elif kind == "join":
                watchers.append(Watcher(ALL if flag else WITHOUT_RTX))
                senders.append(watchers[-1].sender)
                feed.join(watchers[-1].viewer)
            elif some is None:
                continue
            elif kind == "leave":
                watchers.remove(some)
                feed.leave(some.viewer)
                some.viewer.close()
            elif kind == "pli":
                some.viewer.started = -1e9
                feed.refresh(some.viewer)
            elif kind == "nack":
                known = some.sender.numbers() or [value]
                base = known[value % len(known)] if flag else value
                feed.repeat(some.viewer, [(base + step) & 0xFFFF for step in range(-20, 21)], at / 1000)
                some.viewer._forget_burst() if flag else None
            elif kind == "turn":
                await asyncio.sleep(0.006)
        for watcher in watchers:
            feed.leave(watcher.viewer)
            watcher.viewer.close()
        for sender in senders:
            first_time = list(dict.fromkeys(sender.numbers()))
            assert rising(first_time, 16), "each new packet has a higher number"

    asyncio.run(play())
