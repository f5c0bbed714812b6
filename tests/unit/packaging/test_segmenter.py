from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.packaging.segmenter import FIRST_CUT, Segmenter, target_duration
from gateway.packaging.timing import VideoTiming

CLOCK = 90_000
FRAME = 3000


def test_a_segment_ends_at_the_first_key_frame_after_the_wanted_time() -> None:
    segmenter = Segmenter(CLOCK, 2.0)
    assert not segmenter.take_frame(CLOCK, FRAME, True)
    assert not segmenter.take_frame(2 * CLOCK, FRAME, False)
    assert segmenter.take_frame(2 * CLOCK, FRAME, True)


def test_a_gop_a_millisecond_too_short_by_rounding_ends_a_segment() -> None:
    assert Segmenter(CLOCK, 2.0).take_frame(2 * CLOCK - 90, FRAME, True)


def test_before_the_first_playlist_a_segment_without_key_frames_is_bounded() -> None:
    segmenter = Segmenter(CLOCK, 2.0)
    assert not segmenter.take_frame(int((FIRST_CUT - 1) * CLOCK), FRAME, False)
    assert segmenter.take_frame(int(FIRST_CUT * CLOCK), FRAME, False)


def test_a_long_gop_is_cut_before_its_rounded_duration_exceeds_the_target() -> None:
    segmenter = Segmenter(CLOCK, 2.0)
    segmenter.fix(2)
    elapsed = 0
    while not segmenter.take_frame(elapsed, FRAME, False):
        elapsed += FRAME
    assert int(elapsed / CLOCK + 0.5) <= 2
    assert segmenter.forced_cuts == 1


def test_after_a_forced_cut_the_next_key_frame_begins_a_segment_early() -> None:
    segmenter = Segmenter(CLOCK, 2.0)
    segmenter.fix(2)
    assert segmenter.take_frame(3 * CLOCK, FRAME, False)
    assert not segmenter.take_frame(CLOCK // 2, FRAME, True)
    assert segmenter.take_frame(CLOCK, FRAME, True)
    assert not segmenter.take_frame(CLOCK, FRAME, True)


def test_after_a_full_segment_any_key_frame_begins_a_segment() -> None:
    segmenter = Segmenter(CLOCK, 2.0)
    assert segmenter.take_frame(CLOCK, FRAME, False, full=True)
    assert segmenter.take_frame(FRAME, FRAME, True)
    assert not segmenter.take_frame(CLOCK, FRAME, True)
    assert segmenter.take_frame(2 * CLOCK, FRAME, True, full=True)
    assert segmenter.forced_cuts == 0


def ends(keys: Iterable[float], seconds: float = 2.0, target: int = 2) -> tuple[list[float], int]:
    """Returns the times at which segments end, in seconds, and the number of forced cuts. keys: times of key frames."""
    segmenter = Segmenter(CLOCK, seconds)
    segmenter.fix(target)
    times = {round(key * CLOCK) for key in keys}
    found, start = [], 0
    for time in sorted(times | set(range(FRAME, max(times) + 1, FRAME))):
        if time and segmenter.take_frame(time - start, FRAME, time in times):
            found.append(round(time / CLOCK, 2))
            start = time
    return found, segmenter.forced_cuts


def test_a_gop_that_a_switch_shortened_does_not_lead_to_a_segment_without_a_key_frame() -> None:
    """A push with a GOP of 2 s, a slate from 4.8 s on, the push again from 10.2 s on."""
    keys = [0, 2, 4, 4.8, 6.8, 8.8, 10.2, 12.2, 14.2]
    assert ends(keys) == ([2, 4, 4.8, 6.8, 8.8, 10.2, 12.2, 14.2], 0)


def test_a_key_frame_at_a_scene_change_does_not_shorten_a_segment() -> None:
    assert ends([0, 2, 4, 4.2, 6.2, 8.2]) == ([2, 4, 6.2, 8.2], 0)
    assert ends([0, 0.5, 1, 1.5, 2, 2.3, 2.5, 3, 3.5, 4, 4.5]) == ([2, 4], 0)


def test_a_gop_above_the_limit_is_cut_without_a_key_frame() -> None:
    found, forced = ends([0, 3, 6, 9])
    assert found == [2.33, 4.67, 6, 8.33] and forced == 3


def test_the_target_duration_is_fixed_once() -> None:
    segmenter = Segmenter(CLOCK, 2.0)
    segmenter.fix(2)
    segmenter.fix(7)
    assert segmenter.target == 2


@given(st.floats(0.2, 20), st.floats(0.2, 20))
def test_the_target_duration_covers_the_wanted_and_the_longest_duration(wanted: float, longest: float) -> None:
    target = target_duration(wanted, longest)
    assert target >= wanted - 0.01
    assert int(longest + 0.5) <= target


RATES = [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(60000, 1001), Fraction(60)]


@pytest.mark.parametrize("rounding", [int, round], ids=["cut off", "rounded"])
@pytest.mark.parametrize("told", [True, False], ids=["rate told", "rate unknown"])
@pytest.mark.parametrize("fps", RATES, ids=str)
def test_milliseconds_become_a_regular_grid(fps: Fraction, told: bool, rounding: type[int]) -> None:
    timing = VideoTiming(1000, float(fps) if told else None)
    times = [timing.stamp(rounding(n * 1000 / fps), 0)[0] for n in range(2000)]
    assert timing.frame_rate == fps
    steps = {b - a for a, b in itertools.pairwise(times[1000:])}
    assert max(steps) - min(steps) <= 1
    assert all(abs(t - float(n * 90_000 / fps)) <= 135 for n, t in enumerate(times))


def test_a_wrong_declared_rate_is_replaced_by_the_measured_one() -> None:
    timing = VideoTiming(1000, 60.0)
    for n in range(100):
        timing.stamp(n * 40, 0)
    assert timing.frame_rate == 25 and timing.step == 3600


@pytest.mark.parametrize(("told", "fps"), [(30, 15), (30, 10), (30, 7.5), (60, 20), (50, 25), (25, 12.5)])
def test_a_rate_that_is_a_fraction_of_the_declared_one_is_found(told: float, fps: float) -> None:
    timing = VideoTiming(1000, told)
    times = [timing.stamp(round(n * 1000 / fps), 0)[0] for n in range(100)]
    assert timing.frame_rate == Fraction(fps) and timing.step == 90_000 / fps
    assert times == [n * 90_000 / fps for n in range(100)]


def test_half_the_ntsc_rate_is_found_exactly() -> None:
    timing = VideoTiming(1000, 30_000 / 1001)
    for n in range(100):
        timing.stamp(round(n * 1001 / 15), 0)
    assert timing.frame_rate == Fraction(15_000, 1001)


def test_a_rate_that_falls_to_a_third_and_returns_is_followed() -> None:
    timing, time = VideoTiming(1000, 30.0), Fraction(0)
    for fps, count in ((30, 60), (10, 60), (30, 60)):
        for _ in range(count):
            timing.stamp(round(time), 0)
            time += Fraction(1000, fps)
        assert timing.frame_rate == fps


def test_single_skipped_frames_do_not_change_the_rate() -> None:
    timing = VideoTiming(1000, 30.0)
    for n in range(1000):
        if n % 7:
            timing.stamp(round(n * 1000 / 30), 0)
    assert timing.frame_rate == 30


def test_a_rate_that_drifts_is_followed() -> None:
    timing = VideoTiming(1000, 30.0)
    for n in range(4000):
        at, _ = timing.stamp(round(n * 1000 / 29.9), 0)
        assert abs(at - n * 90_000 / 29.9) < 180
    assert timing.frame_rate is not None and abs(float(timing.frame_rate) - 29.9) < 0.001


def test_presentation_times_are_on_the_grid_too() -> None:
    timing = VideoTiming(1000, 30.0)
    shown = []
    for n in range(60):
        dts = round(n * 1000 / 30)
        at, shift = timing.stamp(dts, round((n + 2) * 1000 / 30) - dts)
        shown.append(at + shift)
    assert all(t == (n + 2) * 3000 for n, t in list(enumerate(shown))[5:])


def test_a_dropped_frame_leaves_the_grid_in_place() -> None:
    timing = VideoTiming(1000, 30.0)
    times = [timing.stamp(round(n * 1000 / 30), 0)[0] for n in range(100) if n != 50]
    assert times[50] - times[49] == 6000 and times[-1] == 99 * 3000


@given(st.lists(st.integers(0, 400), min_size=2, max_size=200), st.sampled_from([None, 24.0, 30.0, 59.94]))
def test_decode_times_always_grow_and_stay_near_the_sent_times(steps: list[int], hint: float | None) -> None:
    timing = VideoTiming(1000, hint)
    raw, last = 0, -1
    for n, step in enumerate(steps):
        raw += step
        at, _ = timing.stamp(raw, 0)
        assert at > last
        assert abs(at - raw * 90) <= 350 + n
        last = at
