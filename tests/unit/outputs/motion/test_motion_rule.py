"""When motion clips begin, are prolonged, end, and how the pre-roll is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.media.track import AccessUnit
from gateway.outputs.motion.motion_output import MotionLimits, MotionRule, PreRoll
from tests.support.builders import picture, sound


def run(limits: MotionLimits, changes: dict[int, float], until: int) -> list[tuple[int, int]]:
    """The clips (from, to, in seconds) of a stream with these changes, looked at once a second, ten pictures each."""
    rule, clips = MotionRule(limits), []
    for tenth in range(until * 10):
        at = tenth / 10
        if rule.clip_from is not None:
            began = int(rule.clip_from)
            if rule.check_end(at):
                clips.append((began, round(at)))
        if tenth % 10 == 0:
            rule.add_comparison(at, changes.get(tenth // 10, 0.0))
    return clips


def test_a_clip_ends_a_fixed_time_after_the_last_motion() -> None:
    assert run(MotionLimits(30, 5, 60), {10: 40}, 40) == [(10, 15)]


def test_continuing_motion_prolongs_one_clip() -> None:
    assert run(MotionLimits(30, 5, 60), dict.fromkeys(range(10, 30, 3), 40.0), 60) == [(10, 33)]


def test_continuing_motion_is_split_into_clips_of_the_maximum_length() -> None:
    clips = run(MotionLimits(30, 5, 20), dict.fromkeys(range(10, 55), 40.0), 90)
    assert clips == [(10, 30), (31, 51), (52, 59)]


def test_a_change_below_the_threshold_is_no_motion() -> None:
    assert run(MotionLimits(30, 5, 60), {10: 29.9}, 40) == []
    assert run(MotionLimits(30, 5, 60), {10: 30.0}, 40) == [(10, 15)]


def test_a_still_picture_is_no_motion_even_with_a_threshold_of_zero() -> None:
    assert run(MotionLimits(0, 5, 60), {}, 40) == []


@given(st.lists(st.floats(0, 100), max_size=120), st.floats(0, 20), st.floats(1, 40))
def test_clips_keep_their_limits_for_any_motion(changes: list[float], duration: float, timeout: float) -> None:
    for began, ended in run(MotionLimits(30, duration, timeout), dict(enumerate(changes)), len(changes) + 100):
        assert began < ended + 1
        assert ended - began <= timeout + 1


def group(start: int, *, seconds: float = 2.0, size: int = 100) -> list[AccessUnit]:
    pictures = [picture(start + n * 100, key=not n, size=size) for n in range(int(seconds * 10))]
    return sorted([*pictures, sound(start + 50), sound(start + 950)], key=lambda u: u.dts)


def test_a_pre_roll_begins_with_a_key_frame_and_reaches_far_enough_back() -> None:
    ring = PreRoll(3, 1_000_000)
    for start in range(0, 20_000, 2_000):
        for unit in group(start):
            ring.add(unit)
    units = ring.units()
    assert units[0].key
    assert 3 <= (units[-1].dts - units[0].dts) / 1000 < 3 + 2


def test_a_pre_roll_of_zero_seconds_is_the_current_group() -> None:
    ring = PreRoll(0, 1_000_000)
    for unit in (*group(0), *group(2_000)):
        ring.add(unit)
    assert ring.units()[0].dts == 2_000


def test_groups_that_an_earlier_clip_contains_are_left_out() -> None:
    ring = PreRoll(10, 1_000_000)
    for start in range(0, 10_000, 2_000):
        for unit in group(start):
            ring.add(unit)
    assert ring.units(after=4.5)[0].dts == 4_000
    assert ring.units(after=3.99)[0].dts == 4_000
    assert ring.units(after=100) == []


def test_a_pre_roll_is_bounded_in_bytes() -> None:
    ring = PreRoll(30, 10_000)
    for start in range(0, 30_000, 2_000):
        for unit in group(start):
            ring.add(unit)
            kept = ring.units()
            assert sum(len(u.payload) for u in kept) <= 10_000
            assert not kept or kept[0].key
    for unit in group(40_000, seconds=30):
        ring.add(unit)
    assert ring.units() == [], "one group that is too large: nothing until the next one"
    for unit in group(80_000):
        ring.add(unit)
    assert ring.units()[0].dts == 80_000


def test_units_before_the_first_key_frame_are_not_kept() -> None:
    ring = PreRoll(3, 10_000)
    ring.add(sound(0))
    ring.add(picture(10))
    assert ring.units() == []


def test_a_late_comparison_can_still_extend_a_clip():
    rule = MotionRule(MotionLimits(percent=30, duration=5, timeout=60))
    assert rule.add_comparison(10, 50)
    assert not rule.check_end(15.5, compared_until=14)
    assert not rule.add_comparison(14, 50), "the clip that is"
    assert not rule.check_end(16)
    assert not rule.check_end(19.5, compared_until=15)
    assert rule.check_end(19.5, compared_until=19)


def test_a_late_comparison_does_not_extend_a_clip_beyond_its_maximum():
    rule = MotionRule(MotionLimits(percent=30, duration=5, timeout=8))
    assert rule.add_comparison(10, 50)
    assert rule.check_end(18, compared_until=12)
