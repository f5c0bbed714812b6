"""The beginning of a stream is kept for viewers that wait for it, within limits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.formats.flv import muxer
from gateway.live.sink import EndReason, SinkNeeds
from gateway.live.start_buffer import StartBuffer, StartBufferBudget
from gateway.live.stream import Stream
from gateway.media.timed_data import Script
from gateway.media.track import AccessUnit, Kind, TimedData
from gateway.packaging.feed import Feed, render_beginning
from gateway.packaging.flv_output import FlvRendering
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture, sound
from tests.unit.packaging.test_feed import Wire, Words, viewer

OTHER = replace(VIDEO, config=VIDEO.config + b"\0")


def beginning(budget: StartBufferBudget | None = None, most: int = 100_000, seconds: float = 60.0) -> Stream:
    stream = builders.stream()
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    stream.keep_start(StartBuffer(stream.drop_start, seconds, most, budget or StartBufferBudget()))
    return stream


def burst(stream: Stream) -> list[object]:
    """Three GOPs, as a publisher sends them in one turn."""
    units = [sound(0), *(picture(dts, dts % 99 == 0) for dts in range(0, 297, 33))]
    for unit in units:
        stream.push(unit)
    return list(units)


async def test_a_viewer_that_waited_gets_the_stream_from_its_beginning() -> None:
    stream, early, other = beginning(), Recorder(), Recorder()
    units = burst(stream)
    stream.push_timed(TimedData(290, Script("onCuePoint", b"x")))
    stream.attach(early, SinkNeeds(from_start=True))
    stream.attach(other)
    stream.push(last := picture(297, True))
    assert early.units == [*units, last]
    assert [item.kind for item in early.items if isinstance(item, TimedData)] == ["onCuePoint"]
    assert other.units == [*units[-3:], last]


async def test_viewers_that_waited_get_the_same_bytes_and_nothing_twice() -> None:
    stream = beginning()
    feed = Feed(stream, Words(), 0.05, 30.0)
    burst(stream)
    wires = [Wire(), Wire(), Wire()]
    for number, wire in enumerate(wires):
        one = viewer(wire)
        one.waited_for_start = number < 2
        feed.join(one)
    feed._cost, feed._last_flush = 1.0, 1e18
    stream.push(picture(300))
    late = Wire()
    one = viewer(late)
    one.waited_for_start = True
    feed.join(one)
    stream.push(picture(333))
    feed.flush()
    everything = b"[<head 0>A0 " + b"".join(b"V%d " % dts for dts in range(0, 297, 33)) + b"]"
    assert wires[0].written == wires[1].written == everything + b"[V300 ][V333 ]"
    assert wires[2].written == b"[<head 198>V198 V231 V264 ][V300 ][V333 ]"
    assert late.written == everything[:-1] + b"V300 ][V333 ]"


async def test_new_metadata_keeps_its_place_in_the_beginning() -> None:
    stream = beginning()
    feed = Feed(stream, Words(), 0.05, 30.0)
    stream.push(picture(0, True))
    stream.set_tracks(VIDEO, AUDIO, {"title": "new"}, True)
    stream.push(picture(33))
    wire = Wire()
    one = viewer(wire)
    one.waited_for_start = True
    feed.join(one)
    assert wire.written == b"[<head 0>V0 <change 0>V33 ]"


async def test_a_viewer_that_waited_gets_units_before_a_change_of_tracks() -> None:
    stream, early = beginning(), Recorder()
    feed = Feed(stream, Words(), 0.05, 30.0)
    before, after = [picture(0, True), sound(10), picture(33)], [picture(66, True, track=OTHER), sound(70)]
    for unit in before:
        stream.push(unit)
    stream.set_tracks(OTHER, AUDIO, {}, True)
    for unit in after:
        stream.push(unit)
    wire = Wire()
    one = viewer(wire)
    one.waited_for_start = True
    feed.join(one)
    stream.attach(early, SinkNeeds(from_start=True))
    stream.push(last := picture(99, track=OTHER))
    assert early.units == [*before, *after, last]
    assert [tracks.epoch for tracks in early.tracks] == [0, 1]
    feed.flush()
    assert wire.written == b"[<head 0>V0 A10 V33 <change 1>A66 A70 ][A99 ]"  # `Words` knows VIDEO alone


@pytest.mark.parametrize("late", [Kind.VIDEO, Kind.AUDIO])
async def test_the_header_for_a_viewer_that_waited_announces_a_late_track(late: Kind) -> None:
    stream = builders.stream()
    first, second = (sound(0), picture(600, True)) if late is Kind.VIDEO else (picture(0, True), sound(600))
    stream.set_tracks(*((None, AUDIO) if late is Kind.VIDEO else (VIDEO, None)), {}, True)
    stream.keep_start(StartBuffer(stream.drop_start, 60.0, 100_000, StartBufferBudget()))
    stream.push(first)
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    stream.push(second)
    assert stream.start_buffer is not None
    written = render_beginning(FlvRendering(), stream.start_buffer)
    assert written.startswith(muxer.file_header(True, True)), "players ignore what the file header does not announce"
    assert written.index(muxer.unit_tag(first)) < written.index(muxer.unit_tag(second))


async def test_an_incomplete_beginning_continues_with_sound_when_video_ends() -> None:
    stream, early = beginning(), Recorder()
    stream.push(picture(0))
    stream.set_tracks(None, AUDIO, {}, True)
    stream.push(heard := sound(20))
    stream.attach(early, SinkNeeds(from_start=True))
    assert early.units == [heard]


async def test_a_beginning_does_not_start_with_a_dependent_picture() -> None:
    stream, early = beginning(), Recorder()
    for unit in (sound(0), picture(0), sound(20), picture(33)):
        stream.push(unit)
    assert stream.start_buffer is not None
    assert stream.start_buffer.lacks_key_frame
    stream.push(picture(66, True))
    stream.push(sound(70))
    stream.attach(early, SinkNeeds(from_start=True))
    assert [unit.dts for unit in early.units] == [66, 70]


async def test_a_viewer_that_joins_before_the_first_key_frame_starts_with_it() -> None:
    stream = beginning()
    feed = Feed(stream, Words(), 0.0, 30.0)
    stream.push(picture(0))
    wire = Wire(stalled=True)  # its headers wait in the transport still when the key frame comes
    one = viewer(wire)
    one.waited_for_start = True
    feed.join(one)
    stream.push(picture(33))
    stream.push(picture(66, True))
    stream.push(picture(99))
    assert wire.written == b"[<head 0>][V66 ][V99 ]"


async def test_bytes_of_an_earlier_beginning_are_not_used_for_another_one() -> None:
    stream = beginning()
    feed = Feed(stream, Words(), 0.0, 30.0)
    wires = [Wire(), Wire()]
    for wire, units in zip(wires, ([sound(0), sound(20)], [picture(33), picture(66, True), sound(70)]), strict=True):
        for unit in units:
            stream.push(unit)
        one = viewer(wire)
        one.waited_for_start = True
        feed.join(one)
    assert wires[1].written == b"[<head 66>V66 A70 ]"


async def test_a_feed_releases_a_beginning_that_was_dropped() -> None:
    stream = beginning()
    feed = Feed(stream, Words(), 0.0, 30.0)
    burst(stream)
    one = viewer(Wire())
    one.waited_for_start = True
    feed.join(one)
    assert stream.start_buffer is not None and feed._start_bursts[1]
    stream.start_buffer.drop()
    stream.push(picture(330, True))
    assert feed._start_bursts == (None, {})


@pytest.mark.parametrize("flood", ["tiny units", "script data", "metadata"])
async def test_many_small_items_reach_the_limit_too(flood: str) -> None:
    stream = beginning(most=1_000_000)
    stream.push(picture(0, True))
    for number in range(4000):
        if flood == "tiny units":
            stream.push(AccessUnit(AUDIO, number, 0, True, 1.7e9, b"a"))
        elif flood == "script data":
            stream.push_timed(TimedData(number, Script("onTextData", b"x")))
        elif number < 16:
            stream.set_tracks(VIDEO, AUDIO, {"number": float(number)}, True)
    assert stream.start_buffer is None


@pytest.mark.parametrize("ends", ["time", "bytes", "budget", "end"])
async def test_a_beginning_is_dropped_at_its_limits(ends: str) -> None:
    budget = StartBufferBudget(600 if ends == "budget" else 10_000)
    stream = beginning(budget, 600 if ends == "bytes" else 10_000, 0.01 if ends == "time" else 60.0)
    dropped = asyncio.Event()
    kept = stream.start_buffer
    assert kept is not None
    for dts in (0, 33):
        stream.push(picture(dts, dts == 0))
    assert stream.start_buffer is kept
    if ends == "time":
        asyncio.get_running_loop().call_later(0.02, dropped.set)
        await dropped.wait()
    elif ends == "end":
        stream.end(EndReason.KICKED)
    else:
        stream.push(picture(66))
    assert stream.start_buffer is None
    assert (budget.bytes, kept.items) == (0, [])
    assert kept not in stream._sinks
    early = Recorder()
    stream.attach(early, SinkNeeds(from_start=True))
    assert len(early.units) == (3 if ends in ("bytes", "budget") else 2 if ends == "time" else 0)


async def test_the_hub_keeps_a_beginning_only_if_viewers_may_need_it() -> None:
    alone, shared = builders.hub(), builders.hub(beginning=5.0)
    for hub in (alone, shared):
        builders.publish(hub).set_tracks(VIDEO, AUDIO, {})
    assert [stream.start_buffer is not None for hub in (alone, shared) for stream in hub] == [False, True]
    waiting = asyncio.ensure_future(alone.wait("c2", 5))
    await asyncio.sleep(0)
    publisher = builders.publish(alone, "c2")
    publisher.set_tracks(VIDEO, AUDIO, {})
    for unit in (first := [picture(0, True), picture(33, True)]):
        publisher.push(unit, 1.0)
    early = Recorder()
    (await waiting).attach(early, SinkNeeds(from_start=True))
    assert early.units == first


async def test_the_first_burst_does_not_mark_a_viewer_as_slow() -> None:
    stream = beginning(most=1_000_000)
    feed = Feed(stream, Words(), 0.0, 30.0)
    stream.push(picture(0, True))
    early, other = Wire(stalled=True), Wire(stalled=True)
    one, two = viewer(early, limit=1), viewer(other, limit=1)
    one.waited_for_start = True
    feed.join(one)
    feed.join(two)
    early.waiting = other.waiting = 100_000
    stream.push(picture(33))
    assert (one.late, two.late) == (False, True)
    assert stream.start_buffer is not None
    stream.start_buffer.drop()
    early.waiting += 100_000
    stream.push(picture(66))
    assert one.late
