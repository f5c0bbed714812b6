"""The times of a recording, moved onto the push's own timeline."""

from __future__ import annotations

from gateway.media.track import Kind
from gateway.workers.programs.browser.browser_worker import RecordingClock

V, A = Kind.VIDEO, Kind.AUDIO
START = 1000  # milliseconds


def test_a_recording_with_any_start_time_keeps_its_tracks_in_sync() -> None:
    clock = RecordingClock()
    assert clock.stamp(V, 90_000 * 5000, 90_000) == (90_000, 0)
    assert clock.stamp(A, 44_100 * 5000 + 441, 44_100) == (44_541, 0)
    assert clock.stamp(V, 90_000 * 5000 + 3003, 90_000) == (93_003, 0)


def test_a_track_that_began_earlier_is_placed_before_the_first_one() -> None:
    clock = RecordingClock()
    assert clock.stamp(V, 23, 1000) == (START, 0)
    assert clock.stamp(A, 0, 1000) == (START - 23, 0)


def test_negative_times_are_moved_up_for_all_tracks() -> None:
    clock = RecordingClock()
    assert clock.stamp(V, -6000, 90_000) == (90_030, 0)  # whole milliseconds: -67 comes to 1000
    assert clock.stamp(A, 0, 1000) == (START + 67, 0)


def test_distances_between_samples_stay_exact() -> None:
    clock = RecordingClock()
    times = [n * 1001 for n in range(300)]
    stamped = [clock.stamp(V, 12_345 + t, 30_000)[0] for t in times]
    assert [s - stamped[0] for s in stamped] == times


def test_decode_times_grow_and_report_their_delay() -> None:
    clock = RecordingClock()
    assert [clock.stamp(V, t, 1000) for t in (0, 0, 0, 40)] == [
        (START, 0), (START + 1, 1), (START + 2, 2), (START + 40, 0),
    ]  # fmt: skip


def test_another_recording_continues_by_the_wall_clock() -> None:
    clock = RecordingClock()
    for t in range(0, 1000, 40):
        clock.stamp(V, t, 1000)
    clock.restart(2.5)
    assert clock.stamp(A, 7, 48_000)[0] == (START + 960 + 2500) * 48 + 7
    assert clock.stamp(V, 10, 1000) == (START + 960 + 2510, 0)


def test_a_first_recording_begins_at_the_start_time_at_any_moment() -> None:
    clock = RecordingClock()
    clock.restart(1e6)
    assert clock.stamp(V, 5, 1000) == (START, 0)


def test_jumps_of_both_tracks_are_repaired_alike() -> None:
    clock = RecordingClock()
    for t in range(0, 400, 40):
        clock.stamp(V, t, 1000)
        clock.stamp(A, t, 1000)
    video, _ = clock.stamp(V, 5_000_000, 1000)
    audio, _ = clock.stamp(A, 5_000_000, 1000)
    assert START + 360 < video <= START + 440
    assert audio == video
    back, _ = clock.stamp(V, 1000, 1000)
    assert video < back <= video + 80
