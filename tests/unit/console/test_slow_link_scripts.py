"""How the player pages choose an FLV rendition, and how they know the date of a picture; executed with node."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from gateway.formats.flv import muxer
from gateway.formats.flv.reader import FlvReader
from tests.support.node import run

LEVELS = [
    {"id": "360p", "bitrate": 464_000},
    {"id": "720p", "bitrate": 900_000},
    {"id": "source", "bitrate": 1_600_000},
]

_LINK = """
const arrivals = new Arrivals();
let lag = input.lag;
const told = [];
for (let at = 0; at < input.seconds; at += 0.1) {
  lag = Math.max(input.least, lag + input.growth * 0.1);
  arrivals.add(at, input.rate / 80, at * 10 % 5 < 1 ? lag : null);
  told.push(arrivals.slow);
}
out({ slow: told.includes(true), first: told.indexOf(true) / 10, rate: arrivals.rate(input.seconds) });
"""


def link(*, lag: float, growth: float, rate: float, seconds: float = 8.0, least: float = 0.1) -> dict[str, Any]:
    """Simulates what arrives. lag: of the first media. growth: seconds of lag a second. rate: bits a second."""
    given = {"lag": lag, "growth": growth, "rate": rate, "seconds": seconds, "least": least}
    found: dict[str, Any] = run("players/adapter.js", "Arrivals", _LINK, given)
    return found


def test_a_lag_that_grows_means_a_slow_link_within_seconds() -> None:
    found = link(lag=0.2, growth=0.44, rate=900_000)
    assert found["slow"]
    assert found["first"] < 3
    assert found["rate"] == pytest.approx(900_000, rel=0.1)


def test_the_first_gop_of_a_good_link_and_a_steady_lag_are_not_slow() -> None:
    assert not link(lag=4.0, growth=-5, rate=20_000_000)["slow"]
    assert not link(lag=1.4, growth=0, rate=900_000, least=1.4)["slow"], "a rendition comes later by its encoder"


_CHOICES = """
const adapter = new Adapter();
const calm = new Arrivals();
for (let at = 0; at <= 600; at++) calm.add(at, 1000, 0.1);
const tries = [];
for (let at = 0; at < 600; at++) {
  if (adapter.higher(input, "360p", calm, at) === null) continue;
  tries.push(at);
  adapter.tried(false, at + 1);
}
out({
  unknown: adapter.first(input, 0), fast: adapter.first(input, 50e6),
  slow: adapter.first(input, 0.9e6), none: adapter.first(input, 1e5),
  lower: new Adapter().lower(input, "source", 1.3e6, 10), lowest: new Adapter().lower(input, "source", 1e5, 10),
  end: new Adapter().lower(input, "360p", 1e5, 10), tries,
});
"""


def test_a_rendition_that_the_link_can_bring_is_chosen() -> None:
    found = run("players/adapter.js", "Adapter, Arrivals", _CHOICES, LEVELS)
    assert (found["unknown"], found["fast"], found["slow"], found["none"]) == ("source", "source", "360p", "360p")
    assert (found["lower"], found["lowest"], found["end"]) == ("720p", "360p", None)


def test_a_larger_rendition_is_tried_less_and_less_often_if_it_fails() -> None:
    tries = run("players/adapter.js", "Adapter, Arrivals", _CHOICES, LEVELS)["tries"]
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert waits[:3] == [25, 49, 97]
    assert set(waits[3:]) == {121}


_CLOCKS = """
const all = new FlvTags().push(new Uint8Array(input)).map((tag) => [tag.time, clockOf(tag)]);
out(all.filter(([, date]) => date !== null));
"""
_TIMELINE = """
const timeline = new Timeline();
for (const [time, date] of input) timeline.note(time, date);
out(timeline.dateOf(5000));
"""


def test_the_date_of_a_picture_comes_from_the_media_that_came_fastest() -> None:
    data = muxer.file_header(True, False)
    for time, wall in ((1000, 101.0), (2000, 102.7), (3000, 103.2)):
        data += muxer.clock_tag(time, wall)
    assert [time for _, time, _ in FlvReader().receive(data)] == [1000, 2000, 3000], "other clients can step over it"
    module = run("players/flv-tags.js", "FlvTags, clockOf", _CLOCKS, list(data))
    assert module == [[1000, 101_000], [2000, 102_700], [3000, 103_200]]
    assert run("players/timeline.js", "Timeline", _TIMELINE, module) == 105_000
