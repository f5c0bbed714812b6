"""Decodes an uploaded picture within limits, scales it, and combines it with a text into one overlay."""

import io
import warnings
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from gateway.formats.jpeg import count_scans
from gateway.workers.programs.watermark.colors import parse_color
from gateway.workers.programs.watermark.fonts import FontCatalog
from gateway.workers.programs.watermark.text_renderer import TextBlock, draw
from gateway.workers.watermark_spec import DEFAULT_COLOR, WatermarkSpec

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
MAX_SCANS: Final = 200  # of a JPEG; a progressive JPEG has about ten
MAX_SCANNED: Final = 500_000_000  # sum of the pixels of all scans of a JPEG: two or three seconds of work
MAX_PIXELS: Final = 25_000_000  # of the decoded picture: 100 MB as RGBA, half a second of work; 4K has 8 million


class PictureUnusable(Exception):
    """The bytes are not a usable picture. The message is one line."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """The overlay for all pictures: an RGBA image at (x, y), inside the video; position and size are even.

    image: None if nothing is visible. notes: messages about parts that could not be drawn.
    """

    x: int
    y: int
    image: Image.Image | None
    notes: list[str]


def read_picture(data: bytes, needed_size: tuple[int, int] | None = None) -> Image.Image:
    """Returns the first picture of a PNG, JPEG, WebP or GIF file as RGBA, upright. Raises PictureUnusable.

    needed_size: a JPEG may be decoded at a reduced size down to this one, which is many times faster.
    The size in the header is checked before decoding, because a small file may declare a very large picture. The number
    of scans of a JPEG is checked too, because a small file may have thousands of them.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about its own size limit and about odd metadata
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise PictureUnusable(f"a picture of {width} x {height} is too large")
                if picture.format in ("JPEG", "MPO"):  # MPO: a JPEG file with several pictures
                    _check_scans(data, width * height)
                if needed_size is not None:
                    side = max(needed_size)  # square, because EXIF may rotate the picture
                    picture.draft("RGB", (side, side))
                picture.load()
                upright = ImageOps.exif_transpose(picture)
                if upright.mode.startswith("I"):  # 16 bits of gray, which Pillow would cut instead of dividing them
                    upright = upright.point(lambda value: value / 256).convert("L")
                return upright.convert("RGBA")
    except PictureUnusable:
        raise
    except Image.DecompressionBombError:
        raise PictureUnusable("a picture that is too large") from None
    except UnidentifiedImageError as error:
        raise PictureUnusable("no PNG, JPEG, WebP or GIF picture") from error
    except Exception as error:
        # Pillow raises many kinds of errors for damaged files: OSError, SyntaxError, struct.error, ValueError …
        raise PictureUnusable("a damaged or incomplete picture") from error


def _check_scans(data: bytes, pixels: int) -> None:
    count = count_scans(data, MAX_SCANS)
    if count > MAX_SCANS:
        raise PictureUnusable(f"a JPEG of more than {MAX_SCANS} scans would take too long")
    if count * pixels > MAX_SCANNED:
        raise PictureUnusable(f"a JPEG of {count} scans of {pixels} pixels would take too long")


def _draw_picture(spec: WatermarkSpec, width: int, height: int) -> Image.Image:
    """Returns a transparent picture of the video's size, with the watermark's picture in its size and position.

    Scales only the part inside the video, so a huge picture size costs nothing. Raises PictureUnusable.
    """
    picture = read_picture(spec.picture, (spec.width, spec.height))
    canvas = Image.new("RGBA", (width, height))
    visible_width = min(spec.width, width - spec.left)
    visible_height = min(spec.height, height - spec.top)
    if visible_width > 0 and visible_height > 0:
        right = min(picture.width, visible_width * picture.width / spec.width)
        bottom = min(picture.height, visible_height * picture.height / spec.height)
        visible_size = visible_width, visible_height
        scaled = picture.resize(visible_size, Image.Resampling.LANCZOS, box=(0, 0, right, bottom))
        canvas.paste(scaled, (spec.left, spec.top))
    return canvas


def compose(spec: WatermarkSpec, width: int, height: int, fonts: FontCatalog) -> Overlay:
    """Returns the overlay for a video of width x height. The text is in front of the picture.

    The overlay is cropped to the part that is not transparent.
    """
    notes: list[str] = []
    try:
        color = parse_color(spec.color)
    except ValueError as error:
        color = parse_color(DEFAULT_COLOR)
        notes.append(f"the watermark's text is {DEFAULT_COLOR}: {error}")
    canvas: Image.Image | None = None
    if spec.picture:
        try:
            canvas = _draw_picture(spec, width, height)
        except PictureUnusable as error:
            notes.append(f"the watermark's picture cannot be shown: {error}")
    if spec.text:
        text, missing = draw(TextBlock(spec.text, spec.size, color, spec.left, spec.top), width, height, fonts)
        notes += [*fonts.notes, *missing]
        if canvas is None:
            canvas = text
        else:
            canvas.alpha_composite(text)
    box = canvas.getchannel("A").getbbox() if canvas is not None else None
    if canvas is None or box is None:
        return Overlay(0, 0, None, notes or ["the watermark is empty, or outside of the picture"])
    # Even edges: chroma has half the resolution, and rounding in a filter would move the overlay.
    left, top, right, bottom = box[0] & ~1, box[1] & ~1, box[2] + 1 & ~1, box[3] + 1 & ~1
    return Overlay(left, top, canvas.crop((left, top, right, bottom)), notes)
