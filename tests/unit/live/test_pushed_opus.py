"""Opus that a publisher pushes beside its tracks has the stream's times and ends with its publisher."""

from __future__ import annotations

import pytest

from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, MediaTrack
from gateway.workers.sound_protocol import opus_track
from tests.support import builders

OPUS = opus_track(2)


def packet(ms: int) -> AccessUnit:
    return AccessUnit(OPUS, ms * 48, 0, True, 0.0, b"\xfc")


def announced(stream: Stream) -> MediaTrack | None:
    tracks = stream.pushed_sound.opus.tracks
    return None if tracks is None else tracks.audio


async def test_pushed_opus_has_stream_times_also_after_a_publisher_returns() -> None:
    hub, listener = builders.hub(), builders.Recorder()
    first = builders.publish(hub)
    first.set_opus(OPUS)
    first.set_tracks(builders.VIDEO, builders.AUDIO, {})
    first.stream.pushed_sound.opus.attach(listener)
    first.push(builders.picture(1_000, key=True), 50.0)
    first.push_opus(packet(1_000), 50.0)
    first.close()
    assert announced(first.stream) is None
    second = builders.publish(hub)
    second.set_opus(OPUS)
    second.set_tracks(builders.VIDEO, builders.AUDIO, {})
    second.push_opus(packet(7), 52.0)
    picture = builders.picture(7, key=True)
    second.push(picture, 52.0)
    assert [unit.dts for unit in listener.units] == [48_000, picture.dts * 48]
    assert picture.dts == 3_000
    assert [tracks.audio for tracks in listener.tracks] == [OPUS, None, OPUS]


@pytest.mark.parametrize("reason", [EndReason.KICKED, EndReason.PUBLISHER_GONE])
async def test_pushed_opus_ends_with_the_lease_of_its_publisher(reason: EndReason) -> None:
    publisher = builders.publish(builders.hub())
    publisher.set_opus(OPUS)
    assert announced(publisher.stream) is OPUS
    publisher.evict(reason)
    assert announced(publisher.stream) is None
    publisher.close()
    other = builders.stream()
    other.pushed_sound.opus.set_tracks(None, OPUS, {}, False)
    publisher.stream = other
    publisher.close()
    assert announced(other) is OPUS, "that of another publisher"


async def test_pushed_opus_follows_its_publisher_into_another_stream() -> None:
    publisher = builders.publish(builders.hub())
    publisher.set_opus(OPUS)
    before, hidden = publisher.stream, builders.stream()
    publisher.move(hidden, lambda publisher: None, None)
    assert (announced(before), announced(hidden)) == (None, OPUS)
