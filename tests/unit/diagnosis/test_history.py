"""The history keeps fine recent values and coarser old ones, shows gaps, and uses bounded memory."""

import itertools
import math

import pytest

from gateway.diagnosis.history import MAX_CHANNELS, MAX_SERIES, RESOLUTIONS, History, Timeline, merged

START = 1_800_000_000  # a multiple of all steps
DAY = 86_400


def recorded(seconds: int, every: int = 5, start: int = START) -> Timeline:
    """A timeline whose value is the number of seconds since the start."""
    timeline = Timeline()
    for at in range(0, seconds, every):
        timeline.add(start + at, {"value": float(at)})
    return timeline


def averages(timeline: Timeline, now: float, seconds: float) -> list[tuple[int, float]]:
    return [(at, values["value"][0]) for at, values in timeline.points(now, seconds)[1]]


def test_recent_values_are_returned_unchanged():
    timeline = recorded(60)
    step, points = timeline.points(START + 60, 600)
    assert step == 5
    assert points == [(START + at, {"value": (at, at, at)}) for at in range(0, 60, 5)]


def test_an_hour_has_one_value_per_minute_with_minimum_and_maximum():
    timeline = recorded(3600)
    step, points = timeline.points(START + 3600, 3600)
    assert step == 60
    assert points[0] == (START, {"value": (27.5, 0, 55)})
    assert points[1] == (START + 60, {"value": (87.5, 60, 115)})
    assert points[-1] == (START + 3595, {"value": (3595, 3595, 3595)}), "the last minute is not over: its fine values"
    times = [at for at, _ in points]
    assert times == sorted(set(times))


def test_a_day_has_one_value_per_five_minutes_and_older_ones_are_deleted():
    timeline = recorded(DAY + 7200)
    now = START + DAY + 7200
    step, points = timeline.points(now, DAY)
    assert step == 300
    assert points[0][0] == START + 7200
    assert 288 <= len(points) <= 288 + 5 + 12
    low, high = points[5][1]["value"][1:]
    assert high - low == 295
    assert len(timeline.encode()) < 3 * 653 * 16 + 1000


def test_a_period_without_values_is_a_gap():
    timeline = recorded(60)
    timeline.add(START + 300, {"value": 1.0})
    assert [at for at, _ in timeline.points(START + 300, 600)[1]][-2:] == [START + 55, START + 300]


def test_values_of_an_incomplete_minute_are_not_lost():
    timeline = recorded(90)
    later = START + 7200
    assert averages(timeline, later, DAY)[-1] == (START + 85, 85.0)
    timeline.add(later, {"value": 1.0})
    assert (START + 60, 72.5) in averages(timeline, later, 10_800), "its minute closes when the next value comes"


def test_a_second_value_in_the_same_step_is_ignored():
    timeline = recorded(10)
    timeline.add(START + 6.5, {"value": 99.0})
    assert averages(timeline, START + 10, 600) == [(START, 0.0), (START + 5, 5.0)]


def test_after_the_clock_is_set_back_values_continue_at_the_new_time():
    timeline = recorded(3600)
    timeline.add(START + 600, {"value": 7.0})
    assert averages(timeline, START + 600, 600)[-1] == (START + 600, 7.0)
    assert timeline.last == START + 600


def test_series_may_start_and_end_at_any_time():
    timeline = Timeline()
    timeline.add(START, {"a": 1.0})
    timeline.add(START + 5, {"b": 2.0, "broken": math.nan})
    (_, first), (_, second) = timeline.points(START + 5, 600)[1]
    assert first["a"] == (1, 1, 1)
    assert math.isnan(first["b"][0]) and math.isnan(second["a"][0])
    assert second["b"] == (2, 2, 2)
    assert "broken" not in second


def test_more_series_than_allowed_are_ignored():
    timeline = Timeline()
    timeline.add(START, {f"s{n}": 1.0 for n in range(MAX_SERIES + 5)})
    assert len(timeline.points(START, 600)[1][0][1]) == MAX_SERIES


def test_the_channel_that_was_live_longest_ago_is_dropped():
    history = History()
    for n in range(MAX_CHANNELS):
        history.add_channel(f"c{n}", START, {"value": 1.0})
    history.add_channel("c0", START + 5, {"value": 1.0})
    history.add_channel("new", START + 5, {"value": 1.0})
    assert len(history) == MAX_CHANNELS
    assert history.channel("c1") is None
    assert history.channel("c0") is not None


def test_channels_are_forgotten_after_a_day():
    history = History()
    history.add_channel("old", START, {"value": 1.0})
    history.add_channel("new", START + DAY, {"value": 1.0})
    history.forget_old(START + DAY + 10)
    assert history.channel("old") is None
    assert history.channel("new") is not None


def test_a_history_survives_an_encoding_round_trip():
    history = History()
    history.node = recorded(4000)
    history.add_channel("c1", START, {"bitrate": 5e6, "viewers": 3.0})
    read = History.decode(b"".join(history.encode()))
    assert read.node.points(START + 4000, DAY) == history.node.points(START + 4000, DAY)
    channel, stored = read.channel("c1"), history.channel("c1")
    assert channel is not None and stored is not None
    assert channel.points(START, DAY) == stored.points(START, DAY)
    channel.add(START + 5, {"viewers": 4.0})
    assert channel.last == START + 5


def test_damaged_history_data_is_refused():
    history = History()
    history.node = recorded(600)
    data = b"".join(history.encode())
    for broken in (b"", b"{}", data[:-1], data + b"x", data[:30], data.replace(b"value", b"valu\xff")):
        with pytest.raises(ValueError):
            History.decode(broken)


def test_times_that_do_not_increase_are_refused():
    timeline = recorded(20)
    data = bytearray(timeline.encode())
    at = data.index((START + 5).to_bytes(4, "little"))
    data[at : at + 4] = START.to_bytes(4, "little")
    with pytest.raises(ValueError, match="grow"):
        Timeline.decode(memoryview(bytes(data)))


def test_values_of_several_processes_are_merged():
    first, second = recorded(120), recorded(120)
    parts = [one.points(START + 120, 600)[1] for one in (first, second)]
    points = merged(parts, 5, START + 120, lambda name: sum)
    assert points[3] == (START + 15, {"value": (30, 30, 30)})
    assert merged(parts, 5, START + 120, lambda name: max)[3] == (START + 15, {"value": (15, 15, 15)})


def test_a_stream_moved_to_another_node_has_one_continuous_series():
    here, there = recorded(100), recorded(100, start=START + 100)
    points = merged(
        [here.points(START + 200, 600)[1], there.points(START + 200, 600)[1]], 5, START + 200, lambda n: max
    )
    assert [at for at, _ in points] == list(range(START, START + 200, 5))


def test_an_ended_part_is_converted_to_the_common_step():
    running, ended = recorded(4000), recorded(90)
    now = START + 4000
    parts = [one.points(now, 3600 * 2)[1] for one in (running, ended)]
    points = dict(merged(parts, 60, now, lambda name: sum))
    assert points[START + 60]["value"] == (87.5 + 72.5, 120, 200)
    assert START + 85 not in points


def test_the_resolutions_become_coarser():
    assert [r.step for r in RESOLUTIONS] == sorted(r.step for r in RESOLUTIONS)
    assert all(coarse.step % fine.step == 0 for fine, coarse in itertools.pairwise(RESOLUTIONS))
    assert all(coarse.step < fine.span for fine, coarse in itertools.pairwise(RESOLUTIONS))
