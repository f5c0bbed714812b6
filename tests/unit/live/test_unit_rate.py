"""A push of tiny units fills no memory: its units count by the second of their times."""

import pytest

from gateway.live.gop_cache import GopCache
from gateway.live.pushed_tracks import TrackInfo
from gateway.live.sink import SinkNeeds
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture, sound

SMALL = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"small")
FRENCH = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x12\x08")  # mono, 44.1 kHz


async def test_units_whose_times_stand_still_are_dropped_and_counted() -> None:
    publisher, seen = builders.publish(builders.hub()), Recorder()
    publisher.stream.attach(seen)
    publisher.set_tracks(VIDEO, AUDIO, {})
    publisher.push(picture(0, True), 0.0)
    for number in range(5_000):  # of one time, the samples would be the clock
        publisher.push(sound(40 + number % 2), 0.0)
    assert len(seen.units) == 2_000
    assert publisher.on_air.dropped == {"ingest": 3_001}
    for dts in range(1_000, 61_000, 2):
        publisher.push(sound(dts), 0.0)
    assert len(seen.units) == 2_000 + 30_000, "500 units a second are usual"


async def test_pictures_that_are_stamped_too_early_follow_the_last_one() -> None:
    publisher, seen = builders.publish(builders.hub()), Recorder()
    publisher.stream.attach(seen)
    publisher.set_tracks(VIDEO, AUDIO, {})
    for dts in (0, 40, 30, 100, 100, 90, 160):
        publisher.push(picture(dts, dts == 0), 0.0)
    publisher.push(sound(150), 0.0)
    for dts in (5_000, 3_000, 3_040):  # another clock
        publisher.push(picture(dts), 0.0)

    assert [unit.dts for unit in seen.units] == [0, 40, 41, 100, 101, 102, 160, 150, 5_000, 3_000, 3_040]


@pytest.mark.parametrize("step", [50, 500, 1_000, 60_000])
async def test_sound_whose_frames_have_one_time_is_timed_by_its_samples(step: int) -> None:
    """Some encoders count only whole seconds, or not at all."""
    publisher, seen = builders.publish(builders.hub()), Recorder()
    publisher.stream.attach(seen)
    publisher.set_tracks(VIDEO, AUDIO, {})
    publisher.push(picture(0, True), 0.0)
    exact = [1024_000 * n / 44_100 for n in range(300)]
    for time in exact:
        publisher.push(sound(int(time) // step * step), 0.0)

    times = [unit.dts for unit in seen.units[1:]]
    assert max(abs(time - wanted) for time, wanted in zip(times, exact, strict=True)) < 24  # less than a frame


async def test_another_clock_is_no_flood() -> None:
    publisher, seen = builders.publish(builders.hub()), Recorder()
    publisher.stream.attach(seen)
    publisher.set_tracks(VIDEO, AUDIO, {})
    for begin in (3_600_000, 0):
        for dts in range(begin, begin + 40_000, 10):
            publisher.push(sound(dts), 0.0)
    assert len(seen.units) == 8_000


def test_the_cache_is_bounded_in_its_number_of_units() -> None:
    gop = GopCache(16_000_000, 15)
    gop.add(picture(0, True))
    for number in range(29_999):
        gop.add(sound(number // 2))
    assert len(gop) == 30_000
    gop.add(sound(15_000))
    gop.add(sound(15_000))
    assert gop.units() == []


async def test_units_of_additional_tracks_are_put_in_order_and_counted_too() -> None:
    hub = builders.hub()
    publisher = builders.publish(hub)
    publisher.set_tracks(VIDEO, AUDIO, {})
    publisher.set_additional(1, SMALL, TrackInfo(width=256, height=144), 0.0)
    publisher.set_additional(1, FRENCH, TrackInfo(language="fr"), 0.0)
    publisher.push(picture(0, True), 0.0)
    publisher.push(sound(0), 0.0)
    seen = {}
    for name, number, unit in ("144p", 2, picture(0, True, track=SMALL)), ("audio1", 3, sound(0, track=FRENCH)):
        publisher.push_additional(number, unit, 0.0)
        rendition = hub.held(f"c1@{name}")
        assert rendition is not None
        seen[name] = Recorder()
        rendition.attach(seen[name], SinkNeeds(cache=False))
    for dts in (40, 30, 100, 100, 90, 160):
        publisher.push_additional(2, picture(dts, track=SMALL), 0.0)
    for number in range(200):
        publisher.push_additional(3, sound(1024 * number // 44, track=FRENCH), 0.0)
    for _ in range(100):  # of one time: the samples are the clock
        publisher.push_additional(3, sound(1024 * 200 // 44, track=FRENCH), 0.0)

    assert [unit.dts for unit in seen["144p"].units] == [40, 41, 100, 101, 102, 160]
    times = [unit.dts for unit in seen["audio1"].units]
    assert max(abs(time - 1024_000 * n / 44_100) for n, time in enumerate(times)) < 24 and len(times) == 300
    for number in range(6_000):
        publisher.push_additional(3, sound(9_000 + number % 2, track=FRENCH), 0.0)
    assert len(seen["audio1"].units) <= 2_000 + 2_000
    assert publisher.on_air.dropped == {"tracks": 300 + 6_000 - len(seen["audio1"].units)}
