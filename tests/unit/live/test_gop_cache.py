"""The GOP cache and its limits."""

from dataclasses import replace

from gateway.live.gop_cache import GopCache
from tests.support.builders import AUDIO, picture, sound


def size(gop: GopCache) -> int:
    return sum(len(unit.payload) for unit in gop.units())


def test_nothing_is_kept_before_the_first_key_frame():
    gop = GopCache(1000, 10)
    gop.add(picture(0))
    gop.add(sound(5))
    assert gop.units() == []


def test_a_key_frame_clears_the_cache():
    gop = GopCache(1000, 10)
    for unit in (picture(0, True), sound(5), picture(33), picture(66, True)):
        gop.add(unit)
    assert [u.dts for u in gop.units()] == [66]
    assert size(gop) == 10


def test_above_its_byte_limit_the_cache_stays_empty_until_a_key_frame():
    gop = GopCache(45, 10)
    for unit in (picture(0, True), picture(33), picture(66), picture(99), picture(132), picture(165)):
        gop.add(unit)
    assert gop.units() == []
    assert size(gop) == 0
    gop.add(picture(198, True))
    assert len(gop) == 1


def test_above_its_time_limit_the_cache_becomes_empty():
    gop = GopCache(1000, 1)
    for unit in (picture(0, True), picture(900), picture(1001)):
        gop.add(unit)
    assert len(gop) == 0


def test_the_cache_becomes_empty_while_pictures_stop_and_sound_goes_on():
    gop, track = GopCache(1_000_000, 15), replace(AUDIO, timescale=48_000)
    gop.add(picture(500, True))
    for dts in range(24_000, 16 * 48_000, 960):
        gop.add(sound(dts, track=track))
        assert len(gop) == (dts // 960 - 23 if dts <= 15.5 * 48_000 else 0)
    gop.add(picture(60_000))
    assert gop.units() == []
    gop.add(picture(60_040, True))
    assert len(gop) == 1


def test_without_video_the_last_second_of_sound_is_kept():
    gop = GopCache(100_000, 10)
    gop.has_video = False
    for dts in range(0, 5000, 20):
        gop.add(sound(dts))
    assert [gop.units()[0].dts, gop.units()[-1].dts] == [3980, 4980]
    assert size(gop) == 6 * len(gop)


def test_sound_added_later_is_merged_between_the_pictures():
    gop = GopCache(1000, 10)
    for unit in (picture(40, True), sound(35), picture(80), picture(120)):
        gop.add(unit)
    gop.replace_sound([sound(20), sound(41), sound(62), sound(83), sound(104), sound(125)])
    assert [unit.dts for unit in gop.units()] == [40, 41, 62, 80, 83, 104, 120, 125]
    assert size(gop) == 3 * 10 + 5 * 6
    gop.add(picture(10_041))
    assert gop.units() == [], "the limit in seconds counts from the key frame still"


def test_sound_for_an_empty_video_cache_is_ignored():
    gop = GopCache(1000, 10)
    gop.replace_sound([sound(0)])
    assert gop.units() == []
    gop.has_video = False
    gop.add(sound(0))
    gop.replace_sound([sound(2), sound(900), sound(1_500)])
    assert [unit.dts for unit in gop.units()] == [900, 1_500]


def test_sound_that_is_too_large_empties_the_cache():
    gop = GopCache(45, 10)
    gop.add(picture(0, True))
    gop.replace_sound([sound(1, size=40)])
    assert gop.units() == []
    assert size(gop) == 0
