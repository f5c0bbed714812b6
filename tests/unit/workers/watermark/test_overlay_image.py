"""Pictures of watermarks: decoded with limits, scaled, placed; the text is drawn above them."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import Image

from gateway.workers.programs.watermark.fonts import FontCatalog
from gateway.workers.programs.watermark.overlay_image import PictureUnusable, compose, read_picture
from gateway.workers.watermark_spec import WatermarkSpec

BOOK = FontCatalog("sans")
BLUE = (0, 0, 255, 255)


def shown(picture: bytes, width: int, height: int, left: int, top: int) -> WatermarkSpec:
    return WatermarkSpec(left=left, top=top, width=width, height=height, picture=picture)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def solid(size: tuple[int, int] = (8, 6), color: tuple[int, ...] = BLUE) -> Image.Image:
    return Image.new("RGBA" if len(color) == 4 else "RGB", size, color)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_usual_kind_of_picture_is_read(form: str) -> None:
    picture = read_picture(encoded(solid(color=(0, 0, 255)), form))
    assert (picture.mode, picture.size) == ("RGBA", (8, 6))
    red, green, blue, alpha = picture.getpixel((4, 3))  # type: ignore[misc]
    assert blue > 240 and red < 16 and green < 16 and alpha == 255


def test_the_first_picture_of_an_animation_is_shown() -> None:
    frames = [solid(color=(255, 0, 0)), solid(color=(0, 255, 0))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_picture(data).getpixel((2, 2)) == (255, 0, 0, 255)


def test_a_photograph_that_was_taken_sideways_is_put_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(encoded(solid((8, 4), (0, 0, 255)), "JPEG", exif=exif)).size == (4, 8)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def chunked(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def profile_bomb() -> bytes:
    """A PNG whose colour profile unpacks to 200 MB."""
    data = encoded(solid())
    head = data.index(b"IDAT") - 4
    return data[:head] + chunked(b"iCCP", b"x\0\0" + zlib.compress(bytes(200_000_000))) + data[head:]


def frame_beyond_its_screen() -> bytes:
    """A GIF of 8x6 whose first picture claims 60000x60000."""
    data = bytearray(encoded(solid(color=(0, 0, 255)), "GIF"))
    at = data.index(b"\x2c", 13)
    data[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)
    return bytes(data)


def canvas_beyond_its_pictures() -> bytes:
    """An animated WebP of 8x6 whose canvas claims 16383x16383."""
    frames = [solid(color=(255, 0, 0)), solid(color=(0, 255, 0))]
    data = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    at = data.index(b"VP8X")
    data[at + 12 : at + 18] = (16_382).to_bytes(3, "little") * 2
    return bytes(data)


@pytest.mark.parametrize("made", [profile_bomb, frame_beyond_its_screen, canvas_beyond_its_pictures])
def test_a_picture_that_unpacks_to_too_much_data_is_refused(made: Callable[[], bytes]) -> None:
    data = made()
    assert len(data) < 300_000
    with pytest.raises(PictureUnusable):
        read_picture(data)


@pytest.mark.parametrize("size", [(100_000, 100_000), (8_000, 8_000), (2**31 - 1, 2**31 - 1)])
def test_a_small_file_that_claims_to_be_large_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(PictureUnusable):
        read_picture(bomb(*size))


@pytest.mark.parametrize(
    "data",
    [b"", b"text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", encoded(solid())[:45], b"BM" + bytes(60)],
    ids=["nothing", "text", "svg", "cut png", "bmp"],
)
def test_an_invalid_picture_is_refused_with_a_reason_of_one_line(data: bytes) -> None:
    with pytest.raises(PictureUnusable) as caught:
        read_picture(data)
    assert "\n" not in str(caught.value)
    assert "picture" in str(caught.value)


def test_the_picture_is_scaled_to_its_size_at_its_place() -> None:
    overlay = compose(shown(encoded(solid()), 40, 30, 10, 21), 320, 180, BOOK)
    assert overlay.image is not None
    assert (overlay.x, overlay.y) == (10, 20), "even"
    assert overlay.image.size == (40, 32)
    assert overlay.image.getpixel((0, 0)) == (0, 0, 0, 0)
    assert overlay.image.getpixel((0, 1)) == BLUE
    assert overlay.image.getpixel((39, 30)) == BLUE


def test_parts_beyond_the_video_are_cut_before_they_are_drawn() -> None:
    overlay = compose(shown(encoded(solid()), 16_384, 16_384, 300, 170), 320, 180, BOOK)
    assert overlay.image is not None
    assert (overlay.x, overlay.y, *overlay.image.size) == (300, 170, 20, 10)
    assert compose(shown(encoded(solid()), 100, 100, 320, 0), 320, 180, BOOK).image is None


def test_the_text_is_drawn_above_the_picture() -> None:
    spec = replace(shown(encoded(solid()), 200, 100, 20, 10), text="\u25a0", size=60, color="#00ff00")
    overlay = compose(spec, 320, 180, BOOK)
    assert overlay.image is not None
    assert overlay.image.getpixel((20, 15)) == (0, 255, 0, 255)
    assert overlay.image.getpixel((150, 60)) == BLUE


def test_transparency_of_the_picture_is_kept() -> None:
    overlay = compose(shown(encoded(solid(color=(255, 0, 0, 100))), 20, 20, 0, 0), 320, 180, BOOK)
    assert overlay.image is not None
    assert overlay.image.getpixel((10, 10)) == (255, 0, 0, 100)


def test_an_unusable_picture_causes_a_note_and_the_text_stays() -> None:
    overlay = compose(replace(shown(b"no", 10, 10, 0, 0), text="x", size=40), 320, 180, BOOK)
    assert overlay.image is not None
    assert any("picture cannot be shown" in note for note in overlay.notes)


@pytest.mark.parametrize("spec", [WatermarkSpec(), WatermarkSpec("   ", 40), WatermarkSpec("x", 40, left=400)])
def test_an_empty_watermark_gives_no_overlay_and_says_so(spec: WatermarkSpec) -> None:
    overlay = compose(spec, 320, 180, BOOK)
    assert overlay.image is None
    assert overlay.notes == ["the watermark is empty, or outside of the picture"]


def test_gray_of_16_bits_keeps_its_steps() -> None:
    ramp = Image.new("I;16", (4, 1))
    for x, value in enumerate((0, 20_000, 40_000, 65_535)):
        ramp.putpixel((x, 0), value)
    read = read_picture(encoded(ramp, "PNG"))
    assert [read.getpixel((x, 0)) for x in range(4)] == [(gray, gray, gray, 255) for gray in (0, 78, 156, 255)]
