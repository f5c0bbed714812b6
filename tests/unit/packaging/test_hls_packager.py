"""Synthetic streams of every shape through both packagers; every playlist of theirs must keep the draft's rules."""

from __future__ import annotations

import asyncio
import gc
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.formats.hls import media_playlist
from gateway.formats.mp4 import reader
from gateway.lib.metrics import Metrics
from gateway.live.pushed_tracks import MediaBudget
from gateway.live.stream import Stream
from gateway.media.errors import UnsupportedCodec
from gateway.media.track import AccessUnit, AmfValue, Codec, Kind, MediaTrack, Tracks
from gateway.packaging.alignment import Alignment
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.packager_sequence import CmafPackagerFactory, TsPackagerFactory
from gateway.packaging.segment_window import LazyBytes, Segment, SegmentWindow
from gateway.packaging.ts.packager import TsPackager, sequence_start
from gateway.ports.errors import OutputUnsupported
from tests.support import mp4
from tests.support.builders import AUDIO, VIDEO, channel, picture, spec, stream
from tests.support.hls_rules import Follower, check, parse
from tests.support.packets import packets
from tests.support.segmented import WALL, Timetable, cmaf, feed, ts, viewed

Maker = Callable[..., TsPackager | CmafPackager]

SHAPES = {
    "regular": Timetable(),
    "B-frames": Timetable(shifts=(2, 4, 1, 1)),
    "negative composition times": Timetable(shifts=(0, 1, -1)),
    "audio only": Timetable(video=None),
    "video only": Timetable(audio=None),
    "25 fps": Timetable(fps=Fraction(25), gop=(50,)),
    "29.97 fps": Timetable(fps=Fraction(30000, 1001)),
    "60 fps": Timetable(fps=Fraction(60), gop=(120,)),
    "5 fps": Timetable(fps=Fraction(5), gop=(10,), seconds=20),
    "1 fps": Timetable(fps=Fraction(1), gop=(2,), seconds=30),
    "cut-off milliseconds": Timetable(rounding=int),
    "irregular GOPs": Timetable(gop=(60, 45, 70, 30), seconds=30),
    "a GOP longer than the first": Timetable(gop=(60, 60, 200), seconds=30),
    "short GOPs": Timetable(gop=(15,), seconds=20),
    "no second key frame": Timetable(gop=(100_000,), seconds=50),
    "late audio": Timetable(audio_at=5, seconds=20),
    "audio that arrives late": Timetable(audio_late=0.4, seconds=20),
    "audio that arrives early": Timetable(audio_late=-0.4, seconds=20),
    "audio that drifts": Timetable(audio_drift=0.004, seconds=40),
    "48 kHz": Timetable(rate=48000, audio=MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90")),
    "a fine timescale": Timetable(video=replace(VIDEO, timescale=90_000), rounding=lambda x: round(x * 90), audio=None),
}


def follow(packager: TsPackager | CmafPackager, seen: dict[str, Follower]) -> None:
    """Lets a client look at every playlist there is."""
    if not packager.ready or "seen" in packager.cache:
        return
    packager.cache["seen"] = True  # until the packager empties it: nothing has changed
    if isinstance(packager, TsPackager):
        seen.setdefault("live", Follower()).see(media_playlist.with_suffix(packager.playlist()).decode())
    else:
        controls = []
        for lane in packager.manifests.tracks:
            playlist = seen.setdefault(lane.kind, Follower()).see(
                media_playlist.with_suffix(packager.manifests.playlist(lane)).decode()
            )
            delta = check(parse(media_playlist.with_suffix(packager.manifests.playlist(lane, skip=True)).decode()))
            assert delta.last == playlist.last and delta.sequence == playlist.sequence
            controls += [playlist.control, delta.control]
            assert delta.hint == playlist.hint
            if playlist.hint is not None:
                assert lane.part(playlist.hint) is None  # not there yet …
            for segment in [*playlist.segments, *([playlist.open] if playlist.open else [])]:
                for part in segment.parts:
                    assert lane.part(part.uri) is not None
        assert all(control == controls[0] for control in controls), "appendix B.1: one server control for all"


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
@pytest.mark.parametrize("table", SHAPES.values(), ids=SHAPES)
def test_every_playlist_of_every_shape_keeps_the_rules(table: Timetable, make: Maker) -> None:
    packager, seen = make(), dict[str, Follower]()
    feed(packager, table, each=lambda _: follow(packager, seen))
    follow(packager, seen)
    assert seen and all(f.last is not None and f.last.ended and len(f.segments) >= 3 for f in seen.values())


@pytest.mark.parametrize("name", [n for n in SHAPES if n != "late audio"])
def test_cmaf_loses_and_repeats_no_frame(name: str) -> None:
    packager, table = cmaf(size=1000), SHAPES[name]
    feed(packager, table)
    for lane in packager.manifests.tracks:
        body = b"".join([mp4.mdat(g.body()) for g in lane.window])
        sent = [u.payload for u in table.units() if u.track.kind.value == lane.kind]
        assert b"".join(sent).endswith(body)
        assert len(body) >= 0.95 * len(b"".join(sent))


@pytest.mark.parametrize(
    "name", ["regular", "B-frames", "29.97 fps", "cut-off milliseconds", "audio that arrives late"]
)
def test_audio_segments_begin_with_the_first_frame_after_the_video_cut(name: str) -> None:
    packager = cmaf(size=1000)
    feed(packager, SHAPES[name])
    video, audio = packager.manifests.tracks
    frame = 1024 / 44100
    pairs = list(zip(video.window, audio.window, strict=False))
    assert len(pairs) >= 5
    for v, a in pairs:
        assert v.number == a.number
        assert 0 <= a.time / a.clock - v.time / v.clock + 1e-4 < frame + 1e-3


@pytest.mark.parametrize(
    ("name", "frames"),
    [("regular", 15), ("B-frames", 15), ("25 fps", 13), ("29.97 fps", 15), ("60 fps", 30), ("audio only", 22)],
)
def test_a_part_is_published_with_the_last_frame_that_fits(name: str, frames: int) -> None:
    """No part waits for the frame behind it: once the rate has settled, the newest part ends with the newest frame."""
    packager, table = cmaf(), SHAPES[name]
    kind = "audio" if table.video is None else "video"
    at_once: list[bool] = []
    parts = 0

    def each(unit: AccessUnit) -> None:
        nonlocal parts
        lane = packager.manifests.track(kind)
        if lane is not None and unit.track.kind.value == kind and lane.part_number != parts:
            if parts:
                at_once.append((lane.part(lane.part_uri(lane.part_number - 1)) or b"").endswith(unit.payload))
            parts = lane.part_number

    feed(packager, table, each=each, end=False)
    lane = packager.manifests.tracks[0]
    counts = [len(f.samples) for s in lane.window for f in reader.parse_fragments(s.body())]
    # Three whole parts and what is left of the segment: four of 12 frames and a rest of two is what players skip.
    assert len(at_once) > 15 and counts[4:].count(frames) >= 0.7 * len(counts[4:])
    assert min(counts[4:]) > frames / 2
    # Only what is left of a segment after whole parts shows with the key frame behind it.
    assert at_once.count(False) == (0 if frames in (15, 30, 22) else sum(c < frames for c in counts[5:]))


def test_the_body_of_a_segment_is_its_parts_joined() -> None:
    packager = cmaf()
    kept: dict[str, bytes] = {}

    def each(_: AccessUnit) -> None:
        for lane in packager.manifests.tracks:
            for part in lane.parts:
                uri = lane.part_uri(part.number)
                kept[lane.kind + uri] = lane.part(uri) or b""

    feed(packager, Timetable(), each=each)
    for lane in packager.manifests.tracks:
        for segment in list(lane.window)[2:]:
            assert b"".join([lane.part(lane.part_uri(p.number)) or b"" for p in segment.parts]) == segment.body()
            for part in segment.parts[:-1]:
                uri = lane.part_uri(part.number)
                assert kept[lane.kind + uri] == lane.part(uri)


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
def test_a_publisher_that_comes_back_is_one_discontinuity(make: Maker) -> None:
    packager, seen = make(size=20), dict[str, Follower]()
    tables = (Timetable(seconds=9.3), Timetable(seconds=11, start=10.8))
    feed(packager, *tables, each=lambda _: follow(packager, seen), end=False)
    for f in seen.values():
        assert f.last is not None
        assert sorted({s.discontinuity for s in f.segments.values()}) == [0, 1]
        assert f.last.text.count("#EXT-X-DISCONTINUITY\n") == 1
        maps = {s.map_uri for s in f.segments.values()}
        assert len(maps) == (1 if make is ts else 2)


@pytest.mark.parametrize("days", [300, -300])
@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
def test_a_jump_of_the_clock_changes_no_segment(make: Maker, days: int) -> None:
    found = []
    for jump in (0.0, days * 86_400.0):
        packager, seen = make(size=20), dict[str, Follower]()
        feed(packager, Timetable(clock_jump=jump), end=False)
        follow(packager, seen)
        found.append([(n, s.duration, s.date) for f in seen.values() for n, s in f.segments.items()])
    assert found[0] == found[1]
    assert len(found[0]) >= 4


def test_a_discontinuity_that_leaves_the_list_is_counted() -> None:
    packager, seen = ts(size=3), dict[str, Follower]()
    feed(
        packager, Timetable(seconds=7), Timetable(seconds=30, start=8), each=lambda _: follow(packager, seen), end=False
    )
    last = seen["live"].last
    assert last is not None and last.discontinuity_sequence == 1
    assert "#EXT-X-DISCONTINUITY\n" not in last.text


def test_epochs_without_media_add_no_discontinuity() -> None:
    packager, seen = cmaf(size=20), dict[str, Follower]()
    empty = Timetable(seconds=0)
    tables = (Timetable(seconds=6), empty, empty, Timetable(seconds=6, start=8))
    feed(packager, *tables, each=lambda _: follow(packager, seen), end=False)
    last = seen["video"].last
    assert last is not None and last.text.count("#EXT-X-DISCONTINUITY\n") == 1


def test_a_stream_that_loses_its_picture_goes_on_with_sound() -> None:
    packager, seen = cmaf(size=20), dict[str, Follower]()
    feed(
        packager,
        Timetable(seconds=8),
        Timetable(seconds=8, start=10, video=None),
        each=lambda _: follow(packager, seen),
    )
    assert max(s.discontinuity for s in seen["audio"].segments.values()) == 1


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
def test_a_picture_that_stops_does_not_stop_the_sound(make: Maker) -> None:
    packager, seen = make(size=30), dict[str, Follower]()
    packager.take_tracks(Tracks(VIDEO, AUDIO, 0))
    for unit in Timetable(seconds=30).units():
        if unit.track.kind is Kind.AUDIO or unit.dts < 6000:
            packager.take(unit)
            follow(packager, seen)
    sound = seen["live" if make is ts else "audio"]
    assert sum(s.duration for s in sound.segments.values()) > 25


def test_file_names_follow_the_contract() -> None:
    one, two = ts(size=6), cmaf(size=6)
    feed(one, Timetable())
    feed(two, Timetable())
    segments = list(one.window)
    assert [s.number for s in segments] == [sequence_start(WALL) + n for n in range(len(segments))]
    assert [s.uri for s in segments] == [f"{int(WALL * 1000) + n}.ts" for n in range(len(segments))]
    video = two.manifests.tracks[0]
    assert [s.uri for s in video.window] == [f"{int(WALL)}-{s.number}.m4s" for s in video.window]
    assert video.window[0].number == 1


def test_a_restarted_packager_goes_on_with_higher_numbers() -> None:
    packagers, source = CmafPackagerFactory(0.5), stream()
    one = packagers.make(source, 2.0, 5, WALL)
    feed(one, Timetable(seconds=7), end=False)
    last = {lane.kind: (lane.number, lane.part_number) for lane in one.manifests.tracks}
    two = packagers.make(source, 2.0, 5, WALL + 9)
    feed(two, Timetable(seconds=7, start=9))
    for lane in two.manifests.tracks:
        assert lane.window[0].number > last[lane.kind][0] - 1
        assert lane.window[0].parts[0].number >= last[lane.kind][1]
        assert lane.window[0].epoch == 1
        # No name of what the first one may still be asked for means anything of the second.
        (name,) = {s.uri.partition("-")[0] for s in lane.window}
        assert int(name) > int(WALL)


async def test_a_restarted_transport_stream_goes_on_with_higher_numbers_and_keeps_no_media() -> None:
    packagers, source = TsPackagerFactory(), stream()
    one = packagers.make(source, 2.0, 5, WALL)
    feed(one, Timetable(seconds=7), Timetable(seconds=4, start=8), end=False)
    last, uri, kept = one.window[-1].number, one.window[-1].uri, ref(one)
    running = asyncio.ensure_future(one.run(source))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    del one, running
    gc.collect()
    assert kept() is None
    two = packagers.make(source, 2.0, 5, WALL - 60)  # a clock that was set back
    feed(two, Timetable(seconds=7, start=9))
    assert two.window[0].number > last and two.window[0].epoch == 2
    assert int(two.window[0].uri.removesuffix(".ts")) > int(uri.removesuffix(".ts"))


def test_numbers_fit_31_bits_and_a_later_start_is_never_lower() -> None:
    for now in (WALL, 1_800_000_000.0, 3_600_000_000.0):
        packager = TsPackagerFactory().make(stream(), 1.0, 100, now)
        feed(packager, Timetable(seconds=30, gop=(30,)))
        last = packager.window[-1]
        assert last.number < 2**31 and last.epoch < 2**31
        assert sequence_start(now + 30) >= last.number and sequence_start(now + 30) > last.epoch


def test_a_stream_continued_on_another_node_has_higher_numbers_despite_different_clocks() -> None:
    one = TsPackagerFactory().make(stream(), 2.0, 5, WALL)
    feed(one, Timetable(seconds=20), end=False)
    # Half a minute later, by a clock that is behind.
    successor = Stream(replace(spec(started=WALL - 25), first_number=80), channel())
    two = TsPackagerFactory().make(successor, 2.0, 5, WALL - 25)
    feed(two, Timetable(seconds=7, start=30))
    assert two.window[0].number > one.window[-1].number
    assert two.window[0].epoch > one.window[-1].epoch


def test_numbers_that_another_node_has_told_are_continued_exactly() -> None:
    one, source = TsPackagerFactory(), stream()
    first = one.make(source, 2.0, 5, WALL)
    feed(first, Timetable(seconds=7), end=False)
    told = source.playback.next_numbers.by_output["hls"]
    successor = Stream(replace(spec(started=WALL + 30), first_number=90, continues={"hls": told}), channel())
    second = TsPackagerFactory().make(successor, 2.0, 5, WALL + 30)
    feed(second, Timetable(seconds=7, start=30))
    assert second.window[0].number == first.window[-1].number + 1
    assert second.window[0].epoch == first.window[-1].epoch + 1
    assert int(second.window[0].uri.removesuffix(".ts")) > int(first.window[-1].uri.removesuffix(".ts"))


def test_fragments_leave_out_the_number_of_a_segment_whose_parts_players_may_have() -> None:
    source = stream()
    first = CmafPackagerFactory(0.5).make(source, 2.0, 5, WALL)
    feed(first, Timetable(seconds=7), end=False)
    told = source.playback.next_numbers.by_output["cmaf"]
    successor = Stream(replace(spec(started=WALL + 30), first_number=90, continues={"cmaf": told}), channel())
    second = CmafPackagerFactory(0.5).make(successor, 2.0, 5, WALL + 30)
    feed(second, Timetable(seconds=7, start=30))
    for before, after in zip(first.manifests.tracks, second.manifests.tracks, strict=True):
        assert after.window[0].number == before.number + 1
        assert after.window[0].epoch == before.window[-1].epoch + 1
        assert {s.uri for s in before.window}.isdisjoint(s.uri for s in after.window)


def test_wrong_told_numbers_are_not_used() -> None:
    successor = Stream(replace(spec(started=WALL), first_number=90, continues={"hls": (1,), "cmaf": ()}), channel())
    two = TsPackagerFactory().make(successor, 2.0, 5, WALL)
    feed(two, Timetable(seconds=7))
    assert two.window[0].number > sequence_start(WALL)


def test_the_master_playlist_has_the_measured_values() -> None:
    packager = cmaf()
    feed(packager, Timetable(size=4000))
    text = media_playlist.with_suffix(packager.manifests.master(), "?sign=1").decode()
    assert 'GROUP-ID="audio",NAME="audio",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="audio/index.m3u8?sign=1"' in text
    assert 'CODECS="avc1.64001F,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=30.000,AUDIO="audio"' in text
    assert text.endswith("video/index.m3u8?sign=1\n")
    peak = int(text.partition("BANDWIDTH=")[2].partition(",")[0])
    assert 4000 * 30 * 8 < peak < 4100 * 30 * 8 + 80_000


def test_audio_alone_is_a_variant_without_a_group() -> None:
    packager = cmaf()
    feed(packager, Timetable(video=None))
    text = packager.manifests.master()
    assert "EXT-X-MEDIA" not in text and "audio/index.m3u8" in text and "RESOLUTION" not in text


def test_the_playlist_is_ready_without_the_announced_audio() -> None:
    packager = cmaf()
    packager.take_tracks(Tracks(VIDEO, AUDIO, 0))
    for unit in Timetable(seconds=7, audio=None).units():
        packager.take(unit)
    assert packager.ready and [lane.kind for lane in packager.manifests.tracks] == ["video"]


def test_a_broken_frame_is_dropped_and_the_rest_goes_on() -> None:
    packager = ts()
    packager.take_tracks(Tracks(VIDEO, None, 0))
    for unit in Timetable(seconds=7, audio=None).units():
        packager.take(unit)
        packager.take(picture(unit.dts + 5, size=3))
    if isinstance(packager, TsPackager):
        assert all(segment.body() for segment in packager.window)  # read only when somebody wants it
    assert packager.broken and packager.ready


async def test_a_codec_that_transport_streams_cannot_carry_stops_the_packager() -> None:
    source, packager = stream(), ts()
    av1 = MediaTrack(Kind.VIDEO, Codec.AV1, 1000, b"\x81\x04\x0c\x00")
    source.set_tracks(av1, None, {}, False)
    with pytest.raises(OutputUnsupported, match="av1"):
        await packager.run(source)
    assert packager.refused and packager.stopped and not packager.ready


def test_vp8_is_refused_by_cmaf() -> None:
    with pytest.raises(UnsupportedCodec):
        cmaf().take_tracks(Tracks(MediaTrack(Kind.VIDEO, Codec.VP8, 1000, b""), None, 0))


async def test_a_stream_that_ends_finishes_its_last_segment() -> None:
    packager = ts()
    feed(packager, Timetable(seconds=5))
    assert packager.ended and packager.playlist().endswith("#EXT-X-ENDLIST\n")
    assert sum(s.duration for s in packager.window) == pytest.approx(5.0, abs=0.05)


def test_parts_and_segments_are_counted_in_the_metrics() -> None:
    metrics = Metrics("test")
    one = TsPackager("c1", SegmentPlan(2.0, 5), WALL, metrics=metrics)
    two = CmafPackager("c1", SegmentPlan(2.0, 5, 0.5), WALL, SequenceNumbers(prefix=int(WALL)), metrics)
    feed(one, Timetable())
    feed(two, Timetable())
    segments = {labels: sum(row[:-1]) for labels, row in metrics.segment_seconds.series.items()}
    assert segments == {("ts",): 6, ("cmaf",): 12}
    assert sum(metrics.part_seconds.series[()][:-1]) == sum(metrics.part_delay.series[()][:-1]) > 40


def segment(number: int, duration: float = 2.0, size: int = 10) -> Segment:
    return Segment(number, f"{number}.ts", duration, LazyBytes(lambda: b"x" * size, size), "", 0, 0.0)


def test_a_removed_segment_stays_available_for_the_length_of_the_list() -> None:
    window = SegmentWindow(5)
    window.target = 2
    gone: dict[int, int] = {}
    for n in range(40):
        gone |= {s.number: n for s in window.add(segment(n))}
        window.show()
    assert len(window) == 5
    for number, n in gone.items():
        left = number + 5  # the segment with which it left the list
        assert (n - left) * 2.0 >= 5 * 2.0 + 2.0


def test_a_segment_that_no_client_saw_goes_when_it_leaves_the_list() -> None:
    window = SegmentWindow(5)
    window.target = 2
    assert [s.number for n in range(8) for s in window.add(segment(n))] == [0, 1, 2]
    window.show()  # a client gets 3 to 7
    removed = [(n, s.number) for n in range(8, 20) for s in window.add(segment(n))]
    assert [n for n, number in removed if number == 3] == [15], "12 s after it left the list with 8, plus its length"
    assert len([number for _, number in removed if number <= 7]) == 5
    removed = [(n, s.number) for n in range(20, 30) for s in window.add(segment(n))]
    assert removed == [(n, n - 5) for n in range(20, 30)]


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
def test_a_stream_without_viewers_keeps_only_listed_segments(make: Maker) -> None:
    unseen, seen = make(), make()
    feed(unseen, Timetable(seconds=60), end=False)
    feed(seen, Timetable(seconds=60), each=lambda _: follow(seen, {}), end=False)
    for window, watched in zip(windows(unseen), windows(seen), strict=True):
        assert not list(window.unlisted())
        assert len(list(watched.unlisted())) > len(watched)
        assert [s.uri for s in window] == [s.uri for s in watched][-len(window) :]


def test_low_latency_playlists_list_more_after_the_first_client_of_a_ladder() -> None:
    shared, numbers = Alignment(), SequenceNumbers(prefix=int(WALL))
    source, rendition = (
        CmafPackager(name, SegmentPlan(2.0, 5, 0.5), WALL, numbers, alignment=shared) for name in ("c1", "c1@sd")
    )
    table, lengths = Timetable(seconds=40), set[tuple[int, ...]]()
    for packager in (source, rendition):
        packager.take_tracks(Tracks(table.video, table.audio, 0))
    for unit in table.units():
        source.take(unit)
        rendition.take(unit)
        if source.ready and rendition.ready:
            lengths.add(tuple(len(window) for window in (*windows(source), *windows(rendition))))
            if unit.wall > WALL + 20:
                viewed(rendition)(unit)
    assert (5, 5, 5, 5) in lengths
    assert (10, 10, 10, 10) in lengths
    assert max(max(row) for row in lengths) == 10


def test_a_dash_manifest_and_a_history_keep_segments_too() -> None:
    dash, rewind = cmaf(), ts()
    rewind.begin_history(3600.0)
    feed(dash, Timetable(seconds=60), each=lambda _: dash.ready and dash.manifests.manifest(), end=False)
    feed(rewind, Timetable(seconds=60), end=False)
    for window in (*windows(dash), rewind.window):
        assert len(list(window.unlisted())) > len(window)


def windows(packager: TsPackager | CmafPackager) -> list[SegmentWindow]:
    if isinstance(packager, TsPackager):
        return [packager.window]
    return [track.window for track in packager.manifests.tracks]


def test_the_list_never_gets_shorter_than_three_target_durations() -> None:
    window = SegmentWindow(1)
    window.target = 2
    for n in range(10):
        window.add(segment(n))
        assert window.seconds >= min(6.0, 2.0 * (n + 1))


@given(st.lists(st.tuples(st.floats(0.1, 9), st.integers(1, 400)), max_size=80), st.integers(1, 12))
def test_memory_is_bounded_for_any_segments(what: list[tuple[float, int]], size: int) -> None:
    window = SegmentWindow(size, max_bytes=1000)
    for n, (duration, length) in enumerate(what):
        window.add(segment(n, duration, length))
        assert window.bytes <= 1000 or len(window) == 1
        assert window.bytes == sum(s.body.size for s in [*window, *window.unlisted()])
        assert window.find(f"{n}.ts") is not None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 400)), max_size=80))
def test_windows_with_one_budget_stay_below_it_together(what: list[tuple[int, int]]) -> None:
    budget = MediaBudget(1000)
    windows = [SegmentWindow(12, budget=budget) for _ in range(4)]
    for n, (which, length) in enumerate(what):
        windows[which].add(segment(n, 2.0, length))
        assert sum(w.bytes for w in windows) <= 1000 or len(windows[which]) == 1
        assert windows[which].find(f"{n}.ts") is not None


@settings(max_examples=20)
@given(
    st.lists(st.integers(1, 150), min_size=1, max_size=6),
    st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(30), Fraction(60)]),
    st.lists(st.integers(-1, 3), min_size=1, max_size=5),
    st.floats(-0.5, 0.5),
    st.sampled_from([int, round]),
    st.integers(1, 8),
)
def test_the_rules_hold_for_any_timetable(
    gop: list[int], fps: Fraction, shifts: list[int], late: float, rounding: type[int], size: int
) -> None:
    table = Timetable(15, fps, tuple(gop), tuple(shifts), rounding, audio_late=late)
    for packager in (ts(size=size), cmaf(size=size)):
        seen: dict[str, Follower] = {}
        feed(packager, table, replace(table, start=16.0), each=lambda _, p=packager, s=seen: follow(p, s))
        assert seen


def test_segments_have_continuous_counters_in_any_order_of_requests() -> None:
    packager = ts()
    feed(packager, Timetable(14, Fraction(30), (60,)))
    segments = list(packager.window)
    assert len(segments) >= 4
    for n in (2, 0, 3, 1):
        segments[n].body()
    counters: dict[int, int] = {}
    data = b"".join([s.body() for s in segments])
    for at in range(0, len(data), 188):
        packet = data[at : at + 188]
        pid = (packet[1] & 31) << 8 | packet[2]
        if packet[3] & 0x10:
            assert counters.get(pid, packet[3] - 1 & 15) + 1 & 15 == packet[3] & 15, (at, pid)
            counters[pid] = packet[3] & 15


def test_drafts_of_removed_segments_are_removed() -> None:
    packager = ts(size=3)
    feed(packager, Timetable(120, Fraction(10), (20,)))
    assert len(packager._unmuxed) == len([*packager.window, *packager.window.unlisted()])


@pytest.mark.parametrize(("rate", "samples"), [(48_000, 1024), (44_100, 1024), (22_050, 1024), (8_000, 1024)])
def test_a_stream_of_sound_has_a_pcr_every_tenth_of_a_second(rate: int, samples: int) -> None:
    asc = {48_000: "1190", 44_100: "1210", 22_050: "1390", 8_000: "1590"}[rate]
    track = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, bytes.fromhex(asc))
    packager = ts()
    feed(packager, Timetable(seconds=9, video=None, audio=track, rate=rate, samples=samples))
    found = packets(b"".join(s.body() for s in packager.window))
    clocks = [p.pcr for p in found if p.pcr is not None]
    assert len(clocks) > 60 and all(0 < b - a <= 9_000 for a, b in itertools.pairwise(clocks))


@pytest.mark.parametrize("make", [ts, cmaf])
def test_a_long_group_of_pictures_has_a_playlist_before_it_ends(make: Maker) -> None:
    """The first segment is shorter; all others begin with key frames, and the Target Duration holds them."""
    packager = make()
    ready: list[float] = []

    def each(unit: AccessUnit) -> None:
        if packager.ready and not ready:
            ready.append(unit.wall - WALL)

    with capture_logs() as logs:
        feed(packager, Timetable(seconds=85, gop=(600,)), each=each, end=False)
    assert [line["target"] for line in logs if line["event"] == "segment cut without a key frame"] == [None]
    assert ready[0] < 11
    window = packager.window if isinstance(packager, TsPackager) else packager.manifests.tracks[0].window
    assert window.target == 20 and packager.forced_cuts == 1
    assert [s.duration for s in window] == pytest.approx([10.5, 9.5, 20, 20, 20], abs=0.05)


def test_a_variant_has_the_bandwidth_that_its_publisher_declares() -> None:
    def bandwidth(metadata: dict[str, AmfValue]) -> tuple[int, int]:
        packager = cmaf()
        table = Timetable(seconds=7, size=1000)
        packager.take_tracks(Tracks(table.video, table.audio, 0, metadata))
        for unit in table.units():
            packager.take(unit)
        video = re.search(r'<Representation id="video"[^>]*bandwidth="(\d+)"', packager.manifests.manifest())
        assert video is not None
        return packager.manifests.variant().bandwidth, int(video[1])

    measured, video = bandwidth({})
    promised = bandwidth({"videodatarate": 500.0, "audiodatarate": 32.0})
    assert promised == (pytest.approx(1.1 * 532 * 1024, rel=0.01), pytest.approx(1.1 * 500 * 1024, rel=0.01))
    assert bandwidth({"videodatarate": 10.0}) == (measured, video)
    lies = bandwidth({"videodatarate": 900_000.0, "audiodatarate": "many"})
    assert lies[1] == pytest.approx(4 * video, rel=0.01)
