"""One growing timeline out of 32-bit milliseconds, and audio time out of samples."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.clock import AudioClock, PublisherTimeline

V, A = 0, 1


def play(line: PublisherTimeline, start: int, count: int, step: int = 33) -> list[int]:
    """Video at `start` and audio 10 ms behind it, `count` times; the video's times."""
    times = []
    for n in range(count):
        raw = (start + n * step) % (1 << 32)
        times.append(line.stamp(V, raw))
        assert line.stamp(A, (raw + 10) % (1 << 32)) - times[-1] == 10
    return times


def test_ordinary_times_are_not_changed() -> None:
    assert play(PublisherTimeline(), 5_000, 4) == [5_000, 5_033, 5_066, 5_099]


def test_times_grow_when_the_32_bit_clock_wraps() -> None:
    times = play(PublisherTimeline(), (1 << 32) - 66, 10)
    assert [b - a for a, b in pairwise(times)] == [33] * 9
    assert times[-1] > 1 << 32


def test_a_first_time_can_be_given() -> None:
    line = PublisherTimeline(start=7_000)
    assert play(line, 123_456, 3) == [7_000, 7_033, 7_066]
    assert line.rebased == 0


def test_a_second_lane_does_not_start_before_the_given_time() -> None:
    line = PublisherTimeline(start=7_000)
    line.stamp(V, 500)
    assert [line.stamp(A, 300 + n * 40) for n in range(8)] == [7_000] * 6 + [7_040, 7_080]
    assert line.stamp(V, 540) == 7_040


def test_negative_times_become_zero_and_later_times_stay_in_sync() -> None:
    line = PublisherTimeline()
    line.stamp(V, 0)
    assert [line.stamp(A, (n * 40 - 160) % (1 << 32)) for n in range(6)] == [0, 0, 0, 0, 0, 40]


@pytest.mark.parametrize("to", [0, 95_000, 200_000, (1 << 32) - 1])
def test_a_jump_is_repaired_once_for_both_lanes(to: int) -> None:
    line = PublisherTimeline()
    before = play(line, 100_000, 20)
    after = play(line, to, 20)
    assert line.rebased == 1
    assert line.jumped == to - before[-1] if to < 1 << 31 else line.jumped < 0
    assert 0 < after[0] - before[-1] <= 100
    assert [b - a for a, b in pairwise(after)] == [33] * 19


def test_the_lane_that_jumps_later_follows_the_first() -> None:
    line = PublisherTimeline()
    play(line, 100_000, 20)
    # The video jumps to 0; audio of before is still on its way.
    first = line.stamp(V, 0)
    assert line.stamp(A, 100_000 + 20 * 33 + 10) == 100_000 + 20 * 33 + 10
    assert line.stamp(A, 4) == first + 4
    assert line.stamp(V, 33) == first + 33
    assert line.rebased == 1


def test_a_glitch_of_one_frame_does_not_move_the_lanes_apart() -> None:
    line = PublisherTimeline()
    play(line, 100_000, 20)
    glitch = line.stamp(V, 7)
    assert 100_000 + 19 * 33 < glitch < 100_000 + 21 * 33
    assert play(line, 100_000 + 20 * 33, 5)[-1] == 100_000 + 24 * 33


def test_small_reorderings_are_not_changed() -> None:
    line = PublisherTimeline()
    assert [line.stamp(A, t) for t in (100, 120, 90, 140)] == [100, 120, 90, 140]
    assert line.rebased == 0


def test_a_lane_may_pause_while_the_other_continues() -> None:
    line = PublisherTimeline()
    play(line, 0, 10)
    for n in range(1_000):
        line.stamp(A, 330 + n * 21)
    assert line.stamp(V, 21_000) == 21_000
    assert line.rebased == 0


def test_lanes_with_different_start_times_are_aligned() -> None:
    line = PublisherTimeline()
    line.stamp(V, 50_000_000)
    assert line.stamp(A, 0) == 50_000_000
    assert line.stamp(A, 21) == 50_000_021
    assert line.stamp(V, 50_000_033) == 50_000_033


def test_script_data_never_move_the_clock() -> None:
    line = PublisherTimeline()
    play(line, 100_000, 20)
    latest = line.latest
    assert line.near(0) == latest
    assert line.near(100_100) == 100_100
    assert line.near(latest + 9_000) == latest + 9_000
    assert play(line, 100_000 + 20 * 33, 1) == [100_000 + 20 * 33]
    assert line.rebased == 0


@given(st.lists(st.tuples(st.sampled_from([V, A]), st.integers(0, (1 << 32) - 1)), max_size=60))
def test_no_input_moves_a_lane_backward(stamps: list[tuple[int, int]]) -> None:
    line = PublisherTimeline()
    high: dict[int, int] = {}
    for lane, raw in stamps:
        time = line.stamp(lane, raw)
        assert time >= high.get(lane, 0) - 100
        assert time <= line.latest
        high[lane] = max(high.get(lane, 0), time)


@given(st.lists(st.integers(0, 9_000), min_size=1, max_size=60), st.integers(0, (1 << 32) - 1))
def test_growing_times_are_kept_exactly(steps: list[int], start: int) -> None:
    line, raw = PublisherTimeline(), start
    line.stamp(V, raw % (1 << 32))
    for step in steps:
        raw += step
        assert line.stamp(V, raw % (1 << 32)) == raw
    assert line.rebased == 0


JUMPS = st.one_of(st.integers(-(1 << 31) + 20_000, -1_000), st.integers(11_000, (1 << 31) - 20_000))


@given(st.integers(0, (1 << 32) - 1), st.integers(-300, 300), st.lists(JUMPS, min_size=1, max_size=6))
def test_audio_stays_with_video_over_any_jumps(start: int, skew: int, jumps: list[int]) -> None:
    line, base, shown = PublisherTimeline(), start, -1
    for count, jump in enumerate([0, *jumps]):
        base += jump
        for _ in range(40):
            video = line.stamp(V, base % (1 << 32))
            audio = line.stamp(A, (base + skew) % (1 << 32))
            assert video > shown
            shown = video
            base += 33
        assert audio - video == skew
        assert line.rebased == count


def test_audio_time_counts_samples() -> None:
    clock = AudioClock(44_100)
    frames = [clock.stamp(n * 1024 * 1000 // 44_100, 1024) for n in range(500)]
    assert frames == [n * 1024 for n in range(500)]
    assert not clock.resynced


def test_a_gap_moves_the_audio_time_forward() -> None:
    clock = AudioClock(48_000)
    assert clock.stamp(0, 1024) == 0
    assert clock.stamp(61, 1024) == 1024
    assert not clock.resynced
    assert clock.stamp(1_000, 1024) == 48_000
    assert clock.resynced
    assert clock.stamp(1_021, 1024) == 49_024
    assert not clock.resynced


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("first", [0, 1])
def test_two_frames_with_one_timestamp_follow_each_other(rate: int, first: int) -> None:
    clock, samples = AudioClock(rate), 2048 if rate == 48_000 else 1024
    stamps = [n // 2 * 2 * samples * 1000 // rate for n in range(first, 500)]
    times = [clock.stamp(dts, samples) for dts in stamps]
    assert {b - a for a, b in pairwise(times[1:])} == {samples}
    late = [time - dts * rate / 1000 for time, dts in zip(times[1:], stamps[1:], strict=True)]
    assert -0.001 * rate <= min(late) and max(late) <= samples + 0.001 * rate


def test_a_lost_frame_of_low_rate_sound_is_a_gap() -> None:
    clock = AudioClock(8_000)
    assert [clock.stamp(128 * n, 1024) for n in (0, 1, 3, 4)] == [0, 1024, 3072, 4096]


def test_audio_time_never_runs_backward() -> None:
    clock = AudioClock(48_000)
    times = [(clock.stamp(dts, 1024), clock.resynced) for dts in (1_000, 1_021, 0, 21, 43)]
    assert times == [(48_000, False), (49_024, False), (49_025, True), (49_026, True), (49_027, True)]


@pytest.mark.parametrize(("spread", "frames"), [(20, 1), (40, 1), (0, 8)])
def test_sound_that_is_stamped_when_it_comes_has_no_gaps(spread: int, frames: int) -> None:
    """Its timestamps are early or late at random, or several frames have the same one."""
    clock, draw = AudioClock(48_000), random.Random(3)
    stamps = [1_000 + n // frames * frames * 1024 / 48 + draw.uniform(-spread, spread) for n in range(2_000)]
    times = [clock.stamp(round(dts), 1024) for dts in stamps]
    assert {b - a for a, b in pairwise(times[20:])} == {1024}


def test_lost_sound_is_a_gap_again_soon_after_another_one() -> None:
    clock = AudioClock(48_000)
    lost = {100, 101, 102, 120, 121, 122}
    times = [clock.stamp(n * 1024 // 48, 1024) for n in range(140) if n not in lost]
    assert [n for n, (a, b) in enumerate(pairwise(times)) if b - a != 1024] == [99, 116]


def test_a_slow_drift_is_followed_by_small_steps() -> None:
    # The publisher's sound card gives 48,100 samples a second of its own clock.
    clock, worst = AudioClock(48_000), 0.0
    times = []
    for n in range(20_000):
        dts = n * 1024 * 1000 // 48_100
        times.append(clock.stamp(dts, 1024))
        worst = max(worst, abs(times[-1] / 48_000 - dts / 1000))
    assert worst <= 0.042
    assert all(b > a for a, b in pairwise(times))


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 5_760)), max_size=50), st.sampled_from([8_000, 48_000]))
def test_audio_time_grows_for_any_input(frames: list[tuple[int, int]], rate: int) -> None:
    clock = AudioClock(rate)
    times = [clock.stamp(dts, max(1, samples)) for dts, samples in frames]
    assert all(b > a for a, b in pairwise(times))


def test_other_timescales_are_converted() -> None:
    assert AudioClock(48_000, 90_000).stamp(90_000, 960) == 48_000
    with pytest.raises(ValueError, match="0 Hz"):
        AudioClock(0)
