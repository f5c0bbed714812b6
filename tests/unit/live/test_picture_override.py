"""Overrides: pictures that replace the original for viewers, and the return to the original."""

import asyncio
import time
from typing import Any

import pytest

from gateway.live.sink import EndReason
from gateway.live.stream import PictureOverride, Stream
from gateway.media.track import AccessUnit, Tracks
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture, publish, sound


class Engaging(Recorder):
    """A sink of the original that engages the override at the key frame with time `at`."""

    def __init__(self, cover: PictureOverride, at: int) -> None:
        super().__init__()
        self.cover, self.at = cover, at

    def on_unit(self, unit: AccessUnit) -> None:
        super().on_unit(unit)
        if unit.key and unit.dts == self.at:
            self.cover.engage()


def live(**limits: Any) -> tuple[Any, Any, Recorder, Recorder]:
    """A hub, a publisher with tracks, a viewer and a reader of the original."""
    hub = builders.hub(**limits)
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, AUDIO, {"from": "camera"})
    viewer, relay = Recorder(), Recorder()
    publisher.stream.attach(viewer)
    publisher.stream.original.attach(relay)
    return hub, publisher, viewer, relay


def dts(recorder: Recorder) -> list[int]:
    return [u.dts for u in recorder.units]


async def closed(hub: Any) -> None:
    """Closes open overrides and the hub, which would otherwise wait for their last pictures."""
    for stream in hub:
        if stream._override is not None:
            stream._override.close()
    hub.drain()
    await hub.drained()


async def test_viewers_get_the_override_from_its_first_key_frame_on() -> None:
    hub, publisher, viewer, relay = live()
    stream: Stream = publisher.stream
    cover = stream.override()
    stream.original.attach(Engaging(cover, at=2000))
    now = time.monotonic()
    for at in (0, 1000, 2000, 3000):
        publisher.push(picture(at, key=at % 2000 == 0), now)
    assert dts(viewer) == [0, 1000]
    assert dts(relay) == [0, 1000, 2000, 3000]
    epoch = viewer.tracks[-1].epoch
    cover.set_tracks(VIDEO, AUDIO, {"from": "worker"}, continuous=False)
    cover.push(picture(2000, key=True))
    assert dts(viewer) == [0, 1000, 2000]
    assert viewer.tracks[-1].epoch == epoch + 1
    assert viewer.tracks[-1].metadata == {"from": "worker"}
    late, early = Recorder(), Recorder()
    stream.attach(late)
    stream.original.attach(early)
    assert dts(late) == [2000]
    assert dts(early) == [2000, 3000]
    await closed(hub)


async def test_after_an_override_viewers_get_the_original_from_its_next_key_frame() -> None:
    hub, publisher, viewer, _ = live()
    cover = publisher.stream.override()
    cover.engage()
    now = time.monotonic()
    publisher.push(picture(0, key=True), now)
    cover.close()
    cover.push(picture(0, key=True))
    publisher.push(picture(40), now)
    publisher.push(sound(50), now)
    assert dts(viewer) == []
    publisher.push(picture(80, key=True), now)
    publisher.push(sound(90), now)
    assert dts(viewer) == [80, 90]
    late = Recorder()
    publisher.stream.attach(late)
    assert dts(late) == [80, 90]
    assert publisher.stream.gop is publisher.stream.original.gop
    await closed(hub)


async def test_a_closed_override_can_return_delayed_original_units_without_a_gap() -> None:
    hub, publisher, viewer, relay = live()
    stream = publisher.stream
    cover = stream.override()
    cover.engage()
    now = time.monotonic()
    for at in (0, 40, 80):
        publisher.push(picture(at, key=at in (0, 40)), now)
    cover.set_tracks(VIDEO, AUDIO, {}, continuous=False)
    cover.push(picture(0, key=True))
    cover.close(relay.units[1:])
    publisher.push(picture(120), now)
    assert dts(viewer) == [0, 40, 80, 120]
    await closed(hub)


async def test_a_stream_with_an_override_is_playable_once_the_override_has_tracks() -> None:
    hub = builders.hub()
    publisher = publish(hub)
    cover = publisher.stream.override()
    cover.engage()
    publisher.set_tracks(VIDEO, None, {})
    publisher.push(picture(0, key=True), time.monotonic())
    assert hub.find("c1") is None
    waiting = asyncio.ensure_future(hub.wait("c1", 5))
    await asyncio.sleep(0)
    cover.set_tracks(VIDEO, None, {}, continuous=True)
    assert (await waiting) is publisher.stream
    await closed(hub)


async def test_the_stream_end_waits_for_the_last_pictures_of_an_override() -> None:
    hub, publisher, viewer, relay = live()
    stream = publisher.stream
    cover = stream.override()
    cover.engage()
    cover.set_tracks(VIDEO, AUDIO, {}, continuous=False)
    hub.end("c1", EndReason.KICKED)
    assert relay.ended is EndReason.KICKED
    assert viewer.ended is None
    cover.push(picture(0, key=True))
    cover.close()
    assert dts(viewer) == [0]
    assert viewer.ended is EndReason.KICKED
    assert await stream.over() is EndReason.KICKED
    await closed(hub)


async def test_the_stream_end_waits_for_an_override_only_for_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.live.stream.FINISH_SECONDS", 0.01)
    hub, publisher, viewer, _ = live()
    cover = publisher.stream.override()
    cover.engage()
    hub.end("c1", EndReason.KICKED)
    await publisher.stream.over()
    assert viewer.ended is EndReason.KICKED
    assert not cover.open
    await closed(hub)


async def test_the_stream_end_waits_while_pictures_of_an_override_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may need longer for the last pictures."""
    monkeypatch.setattr("gateway.live.stream.FINISH_SECONDS", 0.0)  # looks at each turn of the loop
    hub, publisher, viewer, _ = live()
    cover = publisher.stream.override()
    cover.engage()
    cover.set_tracks(VIDEO, AUDIO, {}, continuous=False)
    hub.end("c1", EndReason.PUBLISHER_GONE)
    for index in range(20):
        cover.push(picture(40 * index, key=not index))
        await asyncio.sleep(0)
    assert viewer.ended is None and len(dts(viewer)) == 20
    await publisher.stream.over()
    assert viewer.ended is EndReason.PUBLISHER_GONE and not cover.open
    await closed(hub)


async def test_the_stream_end_waits_for_a_slow_override_only_for_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.live.stream.FINISH_SECONDS", 0.0)
    monkeypatch.setattr("gateway.live.stream._MAX_FINISH_SECONDS", 0.05)
    hub, publisher, _, _ = live()
    cover = publisher.stream.override()
    cover.engage()
    cover.set_tracks(VIDEO, AUDIO, {}, continuous=False)
    hub.end("c1", EndReason.PUBLISHER_GONE)
    while cover.open:
        cover.push(picture(0, key=True))
        await asyncio.sleep(0)
    await closed(hub)


async def test_a_stream_has_only_one_override_at_a_time() -> None:
    hub, publisher, _, _ = live()
    cover = publisher.stream.override()
    with pytest.raises(RuntimeError):
        publisher.stream.override()
    cover.close()
    assert publisher.stream.override().open
    await closed(hub)


async def test_a_publisher_returning_during_an_override_changes_only_the_original() -> None:
    hub, publisher, viewer, relay = live()
    cover = publisher.stream.override()
    cover.engage()
    shown: list[Tracks] = list(viewer.tracks)
    publisher.close()
    publish(hub).set_tracks(VIDEO, None, {})
    assert viewer.tracks == shown
    assert relay.tracks[-1].epoch == relay.tracks[0].epoch + 1
    await closed(hub)
