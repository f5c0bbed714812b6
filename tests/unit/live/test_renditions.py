"""Publishers of renditions, unlike external ones, can keep the source's times and start a new epoch."""

from __future__ import annotations

from gateway.live.hub import Hub
from gateway.live.publisher import PushOrigin, StreamPublisher
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture


def rendition(on: Hub) -> StreamPublisher:
    return on.publish_from(
        PushOrigin("transcode", "worker", keep_time=True), builders.channel(), "c1@360p", lambda reason: None
    )


async def test_a_returning_rendition_keeps_its_timestamps() -> None:
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


async def test_timestamps_of_a_returning_external_push_are_shifted_to_continue() -> None:
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


async def test_a_publisher_can_declare_a_discontinuity() -> None:
    on = builders.hub()
    seen = Recorder()
    publisher = rendition(on)
    publisher.stream.attach(seen)
    publisher.set_tracks(VIDEO, AUDIO, {})
    publisher.set_tracks(VIDEO, AUDIO, {"title": "talk"})
    publisher.set_tracks(VIDEO, AUDIO, {"title": "talk"}, continuous=False)
    assert [t.epoch for t in seen.tracks] == [0, 0, 1]
