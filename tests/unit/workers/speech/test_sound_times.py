"""The times of words on the stream: gaps, jumps back, and the bound of what is remembered."""

import pytest

from gateway.workers.sound_times import MAX_PAIRS, SoundTimes
from gateway.workers.speech_protocol import RATE


def times(*runs: tuple[float, float]) -> SoundTimes:
    """runs: begin and length of each run of sound, in seconds of the stream."""
    made = SoundTimes()
    for start, seconds in runs:
        for n in range(round(seconds * 10)):
            made.add(round(start * RATE) + n * RATE // 10, RATE // 10)
    return made


def test_sound_without_gap_has_the_times_of_its_samples() -> None:
    made = times((100, 5))
    assert [made.time_of(at) for at in (0, 1.25, 5)] == [100, 101.25, 105]
    assert made.next == 105 * RATE


def test_after_a_gap_the_next_words_have_the_times_after_it() -> None:
    made = times((100, 2), (160, 3))
    assert [made.time_of(at) for at in (1.9, 2, 2.5)] == [101.9, 160, 160.5]
    assert made.time_of(2, is_end=True) == 102


def test_times_may_jump_back() -> None:
    made = times((100, 2), (50, 2))
    assert [made.time_of(at) for at in (1, 3)] == [101, 51]


def test_silence_in_a_pause_does_not_move_later_words() -> None:
    made = times((10, 1))
    assert made.next is not None
    made.add(made.next, RATE)
    made.add(30 * RATE, RATE)
    assert [made.time_of(at) for at in (0.5, 2, 2.5)] == [10.5, 30, 30.5]


@pytest.mark.parametrize(("seconds", "at"), [(-1, 100), (9, 105), (1e9, 105)])
def test_a_time_outside_of_the_sound_is_its_nearest_end(seconds: float, at: float) -> None:
    assert times((100, 5)).time_of(seconds) == at


def test_without_sound_all_times_are_0() -> None:
    assert SoundTimes().time_of(7) == 0 and SoundTimes().next is None


def test_only_the_last_gaps_are_remembered() -> None:
    made = times(*((10 * n, 0.1) for n in range(2 * MAX_PAIRS)))
    last = 2 * MAX_PAIRS - 1
    assert made.time_of(last * 0.1 + 0.05) == pytest.approx(10 * last + 0.05)
    assert made.time_of(0) == pytest.approx(10 * MAX_PAIRS - MAX_PAIRS * 0.1, abs=0.01)
    assert len(made._pairs) == MAX_PAIRS
