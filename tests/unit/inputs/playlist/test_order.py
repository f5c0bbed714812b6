"""The order of a playlist: in a loop, once, and by the time of day."""

from __future__ import annotations

import itertools
import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.playlist.order import RETRY_SECONDS, DayOrder, ListOrder, NextItem, order_of

BERLIN = ZoneInfo("Europe/Berlin")


def order(*items: str, loop: bool = True, zone: str = "") -> ListOrder | DayOrder:
    return order_of(InputSpec("tv", InputKind.PLAYLIST, items=items, loop=loop, zone=zone))


def at(clock: str, day: int = 10, zone: str = "UTC", month: int = 6) -> float:
    hour, minute = map(int, clock.split(":"))
    return datetime(2026, month, day, hour, minute, tzinfo=ZoneInfo(zone)).timestamp()


def play(one: ListOrder | DayOrder, now: float, *, played: bool = True) -> NextItem:
    slot = one.next(now)
    assert slot is not None
    if slot.key is not None:
        one.report(played=played)
    return slot


def test_a_list_without_times_is_played_in_order_and_again() -> None:
    one = order("a", "b")
    assert [play(one, 0).key for _ in range(3)] == ["a", "b", "a"]


def test_a_list_that_is_played_once_ends_and_begins_again_when_it_is_started_again() -> None:
    one = order("a", "b", loop=False)
    assert [play(one, 0).key for _ in range(2)] == ["a", "b"]
    assert one.next(0) is None
    assert play(one, 0).key == "a"


def test_an_item_that_was_interrupted_is_next_again() -> None:
    for one in (order("a", "b"), order("a@08:00", "b")):
        first = one.next(at("08:00"))
        assert one.next(at("08:00")) == first


def test_a_list_fails_when_no_item_can_be_played() -> None:
    one = order("a", "b")
    assert one.next(0) and one.report(played=False)
    assert one.next(0) and one.report(played=True)
    assert one.next(0) and one.report(played=False)
    assert one.next(0) and not one.report(played=False)


def test_timed_items_begin_on_time_and_other_items_fill_the_gaps() -> None:
    one = order("news@20:00", "a", "sport@21:30", "b")
    assert play(one, at("19:59")) == NextItem("sport", at("19:59"), at("20:00"), 22 * 3600 + 29 * 60)
    assert play(one, at("19:59")) == NextItem("a", None, at("20:00"))
    assert play(one, at("20:00")) == NextItem("news", at("20:00"), at("21:30"))
    assert [play(one, at("20:30")).key for _ in range(3)] == ["b", "a", "b"]
    assert play(one, at("21:30")).key == "sport"
    assert play(one, at("22:00")) == NextItem("a", None, at("20:00", 11))


def test_without_a_loop_other_items_play_once_between_timed_items() -> None:
    one = order("news@20:00", "a", "b", loop=False)
    assert [play(one, at("20:00")).key, *(play(one, at("20:10")).key for _ in range(2))] == ["news", "a", "b"]
    assert play(one, at("20:20")) == NextItem(None, until=at("20:00", 11))
    assert [play(one, at("20:00", 11)).key, play(one, at("20:10", 11)).key] == ["news", "a"]


def test_without_other_items_nothing_plays_between_timed_items() -> None:
    one = order("news@20:00")
    assert play(one, at("20:00")).key == "news"
    assert play(one, at("20:10")) == NextItem(None, until=at("20:00", 11))


def test_a_start_in_the_middle_joins_at_the_offset() -> None:
    assert order("news@20:00:30", "a").next(at("20:05")) == NextItem("news", at("20:05"), at("20:00", 11) + 30, 270)
    # After midnight, yesterday's item may still play.
    assert order("film@23:00").next(at("00:30", 11)) == NextItem("film", at("00:30", 11), at("23:00", 11), 5400)


def test_items_that_cannot_be_played_are_tried_again_after_a_pause() -> None:
    one = order("news@20:00", "a", "b")
    play(one, at("20:00"))
    for _ in range(2):
        play(one, at("20:01"), played=False)
    assert play(one, at("20:01")) == NextItem(None, until=at("20:01") + RETRY_SECONDS)
    assert play(one, at("20:02")).key == "a"


@pytest.mark.parametrize(
    ("day", "seconds"), [(28, 86_400), (29, 23 * 3600), (30, 86_400)]
)  # of March 2026: summer time begins on the 29th
def test_times_are_local_times(day: int, seconds: int) -> None:
    one = order("news@20:00", zone="Europe/Berlin")
    begin = at("20:00", day - 1, "Europe/Berlin", 3)
    slot = play(one, begin)
    assert (slot.offset, slot.until - begin) == (0, seconds)


def test_a_time_that_daylight_saving_skips_or_repeats_comes_once_a_day() -> None:
    for month, day, seconds in ((3, 29, 86_400), (10, 25, 86_400)):
        one = order("night@02:30", zone="Europe/Berlin")
        begins, now = [], datetime(2026, month, day, tzinfo=BERLIN).timestamp()
        for _ in range(4):
            slot = play(one, now)
            now = slot.until
            if slot.key is not None:
                begins.append(slot.until)
        steps = [b - a for a, b in itertools.pairwise(begins)]
        assert all(abs(step - seconds) <= 3600 for step in steps)
        assert math.isfinite(now)
