"""Decode times out of presentation times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.media.clock import DecodeTimes


def test_without_reordering_decode_times_equal_presentation_times() -> None:
    times = DecodeTimes(0)
    assert [times.stamp(t) for t in (0, 33, 67, 100)] == [0, 33, 67, 100]


def test_reordered_pictures_get_growing_decode_times() -> None:
    # I P B B in decode order, as x264 makes them with two B-frames and no pyramid.
    shown = [0, 132, 33, 66, 99, 264, 165, 198, 231]
    times = DecodeTimes(2)
    decoded = [times.stamp(t) for t in shown]
    assert decoded == [-2, -1, 0, 33, 66, 99, 132, 165, 198]


def test_a_wrong_depth_still_gives_growing_times() -> None:
    times = DecodeTimes(0)
    assert [times.stamp(t) for t in (0, 100, 50, 75, 200)] == [0, 100, 101, 102, 200]


@given(st.integers(0, 4), st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_decode_times_grow_and_never_exceed_presentation_times(depth: int, steps: list[int]) -> None:
    shown = [sum(steps[: n + 1]) * 10 for n in range(len(steps))]
    # A key frame, then groups whose last picture comes ahead of at most `depth` others.
    order = shown[:1]
    for at in range(1, len(shown), depth + 1):
        group = shown[at : at + depth + 1]
        order += [group[-1], *group[:-1]]
    times = DecodeTimes(depth)
    decoded = [times.stamp(t) for t in order]
    assert decoded == sorted(set(decoded))
    assert all(d <= s for d, s in zip(decoded, order, strict=True))
