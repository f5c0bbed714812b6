"""How often the tracks of a stream may change: the rule by itself, and as publishers and consumers meet it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import pytest_asyncio

from gateway.live.hub import Hub
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.track_changes import (
    HELD_BYTES,
    HELD_ITEMS,
    MAX_BURST,
    MAX_CHANGES,
    WINDOW_SECONDS,
    DelayedChange,
    IntervalLimiter,
    KeepsChanging,
    TrackChangeLimit,
)
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.media.unit import AccessUnit, Timed
from tests.support import builders
from tests.support.builders import Recorder, publish

T = 1000.0  # when the tests begin, monotonic seconds
A, B = (MediaTrack(Kind.VIDEO, Codec.H264, 1000, config) for config in (b"a", b"b"))
SOUND = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"s")


@pytest_asyncio.fixture
async def hub() -> AsyncIterator[Hub]:
    made = builders.hub()
    yield made
    made.drain()
    await made.drained()


@pytest_asyncio.fixture
async def lingerless() -> AsyncIterator[Hub]:
    made = builders.hub(linger=0)
    yield made
    made.drain()
    await made.drained()


def seen_by(lease: StreamPublisher) -> Recorder:
    """A consumer of what the publisher pushes."""
    sink = Recorder()
    lease.stream.attach(sink)
    return sink


def key(track: MediaTrack, time: int) -> AccessUnit:
    return AccessUnit(track, time, 0, True, 0.0, b"key")


def opened(lease: StreamPublisher, track: MediaTrack, at: float) -> None:
    """A sequence header and a key frame, `at` seconds after the beginning."""
    lease.set_tracks(track, None, {}, now=T + at)
    lease.push(key(track, round(at * 1000)), T + at)


def videos(sink: Recorder) -> list[MediaTrack | None]:
    return [tracks.video for tracks in sink.tracks]


def epochs(sink: Recorder) -> list[int]:
    return [tracks.epoch for tracks in sink.tracks]


# ---- the rule ----


def test_a_few_come_at_once_and_then_one_a_second() -> None:
    pace = IntervalLimiter()
    taken = [tenth for tenth in range(100) if pace.take(tenth / 10)]
    assert taken[:MAX_BURST] == [0, 1, 2, 3, 4] and len(taken) == MAX_BURST + 9
    assert all(later - earlier >= 9 for earlier, later in pairwise(taken[MAX_BURST:]))


def test_after_a_rest_a_few_may_come_at_once_again() -> None:
    pace = IntervalLimiter()
    assert [pace.take(0.0) for _ in range(MAX_BURST + 1)] == [True] * MAX_BURST + [False]
    assert [pace.take(60.0) for _ in range(MAX_BURST + 1)] == [True] * MAX_BURST + [False]


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    pace = IntervalLimiter(1)
    assert pace.take(1_000_000.0)
    assert pace.take(5.0) and not pace.take(5.5) and pace.take(6.0)


def test_what_is_due_is_said() -> None:
    pace = IntervalLimiter(1)
    assert pace.due(0.0) <= 0.0
    pace.take(10.0)
    assert pace.due(10.2) == 11.0


def test_an_encoder_that_changes_a_few_times_a_minute_goes_on_for_ever() -> None:
    changes = TrackChangeLimit()
    for second in range(0, 36_000, 3):
        changes.count(float(second))


def test_one_change_too_many_is_refused() -> None:
    changes = TrackChangeLimit()
    for number in range(MAX_CHANGES):
        changes.count(number * WINDOW_SECONDS / MAX_CHANGES)
    with pytest.raises(KeepsChanging, match=r"The tracks keep changing: more than 12 times in 30 s\."):
        changes.count(WINDOW_SECONDS)


def test_changes_of_one_second_count_as_one() -> None:
    changes = TrackChangeLimit()
    for number in range(500):
        changes.count(number * 0.02)  # for ten seconds
    with pytest.raises(KeepsChanging):
        for number in range(500, 700):
            changes.count(number * 0.02)


def test_changes_three_seconds_apart_are_let_be() -> None:
    changes = TrackChangeLimit()
    for number in range(100):
        changes.count(number * 3.0)


# ---- what waits ----


def held(video: MediaTrack | None = A, audio: MediaTrack | None = None, *, continuous: bool = True) -> DelayedChange:
    return DelayedChange(video, audio, {}, continuous, media=True)


def test_what_waits_is_bounded_in_bytes_and_goes_on_at_a_key_frame() -> None:
    one = held()
    large = bytes(HELD_BYTES // 2)
    for time in range(3):
        one.add(AccessUnit(A, time, 0, time == 0, 0.0, large), 0.0)
    assert one.items() == [] and one.dropped == 3
    one.add(AccessUnit(A, 4, 0, False, 0.0, b"x"), 0.0)
    one.add(AccessUnit(A, 5, 0, True, 0.0, b"y"), 1.0)
    one.add(AccessUnit(A, 6, 0, False, 0.0, b"z"), 2.0)
    assert [(item.dts, at) for item, at in one.items()] == [(5, 1.0), (6, 2.0)] and one.dropped == 4


def test_what_waits_is_bounded_in_number() -> None:
    one = held(None, SOUND)
    for time in range(HELD_ITEMS + 1):
        one.add(AccessUnit(SOUND, time, 0, True, 0.0, b"x"), 0.0)
    one.add(Timed(9, "onTextData", b"amf"), 0.0)
    assert one.dropped == HELD_ITEMS + 1 and len(one.items()) == 1


def test_a_change_takes_the_place_of_one_that_nobody_saw() -> None:
    one = held()
    one.add(key(A, 0), 0.0)
    other = held(B)
    other.instead_of(one)
    assert other.items() == [] and other.dropped == 1 and not other.continuous


def test_the_same_tracks_again_keep_what_waits() -> None:
    one = held()
    one.add(key(A, 0), 0.0)
    again = held()
    again.instead_of(one)
    assert len(again.items()) == 1 and again.continuous


# ---- publishers ----


async def settled(hub: Hub) -> tuple[StreamPublisher, Recorder]:
    """A publisher of A that has used up what may come at once."""
    lease = publish(hub)
    sink = seen_by(lease)
    lease.stream.change_limiter = IntervalLimiter(1)
    opened(lease, A, 0.0)
    return lease, sink


async def test_the_first_changes_are_announced_at_once(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    for track in (A, B, A, B, A):
        opened(lease, track, 0.0)
    assert videos(sink) == [A, B, A, B, A] and len(sink.units) == 5


async def test_a_change_that_comes_too_soon_waits_with_its_media_and_loses_none(hub: Hub) -> None:
    lease, sink = await settled(hub)
    opened(lease, B, 0.05)
    for number in range(2, 20):
        lease.push(AccessUnit(B, number * 50, 0, False, 0.0, b"b"), T + number * 0.05)
    lease.push_timed(Timed(960, "onTextData", b"amf"))
    assert videos(sink) == [A] and len(sink.units) == 1
    lease.push(AccessUnit(B, 1000, 0, False, 0.0, b"b"), T + 1.0)
    assert videos(sink) == [A, B] and [unit.dts for unit in sink.units] == [0, *range(50, 1001, 50)]
    assert "changes" not in lease.dropped


async def test_alternating_tracks_make_an_epoch_a_second_until_their_publisher_is_ended(hub: Hub) -> None:
    lease, sink = await settled(hub)
    with pytest.raises(KeepsChanging):
        for number in range(1000):
            opened(lease, A if number % 2 else B, number * 0.02)
    seconds = (number + 1) * 0.02
    assert len(epochs(sink)) <= 1 + seconds and lease.fault is EndReason.KEPT_CHANGING


async def test_slower_changes_all_pass(hub: Hub) -> None:
    lease, sink = await settled(hub)
    for number in range(100):
        opened(lease, A if number % 2 else B, (number + 1) * 3.0)
    assert videos(sink) == [A, *([B, A] * 50)] and len(sink.units) == 101


async def test_going_back_before_anybody_saw_the_change_is_a_break(hub: Hub) -> None:
    lease, sink = await settled(hub)
    opened(lease, B, 0.1)
    opened(lease, A, 0.2)
    lease.push(key(A, 1500), T + 1.5)
    assert videos(sink) == [A, A] and epochs(sink) == [0, 1]
    assert [unit.dts for unit in sink.units] == [0, 200, 1500] and lease.dropped["changes"] == 1


async def test_sequence_headers_that_say_the_same_are_no_change(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    for number in range(1000):
        opened(lease, A, number * 0.01)
    assert epochs(sink) == [0] and len(sink.units) == 1000


async def test_metadata_that_change_alone_are_told_once_a_second_and_hold_no_media(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    for number in range(100):
        lease.set_tracks(A, None, {"n": float(number)}, now=T + number * 0.01)
        lease.push(key(A, number), T + number * 0.01)
    assert len(sink.units) == 100 and set(epochs(sink)) == {0} and len(sink.tracks) == 1 + MAX_BURST
    lease.push(key(A, 200), T + 2.0)
    assert sink.tracks[-1].metadata == {"n": 99.0}


async def test_metadata_that_are_taken_back_before_anybody_saw_them_stay_as_they_were(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    for number in range(MAX_BURST + 1):
        lease.set_tracks(A, None, {"n": float(number)}, now=T)
    shown = sink.tracks[-1].metadata
    lease.set_tracks(A, None, {"n": 99.0}, now=T)
    lease.set_tracks(A, None, dict(shown), now=T)
    lease.push(key(A, 200), T + 2.0)
    assert sink.tracks[-1].metadata == shown


async def test_what_waits_when_its_publisher_leaves_is_counted_as_lost(hub: Hub) -> None:
    lease, sink = await settled(hub)
    lease.set_tracks(B, None, {}, now=T + 0.1)
    for number in range(3):
        lease.push(key(B, number), T + 0.1)
    lease.close()
    lease.close()
    assert lease.dropped["changes"] == 3 and videos(sink)[-1] is A


async def test_a_change_takes_metadata_that_wait_along(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    for number in range(10):
        lease.set_tracks(A, None, {"n": float(number)}, now=T)
    lease.set_tracks(B, None, {"n": 10.0}, now=T + 0.1)
    lease.push(key(B, 0), T + 0.1)
    lease.push(key(B, 100), T + 5)
    assert sink.tracks[-1].metadata == {"n": 10.0} and videos(sink)[-1] is B and len(sink.units) == 2


async def test_a_second_track_that_comes_late_is_announced_at_once(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    opened(lease, A, 0.0)
    lease.set_tracks(A, SOUND, {}, now=T + 0.1)
    assert [tracks.audio for tracks in sink.tracks] == [None, SOUND]


async def test_publishers_that_come_and_go_make_no_more_than_one_that_stays(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    opened(lease, A, 0.0)
    for number in range(1, 50):
        lease.close()
        lease = publish(hub)
        opened(lease, A, number * 0.02)
    assert len(sink.tracks) == MAX_BURST
    assert lease.fault is None  # to come back is no fault


async def test_a_returning_publishers_media_keep_their_distances_while_they_wait(hub: Hub) -> None:
    lease, sink = await settled(hub)
    lease.close()
    lease = publish(hub)
    lease.set_tracks(A, None, {}, now=T + 0.1)
    for number in range(4):
        lease.push(key(A, 50_000 + number * 300), T + 0.2 + number * 0.3)
    assert [unit.dts for unit in sink.units] == [0, 200, 500, 800, 1100]


async def test_a_stream_that_ends_and_begins_again_goes_on_counting(lingerless: Hub) -> None:
    made = 0
    for number in range(50):
        lease = publish(lingerless)
        sink = seen_by(lease)
        opened(lease, A, number * 0.02)
        made += len(sink.tracks)
        lease.close()
    assert made == MAX_BURST


async def test_what_other_nodes_and_workers_of_ours_push_was_bounded_before(hub: Hub) -> None:
    lease = hub.publish(builders.channel(), "c1", protocol="node", peer="", evict=lambda reason: None, trusted=True)
    sink = seen_by(lease)
    for number in range(100):
        opened(lease, B if number % 2 else A, number * 0.01)
    assert len(sink.tracks) == 100


async def test_a_stream_whose_publisher_kept_changing_ends_with_that_reason(lingerless: Hub) -> None:
    lease = publish(lingerless)
    sink = seen_by(lease)
    with pytest.raises(KeepsChanging):
        for number in range(50):
            opened(lease, B if number % 2 else A, number * 1.0)
    lease.close()
    assert sink.ended is EndReason.KEPT_CHANGING


async def test_sound_alone_is_held_to_the_same(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    with pytest.raises(KeepsChanging):
        for number in range(50):
            track = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, bytes([number]))
            lease.set_tracks(None, track, {}, now=T + number * 0.5)
            lease.push(AccessUnit(track, number * 500, 0, True, 0.0, b"s"), T + number * 0.5)
    assert MAX_BURST < len(sink.tracks) <= MAX_BURST + 13
