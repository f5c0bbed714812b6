"""The DASH MPD, resolved like a client and compared with the actual segments."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from typing import Any

import pytest

from gateway.formats.dash import mpd
from gateway.formats.dash.mpd import TimelineEntry
from gateway.live.fanout import Fanout
from gateway.live.gop_cache import GopCache
from gateway.live.pushed_tracks import PushedTrack, TrackInfo
from gateway.live.sink import EndReason
from gateway.media.caption_track import CaptionTrack
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.packaging.cmaf.dash_manifest import Epoch
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.timing import WallClock
from tests.support.builders import AUDIO, stream
from tests.support.segmented import WALL, Timetable, cmaf, feed

NS = "{urn:mpeg:dash:schema:mpd:2011}"


def seconds(text: str | None) -> float:
    match = re.fullmatch(r"PT([0-9.]+)S", text or "")
    assert match, text
    return float(match[1])


@dataclass
class Set:
    """One AdaptationSet as a client resolves it."""

    period: ET.Element
    template: ET.Element
    representation: ET.Element

    @property
    def kind(self) -> str:
        return self.representation.get("id", "")

    @property
    def scale(self) -> int:
        return int(self.template.get("timescale", "1"))

    @property
    def offset(self) -> float:
        return int(self.template.get("presentationTimeOffset", "0")) / self.scale

    @property
    def first(self) -> int:
        return int(self.template.get("startNumber", "1"))

    @property
    def by_number(self) -> bool:
        return self.template.get("duration") is not None

    def entries(self) -> list[tuple[int, float, float]]:
        """Number, media time and duration in seconds of each segment of a timeline."""
        out, time, number = [], 0, self.first
        for s in self.template.iter(NS + "S"):
            time = int(s.get("t", str(time)))
            for _ in range(int(s.get("r", "0")) + 1):
                out.append((number, time / self.scale, int(s.get("d", "0")) / self.scale))
                number, time = number + 1, time + int(s.get("d", "0"))
        return out

    def uri(self, number: int) -> str:
        name = self.template.get("media", "").replace("$RepresentationID$", self.kind)
        return name.replace("$Number$", str(number))


def manifest(packager: CmafPackager) -> tuple[ET.Element, list[Set]]:
    root = ET.fromstring(mpd.finish(packager.manifests.manifest(), "", WALL))
    sets = []
    for period in root.iter(NS + "Period"):
        for a in period.iter(NS + "AdaptationSet"):
            template, representation = a.find(NS + "SegmentTemplate"), a.find(NS + "Representation")
            assert template is not None and representation is not None
            sets.append(Set(period, template, representation))
    return root, sets


def available(root: ET.Element, s: Set, number: int) -> float:
    """The time at which a client may request the complete segment `number`, ISO/IEC 23009-1 §5.3.9.5.3."""
    start = datetime.fromisoformat(root.get("availabilityStartTime", "")).timestamp()
    duration = int(s.template.get("duration", "0")) / s.scale
    return start + seconds(s.period.get("start")) + (number - s.first + 1) * duration


REGULAR = {
    "30 fps": Timetable(seconds=21),
    "B-frames": Timetable(seconds=21, shifts=(2, 4, 1, 1)),
    "29.97 fps": Timetable(seconds=21, fps=Fraction(30000, 1001)),
    "25 fps": Timetable(seconds=21, fps=Fraction(25), gop=(50,)),
    "from another start": Timetable(seconds=21, start=3600.0),
    "audio only": Timetable(seconds=21, video=None),
    "video only": Timetable(seconds=21, audio=None),
}


@pytest.mark.parametrize("table", REGULAR.values(), ids=REGULAR)
def test_with_regular_key_frames_a_template_numbers_the_segments(table: Timetable) -> None:
    packager = cmaf()
    feed(packager, table, end=False)
    root, sets = manifest(packager)
    assert root.get("type") == "dynamic" and sets
    longest = max(lane.part_target or 0 for lane in packager.manifests.tracks)
    for s in sets:
        assert s.by_number and s.template.get("availabilityTimeComplete") == "false"
        duration = int(s.template.get("duration", "0")) / s.scale
        lane = packager.manifests.track(s.kind)
        assert lane is not None
        assert abs(float(s.template.get("availabilityTimeOffset", "0")) - (duration - longest)) < 0.001
        for segment in lane.window:
            assert s.uri(segment.number) == f"{s.kind}/{segment.uri}"
            nominal = s.offset + (segment.number - s.first) * duration
            assert abs(segment.time / segment.clock - nominal) < 0.05
            assert abs(segment.length / segment.clock - duration) < 0.05


@pytest.mark.parametrize("table", REGULAR.values(), ids=REGULAR)
def test_a_segment_is_complete_at_its_availability_time(table: Timetable) -> None:
    packager = cmaf()
    came: dict[tuple[str, int], float] = {}

    def each(unit: AccessUnit) -> None:
        for lane in packager.manifests.tracks:
            for segment in lane.window:
                came.setdefault((lane.kind, segment.number), unit.wall)

    feed(packager, table, each=each, end=False)
    root, sets = manifest(packager)
    checked = 0
    for s in sets:
        for (kind, number), wall in came.items():
            if kind == s.kind and number > s.first + 1:
                # A frame's time and the reordering of pictures; a request that is early is held.
                assert abs(wall - available(root, s, number)) < 0.2
                checked += 1
    assert checked >= 6


def test_picture_and_sound_have_the_same_offset_and_duration() -> None:
    packager = cmaf()
    feed(packager, Timetable(seconds=15, shifts=(2, 4, 1, 1)), end=False)
    _, (video, audio) = manifest(packager)
    assert video.offset == audio.offset
    assert video.template.get("duration") == audio.template.get("duration")


@pytest.mark.parametrize("gop", [(60, 44, 72, 28), (60, 60, 92)], ids=str)
def test_with_irregular_key_frames_a_timeline_lists_the_segments(gop: tuple[int, ...]) -> None:
    packager = cmaf(seconds=1.0)
    feed(packager, Timetable(seconds=30, gop=gop, shifts=(2, 4, 1, 1)), end=False)
    root, sets = manifest(packager)
    for s in sets:
        assert not s.by_number
        lane = packager.manifests.track(s.kind)
        assert lane is not None and s.scale == lane.window[0].clock
        assert [e[0] for e in s.entries()] == [g.number for g in lane.window]
        assert [e[1] for e in s.entries()] == pytest.approx([g.time / g.clock for g in lane.window])
        assert [e[2] for e in s.entries()] == pytest.approx([g.length / g.clock for g in lane.window], abs=0.15)
        # Where a GOP had to be cut, a picture of the one segment may be shown among those of the next.
        assert all(abs(a[1] + a[2] - b[1]) < 1.1 / 30 for a, b in itertools.pairwise(s.entries()))
    assert root.find(NS + "ServiceDescription") is None
    assert abs(sets[0].offset - sets[1].offset) < 1 / 44100


def versions(packager: CmafPackager, *tables: Timetable) -> list[tuple[ET.Element, list[Set]]]:
    """Feeds the tables, and returns each version of the manifest that a client could load."""
    found = []

    def each(_: AccessUnit) -> None:
        if packager.ready and "seen" not in packager.cache:
            packager.cache["seen"] = True
            found.append(manifest(packager))

    feed(packager, *tables, each=each, end=False)
    return found


def assert_periods_stay(found: list[tuple[ET.Element, list[Set]]]) -> None:
    """Nothing inside a Period changes but its end, and each Period ends where the next one begins or before."""
    seen: dict[str, tuple[object, ...]] = {}
    for root, sets in found:
        for id in {s.period.get("id", "") for s in sets}:
            own = [s for s in sets if s.period.get("id") == id]
            sets_of = [(a.get("id"), a.get("lang"), a.get("contentType")) for a in own[0].period]
            shape = own[0].period.get("start"), sets_of, *[(s.first if s.by_number else None, s.offset) for s in own]
            assert seen.setdefault(id, shape) == shape
        for one, two in itertools.pairwise(root.findall(NS + "Period")):
            end = seconds(one.get("start")) + seconds(one.get("duration"))
            assert end <= seconds(two.get("start")) + 0.0015


def test_a_period_keeps_its_addressing_when_key_frames_become_irregular() -> None:
    found = versions(cmaf(size=20), Timetable(seconds=30, gop=(60, 60, 60, 68, 60)))
    assert_periods_stay(found)
    _, sets = found[-1]
    assert [(s.period.get("id"), s.by_number) for s in sets] == [
        ("1", True), ("1", True), ("1.1", False), ("1.1", False)
    ]  # fmt: skip
    one, two = sets[0].period, sets[2].period
    assert seconds(one.get("duration")) == seconds(two.get("start")) == round(sets[2].offset, 3)
    # The same files: a player that has not loaded the newest manifest gets the following segment.
    assert len({s.template.get("media") for s in sets}) == 1
    assert sets[2].entries()[0][0] == sets[0].first + round(sets[2].offset / 2)


@pytest.mark.parametrize(("length", "most"), [(2.0, 0.3), (4.0, 0.6), (10.0, 0.6), (30.0, 0.6)])
def test_a_period_ends_where_segments_have_left_their_grid(length: float, most: float) -> None:
    """Players ask for a segment when its place on the grid is over."""
    typical, first = round(length * VIDEO_CLOCK), {"video": 1}
    epoch = Epoch(0, 0, WallClock(0.0, WALL), "1", typical=typical, by_number=True, first=first)
    left = next(n for n in itertools.count(1) if epoch.ends_at(n * (typical + 900), n + 1))
    assert most < 0.01 * left < most + 0.011


def test_a_stall_that_is_caught_up_changes_nothing() -> None:
    packager = cmaf()
    packager.on_tracks(Tracks(Timetable().video, None, 0))
    for unit in Timetable(seconds=25, audio=None).units():
        if 7000 < unit.dts < 10_000:
            unit.wall = WALL + 10.0
        packager.on_unit(unit)
    root, sets = manifest(packager)
    assert [s.by_number for s in sets] == [True]
    assert [p.get("id") for p in root.findall(NS + "Period")] == ["1"]


def test_a_publisher_that_stays_late_begins_a_period_with_right_dates() -> None:
    packager = cmaf(size=20)
    packager.on_tracks(Tracks(Timetable().video, None, 0))
    for unit in Timetable(seconds=35, audio=None).units():
        unit.wall += 3.0 if unit.dts > 7000 else 0.0
        packager.on_unit(unit)
    _, (one, two) = manifest(packager)
    assert one.by_number and two.by_number
    assert seconds(two.period.get("start")) - two.offset == pytest.approx(3.0, abs=0.01)


def test_captions_that_begin_later_are_listed_in_another_period() -> None:
    texts = (CaptionTrack("TEXT", "English", "en"),)
    packager = cmaf(size=20, texts=lambda: texts if packager.manifests.now > WALL + 7 else ())
    found = versions(packager, Timetable(seconds=15))
    assert_periods_stay(found)
    one, two = found[-1][0].findall(NS + "Period")
    assert [a.get("contentType") for a in one] == ["video", "audio"]
    assert [a.get("contentType") for a in two] == ["video", "audio", "text"]
    assert all(s.by_number for s in found[-1][1])


def test_languages_stay_listed_when_a_publisher_returns() -> None:
    """Their first segment is complete a little later than that of the pictures."""
    packager, source, swedish = cmaf(size=20), stream(), Fanout(GopCache(1_000_000, 10.0))
    track = replace(AUDIO, timescale=2000)
    source.pushed_tracks.add(PushedTrack(1, Kind.AUDIO, "audio1", swedish, track, TrackInfo("sv")))
    packager.follow_tracks(source)
    late: deque[AccessUnit] = deque()
    found = []

    def each(unit: AccessUnit) -> None:
        if unit.track.kind is Kind.AUDIO:
            late.append(replace(unit, track=track, dts=2 * unit.dts))
        while late and late[0].wall < unit.wall - 0.1:
            swedish.push(late.popleft())
        packager.catch_up()
        if packager.ready and "seen" not in packager.cache:
            packager.cache["seen"] = True
            periods = manifest(packager)[0].findall(NS + "Period")
            found.append([[a.get("lang") for a in p if a.get("contentType") == "audio"] for p in periods])
            assert 'LANGUAGE="sv"' in packager.manifests.master() or unit.wall < WALL + 5

    feed(packager, Timetable(), Timetable(start=20), each=each, end=False)
    assert found[-1] == [[None, "sv"], [None, "sv"]]
    assert all(periods[-1] == [None, "sv"] for periods in found if len(periods) > 1)


def test_a_discontinuity_starts_a_period_and_ends_the_previous_one() -> None:
    packager = cmaf(size=20)
    feed(packager, Timetable(seconds=9.3), Timetable(seconds=11, start=10.8), end=False)
    root, sets = manifest(packager)
    one, two = root.findall(NS + "Period")
    assert one.get("id") != two.get("id")
    assert seconds(one.get("start")) == 0 and seconds(one.get("duration")) == pytest.approx(9.3, abs=0.05)
    assert two.get("duration") is None
    # A Period keeps its addressing when it is over, and no number behind its last segment falls into it.
    assert [s.by_number for s in sets] == [True, True, True, True]
    assert seconds(one.get("duration")) / (int(sets[0].template.get("duration", "0")) / sets[0].scale) <= 5
    inits = {s.template.get("initialization") for s in sets}
    assert len(inits) == 4 or len({i.split("-init-")[1] for i in inits if i}) == 2
    # A player that goes on counting in the old Period gets nothing of the new one, which has another header.
    media = [s.template.get("media") for s in sets]
    assert media[:2] == ["$RepresentationID$/1700000000-$Number$.m4s"] * 2
    assert media[2:] == ["$RepresentationID$/1700000010-$Number$.m4s"] * 2
    assert sets[2].first == 6 and sets[2].offset == pytest.approx(10.8, abs=0.001)


@pytest.mark.parametrize(
    "other", [{}, {"audio_late": 0.4}, {"audio_late": 5.0}, {"audio": None}, {"video": None}], ids=str
)
def test_the_manifest_is_valid_at_every_unit_of_a_returning_publisher(other: dict[str, Any]) -> None:
    """The first video segment of a Period is complete before the first audio segment, which may never come."""
    packager = cmaf(size=20)
    feed(packager, Timetable(seconds=9.3), end=False)
    then = replace(Timetable(seconds=9, start=10.8), **other)
    periods = set()
    packager.on_tracks(Tracks(then.video, then.audio, 1))
    for unit in then.units():
        packager.on_unit(unit)
        root, _ = manifest(packager)
        periods.add(len(root.findall(NS + "Period")))
        for one in root.findall(NS + "Period")[:-1]:
            assert one.get("id") != "1" or seconds(one.get("duration")) == pytest.approx(9.3, abs=0.05)
    assert periods == ({1, 2, 3} if other.get("audio_late") == 5.0 else {1, 2})


@pytest.mark.parametrize("gone", ["audio", "video"])
def test_a_period_ends_with_the_tracks_that_go_on_when_a_publisher_returns_without_one(gone: str) -> None:
    packager = cmaf()
    then = replace(Timetable(seconds=30, start=11), **{gone: None})
    found = versions(packager, Timetable(seconds=10), then, replace(then, start=42))
    assert_periods_stay(found)
    root, sets = found[-1]
    assert [period.get("id") for period in root.findall(NS + "Period")] == ["3"]
    assert gone not in [s.kind for s in sets]
    assert [epoch.number for epoch in packager.manifests._epochs] == [2]


def test_captions_follow_the_sound_when_a_publisher_returns_without_pictures() -> None:
    packager = cmaf(texts=lambda: (CaptionTrack("TEXT", "English", "en"),))
    feed(packager, Timetable(seconds=10), Timetable(seconds=30, start=11, video=None), end=False)
    audio = packager.manifests.track("audio")
    assert audio is not None
    assert audio.window[-1].uri.replace(".m4s", ".vtt") in packager.manifests.caption_playlist()
    assert f"LAST-MSN={audio.last[0]}" in packager.manifests.text_reports("")


def test_the_manifest_of_an_ended_stream_has_a_duration_and_no_updates() -> None:
    packager = cmaf(size=20)
    feed(packager, Timetable(seconds=9.3))
    root, sets = manifest(packager)
    assert root.get("minimumUpdatePeriod") is None
    assert seconds(root.get("mediaPresentationDuration")) == pytest.approx(9.3, abs=0.05)
    assert not any(s.by_number for s in sets)


def test_a_period_keeps_its_addressing_at_the_end_of_the_stream() -> None:
    packager = cmaf(size=20)
    found = versions(packager, Timetable(seconds=9.3))
    packager.on_end(EndReason.PUBLISHER_GONE)
    assert_periods_stay([*found, manifest(packager)])
    assert all(s.by_number for s in manifest(packager)[1])


def test_representations_have_codecs_size_rate_and_bandwidth() -> None:
    packager = cmaf()
    feed(packager, Timetable(size=4000), end=False)
    root, (video, audio) = manifest(packager)
    v, a = video.representation.attrib, audio.representation.attrib
    assert (v["codecs"], v["width"], v["height"], v["frameRate"]) == ("avc1.64001F", "1280", "720", "30")
    assert (a["codecs"], a["audioSamplingRate"]) == ("mp4a.40.2", "44100")
    assert 4000 * 8 * 30 < int(v["bandwidth"]) < 4200 * 8 * 30
    schemes = [u.get("schemeIdUri") for u in root.findall(NS + "UTCTiming")]
    assert schemes == ["urn:mpeg:dash:utc:http-iso:2014", "urn:mpeg:dash:utc:direct:2014"]
    latency = root.find(f"{NS}ServiceDescription/{NS}Latency")
    assert latency is not None and int(latency.get("target", "0")) == 3022  # behind parts of 22 frames


def test_equal_durations_of_a_timeline_are_written_as_one_entry() -> None:
    entries = (
        TimelineEntry(100, 10),
        TimelineEntry(110, 10),
        TimelineEntry(120, 10),
        TimelineEntry(130, 12),
        TimelineEntry(150, 10),
    )
    assert "".join(mpd._timeline(entries)) == '<S t="100" d="10" r="2"/><S d="12"/><S t="150" d="10"/>'
