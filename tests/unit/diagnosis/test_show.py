"""The numbers of a show: viewers, watch time, the curve, and their stored form."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.diagnosis.experience import Totals
from gateway.diagnosis.show import MAX_POINTS, Show

START = 1_800_000_000.0


def test_a_show_has_the_peak_the_mean_and_the_watch_time_of_its_viewers():
    show = Show(START, "Concert", START)
    show.sample(START + 5, {"hls": 2, "flv": 1})
    show.sample(START + 10, {"hls": 4, "dash": 0})
    show.end = START + 10
    assert (show.id, show.seconds) == ("1800000000000", 10)
    assert (show.all.peak, show.peak_at, show.all.seconds, show.mean) == (4, START + 10, 35, 3.5)
    assert {name: (one.peak, one.seconds) for name, one in show.viewers.items()} == {"hls": (4, 30), "flv": (1, 5)}


def test_a_gap_without_samples_is_not_counted_as_watched():
    show = Show(START, "", START)
    show.sample(START + 3600, {"hls": 1})
    assert show.all.seconds == 30


def test_a_clock_that_is_set_back_subtracts_nothing():
    show = Show(START, "", START)
    show.sample(START + 5, {"hls": 1})
    show.sample(START - 3600, {"hls": 1})
    assert (show.all.seconds, show.seconds, show.curve) == (5, 5, [0, 1])


@given(st.lists(st.tuples(st.floats(0, 40_000), st.integers(0, 1000)), max_size=40))
def test_the_curve_stays_bounded_and_keeps_the_peak(samples: list[tuple[float, int]]):
    show, now = Show(START, "", START), START
    for passed, count in samples:
        now += passed
        show.sample(now, {"hls": count})
    assert len(show.curve) <= MAX_POINTS
    assert max(show.curve, default=0) == show.all.peak
    assert show.step * MAX_POINTS > now - START


def test_a_stored_show_is_read_as_it_was():
    show = Show(START, "Konzert 🎵", START, session=1_800_000_000_123)
    totals = Totals()
    totals.players = 3
    totals.startup.add(0.5)
    show.experience = {"hls": totals}
    show.sample(START + 5, {"hls": 3})
    show.name_captions(["en", "de", "en"])
    stored = json.loads(json.dumps(show.stored()))
    again = Show.of(stored)
    assert again.stored() == show.stored()
    assert (again.captions, again.experience["hls"].players) == (["en", "de"], 3)


@pytest.mark.parametrize("value", [{}, {"start": 1}, {"start": "x"}, {"all": [1]}])
def test_another_value_is_no_stored_show(value: dict[str, object]):
    whole = Show(START, "", START).stored()
    with pytest.raises((LookupError, TypeError, ValueError)):
        Show.of(value if "all" not in value else {**whole, **value})
