"""Open groups of pictures: key frames behind which pictures come that are shown before them."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from gateway.formats.flv import muxer
from gateway.formats.mp4.finish import finish
from gateway.formats.mp4.fragment import DELTA_FLAGS, KEY_FLAGS, OPEN_FLAGS, Mp4Sample, OpenKey, fragment
from gateway.formats.mp4.reader import parse_fragments
from gateway.media.open_gops import OpenGops
from gateway.media.random_access import RandomAccess, random_access_of
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.outputs.recording.cutter import PieceStart
from gateway.outputs.recording.mp4_piece import Mp4Piece
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.flv_output import BrowserFlvRendering, FlvRendering
from gateway.packaging.ts.packager import TsPackager
from tests.support import sources
from tests.support.segmented import WALL, Timetable, cmaf, feed, ts
from tests.support.sources import Source
from tests.unit.formats.test_dash import manifest

FRAME = 1 / 30
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params")
GOP = "keyint=60:min-keyint=60:scenecut=0:log-level=none"
# name → encoder's arguments; how many pictures are shown before each later key frame (those of H.264 are left out,
# and their GOP is closed), and its type of access point
ENCODERS: dict[str, tuple[tuple[str, ...], int, int]] = {
    "H.264, open": ((*sources.X264, "-g", "60", "-bf", "3", "-x264-params", "open-gop=1"), 3, 1),
    "H.264, closed": ((*sources.X264, "-g", "60", "-bf", "3"), 0, 1),
    "H.265, open": ((*X265, f"{GOP}:bframes=4"), 4, 3),
    "H.265, closed": ((*X265, f"{GOP}:bframes=4:open-gop=0"), 0, 1),
    "H.265, RADL": ((*X265, f"{GOP}:bframes=4:open-gop=0:radl=2"), 2, 2),
    "H.265, CRA without leading pictures": ((*X265, f"{GOP}:bframes=0"), 0, 1),
    "H.264, intra refresh": ((*sources.X264, "-g", "60", "-bf", "0", "-x264-params", "intra-refresh=1"), 0, 0),
}


def source(name: str) -> Source:
    return sources.source(*sources.pictures(), "-t", "8.5", *ENCODERS[name][0], "-pix_fmt", "yuv420p")


def packaged(name: str, packager: CmafPackager | TsPackager) -> None:
    taken = source(name)
    packager.take_tracks(taken.tracks)
    for unit in taken.units:
        packager.take(unit)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_segment_begins_with_each_key_frame_and_has_its_access_point_type(name: str) -> None:
    packager = cmaf()
    packaged(name, packager)
    (lane,) = packager.manifests.tracks
    _, leading, sap = ENCODERS[name]
    assert lane.window.target == 2 and packager.forced_cuts == 0
    assert [s.sap for s in lane.window] == [1, sap, sap, sap]
    assert [s.spacing / s.clock for s in lane.window] == pytest.approx([2, 2, 2, 2], abs=0.002)
    assert [s.leading / s.clock for s in lane.window] == pytest.approx([0, *[leading * FRAME] * 3], abs=0.002)
    for segment in lane.window:
        assert segment.parts[0].independent is bool(segment.sap)
        assert not any(p.independent for p in segment.parts[1:])


@pytest.mark.parametrize("name", ENCODERS)
def test_times_are_those_of_the_earliest_picture_and_go_on_without_gap_or_overlap(name: str) -> None:
    packager = cmaf()
    packaged(name, packager)
    (lane,) = packager.manifests.tracks
    dates = [s.wall for s in lane.window]
    for segment in lane.window:
        assert segment.time == min(_shown(segment.body()))
    for one, two in pairwise(lane.window):
        assert abs(one.time + one.length - two.time) / one.clock < 0.002
    assert [b - a for a, b in pairwise(dates)] == pytest.approx([s.duration for s in lane.window][:-1], abs=0.002)


def _shown(body: bytes) -> list[int]:
    """Presentation times of all samples."""
    out = []
    for part in parse_fragments(body):
        time = part.base_decode_time
        for sample in part.samples:
            out.append(time + sample.cts)
            time += sample.duration
    return out


@pytest.mark.parametrize("name", ENCODERS)
def test_a_manifest_lists_access_points_and_uses_numbers_only_if_players_can_join(name: str) -> None:
    packager = cmaf()
    packaged(name, packager)
    root, (video,) = manifest(packager)
    sap = ENCODERS[name][2]
    assert video.by_number is (name != "H.264, intra refresh")
    if video.by_number:
        assert int(video.template.get("duration", "0")) / video.scale == pytest.approx(2, abs=0.002)
    else:
        assert all(abs(a[1] + a[2] - b[1]) < 0.002 for a, b in pairwise(video.entries()))
    (adaptation,) = root.iter("{urn:mpeg:dash:schema:mpd:2011}AdaptationSet")
    assert adaptation.get("startWithSAP") == (str(sap) if sap else None)


@pytest.mark.parametrize("name", ENCODERS)
def test_segments_of_a_transport_stream_begin_with_each_key_frame(name: str) -> None:
    packager = ts()
    packaged(name, packager)
    window = packager.window
    assert window.target == 2 and packager.forced_cuts == 0 and len(window) == 4
    leading = ENCODERS[name][1] * FRAME
    assert [s.duration for s in window] == pytest.approx([2 - leading, 2, 2, 2], abs=0.002)
    dates = [s.wall for s in window]
    assert [b - a for a, b in pairwise(dates)] == pytest.approx([s.duration for s in window][:-1], abs=0.002)


@pytest.mark.parametrize("seconds", [2.0, 4.0])
@pytest.mark.parametrize("make", [cmaf, ts])
def test_each_segment_of_open_groups_decodes_alone(
    make: Callable[[float], CmafPackager | TsPackager], seconds: float
) -> None:
    """Chromium ends with an error at the first picture that libav cannot decode."""
    packager = make(seconds)
    packaged("H.264, open", packager)
    if isinstance(packager, CmafPackager):
        (lane,) = packager.manifests.tracks
        bodies = [next(iter(lane.inits.values())) + segment.body() for segment in lane.window]
    else:
        bodies = [segment.body() for segment in packager.window]
    ends: list[Fraction] = []
    for body in bodies:
        with av.open(io.BytesIO(body)) as film:
            shown = sorted(p.pts * p.time_base for p in film.demux(video=0) if p.size)
        with av.open(io.BytesIO(body)) as film:
            assert len(list(film.decode(video=0))) == len(shown) == 57 * seconds // 2
        # A key frame is shown for the time of its three leading pictures, also behind the segment before.
        assert all(two - one <= 4.1 * FRAME for one, two in pairwise([*ends[-1:], *shown]))
        ends.append(shown[-1])
    assert len(bodies) == 8 // seconds


def test_flv_for_browsers_decodes_from_each_key_frame_on() -> None:
    taken, rendering = source("H.264, open"), BrowserFlvRendering()
    tags = [rendering.render_unit(unit) for unit in taken.units]
    keys = [n for n, unit in enumerate(taken.units) if unit.key]
    for at, end in pairwise(keys):
        body = rendering.render_head(taken.tracks, 0) + b"".join(tags[at:end])
        with av.open(io.BytesIO(body), format="flv") as film:
            assert len(list(film.decode(video=0))) == 57
    whole = FlvRendering()
    assert tags[0].endswith(whole.render_unit(taken.units[0])) and all(whole.render_unit(unit) for unit in taken.units)


def test_a_fragment_marks_an_open_key_frame_as_no_sync_sample() -> None:
    samples = [Mp4Sample(10, 0, True, b"i"), Mp4Sample(10, 0, False, b"p"), OpenKey(10, 5, True, b"c")]
    data = fragment(1, 1, 0, samples)
    trun = data.index(b"trun") + 16
    flags = [int.from_bytes(data[at : at + 4], "big") for at in range(trun + 8, trun + 48, 16)]
    assert flags == [KEY_FLAGS, DELTA_FLAGS, OPEN_FLAGS]
    assert OPEN_FLAGS >> 24 & 3 == 2  # sample_depends_on: on no other
    assert OPEN_FLAGS >> 16 & 1  # sample_is_non_sync_sample
    alone = [OpenKey(10, 0, True, b"c")]
    assert OPEN_FLAGS.to_bytes(4, "big") in fragment(1, 1, 0, alone)


def _units(*units: bytes) -> bytes:
    return b"".join(len(u).to_bytes(4, "big") + u for u in units)


AVC = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"\x01\x64\x00\x1f\xff\xe0\x00")
HEVC = MediaTrack(Kind.VIDEO, Codec.H265, 1000, b"\x01" + bytes(20) + b"\x03\x00")
SEI = b"\x06\x06\x01\xc4\x80"


@pytest.mark.parametrize(
    ("track", "payload", "found"),
    [
        (AVC, _units(SEI, b"\x65\x88\x80"), RandomAccess.CLOSED),
        (AVC, _units(b"\x09\xf0", SEI, b"\x41\x88\x80"), RandomAccess.OPEN),  # slice_type 7: I
        (AVC, _units(SEI, b"\x41\xb0\x80"), RandomAccess.OPEN),  # slice_type 2
        (AVC, _units(SEI, b"\x41\x9a\x80"), RandomAccess.GRADUAL),  # slice_type 5: P
        (AVC, _units(SEI, b"\x42\xe0\x80"), RandomAccess.GRADUAL),  # slice_type 0, of a data partition
        (AVC, _units(SEI, b"\x41"), RandomAccess.CLOSED),  # cut short: its encoder is believed
        (AVC, b"\x00\x00\x00\x09\x65", RandomAccess.CLOSED),
        (AVC, b"", RandomAccess.CLOSED),
        (HEVC, _units(b"\x40\x01", b"\x26\x01\xaf"), RandomAccess.CLOSED),  # IDR_W_RADL
        (HEVC, _units(b"\x28\x01\xaf"), RandomAccess.CLOSED),  # IDR_N_LP
        (HEVC, _units(b"\x20\x01\xaf"), RandomAccess.CLOSED),  # BLA_W_LP
        (HEVC, _units(b"\x4e\x01\x05", b"\x2a\x01\xaf"), RandomAccess.CLEAN),  # CRA_NUT
        (HEVC, _units(b"\x02\x01\xaf"), RandomAccess.GRADUAL),  # TRAIL_R
        (MediaTrack(Kind.VIDEO, Codec.VP9, 1000, b""), b"\x82", RandomAccess.CLOSED),
    ],
)
def test_how_a_decoder_can_start_is_read_from_the_slices(
    track: MediaTrack, payload: bytes, found: RandomAccess
) -> None:
    assert random_access_of(track)(payload) is found


@pytest.mark.parametrize("name", ["H.264, open", "H.264, closed", "H.265, open"])
def test_a_recording_can_be_sought_at_each_key_frame(name: str, tmp_path: Path) -> None:
    taken = source(name)
    video = taken.tracks.video
    assert video is not None
    opening = PieceStart(video, None, taken.units[0].payload, None, WALL, False)
    movie = Mp4Piece(opening)
    for unit in taken.units:
        movie.add_picture(unit.dts * 90, unit.cts * 90, unit.key, unit.payload)
    movie.close(None)
    path = tmp_path / "whole.mp4"
    with path.open("w+b") as target:
        finish(io.BytesIO(b"".join(movie.pop_data())), target)
    gops = OpenGops(video)
    kept = [u for u in taken.units if gops.add(u.payload, u.dts + u.cts, u.key) is not None]
    keys = [n for n, unit in enumerate(kept) if unit.key]
    assert len(keys) == 5
    with av.open(str(path)) as film:
        assert [n for n, p in enumerate(p for p in film.demux(video=0) if p.size) if p.is_keyframe] == keys
    whole = path.read_bytes()
    at = whole.index(b"stss") + 8
    assert int.from_bytes(whole[at : at + 4], "big") == 5 and b"sbgp" not in whole


@pytest.mark.parametrize("make", [cmaf, ts])
def test_dates_are_continuous_if_a_segment_begins_among_reordered_pictures(
    make: Callable[[], CmafPackager | TsPackager],
) -> None:
    packager = make()
    feed(packager, Timetable(seconds=24, gop=(60, 140), shifts=(2, 4, 1, 1), audio=None), end=False)
    assert packager.forced_cuts > 0
    window = packager.window if isinstance(packager, TsPackager) else packager.manifests.tracks[0].window
    dates = [s.wall for s in window]
    assert [b - a for a, b in pairwise(dates)] == pytest.approx([s.duration for s in window][:-1], abs=0.002)


def test_flv_for_browsers_carries_the_time_of_arrival_before_key_frames() -> None:
    taken, rendering = source("H.264, open"), BrowserFlvRendering()
    whole = FlvRendering()
    for unit in taken.units:
        tag = rendering.render_unit(unit)
        clock = muxer.clock_tag(unit.dts * 1000 // unit.track.timescale, unit.wall)
        assert tag.startswith(clock) == unit.key
        assert muxer.CLOCK.encode() not in whole.render_unit(unit)
