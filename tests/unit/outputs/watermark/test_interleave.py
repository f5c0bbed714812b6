"""Pictures of a watermark worker are put back in order with the sound."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.media.timed_data import Script
from gateway.media.track import AccessUnit, TimedData, Tracks
from gateway.outputs.watermark.override_writer import Interleave, StreamItem
from tests.support.builders import AUDIO, VIDEO, picture, sound

TRACKS = Tracks(VIDEO, AUDIO, 0)


def times(items: Sequence[StreamItem]) -> list[int]:
    return [i.dts for i in items if isinstance(i, AccessUnit | TimedData)]


def filled(*items: StreamItem, most: int = 10_000) -> Interleave:
    order = Interleave(most)
    for item in items:
        order.add(item)
    return order


def test_a_picture_returns_with_the_sound_around_its_original() -> None:
    order = filled(TRACKS, sound(0), picture(10, key=True), sound(20), sound(40), picture(50), sound(60), picture(90))
    coded = picture(10, key=True, size=3)
    items = list(order.replace(coded))
    assert items[0] is TRACKS
    assert times(items) == [0, 10, 20, 40]
    assert items[2] is coded
    assert times(list(order.replace(picture(50)))) == [50, 60]


def test_a_picture_matches_an_original_one_millisecond_earlier_or_later() -> None:
    for off in (-1, 0, 1):
        order = filled(sound(0), picture(33), sound(40), picture(67), sound(70), picture(100))
        list(order.replace(picture(33)))
        assert times(list(order.replace(picture(67 + off)))) == ([67 + off, 70] if off >= -2 else [])


def test_originals_without_a_returned_picture_are_left_out() -> None:
    order = filled(picture(0), sound(5), picture(33), sound(40), picture(67), sound(70), picture(100))
    assert times(list(order.replace(picture(67)))) == [5, 40, 67, 70]


def test_a_picture_without_an_original_removes_no_other_item() -> None:
    order = filled(sound(0), picture(33), sound(40))
    assert times(list(order.replace(picture(10)))) == [10, 0]
    assert times(list(order.replace(picture(33)))) == [33, 40]


def test_new_tracks_wait_for_the_picture_after_them() -> None:
    later = Tracks(VIDEO, None, 1)
    order = filled(picture(0), sound(5), later, picture(33))
    assert list(map(type, order.replace(picture(0)))) == [AccessUnit, AccessUnit]
    assert next(iter(order.replace(picture(33)))) is later


def test_the_rest_at_the_end_has_all_items_except_pictures() -> None:
    order = filled(picture(0), sound(5), TimedData(6, Script("x", b"")), picture(33), sound(40))
    assert times(list(order.take_rest())) == [5, 6, 40]
    assert len(order._items) == 0


def test_sound_without_a_following_picture_is_bounded_and_counted() -> None:
    order = Interleave(1_000)
    order.add(TRACKS)
    for n in range(1_000):
        order.add(sound(n * 20))
        assert len(order._items) <= 53
    assert order.dropped > 900
    assert next(iter(order.take_rest())) is TRACKS


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=60), st.data())
def test_no_sound_is_lost_or_moved_for_any_returned_pictures(
    items: list[tuple[bool, int]], data: st.DataObject
) -> None:
    order, now, video, audio = Interleave(1_000_000), 0, [], []
    for is_video, step in items:
        now += step
        (video if is_video else audio).append(now)
        order.add(picture(now) if is_video else sound(now))
    out: list[int] = []
    for at in video:
        if data.draw(st.booleans()):
            out += [i.dts for i in order.replace(picture(at)) if isinstance(i, AccessUnit) and i.track is AUDIO]
    out += times(list(order.take_rest()))
    assert out == audio
