"""What a publisher of a rendition can do that one from outside cannot: keep its source's time, and break off."""

from __future__ import annotations

from gateway.live.hub import Hub
from gateway.live.publisher import StreamPublisher
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture


def rendition(on: Hub) -> StreamPublisher:
    return on.publish(
        builders.channel(), "c1@360p", protocol="transcode", peer="worker", evict=lambda reason: None, keep_time=True
    )


async def test_a_rendition_keeps_its_times_when_it_comes_back() -> None:
    on = builders.hub()
    seen = Recorder()
    first = rendition(on)
    first.stream.attach(seen)
    first.set_tracks(VIDEO, AUDIO, {})
    first.push(picture(1000, key=True), 5.0)
    first.close()
    again = rendition(on)
    again.set_tracks(VIDEO, AUDIO, {})
    again.push(picture(61_000, key=True), 7.0)
    assert [u.dts for u in seen.units] == [1000, 61_000]
    assert [t.epoch for t in seen.tracks] == [0, 1]


async def test_a_push_from_outside_is_moved_to_go_on() -> None:
    on = builders.hub()
    seen = Recorder()
    for now in (5.0, 7.0):
        publisher = builders.publish(on)
        if now == 5.0:
            publisher.stream.attach(seen)
        publisher.set_tracks(VIDEO, AUDIO, {})
        publisher.push(picture(1000, key=True), now)
        publisher.close()
    assert [u.dts for u in seen.units] == [1000, 3000]


async def test_a_publisher_that_stays_can_say_that_it_does_not_continue() -> None:
    on = builders.hub()
    seen = Recorder()
    publisher = rendition(on)
    publisher.stream.attach(seen)
    publisher.set_tracks(VIDEO, AUDIO, {})
    publisher.set_tracks(VIDEO, AUDIO, {"title": "talk"})
    publisher.set_tracks(VIDEO, AUDIO, {"title": "talk"}, continuous=False)
    assert [t.epoch for t in seen.tracks] == [0, 0, 1]
