"""Streams, publishers, and the rules for stream names."""

import asyncio
import time

import pytest

from gateway.channels.inputs import InputKind
from gateway.live.hub import OVER_SECONDS, REFUSED_SECONDS, Hub
from gateway.live.on_air import InputOnAir
from gateway.live.publisher import PushOrigin
from gateway.live.sink import EndReason
from gateway.live.stream import StreamState
from gateway.ports.errors import AtCapacity, BitRateTooHigh, NameInUse, NoSuchStream
from gateway.ports.events import Event, Events, EventType
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture, publish, sound


async def closed(hub: Hub) -> None:
    """Closes a hub like the end of `run`, for tests that do not run it."""
    hub.drain()
    await hub.drained()


async def test_a_waiting_viewer_gets_the_stream_when_its_tracks_are_known():
    hub = builders.hub()
    waiting = asyncio.ensure_future(hub.wait("c1", 5))
    await asyncio.sleep(0)
    publisher = publish(hub)
    assert hub.find("c1") is None
    publisher.set_tracks(VIDEO, AUDIO, {})
    assert (await waiting).name == "c1"
    await closed(hub)


async def test_waiting_for_a_missing_stream_raises_no_such_stream():
    with pytest.raises(NoSuchStream):
        await builders.hub().wait("c1", 0)


async def test_a_second_publisher_is_refused_while_the_first_sends():
    hub = builders.hub(takeover_after=2)
    first = publish(hub)
    first.set_tracks(VIDEO, None, {})
    first.push(picture(0, key=True), time.monotonic())
    with pytest.raises(NameInUse):
        publish(hub)
    await closed(hub)


async def test_a_new_publisher_evicts_a_silent_one():
    hub = builders.hub(takeover_after=2)
    told: list[EndReason] = []
    first = publish(hub, evicted=told)
    first.set_tracks(VIDEO, None, {})
    first.push(picture(0, key=True), time.monotonic() - 3)
    second = publish(hub)
    assert told == [EndReason.PUBLISHER_GONE]
    assert second.stream is first.stream
    assert not first.active
    first.close()  # its connection closes late: the new lease is not touched
    assert second.stream.publisher is second
    await closed(hub)


async def test_timestamps_continue_in_a_new_epoch_after_a_publisher_returns():
    hub = builders.hub()
    first = publish(hub)
    sink = Recorder()
    first.set_tracks(VIDEO, AUDIO, {})
    first.stream.attach(sink)
    now = time.monotonic()
    first.push(picture(5000, key=True), now)
    first.push(sound(5010), now)
    first.close()
    assert first.stream.state is StreamState.LINGERING
    second = publish(hub)
    second.set_tracks(VIDEO, AUDIO, {})
    second.push(picture(0, key=True), now + 1.5)
    second.push(sound(20), now + 1.5)
    assert [u.dts for u in sink.units] == [5000, 5010, 6510, 6530]
    assert [t.epoch for t in sink.tracks] == [0, 1]
    await closed(hub)


async def test_changed_tracks_start_an_epoch_but_changed_metadata_does_not():
    hub = builders.hub()
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    assert publisher.set_tracks(VIDEO, None, {"encoder": "x"}).epoch == 0
    assert publisher.set_tracks(VIDEO, AUDIO, {"encoder": "x"}).epoch == 1
    await closed(hub)


async def test_without_linger_the_stream_ends_with_its_publisher():
    seen: list[Event] = []
    events = Events()
    events.listen(seen.append)
    hub = builders.hub(events=events, linger=0)
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    sink = Recorder()
    publisher.stream.attach(sink)
    publisher.close()
    assert sink.items[-1] is EndReason.PUBLISHER_GONE
    assert hub.find("c1") is None
    assert hub.find_recent("c1") is publisher.stream
    assert [e.type for e in seen] == ["publish.started", "stream.started", "publish.ended", "stream.ended"]
    await closed(hub)


async def test_the_length_of_a_stream_does_not_follow_a_clock_that_was_set(monkeypatch: pytest.MonkeyPatch):
    seen: list[Event] = []
    events = Events()
    events.listen(seen.append)
    hub = builders.hub(events=events, linger=0)
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    wall, monotonic = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: wall() - 3600)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 1000)
    publisher.close()
    (ended,) = [event for event in seen if event.type is EventType.STREAM_ENDED]
    assert ended.data["seconds"] // 1000 == 1
    monkeypatch.undo()
    await closed(hub)


async def test_a_push_without_media_leaves_no_stream():
    hub = builders.hub()
    publish(hub).close()
    assert hub.find_recent("c1") is None
    await closed(hub)


async def test_kicking_a_stream_ends_publisher_and_viewers_at_once():
    hub = builders.hub()
    told: list[EndReason] = []
    publisher = publish(hub, evicted=told)
    publisher.set_tracks(VIDEO, None, {})
    sink = Recorder()
    publisher.stream.attach(sink)
    assert hub.end("c1", EndReason.KICKED)
    assert told == [EndReason.KICKED]
    assert sink.items[-1] is EndReason.KICKED
    assert not hub.end("c1", EndReason.KICKED)
    await closed(hub)


async def test_a_draining_hub_ends_its_streams_and_refuses_new_ones():
    hub = builders.hub()
    told: list[EndReason] = []
    publish(hub, evicted=told).set_tracks(VIDEO, None, {})
    hub.drain()
    assert told == [EndReason.SHUTDOWN]
    with pytest.raises(AtCapacity):
        publish(hub)
    await hub.drained()


async def test_a_failing_sink_gets_its_error_and_does_not_disturb_others():
    class Broken(Recorder):
        def on_unit(self, unit: object) -> None:
            raise ValueError("bug")

    hub = builders.hub()
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    broken, sound_one = Broken(), Recorder()
    publisher.stream.attach(broken)
    publisher.stream.attach(sound_one)
    for dts in (0, 33):
        publisher.push(picture(dts, key=dts == 0), time.monotonic())
    assert isinstance(broken.error, ValueError)
    assert len(sound_one.units) == 2
    await closed(hub)


async def test_viewers_get_no_picture_before_a_key_frame_when_a_publisher_returns_in_the_middle_of_a_gop():
    hub = builders.hub()
    first = publish(hub)
    first.set_tracks(VIDEO, AUDIO, {})
    viewer, relay = Recorder(), Recorder()
    first.stream.attach(viewer)
    first.stream.original.attach(relay)
    first.push(picture(0, True), 1.0)
    first.close()
    second = publish(hub)
    second.set_tracks(VIDEO, AUDIO, {})
    for unit in (picture(0), sound(5), sound(25), picture(40), sound(45), picture(80, True), sound(85), picture(120)):
        second.push(unit, 1.0)
    kinds = "".join("S" if unit.track is AUDIO else "I" if unit.key else "P" for unit in viewer.units)
    assert kinds == "ISSSISP"
    assert len(relay.units) == 9
    late = Recorder()
    first.stream.attach(late)
    assert late.units == viewer.units[-3:]
    await closed(hub)


async def test_the_wait_for_a_key_frame_ends_after_ten_seconds_of_pictures():
    stream, seen = builders.stream(), Recorder()
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    stream.attach(seen)
    stream.await_key_frame()
    stream.push(sound(30_000))
    for dts in range(30_000, 43_000, 1_000):
        stream.push(picture(dts))
    assert [unit.dts for unit in seen.units] == [30_000, 40_000, 41_000, 42_000]


async def test_a_sink_that_comes_after_the_key_frame_gets_the_pictures_after_it():
    stream, seen = builders.stream(), Recorder()
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    stream.await_key_frame()
    for dts in (0, 40, 80):
        stream.push(picture(dts, key=dts == 40))
    stream.attach(seen)
    stream.push(picture(120))
    assert [unit.dts for unit in seen.units] == [40, 80, 120]


async def test_a_late_sink_starts_at_the_last_key_frame():
    hub = builders.hub()
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, AUDIO, {})
    for unit in (picture(0, True), sound(10), picture(33), picture(66, True), sound(70), picture(99)):
        publisher.push(unit, time.monotonic())
    sink = Recorder()
    publisher.stream.attach(sink)
    assert [u.dts for u in sink.units] == [66, 70, 99]
    await closed(hub)


async def test_the_publisher_limit_ignores_renditions_and_takeovers() -> None:
    hub = builders.hub(publishers=1, takeover_after=0.0)
    first = publish(hub, "c1")
    with pytest.raises(AtCapacity):
        publish(hub, "c2")
    hub.publish_from(PushOrigin("worker", ""), builders.channel("c1"), "c1@720p", lambda reason: None)
    second = publish(hub, "c1")
    assert not first.active
    second.close()
    publish(hub, "c2")


@pytest.mark.parametrize(
    ("field", "limit", "kilobytes", "ends"),
    [
        (0, 0, 1000, False),
        (0, 1000, 1000, True),
        (1000, 0, 1000, True),
        (9000, 1000, 1000, False),
        (1000, 0, 130, False),
    ],
)
async def test_a_push_that_stays_far_above_its_limit_ends(field, limit, kilobytes, ends):
    hub = builders.hub(push_kbps=limit)
    told: list[EndReason] = []
    publisher = publish(hub, evicted=told, maxKbps=field)
    publisher.set_tracks(VIDEO, None, {})
    now = time.monotonic()
    for second in range(int(OVER_SECONDS) + 6):
        if publisher.active:
            publisher.push(picture(second * 1000, key=True, size=kilobytes * 1000), now + second)
        hub.sample(now + second, 0.0)
    assert told == ([EndReason.BIT_RATE] if ends else [])
    channel = builders.channel(maxKbps=field)
    if ends:
        with pytest.raises(BitRateTooHigh):
            hub.check_bit_rate(channel)
        hub.check_bit_rate(builders.channel("c2", maxKbps=field))
        hub._too_fast["c1"] -= REFUSED_SECONDS + 30
    hub.check_bit_rate(channel)
    await closed(hub)


@pytest.mark.parametrize("name", ["c1@720p", "c1"])
async def test_the_renditions_of_workers_have_no_limit(name):
    hub = builders.hub(push_kbps=100)
    told: list[EndReason] = []
    publisher = publish(hub, name, evicted=told)
    publisher.set_tracks(VIDEO, None, {})
    now = time.monotonic()
    for second in range(int(OVER_SECONDS) + 6):
        if publisher.active:
            publisher.push(picture(second * 1000, key=True, size=100_000), now + second)
        hub.sample(now + second, 0.0)
    assert bool(told) is (name == "c1")
    await closed(hub)


async def test_the_tracks_of_a_push_are_added_up_and_a_slate_begins_anew():
    hub = builders.hub(push_kbps=1000)
    told: list[EndReason] = []
    source, track = publish(hub, evicted=told), publish(hub, "c1@240p")
    source.stream.pushed_tracks.by_name["240p"] = track.stream
    for publisher in (source, track):
        publisher.set_tracks(VIDEO, None, {})
    now = time.monotonic()

    def send(first: int, seconds: int) -> None:
        for second in range(first, first + seconds):
            for publisher in (source, track):
                publisher.push(picture(second * 1000, key=True, size=100_000), now + second)
            hub.sample(now + second, 0.0)

    send(0, 4)
    assert (round(source.rate[0]), source.rate[1]) == (1600, 1000)
    source.stream.input = InputOnAir("card", InputKind.SLATE)
    send(4, 10)
    assert (source.rate, told) == ((0, 0), [])
    source.stream.input = InputOnAir()
    send(14, int(OVER_SECONDS))
    assert told == []
    send(14 + int(OVER_SECONDS), 1)
    assert told == [EndReason.BIT_RATE]
    await closed(hub)


@pytest.mark.parametrize(
    ("sent", "stored"), [(9_000, 9_000), (10_001, 1_000), (2**31 - 5, 1_000), (2**32 - 100, 1_000)]
)
async def test_an_encoder_that_begins_with_its_uptime_begins_near_zero(sent: int, stored: int):
    hub = builders.hub()
    publisher = publish(hub)
    sink = Recorder()
    publisher.set_tracks(VIDEO, AUDIO, {})
    publisher.stream.attach(sink)
    for unit in (picture(sent, key=True), picture(sent + 40, key=True), sound(sent + 20)):
        publisher.push(unit, time.monotonic())
    assert [unit.dts for unit in sink.units] == [stored, stored + 40, stored + 20]
    await closed(hub)
