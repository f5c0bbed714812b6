"""Pixels that are not square: read from the codec's headers, and given to players in every form."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest

from gateway.formats.dash import mpd
from gateway.formats.mkv import writer
from gateway.formats.mp4.finish import finish
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import TrackInit, init_segment, movie_init
from gateway.lib.bit_reader import BitReader
from gateway.media import codecs, vp9
from gateway.media.errors import InvalidData
from gateway.media.pixel_aspect import SQUARE, of_sizes, read_pixel_aspect, usable
from gateway.media.track import Codec, Kind
from tests.support import sources
from tests.support.segmented import WALL, cmaf
from tests.support.sources import Source
from tests.support.time_outs import at_most
from tests.support.tools import need

X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=30")
ENCODERS = {"H.264": (*sources.X264, "-g", "30"), "H.265": X265}
SHAPES = {"16/11": (16, 11), "4/3": (4, 3), "77/31": (77, 31), "8/9": (8, 9), "1/1": (1, 1)}


def anamorphic(encoder: str, sar: str, seconds: float = 4.2) -> Source:
    picture = sources.pictures("360x288", more=f"setsar={sar}")
    return sources.source(*picture, "-t", str(seconds), *ENCODERS[encoder], "-pix_fmt", "yuv420p")


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("sar", "aspect"), SHAPES.items())
def test_the_pixel_aspect_of_the_encoder_reaches_players(
    encoder: str, sar: str, aspect: tuple[int, int], tmp_path: Path
) -> None:
    need("ffprobe")
    taken = anamorphic(encoder, sar, seconds=0.2)
    video = taken.tracks.video
    assert video is not None
    assert codecs.pixel_aspect(video) == aspect
    assert codecs.display_size(video) == (round(360 * aspect[0] / aspect[1]), 288)
    assert codecs.video_size(video) == (360, 288)
    first = [Mp4Sample(3000, 0, u.key, u.payload) for u in taken.units[:3]]
    path = tmp_path / "one.mp4"
    path.write_bytes(init_segment(video, timescale=90_000) + fragment(1, 1, 0, first))
    assert _probed(path) == (360, 288, "{}:{}".format(*aspect))
    assert _shown(path.read_bytes()) == pytest.approx((360 * aspect[0] / aspect[1], 288), abs=0.001)


@pytest.mark.parametrize(("sar", "aspect"), [("16/11", "16:11"), ("1/1", "1:1")])
def test_a_finished_recording_keeps_the_pixel_aspect(sar: str, aspect: str, tmp_path: Path) -> None:
    need("ffprobe")
    taken = anamorphic("H.264", sar)
    video = taken.tracks.video
    assert video is not None
    samples = [Mp4Sample(3000, 0, u.key, u.payload) for u in taken.units[:30]]
    grown = movie_init([TrackInit(video, 1, 90_000)]) + fragment(1, 1, 0, samples)
    path = tmp_path / "whole.mp4"
    with path.open("w+b") as target:
        finish(io.BytesIO(grown), target)
    assert _probed(path) == (360, 288, aspect)
    wide, high = (int(n) for n in aspect.split(":"))
    assert _shown(path.read_bytes()) == pytest.approx((360 * wide / high, 288), abs=0.001)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_manifest_has_the_aspect_of_pixels_that_are_not_square(encoder: str) -> None:
    for sar, wanted in (("16/11", ' width="360" height="288" '), ("1/1", ' width="360" height="288" ')):
        taken, packager = anamorphic(encoder, sar), cmaf(seconds=1.0)
        packager.take_tracks(taken.tracks)
        for unit in taken.units:
            packager.take(unit)
        text = mpd.finish(packager.manifests.manifest(), "", WALL).decode()
        assert wanted in text
        assert f"RESOLUTION={524 if sar == '16/11' else 360}x288" in packager.manifests.master()
        assert (' sar="16:11"' in text) is (sar == "16/11") and text.count(" sar=") == (sar == "16/11")


def test_matroska_has_the_display_size_of_pictures() -> None:
    wide, plain = anamorphic("H.264", "16/11").tracks, anamorphic("H.264", "1/1").tracks
    shown = b"\x54\xb0\x82" + (524).to_bytes(2, "big") + b"\x54\xba\x82" + (288).to_bytes(2, "big")
    assert wide.video is not None and plain.video is not None
    assert shown in writer._picture(wide.video)
    assert b"\x54\xb0" not in writer._picture(plain.video)


def _probed(path: Path) -> tuple[int, int, str]:
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v", "-show_streams", "-of", "json", str(path)],
        capture_output=True, check=True, timeout=at_most(30),
    )  # fmt: skip
    (stream,) = json.loads(done.stdout)["streams"]
    return stream["width"], stream["height"], stream["sample_aspect_ratio"]


def _shown(movie: bytes) -> tuple[float, float]:
    """The size in the track header, version 0."""
    at = movie.index(b"tkhd") + 4 + 76
    return int.from_bytes(movie[at : at + 4], "big") / 65536, int.from_bytes(movie[at + 4 : at + 8], "big") / 65536


# ---- what headers say ----


def _bits(*fields: tuple[int, int]) -> BitReader:
    """(value, bits) behind each other."""
    text = "".join(f"{value:0{count}b}" for value, count in fields)
    data = int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
    return BitReader(data, error=InvalidData)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ([(0, 1)], SQUARE),
        ([(1, 1), (0, 8)], SQUARE),  # unspecified
        ([(1, 1), (1, 8)], SQUARE),
        ([(1, 1), (2, 8)], (12, 11)),
        ([(1, 1), (16, 8)], (2, 1)),
        ([(1, 1), (17, 8)], SQUARE),  # reserved
        ([(1, 1), (255, 8), (64, 16), (48, 16)], (4, 3)),
        ([(1, 1), (255, 8), (0, 16), (48, 16)], SQUARE),
        ([(1, 1), (255, 8), (65535, 16), (1, 16)], SQUARE),  # a slip
    ],
)
def test_a_ratio_is_read_by_table_or_by_number(fields: list[tuple[int, int]], found: tuple[int, int]) -> None:
    assert read_pixel_aspect(_bits(*fields)) == found


def test_a_ratio_that_is_cut_short_is_refused() -> None:
    with pytest.raises(InvalidData):
        read_pixel_aspect(_bits((1, 1), (255, 8), (64, 16)))


def test_sizes_make_a_ratio_unless_they_are_off_by_rounding() -> None:
    assert of_sizes((720, 576), (1024, 576)) == (64, 45)
    assert of_sizes((640, 360), (1280, 720)) == SQUARE  # scaled, with its shape
    assert of_sizes((852, 480), (853, 480)) == SQUARE
    assert usable(1, 8) == (1, 8) and usable(1, 9) == SQUARE


def test_vp9_has_the_pixel_aspect_in_key_frames() -> None:
    taken = sources.source(*sources.pictures("160x120"), "-frames:v", "2", "-c:v", "libvpx-vp9", container="matroska")
    video, (key, delta) = taken.tracks.video, [u.payload for u in taken.units]
    assert video is not None and video.codec is Codec.VP9 and video.kind is Kind.VIDEO
    assert codecs.pixel_aspect(video) == codecs.pixel_aspect(video, key) == codecs.pixel_aspect(video, delta) == SQUARE
    # Profile 0: 2 bits of marker, 2 of profile, existing, type, show, resilient, 24 of sync, 3 of space, range, sizes.
    start = f"{int.from_bytes(key[:9], 'big'):072b}"[: 8 + 24 + 4 + 32]
    shown = f"{start}1{213 - 1:016b}{120 - 1:016b}"
    framed = int(shown.ljust(128, "0"), 2).to_bytes(16, "big")
    assert vp9.frame_size(framed) == (160, 120)
    assert vp9.pixel_aspect(framed) == (213, 160)
    assert vp9.pixel_aspect(framed[:10]) == SQUARE  # cut short behind its size
