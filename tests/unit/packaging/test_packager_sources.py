"""Unusual sources: both packagers continue, keep the rules, and agree on the times of all moments."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from datetime import datetime
from fractions import Fraction

import pytest

from gateway.formats.dash import mpd
from gateway.formats.mp4 import reader
from gateway.live.sink import EndReason
from gateway.media import codecs
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.segment_window import LazyBytes, Segment, SegmentWindow
from gateway.packaging.ts.packager import TsPackager
from tests.support.builders import VIDEO
from tests.support.hls_rules import Follower
from tests.support.segmented import WALL, Timetable, cmaf, feed, nal, ts
from tests.unit.packaging.test_hls_packager import follow


def aac(rate: int, channels: int) -> MediaTrack:
    """AAC-LC: five bits of object type, four of rate, four of channels."""
    rates = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
    config = (2 << 11 | rates.index(rate) << 7 | channels << 3).to_bytes(2, "big")
    return MediaTrack(Kind.AUDIO, Codec.AAC, 1000, config)


# (hls_time, hls_list_size, timetable)
SOURCES = {
    "15 fps": (2.0, 5, Timetable(fps=Fraction(15), gop=(30,), seconds=20)),
    "60 fps with B-frames": (2.0, 5, Timetable(fps=Fraction(60), gop=(120,), shifts=(2, 4, 1, 1))),
    "a variable frame rate": (2.0, 5, Timetable(steps=(33, 34, 50, 20, 16, 67, 33, 111), gop=(40,), seconds=30)),
    "a picture that pauses": (2.0, 5, Timetable(pause=(7.0, 12.1), seconds=30)),
    "a picture that pauses, without sound": (2.0, 5, Timetable(pause=(7.0, 12.1), seconds=30, audio=None)),
    "a picture that pauses in its first segment": (2.0, 5, Timetable(pause=(1.0, 5.9), gop=(240,), seconds=40)),
    "a GOP of ten seconds": (2.0, 5, Timetable(gop=(300,), seconds=45)),
    "a GOP of half a second": (2.0, 5, Timetable(gop=(15,), seconds=20)),
    "segments of ten seconds": (10.0, 3, Timetable(seconds=45)),
    "segments of 2.5 seconds": (2.5, 3, Timetable(gop=(25,), seconds=30)),
    "segments of half a second": (0.5, 3, Timetable(gop=(15,), seconds=12)),
    "a list of one": (2.0, 1, Timetable(seconds=20)),
    "a list of a thousand": (1.0, 1000, Timetable(gop=(30,), seconds=30)),
    "time from 2^31": (2.0, 5, Timetable(start=2147483.648, seconds=20)),
    "sound of 22.05 kHz": (2.0, 5, Timetable(rate=22050, audio=aac(22050, 1), seconds=20)),
    "sound of 8 kHz": (2.0, 5, Timetable(rate=8000, audio=aac(8000, 1), seconds=20)),
    "sound of 8 kHz alone": (2.0, 5, Timetable(rate=8000, audio=aac(8000, 1), video=None, seconds=20)),
    "sound of six channels": (2.0, 5, Timetable(rate=48000, audio=aac(48000, 6), seconds=20)),
    "sound that begins three seconds later": (2.0, 5, Timetable(audio_at=3.0, seconds=20)),
    "sound that stops": (2.0, 5, Timetable(audio_until=7.3, seconds=30)),
}


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_playlists_of_unusual_sources_keep_the_rules_and_continue(
    source: tuple[float, int, Timetable], make: type
) -> None:
    seconds, size, table = source
    packager: TsPackager | CmafPackager = make(seconds, size)
    seen: dict[str, Follower] = {}
    feed(packager, table, each=lambda _: follow(packager, seen))
    follow(packager, seen)
    lead = seen["live" if make is ts else "audio" if table.video is None else "video"]
    paused, (begin, end) = 0.0, table.pause
    if begin < math.inf:
        if make is cmaf or table.audio is None:  # an epoch begins behind the hole, with a key frame
            gop = table.gop[0] / float(table.fps)
            end = math.ceil(end / gop) * gop
        paused = end - begin
    assert sum(s.duration for s in lead.segments.values()) > table.seconds - paused - 0.5
    assert packager.broken == 0


def dated(follower: Follower) -> dict[int, float]:
    """Start of each segment in seconds, by its number."""
    at = {}
    for number, segment in follower.segments.items():
        assert segment.date is not None
        hours, minutes, rest = segment.date[11:-1].split(":")
        at[number] = int(hours) * 3600 + int(minutes) * 60 + float(rest)
    return at


RENDITIONS = ("60 fps with B-frames", "a variable frame rate", "a picture that pauses", "a GOP of half a second",
              "segments of ten seconds", "sound of 8 kHz")  # fmt: skip


@pytest.mark.parametrize("name", RENDITIONS)
def test_segments_of_one_number_begin_at_one_moment_in_picture_and_sound(name: str) -> None:
    seconds, size, table = SOURCES[name]
    packager, seen = cmaf(seconds, size), dict[str, Follower]()
    tables = (table, replace(table, start=table.start + table.seconds + 1.7))
    feed(packager, *tables, each=lambda _: follow(packager, seen), end=False)
    video, audio = dated(seen["video"]), dated(seen["audio"])
    both = sorted(video.keys() & audio.keys())
    assert len(both) >= 4
    frame = 1024 / table.rate
    if "pauses" not in name:  # while it does, sound goes on by the clock, and has segments more
        assert all(-0.002 <= audio[n] - video[n] <= frame + 0.07 for n in both)
    last = {kind: f.last for kind, f in seen.items()}
    assert last["video"] is not None and last["audio"] is not None
    kinds = [{s.discontinuity for s in f.segments.values()} for f in seen.values()]
    assert kinds[0] == kinds[1] == ({0, 1, 2, 3} if "pauses" in name else {0, 1})


def test_discontinuities_match_where_one_publisher_sent_no_sound() -> None:
    """RFC 8216bis §6.2.4: each moment has the same discontinuity sequence number in every rendition."""
    packager, seen = cmaf(size=30), dict[str, Follower]()
    tables = (Timetable(seconds=6.2), Timetable(seconds=6.2, start=8, audio=None), Timetable(seconds=30, start=16))
    feed(packager, *tables, each=lambda _: follow(packager, seen), end=False)
    found = {kind: {s.date: s.discontinuity for s in f.segments.values()} for kind, f in seen.items()}
    assert set(found["video"].values()) == {0, 1, 2} and set(found["audio"].values()) == {0, 2}


def test_a_publisher_that_comes_back_without_sound_is_offered_without_it() -> None:
    packager = cmaf(size=30)
    feed(packager, Timetable(seconds=6), Timetable(seconds=6, start=8, audio=None), end=False)
    assert "EXT-X-MEDIA" not in packager.manifests.master() and 'CODECS="avc1.64001F"' in packager.manifests.master()
    feed(packager, Timetable(seconds=6, start=16), end=False, epochs=[2])
    assert "EXT-X-MEDIA" in packager.manifests.master()


def test_sound_that_begins_within_the_second_segment_is_waited_for() -> None:
    packager, lanes = cmaf(), []

    def each(_: object) -> None:
        if packager.ready:
            lanes.append([lane.kind for lane in packager.manifests.tracks])

    feed(packager, Timetable(audio_at=3.0), each=each, end=False)
    assert lanes[0] == ["video", "audio"]


@pytest.mark.parametrize("start", [0.0, 2147483.648, 4294967.0])
def test_media_time_begins_at_zero_for_any_clock_of_the_publisher(start: float) -> None:
    """Some DASH players take an encoder's uptime for a presentation time and find no segment."""
    packager = cmaf(size=100)
    feed(packager, Timetable(start=start, shifts=(2, 4, 1, 1)), end=False)
    for lane in packager.manifests.tracks:
        fragments = reader.parse_fragments(lane.window[0].body())
        assert 0 <= fragments[0].base_decode_time / lane.window[0].clock < 0.1
        assert lane.window[0].wall == pytest.approx(WALL + start, abs=0.1)
    offsets = re.findall(r'presentationTimeOffset="(\d+)"', packager.manifests.manifest())
    assert len(set(offsets)) == 1 and int(offsets[0]) < 9000


def test_bandwidth_is_that_of_the_heaviest_segment_or_more() -> None:
    packager = cmaf(size=100)
    feed(packager, Timetable(size=3000, seconds=12), Timetable(size=9000, seconds=12, start=13), end=False)
    said = int(packager.manifests.master().partition(":BANDWIDTH=")[2].partition(",")[0])
    peaks = [max(s.body.size * 8 / s.duration for s in lane.window) for lane in packager.manifests.tracks]
    assert said >= sum(peaks)
    found = [int(b) for b in re.findall(r' bandwidth="(\d+)"', packager.manifests.manifest())]
    assert found[:2] == [int(p) for p in peaks]


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
@pytest.mark.parametrize("until", [0.1, 4.1, 12.1, 12.4])
def test_a_short_segment_of_a_publisher_that_returns_does_not_raise_the_bandwidth(make: type, until: float) -> None:
    """Most of its bytes are the key frame, and no player gets it alone."""

    def bandwidth(first: float) -> int:
        packager: TsPackager | CmafPackager = make(size=10)
        for epoch, table in enumerate((Timetable(seconds=first, audio=None), Timetable(12, start=20, audio=None))):
            packager.take_tracks(Tracks(table.video, None, epoch))
            for unit in table.units():
                size = 120_000 if unit.key else 8_000
                packager.take(replace(unit, payload=nal(unit.dts, unit.key, size)))
        packager.on_end(EndReason.PUBLISHER_GONE)
        variant = packager.variant("") if isinstance(packager, TsPackager) else packager.manifests.variant()
        return variant.bandwidth

    assert bandwidth(12.0) <= bandwidth(until) < 1.3 * bandwidth(12.0)


def test_the_peak_bitrate_is_of_successive_segments_of_half_to_one_and_a_half_target_durations() -> None:
    def peak(*segments: tuple[float, int]) -> float:
        window = SegmentWindow(10)
        window.target = 2
        for n, (duration, size) in enumerate(segments):
            window.add(Segment(n, f"{n}.ts", duration, LazyBytes(bytes, size), "", 0, 0.0))
        return window.peak

    assert peak((0.5, 1000)) == 16_000, "nothing else is known"
    assert peak((2.0, 1000), (2.0, 3000), (2.0, 2000)) == 12_000
    assert peak((2.0, 1000), (0.5, 1000), (2.0, 2000)) == 9_600
    assert peak((2.0, 2000), (0.5, 1000), (2.0, 1000)) == 9_600
    assert peak((2.8, 1000), (0.5, 9000), (2.8, 1000)) == pytest.approx(1000 * 8 / 2.8)


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
@pytest.mark.parametrize("size", [66_000, 70_000, 100_000])
def test_segments_with_too_many_bytes_are_counted_and_the_next_ones_begin_with_key_frames_again(
    make: type, size: int
) -> None:
    """GOPs of ten seconds of 13 Mbit/s and more."""
    packager: TsPackager | CmafPackager = make(size=10)
    table = Timetable(seconds=62, fps=Fraction(25), gop=(250,))
    packager.take_tracks(Tracks(table.video, table.audio, 0))
    pictures: list[tuple[int, bool]] = []
    for unit in table.units():
        is_picture = unit.track is VIDEO
        packager.take(replace(unit, payload=nal(unit.dts, unit.key, size)) if is_picture else unit)
        number = packager._number if isinstance(packager, TsPackager) else packager._video.number
        if is_picture and (not pictures or pictures[-1][0] != number):
            pictures.append((number, unit.key))
    found = [key for _, key in pictures]
    assert packager.forced_cuts == found.count(False) >= 5
    assert all(one or two for one, two in itertools.pairwise(found))


def test_a_segment_without_a_key_frame_removes_the_start_with_sap_attribute() -> None:
    packager = cmaf()
    feed(packager, Timetable(seconds=12, audio=None), end=False)
    assert 'startWithSAP="1"' in packager.manifests.manifest()
    packager = cmaf()
    feed(packager, Timetable(seconds=20, gop=(60, 60, 400), audio=None), end=False)
    assert packager.forced_cuts and "startWithSAP" not in packager.manifests.manifest()


MP3_FRAME = bytes.fromhex("fffb9064") + bytes(413)  # MPEG-1 Layer III, 128 kbit/s, 44.1 kHz, joint stereo


def test_a_single_pause_of_the_picture_does_not_lengthen_later_parts() -> None:
    packager = cmaf(6.0)
    feed(packager, Timetable(pause=(1.0, 13.0), gop=(400,), seconds=30), end=False)
    assert packager.manifests.tracks[0].part_target == 0.5


@pytest.mark.parametrize(
    ("fps", "target"),
    [(Fraction(1), 1.0), (Fraction(5), 0.4), (Fraction(25), 0.52), (Fraction(24000, 1001), 0.5005)],
)
def test_part_target_suits_the_frame_rate(fps: Fraction, target: float) -> None:
    packager = cmaf()
    feed(packager, Timetable(fps=fps, gop=(round(2 * fps),), seconds=12), end=False)
    assert packager.manifests.tracks[0].part_target == target


@pytest.mark.parametrize("fps", [Fraction(15), Fraction(10), Fraction(15, 2)], ids=str)
def test_a_rate_that_is_a_fraction_of_the_announced_one_is_listed_and_has_no_short_parts(fps: Fraction) -> None:
    assert codecs.frame_rate(VIDEO) == 30
    packager = cmaf(size=100)
    feed(packager, Timetable(fps=fps, gop=(int(2 * fps),), seconds=14), end=False)
    (video, _), said = packager.manifests.tracks, packager.manifests.frame_rate
    assert said == fps
    assert min(part.duration for segment in list(video.window)[1:] for part in segment.parts) > 0.38


def test_mp3_has_the_codec_name_of_each_format() -> None:
    packager = cmaf()
    track = MediaTrack(Kind.AUDIO, Codec.MP3, 1000, b"")
    packager.take_tracks(Tracks(None, track, 0))
    for unit in Timetable(video=None, audio=track, samples=1152).units():
        packager.take(replace(unit, payload=MP3_FRAME))
    packager.on_end(EndReason.PUBLISHER_GONE)
    assert 'CODECS="mp4a.40.34"' in packager.manifests.master()
    assert 'codecs="mp4a.6B"' in packager.manifests.manifest()


def test_opus_has_the_codec_name_of_each_format() -> None:
    packager = cmaf()
    track = MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b"")
    packager.take_tracks(Tracks(VIDEO, track, 0))
    for unit in Timetable(audio=track, rate=48000, samples=960).units():
        packager.take(unit if unit.track is VIDEO else replace(unit, payload=b"\xfc\xff\xfe"))
    assert 'CODECS="avc1.64001F,opus"' in packager.manifests.master()
    assert 'codecs="opus"' in packager.manifests.manifest()


@pytest.mark.parametrize("shifts", [(0,), (2, 4, 1, 1), (0, 1, -1)], ids=str)
def test_fragments_follow_each_other_without_a_gap_on_one_time_line(shifts: tuple[int, ...]) -> None:
    packager = cmaf(size=100)
    feed(packager, Timetable(shifts=shifts), end=False)
    for lane in packager.manifests.tracks:
        end = None
        for segment in lane.window:
            for fragment in reader.parse_fragments(segment.body()):
                assert end is None or fragment.base_decode_time == end
                end = fragment.base_decode_time + sum(s.duration for s in fragment.samples)


RISES = [(5, 30), (8, 25), (15, 60), (24, 60)]


@pytest.mark.parametrize("scale", [1000, 90_000])
@pytest.mark.parametrize(("slow", "fast"), RISES, ids=str)
def test_a_frame_rate_that_rises_has_growing_decode_times_and_keeps_its_presentation_times(
    slow: int, fast: int, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codecs, "frame_rate", lambda track: None)
    track = replace(VIDEO, timescale=scale)
    for phase in range(slow):  # the rate changes at each place of a part
        times = [Fraction(n, slow) for n in range(6 * slow + phase)]
        times += [times[-1] + Fraction(n + 1, fast) for n in range(4 * fast)]
        packager = cmaf(size=100)
        packager.take_tracks(Tracks(track, None, 0))
        for n, time in enumerate(times):
            key = n % (2 * slow) == 0
            packager.take(AccessUnit(track, round(time * scale), 0, key, WALL + float(time), nal(n, key)))
        packager.on_end(EndReason.PUBLISHER_GONE)
        (lane,) = packager.manifests.tracks
        bodies = [part.body() for segment in lane.window for part in segment.parts]
        fragments = [fragment for body in bodies for fragment in reader.parse_fragments(body)]
        assert [f.base_decode_time for f in fragments[1:]] == [
            f.base_decode_time + sum(s.duration for s in f.samples) for f in fragments[:-1]
        ]
        shown = list[int]()
        for each in fragments:
            starts = itertools.accumulate([s.duration for s in each.samples], initial=each.base_decode_time)
            shown += [start + s.cts for start, s in zip(starts, each.samples, strict=False)]
        assert shown == pytest.approx([float(time * 90_000) for time in times], abs=200)
        assert shown == sorted(shown)


FOUND = [[1, 136, 1, 1, 94], [1, 135, 1, 2, 94]]


@pytest.mark.parametrize("gop", FOUND, ids=str)
def test_segments_of_exactly_three_target_durations_are_long_enough(gop: list[int]) -> None:
    """Durations are printed in steps of 10 µs, and the printed ones decide which segments stay in the list."""
    for packager in (ts(size=1), cmaf(size=1)):
        seen: dict[str, Follower] = {}
        table = Timetable(15, Fraction(30), tuple(gop), rounding=int)
        feed(packager, table, replace(table, start=16.0), each=lambda _, p=packager, s=seen: follow(p, s))
        assert all(len(f.segments) >= 6 for f in seen.values())


@pytest.mark.parametrize("start", [0.0, 0.4, 0.9997], ids=["on a second", "within a second", "rounded to a second"])
@pytest.mark.parametrize(("seconds", "least"), [(1.0, 3), (2.0, 3), (4.0, 5)])
def test_a_manifest_may_be_joined_once_three_whole_seconds_and_its_delay_have_passed(
    seconds: float, least: int, start: float
) -> None:
    """ffmpeg calculates in whole seconds and looks once: the first segment that it computes must exist."""
    packager, table = cmaf(seconds), Timetable(gop=(30,))
    packager.take_tracks(Tracks(table.video, table.audio, 0))
    for unit in table.units():
        unit.wall += start
        packager.take(unit)
        if packager.manifests.is_playable():
            break
    text = mpd.finish(packager.manifests.manifest()).decode()
    printed = datetime.fromisoformat(text.partition('availabilityStartTime="')[2].partition('"')[0])
    elapsed = unit.wall - int(printed.timestamp())
    depth = float(text.partition('timeShiftBufferDepth="PT')[2].partition("S")[0])
    delay = float(text.partition('suggestedPresentationDelay="PT')[2].partition("S")[0])
    assert 3 <= depth <= int(elapsed) and int(delay) <= int(elapsed)
    assert least <= elapsed < least + 0.6


def test_playlists_of_irregular_streams_are_joined_as_soon_as_they_exist() -> None:
    packager = cmaf(1.0)
    feed(packager, Timetable(seconds=2.9, gop=(30, 42)), end=False)
    assert packager.ready and packager.manifests.is_playable()
