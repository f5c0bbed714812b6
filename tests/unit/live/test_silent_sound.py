"""A publisher that returns without sound gets silence, because browsers stop otherwise."""

from __future__ import annotations

import itertools

import pytest

from gateway.live.publisher import PushOrigin
from gateway.media.track import Codec, Kind, MadeSilence, MediaTrack
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture, sound

FINE = MediaTrack(Kind.VIDEO, Codec.H264, 90_000, b"fine")
FRAME = 1024 / 44.1  # milliseconds


def silence(seen: Recorder) -> list[int]:
    return [unit.dts for unit in seen.units if type(unit) is MadeSilence]


@pytest.mark.parametrize("other", [VIDEO, FINE])
async def test_an_encoder_that_returns_without_sound_gets_silence(other: MediaTrack) -> None:
    on, seen = builders.hub(), Recorder()
    first = builders.publish(on)
    first.stream.attach(seen)
    first.set_tracks(VIDEO, AUDIO, {}, now=100.0)
    first.push(picture(0, True), 100.0)
    first.push(sound(0), 100.0)
    first.close()
    again, scale = builders.publish(on), other.timescale // 1000
    again.set_tracks(other, None, {}, now=102.0)
    for number in range(100):
        again.push(picture(40 * number * scale, number == 0, track=other), 102.0 + number / 25)
    assert [(t.video, t.audio and (t.audio.config, t.audio.timescale)) for t in seen.tracks] == [
        (VIDEO, (AUDIO.config, 1000)),
        (other, (AUDIO.config, other.timescale)),
    ]
    shown = [unit.dts for unit in seen.units if unit.track is other][-100:]
    made = silence(seen)
    assert made[0] == shown[0]
    assert 0 <= shown[-1] - made[-1] <= FRAME * scale
    assert max(abs(b - a - FRAME * scale) for a, b in itertools.pairwise(made)) <= 1
    again.set_tracks(other, AUDIO, {}, now=106.0)
    again.push(picture(4_000 * scale, True, track=other), 106.0)
    assert (seen.tracks[-1].audio, silence(seen)) == (AUDIO, made)


async def test_silence_goes_on_with_another_size_and_sound_that_ends_later_is_no_return() -> None:
    on, seen = builders.hub(), Recorder()
    first = builders.publish(on)
    first.stream.attach(seen)
    first.set_tracks(VIDEO, AUDIO, {}, now=100.0)
    first.push(picture(0, True), 100.0)
    first.close()
    again = builders.publish(on)
    again.set_tracks(VIDEO, None, {}, now=102.0)
    again.push(picture(0, True), 102.0)
    again.set_tracks(FINE, None, {}, now=110.0)
    again.push(picture(8_000 * 90, True, track=FINE), 110.0)
    again.push(picture(8_500 * 90, track=FINE), 110.5)
    assert [t.audio is not None for t in seen.tracks] == [True, True, True]
    assert len(silence(seen)) == 1 + 500 // FRAME + 1
    again.set_tracks(FINE, AUDIO, {}, now=120.0)
    again.set_tracks(FINE, None, {}, now=130.0)
    assert seen.tracks[-1].audio is None


async def test_a_rendition_is_not_changed() -> None:
    on, seen = builders.hub(), Recorder()
    origin = PushOrigin("transcode", "worker", keep_time=True)
    publisher = on.publish_from(origin, builders.channel(), "c1@360p", lambda reason: None)
    publisher.stream.attach(seen)
    publisher.set_tracks(VIDEO, AUDIO, {})
    publisher.push(picture(0, True), 100.0)
    publisher.close()
    publisher = on.publish_from(origin, builders.channel(), "c1@360p", lambda reason: None)
    publisher.set_tracks(VIDEO, None, {})
    publisher.push(picture(1_000, True), 101.0)
    assert (seen.tracks[-1].audio, silence(seen)) == (None, [])


async def test_times_that_are_faster_than_real_time_make_little_silence() -> None:
    on, seen = builders.hub(), Recorder()
    first = builders.publish(on)
    first.stream.attach(seen)
    first.set_tracks(VIDEO, AUDIO, {}, now=50.0)
    first.push(picture(0, True), 50.0)
    first.close()
    publisher = builders.publish(on)
    publisher.set_tracks(VIDEO, None, {}, now=100.0)
    for number in range(1_000):
        publisher.push(picture(4_000 * number, True), 100.0 + number / 1_000)
    assert 0 < len(silence(seen)) <= 32_000 / FRAME + 1_000
    publisher.push(picture(90_000_000), 200.0)
    assert len(silence(seen)) <= 32_000 / FRAME + 1_001, "a jump of the times is not filled"
