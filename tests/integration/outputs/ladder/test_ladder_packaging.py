"""A source and its renditions have the same segment numbers, dates and boundaries, even after failures."""

from __future__ import annotations

import asyncio
import re
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.clock import Clock
from tests.support.hls_rules import Follower, Playlist, check, parse
from tests.support.ladder import LadderStream, ladder
from tests.support.segmented import Timetable
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.support.waiting import until

NS = "{urn:mpeg:dash:schema:mpd:2011}"
TABLE = Timetable(seconds=75)
NAMES = ("360p", "480p", "720p")
RUNGS = dict.fromkeys(NAMES, TABLE)


@dataclass(frozen=True)
class Seen:
    """One segment as described by a playlist."""

    discontinuity: int
    date: str | None
    duration: float


def segments(playlist: Playlist) -> dict[int, Seen]:
    return {s.number: Seen(s.discontinuity, s.date, s.duration) for s in playlist.segments}


def agree(playlists: list[Playlist], least: int, *, calm: bool = True) -> None:
    """Checks that equal numbers mean equal times in all playlists, with at least `least` common numbers.

    calm: no segment was cut short by the death of a worker.
    """
    common = set.intersection(*(set(segments(p)) for p in playlists))
    assert len(common) >= least, [sorted(segments(p)) for p in playlists]
    for number in common:
        found = {segments(p)[number] for p in playlists}
        assert len(found if calm else {(s.discontinuity, s.date) for s in found}) == 1, found
    assert len({p.target for p in playlists}) == 1


async def media(lab: LadderStream, *paths: str) -> list[Playlist]:
    return [check(parse(await lab.text(path))) for path in paths]


TS = [f"{name}/index.m3u8" for name in NAMES]
CMAF = ["video/index.m3u8", *(f"{name}/video/index.m3u8" for name in NAMES)]


# ---- alignment ----


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        Timetable(seconds=75, gop=(60, 45, 75, 54, 66)),
        Timetable(seconds=75, gop=(30,), start=5),
        Timetable(seconds=75, gop=(300,)),
        Timetable(seconds=75, shifts=(2, 4, 1, 1)),
        Timetable(seconds=75, audio=None),
        Timetable(seconds=75, steps=(33, 34, 70, 20)),
    ],
    ids=["regular", "irregular keys", "short GOPs", "long GOPs", "B-frames", "silent", "irregular frames"],
)
async def test_segments_of_all_renditions_and_the_source_have_the_same_boundaries(table: Timetable) -> None:
    plain = replace(table, shifts=(0,))  # the same timetable for an encoder without B-frames
    async with ladder(table, dict.fromkeys(NAMES, plain)) as lab:
        lab.begin().play(47.3)
        agree(await media(lab, *TS), 3)
        agree(await media(lab, *CMAF), 4)


async def test_names_and_numbers_of_ts_segments_are_the_same_in_every_rendition() -> None:
    async with ladder(TABLE, RUNGS) as lab:
        lab.begin().play(21)
        lists = await media(lab, *TS)
        assert len({p.sequence for p in lists}) == 1
        assert [s.uri for s in lists[0].segments] == [s.uri for s in lists[2].segments]


async def test_a_rendition_that_begins_later_has_the_numbers_of_the_others() -> None:
    async with ladder(TABLE, RUNGS) as lab:
        lab.begin("", "360p", "480p").play(9.1)
        await media(lab, CMAF[0])  # from now on, more segments are listed
        lab.publish("720p")
        lab.play(31)
        late, *others = (await media(lab, *TS))[::-1]
        agree([late, *others], 3)
        agree(await media(lab, *CMAF), 8)


async def test_a_late_rendition_is_cut_like_the_others_where_groups_of_pictures_are_longer_than_the_first() -> None:
    table = Timetable(seconds=75, gop=(60, 45, 75, 54, 66))
    async with ladder(table, dict.fromkeys(NAMES, table)) as lab:
        lab.begin("", "360p", "480p").play(16)
        await media(lab, CMAF[0])
        lab.publish("720p")
        lab.play(60)
        agree(await media(lab, *CMAF), 8)
        agree(await media(lab, *TS), 4)


async def test_renditions_without_a_packaged_source_are_aligned_with_each_other() -> None:
    async with ladder(TABLE, RUNGS, isCMAF=False, isHls=False, codec="libx265") as lab:
        lab.begin().play(9.1)
        await media(lab, TS[0])
        lab.play(21)
        agree(await media(lab, *TS), 8)  # the same paths, but with CMAF


async def test_a_dead_worker_causes_one_discontinuity_at_the_same_place_in_every_rendition() -> None:
    async with ladder(TABLE, RUNGS) as lab:
        followers = [Follower() for _ in NAMES]
        lab.begin()

        async def look() -> list[Playlist]:
            return [f.see(await lab.text(path)) for f, path in zip(followers, TS, strict=True)]

        for at in range(5, 14):
            await look() if lab.play(at) else None
        (first,) = {s.discontinuity for p in await look() for s in p.segments}
        # One rendition had already begun another segment, and the others had not.
        lab.lag = 0.3
        lab.leave("360p")
        lab.play(14.29)
        lab.leave("480p", "720p")
        lab.play(16.1)
        for name in NAMES:
            lab.publish(name)
        for at in range(17, 40):
            await look() if lab.play(at) else None
        lists = await media(lab, *TS)
        agree(lists, 4)
        assert {s.discontinuity for p in lists for s in p.segments} == {first + 1}
        seen = [f.segments for f in followers]
        for number in set.intersection(*(set(s) for s in seen)):
            assert len({s[number].date for s in seen}) == 1
        assert all(sorted(s) == list(range(min(s), max(s) + 1)) for s in seen)  # no number is missing


async def test_a_dead_worker_leaves_a_gap_in_cmaf_renditions_only() -> None:
    async with ladder(TABLE, RUNGS) as lab:
        lab.begin().play(14.3)
        before = await media(lab, *CMAF)
        lab.leave(*NAMES)
        lab.play(17.3)
        for name in NAMES:
            lab.publish(name)
        lab.play(19)
        hidden = check(parse((await lab.listener.get("/c1@360p/video/index.m3u8")).text))
        # New media are listed only when they are a whole segment.
        assert hidden.last == before[1].last + 1 and hidden.open is None and hidden.hint is None
        lab.play(31)
        lists = await media(lab, *CMAF)
        agree(lists, 5)
        assert {s.discontinuity for p in lists for s in p.segments} == {0}
        assert lists[0].sequence < lists[1].sequence == lists[2].sequence
        reports = [s.number for s in lists[1].segments]
        assert reports == list(range(reports[0], reports[-1] + 1))
        assert (await lab.get("360p/" + "video/" + before[1].segments[-1].uri)).status == 200


async def test_a_returning_publisher_causes_one_discontinuity_for_source_and_renditions() -> None:
    async with ladder(TABLE, RUNGS) as lab:
        lab.begin().play(13.1)
        lab.leave("", *NAMES)
        lab.play(15.1)
        for name in ("", *NAMES):
            lab.publish(name)
        lab.play(26)
        lists = await media(lab, *CMAF)
        agree(lists, 5, calm=False)
        assert {s.discontinuity for s in lists[0].segments} == {0, 1}
        agree(await media(lab, *TS), 3)


async def test_renditions_stay_listed_when_a_publisher_returns() -> None:
    """What they have not yet sent of the new epoch is no more than a segment, however long the publisher was away."""
    async with ladder(TABLE, RUNGS) as lab:
        lab.begin().play(14.1)
        await lab.text("manifest.mpd")
        lab.leave("", *NAMES)
        lab.play(21.95)
        for name in ("", *NAMES):
            lab.publish(name)
        for step in range(60):
            lab.play(22 + step / 10)
            assert (await lab.get("360p/video/index.m3u8")).status == 200, lab.reached
            assert list(templates(await lab.text("manifest.mpd"))) == ["video", *NAMES], lab.reached
        assert (await lab.text("manifest.mpd")).count("<Period ") == 2


times = st.lists(st.floats(3, 30), min_size=1, max_size=3, unique=True).map(sorted)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    gops=st.lists(st.integers(10, 120), min_size=1, max_size=5).map(tuple),
    deaths=times,
    away=st.floats(0.05, 5),
    lag=st.floats(0, 0.6),
    stagger=st.permutations(NAMES),
    watched=st.booleans(),
)
async def test_equal_numbers_mean_equal_times_after_any_failure(
    gops: tuple[int, ...], deaths: list[float], away: float, lag: float, stagger: list[str], watched: bool
) -> None:
    table = Timetable(seconds=45, gop=gops, size=40)
    async with ladder(table, dict.fromkeys(NAMES, table)) as lab:
        lab.lag = lag
        lab.begin()
        for death in deaths:
            if watched:
                lab.play(death / 2)
                await media(lab, *CMAF) if death > 12 else None
            for n, name in enumerate(stagger):
                lab.play(death + n * 0.01)
                lab.leave(name)
            lab.play(death + away)
            for name in reversed(stagger):
                lab.publish(name)
        lab.play(45)
        lists = await media(lab, *TS)
        agree(lists, 2, calm=False)
        assert len({p.last for p in lists}) == 1
        agree(await media(lab, *CMAF), 2, calm=False)


# ---- index.m3u8 and master.m3u8 ----


def variants(text: str) -> list[tuple[dict[str, str], str]]:
    found = re.findall(r"#EXT-X-STREAM-INF:([^\n]*)\n([^#\n]+)\n", text)
    return [(dict(re.findall(r'([A-Z-]+)=("[^"]*"|[^,]+)', a)), uri) for a, uri in found]


async def test_the_index_lists_the_renditions_with_the_best_last() -> None:
    async with ladder(TABLE, RUNGS) as lab:
        lab.begin().play(9)
        found = variants(await lab.text("index.m3u8"))
        assert [uri for _, uri in found] == TS
        assert [int(a["BANDWIDTH"]) for a, _ in found] == [664_000, 964_000, 1_628_000]  # what VBV allows, and sound
        for a, _ in found:
            assert int(a["AVERAGE-BANDWIDTH"]) < int(a["BANDWIDTH"])
            assert a["CODECS"] == '"avc1.64001F,mp4a.40.2"'
            assert (a["RESOLUTION"], a["FRAME-RATE"]) == ("1280x720", "30.000")


async def test_the_bandwidth_attribute_covers_a_peak_above_the_configured_bitrate() -> None:
    loud = replace(TABLE, size=9000)
    async with ladder(TABLE, {"360p": loud}) as lab:
        lab.begin().play(9)
        (a, _), *_ = variants(await lab.text("index.m3u8"))
        assert int(a["BANDWIDTH"]) > 9000 * 8 * 30


async def test_an_hevc_ladder_is_cmaf_with_one_sound_for_all() -> None:
    async with ladder(TABLE, RUNGS, codec="libx265", isCMAF=False) as lab:
        lab.begin().play(9)
        text = await lab.text("index.m3u8")
        assert [uri for _, uri in variants(text)] == TS
        assert re.findall(r'URI="([^"]*)"', text) == ["720p/audio/index.m3u8"]
        assert all(a["AUDIO"] == '"audio"' for a, _ in variants(text))
        (playlist,) = await media(lab, "360p/index.m3u8")
        assert playlist.part_target and playlist.hint
        for uri in (playlist.segments[-1].uri, playlist.segments[-1].map_uri, playlist.segments[-1].parts[0].uri):
            assert (await lab.get(f"360p/{uri}")).status == 200
        assert list(playlist.reports) == ["../480p/index.m3u8", "../720p/index.m3u8", "../720p/audio/index.m3u8"]
        sound = (await media(lab, "720p/audio/index.m3u8"))[0]
        assert list(sound.reports) == [f"../../{name}/index.m3u8" for name in ("360p", "480p", "720p")]
        assert (await lab.get("360p/audio/index.m3u8")).status == 200
        assert (await lab.get("live.m3u8")).status == 200 and (await lab.get("master.m3u8")).status == 404


async def test_rendition_reports_name_exactly_the_playlists_of_the_master() -> None:
    async with ladder(TABLE, RUNGS) as lab:
        lab.begin().play(9)
        text = await lab.text("master.m3u8")
        listed = {uri for _, uri in variants(text)} | set(re.findall(r'#EXT-X-MEDIA.*URI="([^"]*)"', text))
        assert len(listed) == 5
        controls = []
        for own in listed:
            (playlist,) = await media(lab, own)
            controls.append(playlist.control)
            assert {urljoin(own, uri) for uri in playlist.reports} == listed - {own}
            for uri, last in playlist.reports.items():
                (other,) = await media(lab, urljoin(own, uri))
                assert other.open is not None and last == (other.open.number, len(other.open.parts) - 1)
        assert all(control == controls[0] for control in controls)


async def test_the_master_has_the_source_first_and_its_sound_for_all_variants() -> None:
    async with ladder(TABLE, RUNGS) as lab:
        lab.begin().play(9)
        text = await lab.text("master.m3u8")
        assert [uri for _, uri in variants(text)] == CMAF
        assert {a["AUDIO"] for a, _ in variants(text)} == {'"audio"'}
        assert re.findall(r'#EXT-X-MEDIA.*URI="([^"]*)"', text) == ["audio/index.m3u8"]


async def test_a_silent_source_has_a_silent_ladder() -> None:
    silent = replace(TABLE, audio=None)
    async with ladder(silent, dict.fromkeys(NAMES, silent)) as lab:
        lab.begin().play(9)
        for path in ("master.m3u8", "index.m3u8"):
            text = await lab.text(path)
            assert "AUDIO=" not in text and "mp4a" not in text


async def test_every_address_carries_the_query_of_its_playlist() -> None:
    async with ladder(TABLE, RUNGS, codec="libx265") as lab:
        lab.begin().play(14)
        for path in ("index.m3u8", "master.m3u8", "360p/index.m3u8", *CMAF, "360p/audio/index.m3u8"):
            text = await lab.text(f"{path}?sign=1-ab&_HLS_skip=YES")
            plain = [line for line in text.split("\n") if line and line[0] != "#"]
            found = plain + re.findall(r'URI="([^"]*)"', text)
            assert found and all(uri.endswith("?sign=1-ab") for uri in found), (path, found)
        text = await lab.text("manifest.mpd?sign=1-ab")
        names = re.findall(r'(?:initialization|media)="([^"]*)"', text)
        assert len(names) == 10 and all(n.endswith("?sign=1-ab") for n in names)


# ---- manifest.mpd ----


def templates(text: str) -> dict[str, Any]:
    """Returns the representations of the pictures and their templates, of the last Period."""
    *_, period = ET.fromstring(text).iter(NS + "Period")
    return {
        str(r.get("id")): r.find(NS + "SegmentTemplate")
        for s in period.iter(NS + "AdaptationSet")
        if s.get("contentType") == "video"
        for r in s.iter(NS + "Representation")
    }


def uri(template: Any, name: str, number: int) -> str:
    return str(template.get("media").replace("$RepresentationID$", name).replace("$Number$", str(number)))


@pytest.mark.parametrize("gop", [(60,), (60, 45, 75, 54, 66)], ids=["by number", "by time"])
async def test_the_mpd_addresses_every_rendition_like_the_source(gop: tuple[int, ...]) -> None:
    table = replace(TABLE, gop=gop)
    async with ladder(table, dict.fromkeys(NAMES, table)) as lab:
        lab.begin().play(31)
        found = templates(await lab.text("manifest.mpd"))
        assert list(found) == ["video", *NAMES]
        lists = dict(zip(found, await media(lab, *CMAF), strict=True))
        for name, template in found.items():
            folder = "" if name == "video" else f"{name}/"
            entries = list(template.iter(NS + "S"))
            for s in lists[name].segments:
                assert uri(template, name, s.number) == f"{folder}video/{s.uri}"
            if entries:
                first = int(template.get("startNumber"))
                assert first == lists[name].sequence
                assert sum(int(e.get("r", "0")) + 1 for e in entries) == len(lists[name].segments)
                assert (await lab.get(uri(template, name, first))).status == 200
            else:
                assert template.get("startNumber") == "1" and template.get("duration") == "180000"
                early = float(template.get("availabilityTimeOffset"))
                longest = 22 * 1024 / 44100  # of the parts: 22 frames of sound
                assert early == round((2.0 if name == "video" else 1.5) - longest, 3)


def hevc(folder: Path) -> MediaTrack:
    path = folder / "o.mp4"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30", "-frames:v", "2"]
    coded = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error", "-tag:v", "hvc1", str(path)]
    subprocess.run([*command, *coded], check=True, timeout=at_most(60))
    with av.open(str(path)) as film:
        return MediaTrack(Kind.VIDEO, Codec.H265, 1000, bytes(film.streams.video[0].codec_context.extradata))


async def test_renditions_of_another_codec_have_their_own_adaptation_set(tmp_path: Path) -> None:
    need("ffmpeg")
    other = replace(TABLE, video=hevc(tmp_path))
    async with ladder(TABLE, dict.fromkeys(NAMES, other), codec="libx265") as lab:
        lab.begin().play(9)
        root = ET.fromstring(await lab.text("manifest.mpd"))
        sets = [[r.get("id") for r in s.iter(NS + "Representation")] for s in root.iter(NS + "AdaptationSet")]
        assert sets == [["video"], list(NAMES), ["audio"]]
        ids = [s.get("id") for s in root.iter(NS + "AdaptationSet")]
        assert len(set(ids)) == 3


async def test_the_mpd_omits_a_rendition_with_a_gap_until_it_is_complete() -> None:
    async with ladder(TABLE, RUNGS) as lab:
        lab.begin().play(30)
        assert list(templates(await lab.text("manifest.mpd"))) == ["video", *NAMES]
        lab.leave("480p")
        assert list(templates(await lab.play(31.5).text("manifest.mpd"))) == ["video", *NAMES]  # a segment may be late
        gone = templates(await lab.play(36).text("manifest.mpd"))
        assert list(gone) == ["video", "360p", "720p"]
        lab.publish("480p")
        assert list(templates(await lab.play(45).text("manifest.mpd"))) == ["video", "360p", "720p"]
        back = templates(await lab.play(70).text("manifest.mpd"))
        assert list(back) == ["video", *NAMES]
        assert back["480p"].get("startNumber") == back["video"].get("startNumber")


@pytest.mark.parametrize("gop", [(60,), (60, 66, 63, 60, 69)], ids=["by number", "by time"])
async def test_a_listed_period_keeps_its_renditions(gop: tuple[int, ...]) -> None:
    """Media3 counts them: with another list it ends with an error, or reads the media of one as those of another."""
    table, clock = replace(TABLE, gop=gop), Clock(0.0)
    async with ladder(table, dict.fromkeys(NAMES, table), clock=clock) as lab:
        listed: dict[str | None, list[str | None]] = {}
        shapes: dict[str | None, object] = {}

        async def check_until(end: int) -> list[str | None]:
            for time in range(int(lab.reached) + 1, end):
                text = await lab.play(time).text("manifest.mpd")
                for period in ET.fromstring(text).iter(NS + "Period"):
                    id, names = period.get("id"), [r.get("id") for r in period.iter(NS + "Representation")]
                    assert listed.setdefault(id, names) == names, (time, id)
                    found = list(period.iter(NS + "SegmentTemplate"))
                    numbers = [t.get("startNumber") if t.get("duration") else None for t in found]
                    shape = period.get("start"), numbers, [t.get("presentationTimeOffset") for t in found]
                    assert shapes.setdefault(id, shape) == shape
                    assert all(len(list(t.iter(NS + "S"))) for t in found if not t.get("duration"))
            return names

        lab.begin("", "360p", "720p").play(12)
        first = asyncio.create_task(lab.text("manifest.mpd"))
        await until(lambda: len(lab.ladders._waiting_since), "the request waits")
        clock.now = 10.0
        lab.play(13)
        await asyncio.wait_for(first, at_most(10))
        assert await check_until(16) == ["video", "360p", "720p", "audio"]
        lab.publish("480p")
        assert await check_until(60) == ["video", *NAMES, "audio"]
        lab.leave("480p")
        assert await check_until(70) == ["video", "360p", "720p", "audio"]
        assert list(listed.values()) == [
            ["video", "360p", "720p", "audio"], ["video", *NAMES, "audio"], ["video", "360p", "720p", "audio"]
        ]  # fmt: skip


async def test_the_time_shift_buffer_starts_after_the_first_segment_of_every_rendition() -> None:
    async with ladder(TABLE, RUNGS) as lab:
        lab.begin("", "360p", "480p").play(4.5)
        lab.publish("720p")
        text = await lab.play(14.5).text("manifest.mpd")
        assert list(templates(text)) == ["video", *NAMES]
        depth = float(re.findall(r'timeShiftBufferDepth="PT([0-9.]+)S"', text)[0])
        assert 3 <= depth <= 9
        (late,) = await media(lab, "720p/video/index.m3u8")
        assert late.sequence == 4


async def test_the_mpd_of_an_ended_ladder_is_static_and_complete() -> None:
    async with ladder(TABLE, RUNGS) as lab:
        lab.begin().play(20)
        lab.hub.drain()
        text = await lab.text("manifest.mpd")
        assert 'type="static"' in text and list(templates(text)) == ["video", *NAMES]
        base = lab.base + "/manifest.mpd"
        assert urljoin(base, uri(templates(text)["360p"], "360p", 3)).startswith(lab.base + "/360p/video/")
