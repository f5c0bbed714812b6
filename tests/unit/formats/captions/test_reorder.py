"""Pictures leave in presentation order as soon as no earlier one can come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.captions.reorder import MAX_HELD, PictureOrder


def test_pictures_without_reordering_leave_at_once() -> None:
    order = PictureOrder()
    assert [order.add(b"%d" % n, n, n) for n in range(3)] == [[(0, b"0")], [(1, b"1")], [(2, b"2")]]


def test_b_frames_leave_before_the_picture_they_precede() -> None:
    order = PictureOrder()
    coded = [(b"I", 20, 0), (b"P", 60, 10), (b"B", 30, 20), (b"b", 50, 30), (b"P2", 80, 50)]
    assert [order.add(*picture) for picture in coded] == [[], [], [(20, b"I")], [(30, b"B")], [(50, b"b")]]


def test_pictures_at_one_time_keep_their_order() -> None:
    order = PictureOrder()
    assert order.add(b"z", 5, 0) == []
    assert order.add(b"a", 5, 5) == [(5, b"z"), (5, b"a")]


def test_too_many_pictures_release_the_earliest() -> None:
    order = PictureOrder()
    released = [order.add(b"", 1000 - n, 0) for n in range(MAX_HELD + 1)]
    assert [picture for some in released for picture in some] == [(1000 - MAX_HELD, b"")]


@given(st.lists(st.tuples(st.binary(max_size=3), st.integers(), st.integers()), max_size=200))
def test_nothing_is_lost_and_little_is_held(pictures: list[tuple[bytes, int, int]]) -> None:
    order = PictureOrder()
    held: list[tuple[int, bytes]] = []
    for data, shown, decoded in pictures:
        held.append((shown, data))
        for picture in order.add(data, shown, decoded):
            held.remove(picture)
        assert len(held) <= MAX_HELD
