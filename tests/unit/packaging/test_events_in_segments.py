"""Cues and timed metadata in segments, playlists and manifests."""

from __future__ import annotations

import io
import json
import struct
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.formats.dash import mpd
from gateway.formats.hls import media_playlist
from gateway.media.timed_data import CaptionText, CueType, Metadata
from gateway.media.track import AccessUnit, TimedData, Tracks
from gateway.packaging.alignment import Alignment
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.ts.packager import TsPackager
from tests.support.hls_rules import Follower, Playlist, check, parse
from tests.support.packets import assert_counters, packets, pes
from tests.support.segmented import WALL, Timetable, cmaf, feed, ts
from tests.support.splices import cue, mpeg_crc, pts_of, section, time_signal
from tests.support.time_outs import at_most
from tests.unit.packaging.test_hls_packager import SHAPES

OUT, IN, OTHER = CueType.OUT, CueType.IN, CueType.OTHER
ID3, SCTE35 = 0x102, 0x103
DELAY = 63_000


def giving(packager: TsPackager | CmafPackager, timed: Iterable[TimedData]) -> Callable[[AccessUnit], None]:
    """Returns an `each` for `feed`: script data comes after the unit before it."""
    waiting = sorted(timed, key=lambda t: t.dts)

    def each(unit: AccessUnit) -> None:
        while waiting and waiting[0].dts <= unit.dts * 1000 // unit.track.timescale:
            packager.on_timed(waiting.pop(0))

    return each


def text(playlist: str) -> str:
    return media_playlist.with_suffix(playlist).decode()


# ---- MPEG-TS ----


def pmt(data: bytes) -> tuple[int, bytes, dict[int, tuple[int, bytes]]]:
    """Version, descriptors of the program, and type and descriptors by PID of the first program map."""
    section = next(p.payload[1:] for p in packets(data) if p.pid == 0x1000)
    length = 3 + (int.from_bytes(section[1:3], "big") & 0xFFF)
    assert mpeg_crc(section[:length]) == 0
    at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    program, streams = section[12:at], {}
    while at < length - 4:
        size = int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF
        pid = int.from_bytes(section[at + 1 : at + 3], "big") & 0x1FFF
        streams[pid] = section[at], section[at + 5 : at + 5 + size]
        at += 5 + size
    return section[5] >> 1 & 31, program, streams


def sections(data: bytes) -> list[bytes]:
    """The sections of the cues' PID, without stuffing."""
    found: list[bytearray] = []
    for packet in packets(data):
        if packet.pid == SCTE35 and packet.start:
            assert packet.payload[0] == 0
            found.append(bytearray(packet.payload[1:]))
        elif packet.pid == SCTE35:
            found[-1] += packet.payload
    return [bytes(each[: 3 + (int.from_bytes(each[1:3], "big") & 0xFFF)]) for each in found]


def segmented(*timed: TimedData, table: Timetable | None = None, **plan: bool) -> list[bytes]:
    packager = TsPackager("c1", SegmentPlan(2.0, 1000, **plan), WALL)
    feed(packager, table or Timetable(seconds=12), each=giving(packager, timed))
    return [segment.body() for segment in packager.window]


def test_segments_without_events_are_the_same_as_ever() -> None:
    captions = [TimedData(at, CaptionText("x", at)) for at in range(500, 9000, 700)]
    assert segmented() == segmented(*captions)
    assert all(set(pmt(each)[2]) == {0x100, 0x101} and not pmt(each)[0] for each in segmented())


def test_metadata_is_in_the_segment_of_its_time_and_the_tables_from_then_on() -> None:
    found = segmented(TimedData(5000, Metadata("hello")), TimedData(9500, Metadata("again")))
    assert [n for n, each in enumerate(found) if pes(packets(each), ID3)] == [2, 4]
    tag = pes(packets(found[2]), ID3)[0]
    assert (tag.stream_id, tag.pts, tag.payload[:3]) == (0xBD, 5000 * 90 + DELAY, b"ID3")
    assert tag.payload.endswith(b"\x03\0hello\0")
    assert [pmt(each)[0] for each in found] == [0, 0, 1, 1, 1, 1]
    _, program, streams = pmt(found[3])
    assert program == b"\x25\x0f\xff\xffID3 \xffID3 \x00\x1f\x00\x01"
    assert streams[ID3] == (0x15, b"\x26\x0d\xff\xffID3 \xffID3 \x00\x0f")
    assert_counters(packets(b"".join(found)))


def test_a_cue_comes_early_with_the_splice_on_the_clock_of_the_output() -> None:
    found = segmented(cue(OUT, 8000, dts=3000, data=time_signal(77, adjustment=3)))
    assert [len(sections(each)) for each in found] == [0, 1, 0, 0, 0, 0]
    assert pts_of(sections(found[1])[0]) == 8000 * 90 + DELAY
    assert mpeg_crc(sections(found[1])[0]) == 0
    version, program, streams = pmt(found[1])
    assert (version, program, streams[SCTE35]) == (1, b"\x05\x04CUEI", (0x86, b"\x8a\x01\x01"))


def test_a_long_section_needs_several_packets() -> None:
    data = section(0xFF, b"priv" + bytes(range(250)) * 3)
    found = segmented(cue(OTHER, 3000, data=data))
    assert sections(found[1])[0][9:-4] == data[9:-4]
    assert_counters(packets(b"".join(found)))


def test_events_before_the_first_picture_are_in_the_first_segment() -> None:
    packager = ts()
    packager.take_tracks(Tracks(Timetable().video, Timetable().audio, 0))
    packager.on_timed(TimedData(0, Metadata("early")))
    packager.on_timed(cue(OUT, 4000, dts=0))
    feed(packager, Timetable(seconds=6), end=False)
    first = packager.window[0].body()
    assert set(pmt(first)[2]) == {0x100, 0x101, ID3, SCTE35} and sections(first)
    assert 'START-DATE="2023-11-14T22:13:24.000Z"' in text(packager.playlist())


def test_a_damaged_section_is_in_no_segment() -> None:
    found = segmented(cue(OUT, 3000, data=b"\xfc\x30\x11"))
    assert all(SCTE35 not in pmt(each)[2] for each in found)


@pytest.mark.parametrize("name", ["regular", "audio only", "B-frames"])
def test_ffprobe_finds_both_streams_and_their_packets(name: str, tmp_path: Path) -> None:
    timed = [TimedData(5000, Metadata("hello")), cue(OUT, 8000, dts=3000), TimedData(7000, Metadata("two"))]
    path = tmp_path / "all.ts"
    path.write_bytes(b"".join(segmented(*timed, table=SHAPES[name])))
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_packets", "-of", "json", str(path)]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=at_most(60)).stdout)
    # ffprobe learns of the PIDs from the first segment that has them.
    assert {"timed_id3", "scte_35"} <= {stream.get("codec_name") for stream in shown["streams"]}
    by_stream = {stream["index"]: stream.get("codec_name") for stream in shown["streams"]}
    names = [by_stream[packet["stream_index"]] for packet in shown["packets"]]
    assert (names.count("timed_id3"), names.count("scte_35")) == (2, 1)
    times = [float(p["pts_time"]) for p in shown["packets"] if by_stream[p["stream_index"]] == "timed_id3"]
    assert times == pytest.approx([5.7, 7.7])


# ---- CMAF ----


@dataclass
class Emsg:
    scheme: str
    value: str
    clock: int
    time: int
    length: int
    id: int
    data: bytes


def boxes(data: bytes) -> list[tuple[str, bytes]]:
    """The boxes of one level, read without the gateway's code."""
    found, at = [], 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        assert 8 <= size <= len(data) - at
        found.append((kind.decode(), data[at + 8 : at + size]))
        at += size
    return found


def emsgs(data: bytes) -> list[Emsg]:
    found = []
    for kind, body in boxes(data):
        if kind == "emsg":
            version, clock, time, length, identity = struct.unpack_from(">IIQII", body)
            assert version == 1 << 24
            scheme, value, rest = body[24:].split(b"\0", 2)
            found.append(Emsg(scheme.decode(), value.decode(), clock, time, length, identity, rest))
    return found


def packaged(*timed: TimedData, table: Timetable | None = None, **plan: bool) -> CmafPackager:
    packager = CmafPackager("c1", SegmentPlan(2.0, 1000, 0.5, **plan), WALL, SequenceNumbers(prefix=int(WALL)))
    feed(packager, table or Timetable(seconds=12), each=giving(packager, timed))
    return packager


def test_fragments_and_manifests_without_events_are_the_same_as_ever() -> None:
    captions = [TimedData(at, CaptionText("x", at)) for at in range(500, 9000, 700)]
    one, two = packaged(), packaged(*captions)
    for left, right in zip(one.manifests.tracks, two.manifests.tracks, strict=True):
        assert [s.body() for s in left.window] == [s.body() for s in right.window]
        assert one.manifests.playlist(left) == two.manifests.playlist(right)
    assert one.manifests.manifest() == two.manifests.manifest() and "InbandEvent" not in one.manifests.manifest()


def test_events_stand_before_the_part_of_their_time() -> None:
    packager = packaged(TimedData(5100, Metadata("hello")), cue(OUT, 8200, dts=3000, seconds=4.0))
    video, audio = packager.manifests.tracks
    parts = {(s.number, n): p.body() for s in video.window for n, p in enumerate(s.parts)}
    found = {place: emsgs(body) for place, body in parts.items() if emsgs(body)}
    assert list(found) == [(3, 2), (5, 0)]
    (hello,), (out,) = found.values()
    assert (hello.scheme, hello.value, hello.clock, hello.time) == (
        "https://aomedia.org/emsg/ID3", "", 90_000, 5100 * 90,
    )  # fmt: skip
    assert hello.data[:3] == b"ID3" and hello.length == 0xFFFFFFFF
    assert (out.scheme, out.time, out.length) == ("urn:scte:scte35:2013:bin", 8200 * 90, 4 * 90_000)
    assert [kind for kind, _ in boxes(parts[5, 0])] == ["styp", "emsg", "moof", "mdat"]
    assert [kind for kind, _ in boxes(parts[3, 2])] == ["emsg", "moof", "mdat"]
    assert not any(emsgs(s.body()) for s in audio.window)
    for segment in video.window:
        assert segment.body() == b"".join(p.body() for p in segment.parts)
        assert segment.body.size == len(segment.body())


def test_equal_events_have_equal_ids_in_all_renditions() -> None:
    timed = [TimedData(1000, Metadata("a")), TimedData(1000, Metadata("b")), TimedData(3000, Metadata("a"))]
    ids = [[e.id for s in packaged(*timed).manifests.tracks[0].window for e in emsgs(s.body())] for _ in range(2)]
    assert ids[0] == ids[1] and len(set(ids[0])) == 3


def test_audio_alone_carries_events() -> None:
    packager = packaged(TimedData(5000, Metadata("hello")), table=SHAPES["audio only"])
    (track,) = packager.manifests.tracks
    (event,) = [e for s in track.window for e in emsgs(s.body())]
    assert (event.clock, event.time) == (44100, 5 * 44100)


def test_a_late_event_is_not_before_its_part() -> None:
    packager = packaged(cue(OUT, 1000, dts=7000))
    segment = next(s for s in packager.manifests.tracks[0].window if emsgs(s.body()))
    (event,) = emsgs(segment.body())
    assert segment.time <= event.time < segment.time + segment.length


def test_presentation_times_are_those_of_the_fragments() -> None:
    table = Timetable(seconds=12, start=5000)  # an encoder's uptime
    packager = packaged(TimedData(5_005_000, Metadata("hello")), table=table)
    segment = next(s for s in packager.manifests.tracks[0].window if emsgs(s.body()))
    assert emsgs(segment.body())[0].time == 5 * 90_000


def test_the_manifest_names_the_schemes(tmp_path: Path) -> None:
    packager = packaged(TimedData(5000, Metadata("hello")), cue(OUT, 8000, dts=3000))
    text = mpd.finish(packager.manifests.manifest(), "", WALL).decode()
    video, audio = text.split("<AdaptationSet")[1:3]
    assert video.count('<InbandEventStream schemeIdUri="urn:scte:scte35:2013:bin" value=""/>') == 1
    assert video.count('<InbandEventStream schemeIdUri="https://aomedia.org/emsg/ID3" value=""/>') == 1
    assert "InbandEventStream" not in audio


@pytest.mark.parametrize("name", ["regular", "B-frames", "audio only"])
def test_pyav_and_ffprobe_read_the_media_as_before(name: str) -> None:
    def read(packager: CmafPackager) -> list[tuple[int | None, int | None, bytes]]:
        track = packager.manifests.tracks[0]
        data = next(iter(track.inits.values())) + b"".join(s.body() for s in track.window)
        with av.open(io.BytesIO(data)) as container:
            return [(p.pts, p.dts, bytes(p)) for p in container.demux()]

    timed = [TimedData(5000, Metadata("hello")), cue(OUT, 8000, dts=3000)]
    assert read(packaged(*timed, table=SHAPES[name])) == read(packaged(table=SHAPES[name]))


# ---- segments at splices ----

SHORT_GOPS = Timetable(seconds=16, gop=(15,))


def starts(packager: TsPackager | CmafPackager) -> list[float]:
    window = packager.window if isinstance(packager, TsPackager) else packager.manifests.tracks[0].window
    return [round(segment.wall - WALL, 2) for segment in window]


MAKERS: dict[str, Callable[[], TsPackager | CmafPackager]] = {
    "ts": lambda: ts(size=1000),
    "cmaf": lambda: cmaf(size=1000),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        (5.0, [0, 2, 4, 5, 7, 9, 11, 13, 15]),
        (5.31, [0, 2, 4, 5.5, 7.5, 9.5, 11.5, 13.5, 15.5]),  # 0.19 s before a key frame
        (5.28, [0, 2, 4, 6, 8, 10, 12, 14]),  # no key frame within 0.2 s
        (6.0, [0, 2, 4, 6, 8, 10, 12, 14]),
        (0.5, [0, 2, 4, 6, 8, 10, 12, 14]),  # the first segment fixes the Target Duration
    ],
)
def test_a_key_frame_at_a_splice_begins_a_segment(
    make: Callable[[], TsPackager | CmafPackager], at: float, wanted: list[float]
) -> None:
    packager = make()
    splice = cue(OUT, round(at * 1000), dts=max(round(at * 1000) - 2000, 0))
    feed(packager, SHORT_GOPS, each=giving(packager, [splice]))
    assert starts(packager) == wanted


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_pictures_that_are_all_key_frames_make_one_segment_at_a_splice(
    make: Callable[[], TsPackager | CmafPackager],
) -> None:
    packager = make()
    table = Timetable(seconds=12, gop=(1,))
    feed(packager, table, each=giving(packager, [cue(OUT, 5000, dts=3000), cue(OUT, 5000, dts=3500)]))
    assert starts(packager) == [0, 2, 4, 5, 7, 9, 11]


def test_renditions_follow() -> None:
    alignment = Alignment()
    ladder = [
        CmafPackager(name, SegmentPlan(2.0, 1000, 0.5), WALL, SequenceNumbers(prefix=int(WALL)), None, alignment)
        for name in ("c1", "c1@low")
    ]
    gives = [giving(packager, [cue(OUT, 5000, dts=3000)]) for packager in ladder]
    for packager in ladder:
        packager.take_tracks(Tracks(SHORT_GOPS.video, SHORT_GOPS.audio, 0))
    for unit in SHORT_GOPS.units():
        for packager, give in zip(ladder, gives, strict=True):
            packager.take(unit)
            give(unit)
    assert starts(ladder[0]) == starts(ladder[1])[: len(starts(ladder[0]))]
    assert 5 in starts(ladder[0])
    assert [s.number for s in ladder[0].manifests.tracks[0].window] == [
        s.number for s in ladder[1].manifests.tracks[0].window
    ]


# ---- playlists ----


class Watcher:
    """A client that looks at all playlists after every unit, also at delta updates."""

    def __init__(self, packager: TsPackager | CmafPackager) -> None:
        self.packager = packager
        self.seen: dict[str, Follower] = {}
        self.ranges: dict[str, dict[str, str]] = {}

    def look(self) -> None:
        packager = self.packager
        if not packager.ready or "seen" in packager.cache:
            return
        packager.cache["seen"] = True
        if isinstance(packager, TsPackager):
            self._take(self.seen.setdefault("live", Follower()).see(text(packager.playlist())))
            return
        for track in packager.manifests.tracks:
            whole = self.seen.setdefault(track.kind, Follower()).see(text(packager.manifests.playlist(track)))
            self._take(whole)
            delta = check(parse(text(packager.manifests.playlist(track, skip=True))))
            assert delta.ranges == whole.ranges, "a delta update skips no date range"

    def _take(self, playlist: Playlist) -> None:
        for name, found in playlist.ranges.items():
            known = self.ranges.setdefault(name, {})
            assert all(found.get(key) == value for key, value in known.items()), "an attribute changed"
            known.update(found)


CUES = st.lists(
    st.tuples(st.sampled_from(list(CueType)), st.integers(0, 11_000), st.integers(0, 4000), st.sampled_from("abc")),
    max_size=8,
)


@pytest.mark.parametrize("cue_tags", [False, True])
@pytest.mark.parametrize("kind", ["ts", "cmaf"])
@settings(max_examples=15, deadline=None)
@given(CUES, st.sampled_from(["regular", "B-frames", "short GOPs", "irregular GOPs", "audio only", "5 fps"]))
def test_playlists_with_any_cues_keep_the_rules(
    kind: str, cue_tags: bool, cues: list[tuple[CueType, int, int, str]], name: str
) -> None:
    plan = SegmentPlan(2.0, 5, 0.5, cue_tags=cue_tags)
    packager = TsPackager("c1", plan, WALL) if kind == "ts" else CmafPackager("c1", plan, WALL, SequenceNumbers())
    watcher = Watcher(packager)
    timed = [cue(k, at, dts=max(at - early, 0), id=name, seconds=3.0) for k, at, early, name in cues]
    give = giving(packager, timed)

    def each(unit: AccessUnit) -> None:
        give(unit)
        watcher.look()

    feed(packager, SHAPES[name], each=each)
    watcher.look()
    assert watcher.seen


def test_dates_are_those_of_the_media_in_every_playlist() -> None:
    timed = [cue(OUT, 8000, dts=3000, seconds=2.0), cue(IN, 10_000, dts=9000)]
    packager = packaged(*timed)
    live = ts(size=1000)
    feed(live, Timetable(seconds=12), each=giving(live, timed))
    video, audio = (text(packager.manifests.playlist(track)) for track in packager.manifests.tracks)
    assert parse(audio).ranges == parse(video).ranges
    texts = [video, text(live.playlist())]
    for each in texts:
        found = parse(each)
        assert found.ranges["b1"]["START-DATE"] == f'"{found.segments[4].date}"'
        assert found.ranges["b1"]["END-DATE"] == f'"{found.segments[5].date}"'


def test_cue_tags_stand_at_their_segments_in_both_formats() -> None:
    timed = [cue(OUT, 4000, dts=3000, seconds=4.0), cue(IN, 8000, dts=7000)]
    live = TsPackager("c1", SegmentPlan(2.0, 1000, cue_tags=True), WALL)
    feed(live, Timetable(seconds=12), each=giving(live, timed))
    packager = packaged(*timed, cue_tags=True)
    texts = [text(live.playlist()), *(text(packager.manifests.playlist(t)) for t in packager.manifests.tracks)]
    for each in texts:
        found = parse(each)
        tags = [(number - found.sequence, tag.partition("-X-")[2][:28]) for number, tag in found.cue_tags]
        # A segment of sound begins with the first frame after the picture.
        assert tags == [(2, "CUE-OUT:DURATION=4.000"), (3, "CUE-OUT-CONT:ElapsedTime=2.0"), (4, "CUE-IN")]


def test_playlists_have_no_cue_tags_by_default() -> None:
    live = ts()
    feed(live, Timetable(seconds=12), each=giving(live, [cue(OUT, 4000, dts=3000)]))
    assert "CUE-OUT" not in live.playlist() and "DATERANGE" in live.playlist()
