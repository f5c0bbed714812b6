"""The limit on track changes of a stream: the rule itself, and its effect on publishers and consumers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import pytest_asyncio

from gateway.live.hub import Hub
from gateway.live.publisher import PushOrigin, StreamPublisher
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
from gateway.media.timed_data import Script
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, TimedData
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
    """Attaches a consumer to the publisher's stream."""
    sink = Recorder()
    lease.stream.attach(sink)
    return sink


def key(track: MediaTrack, time: int) -> AccessUnit:
    return AccessUnit(track, time, 0, True, 0.0, b"key")


def opened(lease: StreamPublisher, track: MediaTrack, at: float) -> None:
    """Sends a sequence header and a key frame, `at` seconds after the start."""
    lease.set_tracks(track, None, {}, now=T + at)
    lease.push(key(track, round(at * 1000)), T + at)


def videos(sink: Recorder) -> list[MediaTrack | None]:
    return [tracks.video for tracks in sink.tracks]


def epochs(sink: Recorder) -> list[int]:
    return [tracks.epoch for tracks in sink.tracks]


# ---- the rule ----


def test_after_a_burst_one_change_per_second_is_allowed() -> None:
    pace = IntervalLimiter()
    taken = [tenth for tenth in range(100) if pace.take(tenth / 10)]
    assert taken[:MAX_BURST] == [0, 1, 2, 3, 4] and len(taken) == MAX_BURST + 9
    assert all(later - earlier >= 9 for earlier, later in pairwise(taken[MAX_BURST:]))


def test_after_a_pause_another_burst_is_allowed() -> None:
    pace = IntervalLimiter()
    assert [pace.take(0.0) for _ in range(MAX_BURST + 1)] == [True] * MAX_BURST + [False]
    assert [pace.take(60.0) for _ in range(MAX_BURST + 1)] == [True] * MAX_BURST + [False]


def test_a_clock_set_back_does_not_block_changes() -> None:
    pace = IntervalLimiter(1)
    assert pace.take(1_000_000.0)
    assert pace.take(5.0) and not pace.take(5.5) and pace.take(6.0)


def test_the_limiter_gives_the_time_of_the_next_allowed_change() -> None:
    pace = IntervalLimiter(1)
    assert pace.due(0.0) <= 0.0
    pace.take(10.0)
    assert pace.due(10.2) == 11.0


def test_an_encoder_with_few_changes_per_minute_is_never_ended() -> None:
    changes = TrackChangeLimit()
    for second in range(0, 36_000, 3):
        changes.count(float(second))


def test_too_many_changes_raise_an_error() -> None:
    changes = TrackChangeLimit()
    for number in range(MAX_CHANGES):
        changes.count(number * WINDOW_SECONDS / MAX_CHANGES)
    with pytest.raises(KeepsChanging, match=r"The tracks keep changing: more than 12 times in 30 s\."):
        changes.count(WINDOW_SECONDS)


def test_changes_within_one_second_count_as_one() -> None:
    changes = TrackChangeLimit()
    for number in range(500):
        changes.count(number * 0.02)  # for ten seconds
    with pytest.raises(KeepsChanging):
        for number in range(500, 700):
            changes.count(number * 0.02)


def test_changes_three_seconds_apart_are_allowed() -> None:
    changes = TrackChangeLimit()
    for number in range(100):
        changes.count(number * 3.0)


# ---- what waits ----


def held(video: MediaTrack | None = A, audio: MediaTrack | None = None, *, continuous: bool = True) -> DelayedChange:
    return DelayedChange(video, audio, {}, continuous, media=True)


def test_delayed_media_is_bounded_in_bytes_and_continues_at_a_key_frame() -> None:
    one = held()
    large = bytes(HELD_BYTES // 2)
    for time in range(3):
        one.add(AccessUnit(A, time, 0, time == 0, 0.0, large), 0.0)
    assert one.take_items() == [] and one.dropped == 3
    one.add(AccessUnit(A, 4, 0, False, 0.0, b"x"), 0.0)
    one.add(AccessUnit(A, 5, 0, True, 0.0, b"y"), 1.0)
    one.add(AccessUnit(A, 6, 0, False, 0.0, b"z"), 2.0)
    assert [(item.dts, at) for item, at in one.take_items()] == [(5, 1.0), (6, 2.0)] and one.dropped == 4


def test_delayed_media_is_bounded_in_number() -> None:
    one = held(None, SOUND)
    for time in range(HELD_ITEMS + 1):
        one.add(AccessUnit(SOUND, time, 0, True, 0.0, b"x"), 0.0)
    one.add(TimedData(9, Script("onTextData", b"amf")), 0.0)
    assert one.dropped == HELD_ITEMS + 1 and len(one.take_items()) == 1


def test_timed_data_does_not_end_the_search_for_a_key_frame() -> None:
    one = held()
    large = bytes(HELD_BYTES // 2)
    for time in range(3):
        one.add(AccessUnit(A, time, 0, time == 0, 0.0, large), 0.0)
    one.add(TimedData(4, Script("onCue", b"x")), 0.0)
    one.add(AccessUnit(A, 5, 0, False, 0.0, b"x"), 0.0)
    assert one.dropped == 4 and [item.dts for item, _ in one.take_items()] == [4]
    one.add(AccessUnit(A, 6, 0, True, 0.0, b"x"), 0.0)
    assert len(one.take_items()) == 1


def test_a_newer_change_replaces_a_delayed_one() -> None:
    one = held()
    one.add(key(A, 0), 0.0)
    other = held(B)
    other.replace_earlier(one)
    assert other.take_items() == [] and other.dropped == 1 and not other.continuous


def test_equal_tracks_keep_the_delayed_media() -> None:
    one = held()
    one.add(key(A, 0), 0.0)
    again = held()
    again.replace_earlier(one)
    assert len(again.take_items()) == 1 and again.continuous


# ---- publishers ----


async def settled(hub: Hub) -> tuple[StreamPublisher, Recorder]:
    """A publisher of track A that has used up its burst of changes."""
    lease = publish(hub)
    sink = seen_by(lease)
    lease.stream.received.limiters.tracks = IntervalLimiter(1)
    opened(lease, A, 0.0)
    return lease, sink


async def test_the_first_changes_are_announced_at_once(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    for track in (A, B, A, B, A):
        opened(lease, track, 0.0)
    assert videos(sink) == [A, B, A, B, A] and len(sink.units) == 5


async def test_an_early_change_is_delayed_without_losing_media(hub: Hub) -> None:
    lease, sink = await settled(hub)
    opened(lease, B, 0.05)
    for number in range(2, 20):
        lease.push(AccessUnit(B, number * 50, 0, False, 0.0, b"b"), T + number * 0.05)
    lease.push_timed(TimedData(960, Script("onTextData", b"amf")))
    assert videos(sink) == [A] and len(sink.units) == 1
    lease.push(AccessUnit(B, 1000, 0, False, 0.0, b"b"), T + 1.0)
    assert videos(sink) == [A, B] and [unit.dts for unit in sink.units] == [0, *range(50, 1001, 50)]
    assert "changes" not in lease.on_air.dropped


async def test_alternating_tracks_give_one_epoch_per_second_until_the_push_ends(hub: Hub) -> None:
    lease, sink = await settled(hub)
    with pytest.raises(KeepsChanging):
        for number in range(1000):
            opened(lease, A if number % 2 else B, number * 0.02)
    seconds = (number + 1) * 0.02
    assert len(epochs(sink)) <= 1 + seconds and lease.end_reason is EndReason.KEPT_CHANGING


async def test_slow_changes_are_all_announced(hub: Hub) -> None:
    lease, sink = await settled(hub)
    for number in range(100):
        opened(lease, A if number % 2 else B, (number + 1) * 3.0)
    assert videos(sink) == [A, *([B, A] * 50)] and len(sink.units) == 101


async def test_a_change_reverted_before_its_announcement_is_a_discontinuity(hub: Hub) -> None:
    lease, sink = await settled(hub)
    opened(lease, B, 0.1)
    opened(lease, A, 0.2)
    lease.push(key(A, 1500), T + 1.5)
    assert videos(sink) == [A, A] and epochs(sink) == [0, 1]
    assert [unit.dts for unit in sink.units] == [0, 200, 1500] and lease.on_air.dropped["changes"] == 1


async def test_equal_sequence_headers_are_no_change(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    for number in range(1000):
        opened(lease, A, number * 0.01)
    assert epochs(sink) == [0] and len(sink.units) == 1000


async def test_metadata_changes_are_announced_once_a_second_without_delaying_media(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    for number in range(100):
        lease.set_tracks(A, None, {"n": float(number)}, now=T + number * 0.01)
        lease.push(key(A, number), T + number * 0.01)
    assert len(sink.units) == 100 and set(epochs(sink)) == {0} and len(sink.tracks) == 1 + MAX_BURST
    lease.push(key(A, 200), T + 2.0)
    assert sink.tracks[-1].metadata == {"n": 99.0}


async def test_metadata_reverted_before_its_announcement_is_not_announced(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    for number in range(MAX_BURST + 1):
        lease.set_tracks(A, None, {"n": float(number)}, now=T)
    shown = sink.tracks[-1].metadata
    lease.set_tracks(A, None, {"n": 99.0}, now=T)
    lease.set_tracks(A, None, dict(shown), now=T)
    lease.push(key(A, 200), T + 2.0)
    assert sink.tracks[-1].metadata == shown


async def test_delayed_media_of_a_closed_publisher_counts_as_dropped(hub: Hub) -> None:
    lease, sink = await settled(hub)
    lease.set_tracks(B, None, {}, now=T + 0.1)
    for number in range(3):
        lease.push(key(B, number), T + 0.1)
    lease.close()
    lease.close()
    assert lease.on_air.dropped["changes"] == 3 and videos(sink)[-1] is A


async def test_a_track_change_includes_delayed_metadata(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    for number in range(10):
        lease.set_tracks(A, None, {"n": float(number)}, now=T)
    lease.set_tracks(B, None, {"n": 10.0}, now=T + 0.1)
    lease.push(key(B, 0), T + 0.1)
    lease.push(key(B, 100), T + 5)
    assert sink.tracks[-1].metadata == {"n": 10.0} and videos(sink)[-1] is B and len(sink.units) == 2


async def test_a_late_second_track_is_announced_at_once(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    opened(lease, A, 0.0)
    lease.set_tracks(A, SOUND, {}, now=T + 0.1)
    assert [tracks.audio for tracks in sink.tracks] == [None, SOUND]


async def test_reconnecting_publishers_share_the_change_limit_of_the_stream(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    opened(lease, A, 0.0)
    for number in range(1, 50):
        lease.close()
        lease = publish(hub)
        opened(lease, A, number * 0.02)
    assert len(sink.tracks) == MAX_BURST
    assert lease.end_reason is None  # to come back is no fault


async def test_delayed_media_of_a_returning_publisher_keeps_its_intervals(hub: Hub) -> None:
    lease, sink = await settled(hub)
    lease.close()
    lease = publish(hub)
    lease.set_tracks(A, None, {}, now=T + 0.1)
    for number in range(4):
        lease.push(key(A, 50_000 + number * 300), T + 0.2 + number * 0.3)
    assert [unit.dts for unit in sink.units] == [0, 200, 500, 800, 1100]


async def test_the_change_limit_continues_when_a_stream_ends_and_restarts(lingerless: Hub) -> None:
    made = 0
    for number in range(50):
        lease = publish(lingerless)
        sink = seen_by(lease)
        opened(lease, A, number * 0.02)
        made += len(sink.tracks)
        lease.close()
    assert made == MAX_BURST


async def test_pushes_of_other_nodes_have_no_change_limit(hub: Hub) -> None:
    lease = hub.publish_from(PushOrigin("node", "", trusted=True), builders.channel(), "c1", lambda reason: None)
    sink = seen_by(lease)
    for number in range(100):
        opened(lease, B if number % 2 else A, number * 0.01)
    assert len(sink.tracks) == 100


async def test_a_stream_ended_by_track_changes_has_that_reason(lingerless: Hub) -> None:
    lease = publish(lingerless)
    sink = seen_by(lease)
    with pytest.raises(KeepsChanging):
        for number in range(50):
            opened(lease, B if number % 2 else A, number * 1.0)
    lease.close()
    assert sink.ended is EndReason.KEPT_CHANGING


async def test_the_change_limit_applies_to_sound_only_streams(hub: Hub) -> None:
    lease = publish(hub)
    sink = seen_by(lease)
    with pytest.raises(KeepsChanging):
        for number in range(50):
            track = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, bytes([number]))
            lease.set_tracks(None, track, {}, now=T + number * 0.5)
            lease.push(AccessUnit(track, number * 500, 0, True, 0.0, b"s"), T + number * 0.5)
    assert MAX_BURST < len(sink.tracks) <= MAX_BURST + 13
