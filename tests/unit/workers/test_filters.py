"""Pictures are prepared for encoding: size, form, interlacing, rotation, range of colors."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.filter.graph import Graph
from PIL import Image

from gateway.media.colors import VideoSignal
from gateway.media.track import Kind
from gateway.workers.programs.codec import COLOR_PROPERTIES, DecodedPicture, VideoDecoder
from gateway.workers.programs.continued_video import ContinuedForm, Letterbox
from gateway.workers.programs.filters import Chain, Preparation, Scaler
from tests.support.sources import X264, Source, pictures, source


def decoded(film: Source) -> list[DecodedPicture]:
    assert film.tracks.video is not None
    decoder = VideoDecoder(film.tracks.video)
    return [p for unit in film.of(Kind.VIDEO) for p in decoder.decode(unit)] + decoder.flush()


def still(filters: str, form: str = "yuv420p") -> av.VideoFrame:
    """A picture of libavfilter's."""
    graph = Graph()
    name, _, arguments = filters.partition("=")
    graph.link_nodes(graph.add(name, arguments), graph.add("format", form), graph.add("buffersink")).configure()
    frame = graph.vpull()
    frame.pts = 0
    return frame


def corners(frame: av.VideoFrame) -> list[str]:
    """The colors of the four corners, from the top left on, with the clock."""
    image = frame.to_image()
    w, h = image.size
    names = {(255, 0, 0): "red", (0, 255, 0): "lime", (0, 0, 255): "blue", (255, 255, 0): "yellow"}
    found = []
    for at in ((w // 8, h // 8), (w - w // 8, h // 8), (w - w // 8, h - h // 8), (w // 8, h - h // 8)):
        pixel = image.getpixel(at)
        found.append(min(names, key=lambda c: sum((a - b) ** 2 for a, b in zip(c, pixel, strict=False))))
    return [names[c] for c in found]


FOUR = (
    "color=red:size=320x180:rate=30,drawbox=x=160:y=0:w=160:h=90:c=lime:t=fill,"
    "drawbox=x=160:y=90:w=160:h=90:c=blue:t=fill,drawbox=x=0:y=90:w=160:h=90:c=yellow:t=fill"
)


@pytest.mark.parametrize("form", ["yuv420p", "yuv420p10le", "yuv444p", "yuv422p", "nv12", "rgb24", "gray", "yuvj420p"])
def test_pictures_of_every_pixel_format_are_scaled_to_one_format(form: str) -> None:
    frame = Scaler(160, 90).scale(still("testsrc2=size=321x181", form))
    assert (frame.width, frame.height, frame.format.name) == (160, 90, "yuv420p")


def test_a_picture_of_the_right_size_is_returned_as_another_object() -> None:
    """Each rendition sets the time of its own object; threads must not share one."""
    given = still("testsrc2=size=320x180")
    frame = Scaler(320, 180).scale(given)
    frame.pts = 77
    assert frame is not given
    assert given.pts == 0


def test_a_scaler_goes_on_when_the_pictures_change() -> None:
    scaler = Scaler(160, 90)
    for size, form in (("320x180", "yuv420p"), ("640x480", "yuv420p"), ("640x480", "yuv444p10le")):
        frame = scaler.scale(still(f"testsrc2=size={size}", form))
        assert (frame.width, frame.height, frame.format.name) == (160, 90, "yuv420p")


@pytest.mark.parametrize(("color", "luma"), [("black", 16), ("white", 235)])
def test_full_range_becomes_limited_range(color: str, luma: int) -> None:
    frame = Scaler(64, 64).scale(still(f"color={color}:size=64x64", "yuvj420p"))
    assert bytes(frame.planes[0])[0] == pytest.approx(luma, abs=1)


def test_interlaced_pictures_become_progressive_at_their_times() -> None:
    film = source(
        *pictures("320x180", "60", more="interlace"), "-t", "1", *X264, "-x264-params", "tff=1:bframes=2", "-g", "15"
    )
    shown = decoded(film)
    assert all(p.frame.interlaced_frame for p in shown)
    preparation = Preparation(1000)
    ready = [out for p in shown for out in preparation.push(p)]
    assert len(ready) == len(shown) - 1, "each comes with the next"
    ready += preparation.flush()
    assert [(p.pts, p.key, p.lead, p.wall) for p in ready] == [(p.pts, p.key, p.lead, p.wall) for p in shown]
    assert not any(p.frame.interlaced_frame for p in ready)


def corner_picture() -> Image.Image:
    """A picture with the corners of FOUR."""
    image = Image.new("RGB", (320, 180), "red")
    for color, box in (("lime", (160, 0, 320, 90)), ("blue", (160, 90, 320, 180)), ("yellow", (0, 90, 160, 180))):
        image.paste(color, box)
    return image


@pytest.mark.parametrize(("orientation", "expected"), [(6, "yellow red lime blue"), (3, "blue yellow red lime")])
def test_pictures_with_side_data_that_the_library_does_not_know_are_turned_upright(
    orientation: int, expected: str, tmp_path: Path
) -> None:
    """Cameras write EXIF into MJPEG. orientation: of EXIF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "camera.jpg"
    corner_picture().save(path, exif=exif, quality=95)
    with av.open(str(path)) as film:
        frame = next(film.decode(video=0))
    frame.pts = 0
    (ready,) = Preparation(1000).push(DecodedPicture(frame, 0, True, 0, 0.0, Fraction(1)))
    assert corners(ready.frame) == expected.split()


def test_progressive_pictures_are_left_alone() -> None:
    shown = decoded(source(*pictures(), "-t", "0.5", *X264))
    preparation = Preparation(1000)
    assert [out for p in shown for out in preparation.push(p)] == shown
    assert preparation.flush() == []


@pytest.mark.parametrize(
    ("degrees", "expected", "size"),
    [
        (90, ["lime", "blue", "yellow", "red"], (180, 320)),
        (180, ["blue", "yellow", "red", "lime"], (320, 180)),
        (270, ["yellow", "red", "lime", "blue"], (180, 320)),
    ],
)
def test_rotated_pictures_are_turned_upright(degrees: int, expected: list[str], size: tuple[int, int]) -> None:
    """degrees: counterclockwise, as display orientation SEI says."""
    film = source(
        *("-f", "lavfi", "-i", FOUR, "-t", "0.5", *X264, "-pix_fmt", "yuv420p"),
        *("-bsf:v", f"h264_metadata=display_orientation=insert:rotate={degrees}"),
    )
    shown = decoded(film)
    preparation = Preparation(1000)
    ready = [out for p in shown for out in preparation.push(p)]
    assert (ready[0].frame.width, ready[0].frame.height) == size
    assert corners(Scaler(*size).scale(ready[0].frame)) == expected


def _gray(code: float, transfer: int) -> av.VideoFrame:
    """A gray picture of 10 bits. code: 0: black; 1: the most light."""
    frame = av.VideoFrame(64, 36, "yuv420p10le")
    for plane, value in zip(frame.planes, (round(64 + code * 876), 512, 512), strict=True):
        plane.update(value.to_bytes(2, "little") * (plane.buffer_size // 2))
    frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = 9, 9, transfer, 1
    frame.pts = 0
    return frame


@pytest.mark.parametrize(("transfer", "white"), [(16, 0.58), (18, 0.75)])
def test_hdr_becomes_bt709_with_all_its_light(transfer: int, white: float) -> None:
    """white: the code of graphics white, ITU-R BT.2408 table 1."""
    scaler, levels = Scaler(32, 18), []
    for code in (0.0, white / 2, white, (1 + white) / 2, 1.0):
        scaled = scaler.scale(_gray(code, transfer))
        assert (scaled.width, scaled.height, scaled.format.name) == (32, 18, "yuv420p")
        assert [int(getattr(scaled, name)) for name in COLOR_PROPERTIES] == [1, 1, 1, 1]  # BT.709
        levels.append(bytes(scaled.planes[0])[0])
    assert levels == sorted(levels)
    assert levels[0] == 16
    assert 215 < levels[2] <= levels[-1] <= 236


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_becomes_sdr_where_it_continues_a_stream_in_sdr(transfer: int) -> None:
    """A film of a phone, as a slate or a backup of a usual push."""
    white = 0.58 if transfer == 16 else 0.75
    sdr, hdr = VideoSignal(False, 1, 1, 1), VideoSignal(False, 9, transfer, 9)
    form = ContinuedForm("libx264", 64, 72, Fraction(1), Fraction(30), "yuv420p", sdr)
    shown = Letterbox(form).convert(_gray(white, transfer))
    assert [int(getattr(shown, name)) for name in COLOR_PROPERTIES] == [1, 1, 1, 1]
    line = shown.planes[0].line_size
    assert (bytes(shown.planes[0])[0], bytes(shown.planes[0])[36 * line]) == (16, pytest.approx(220, abs=5))
    kept = Letterbox(replace(form, pixels="yuv420p10le", signal=hdr)).convert(_gray(white, transfer))
    code = int.from_bytes(bytes(kept.planes[0])[36 * kept.planes[0].line_size :][:2], "little")
    assert code == round(64 + white * 876)


def test_other_pictures_keep_their_colors() -> None:
    scaled = Scaler(32, 18).scale(_gray(0.5, 14))
    assert [int(getattr(scaled, name)) for name in COLOR_PROPERTIES] == [1, 9, 14, 9]
    assert bytes(scaled.planes[0])[0] == 125


RED = {1: [63, 103, 240], 4: [82, 91, 240], 7: [62, 102, 240], 9: [74, 97, 240]}  # YUV of limited range, by matrix


@pytest.mark.parametrize("matrix", range(18))
@pytest.mark.parametrize("form", ["yuv420p", "yuv420p10le", "yuvj420p", "gbrp"])
def test_pictures_of_every_matrix_are_scaled(form: str, matrix: int) -> None:
    """FFmpeg refuses some matrices. YUV pictures get the most similar one, with unchanged values."""
    given = still("color=red:size=64x36", form)
    given.colorspace = matrix
    scaled = Scaler(32, 18).scale(given)
    expected = {1: 1, 4: 4, 5: 5, 7: 7, 9: 9, 10: 9}.get(matrix, 6)
    assert (int(scaled.colorspace), int(given.colorspace)) == (expected, matrix)
    red = RED.get(expected, [82, 90, 240]) if form == "gbrp" else [82, 90, 240]  # FFmpeg made YUV with BT.601
    assert [bytes(plane)[0] for plane in scaled.planes] == pytest.approx(red, abs=1)


@pytest.mark.parametrize("form", ["yuv420p", "yuv422p10le", "gbrp"])
@pytest.mark.parametrize(("primaries", "transfer"), [(0, 0), (3, 3), (1, 9), (1, 10), (40, 40)])
def test_pictures_whose_colors_ffmpeg_does_not_know_are_scaled(primaries: int, transfer: int, form: str) -> None:
    """ProRes without information has zeros."""
    given = still("color=red:size=64x36", form)
    given.color_primaries, given.color_trc = primaries, transfer
    scaled = Scaler(32, 18).scale(given)
    assert (int(scaled.color_primaries), int(scaled.color_trc)) == (1 if primaries == 1 else 2, 2)
    assert [bytes(plane)[0] for plane in scaled.planes] == pytest.approx([82, 90, 240], abs=1)


def test_colors_may_change_between_pictures_of_one_form() -> None:
    chain = Chain(("scale=32:18",))
    for primaries in (1, 0, 9):
        given = still("color=red:size=64x36")
        given.color_primaries = primaries
        (scaled,) = chain.push(given)
        assert int(scaled.color_primaries) == (primaries or 2)


@pytest.mark.parametrize("matrix", [2, 8, 9, 10])
def test_hdr_is_converted_from_bt2020_whatever_its_matrix(matrix: int) -> None:
    given = _gray(0.5, 16)
    given.planes[1].update((700).to_bytes(2, "little") * (given.planes[1].buffer_size // 2))
    expected = [bytes(plane) for plane in Scaler(32, 18).scale(given).planes]
    given.colorspace = matrix
    assert [bytes(plane) for plane in Scaler(32, 18).scale(given).planes] == expected


@pytest.mark.parametrize(("size", "matrix"), [("1280x720", 1), ("720x576", 6)])
def test_small_pictures_declare_the_matrix_that_players_use_for_the_source(size: str, matrix: int) -> None:
    scaled = Scaler(640, 360).scale(still(f"color=red:size={size}"))
    assert int(scaled.colorspace) == matrix
