"""The GOP cache and its bounds."""

from gateway.live.gop_cache import GopCache
from tests.support.builders import picture, sound


def size(gop: GopCache) -> int:
    return sum(len(unit.payload) for unit in gop.units())


def test_nothing_is_kept_before_the_first_key_frame():
    gop = GopCache(1000, 10)
    gop.add(picture(0))
    gop.add(sound(5))
    assert gop.units() == []


def test_a_key_frame_starts_anew():
    gop = GopCache(1000, 10)
    for unit in (picture(0, True), sound(5), picture(33), picture(66, True)):
        gop.add(unit)
    assert [u.dts for u in gop.units()] == [66]
    assert size(gop) == 10


def test_over_its_bytes_it_empties_until_the_next_key_frame():
    gop = GopCache(45, 10)
    for unit in (picture(0, True), picture(33), picture(66), picture(99), picture(132), picture(165)):
        gop.add(unit)
    assert gop.units() == []
    assert size(gop) == 0
    gop.add(picture(198, True))
    assert len(gop) == 1


def test_over_its_seconds_it_empties():
    gop = GopCache(1000, 1)
    for unit in (picture(0, True), picture(900), picture(1001)):
        gop.add(unit)
    assert len(gop) == 0


def test_without_video_the_last_second_of_sound_is_kept():
    gop = GopCache(100_000, 10)
    gop.has_video = False
    for dts in range(0, 5000, 20):
        gop.add(sound(dts))
    assert [gop.units()[0].dts, gop.units()[-1].dts] == [3980, 4980]
    assert size(gop) == 6 * len(gop)
