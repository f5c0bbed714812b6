"""A push of tiny units fills no memory: its units count by the second of their times."""

from gateway.live.gop_cache import GopCache
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture, sound


async def test_units_whose_times_stand_still_are_dropped_and_counted() -> None:
    publisher, seen = builders.publish(builders.hub()), Recorder()
    publisher.stream.attach(seen)
    publisher.set_tracks(VIDEO, AUDIO, {})
    publisher.push(picture(0, True), 0.0)
    for _ in range(5_000):
        publisher.push(sound(40), 0.0)
    assert len(seen.units) == 2_000
    assert publisher.on_air.dropped == {"ingest": 3_001}
    for dts in range(1_000, 61_000, 2):
        publisher.push(sound(dts), 0.0)
    assert len(seen.units) == 2_000 + 30_000, "500 units a second are usual"


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
