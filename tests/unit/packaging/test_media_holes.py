"""An epoch begins behind a hole in the media, because HLS and DASH players halt at it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.media.track import AccessUnit, Kind
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.media_holes import MediaHoles
from gateway.packaging.ts.packager import TsPackager
from tests.support.builders import picture, sound
from tests.support.segmented import Timetable, cmaf, feed, ts
from tests.unit.packaging.test_hls_packager import follow


class Outage(Timetable):
    """A push whose encoder drops all media from ten seconds to eighteen."""

    def units(self) -> Iterator[AccessUnit]:
        for unit in super().units():
            if not 10 <= unit.dts / unit.track.timescale < 18:
                yield unit


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
@pytest.mark.parametrize("other", [{}, {"audio": None}, {"video": None}], ids=["both", "pictures", "sound"])
def test_media_continue_in_another_epoch_behind_an_outage(make: type, other: dict[str, Any]) -> None:
    packager: TsPackager | CmafPackager = make(size=30)
    seen: dict[str, Any] = {}
    feed(packager, Outage(seconds=30, **other), each=lambda _: follow(packager, seen), end=False)

    assert packager.broken == 0
    for name, follower in seen.items():
        segments = [follower.segments[number] for number in sorted(follower.segments)]
        assert [s.discontinuity for s in segments] == sorted(s.discontinuity for s in segments)
        assert {s.discontinuity for s in segments} == {0, 1}, name
        assert max(s.duration for s in segments) < 2.6, name
        assert sum(s.duration for s in segments) == pytest.approx(22, abs=2.2), name


def test_the_periods_of_a_manifest_are_as_far_apart_as_the_outage() -> None:
    packager = cmaf(size=30)
    feed(packager, Outage(seconds=30), end=False)

    periods = re.findall(
        r'<Period id="(\d+)" start="PT([\d.]+)S"(?: duration="PT([\d.]+)S")?', packager.manifests.manifest()
    )
    (_, begin, duration), (_, following, open_end) = periods
    assert (float(begin), float(duration)) == pytest.approx((0, 10), abs=0.1)
    assert float(following) == pytest.approx(18, abs=0.1) and not open_end


def units(*, pictures: list[int], sounds: list[int]) -> list[AccessUnit]:
    return sorted([*map(picture, pictures), *map(sound, sounds)], key=lambda unit: unit.dts)


def holes(found: MediaHoles, media: list[AccessUnit]) -> list[tuple[Kind, int]]:
    return [(unit.track.kind, unit.dts) for unit in media if found.is_before(unit)]


def test_the_first_unit_behind_a_hole_in_all_media_is_found_once() -> None:
    times = [*range(0, 4_000, 40), *range(5_200, 9_000, 40)]
    media = units(pictures=times, sounds=[time + 10 for time in times])

    for found in (MediaHoles(in_pictures=True), MediaHoles(in_pictures=False)):
        assert holes(found, media) == [(Kind.VIDEO, 5_200)]


@pytest.mark.parametrize("first", [-15, 15])
@pytest.mark.parametrize(("hole", "is_found"), [(200, False), (500, True)])
def test_a_short_hole_counts_where_both_tracks_have_it(hole: int, is_found: bool, first: int) -> None:
    times = [*range(1_000, 4_000, 40), *range(4_000 + hole, 9_000, 40)]
    media = units(pictures=times, sounds=[time + first for time in times])

    wanted = [(Kind.VIDEO, 4_000 + hole)] if is_found else []
    for found in (MediaHoles(in_pictures=True), MediaHoles(in_pictures=False)):
        assert holes(found, media) == wanted
    assert holes(MediaHoles(in_pictures=True), units(pictures=times, sounds=list(range(0, 9_000, 20)))) == []


def test_sound_that_is_always_behind_is_no_hole_where_pictures_pause() -> None:
    """Transport streams bring sound up to a second after the pictures of its time."""
    sounds = [(at + 800, sound(at)) for at in range(0, 9_000, 20)]
    shown = [(at, picture(at)) for at in (*range(1_000, 4_000, 40), *range(4_500, 9_000, 40))]
    media = [unit for _, unit in sorted([*sounds, *shown], key=lambda pair: pair[0])]
    assert holes(MediaHoles(in_pictures=True), media) == []

    lost = [unit for at, unit in sorted([*sounds, *shown], key=lambda pair: pair[0]) if not 3_000 <= at < 5_000]
    assert holes(MediaHoles(in_pictures=False), lost) == [(Kind.AUDIO, 4_200)]


def test_pictures_that_pause_leave_a_hole_only_where_it_matters() -> None:
    sounds = list(range(0, 12_000, 20))
    for pause, wanted in ((900, []), (2_000, [(Kind.VIDEO, 6_000)])):
        media = units(pictures=[*range(0, 4_040, 40), *range(4_000 + pause, 12_000, 40)], sounds=sounds)
        assert holes(MediaHoles(in_pictures=True), media) == wanted
        assert holes(MediaHoles(in_pictures=False), media) == []


@pytest.mark.parametrize("step", [1_000, 5_000, 10_000])
def test_few_pictures_are_no_holes(step: int) -> None:
    for sounds in ([], list(range(0, 100_000, 21))):
        media = units(pictures=list(range(0, 100_000, step)), sounds=sounds)
        assert holes(MediaHoles(in_pictures=True), media) == []


@pytest.mark.parametrize("ahead", [-3_500, 3_500])
def test_sound_that_comes_early_or_late_leaves_no_hole(ahead: int) -> None:
    media = list(itertools.chain.from_iterable((picture(at), sound(at + ahead)) for at in range(4_000, 40_000, 40)))
    assert holes(MediaHoles(in_pictures=True), media) == []


def test_sound_that_pauses_is_no_hole_while_pictures_come() -> None:
    media = units(pictures=list(range(0, 20_000, 40)), sounds=[*range(0, 4_000, 20), *range(12_000, 20_000, 20)])
    assert holes(MediaHoles(in_pictures=True), media) == []


def test_sound_whose_times_jump_is_no_hole() -> None:
    found = MediaHoles(in_pictures=True)
    for at in range(0, 20_000, 40):
        jumped = sound(at + (5_000 if at > 8_000 else 0))
        jumped.wall = 1.7e9 + at / 1000
        assert not found.is_before(picture(at)) and not found.is_before(jumped)


def test_holes_one_after_the_other_are_all_found() -> None:
    times = list(itertools.chain.from_iterable(range(start, start + 2_000, 40) for start in range(0, 40_000, 5_000)))
    found = holes(MediaHoles(in_pictures=True), units(pictures=times, sounds=[time + 5 for time in times]))
    assert [at for _, at in found] == list(range(5_000, 40_000, 5_000))
