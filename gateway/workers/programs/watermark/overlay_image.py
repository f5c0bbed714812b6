"""Decodes an uploaded picture within limits, scales it, and combines it with a text into one overlay."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from gateway.formats.jpeg import scans
from gateway.workers.programs.watermark.fonts import FontCatalog
from gateway.workers.programs.watermark.text_renderer import TextBlock, draw

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
MAX_SCANS: Final = 200  # of a JPEG; progressive ones have about ten
MAX_SCANNED: Final = 500_000_000  # pixels of all scans of a JPEG together: two or three seconds of work
MAX_PIXELS: Final = 25_000_000  # decoded: 100 MB as RGBA and half a second of work; a 4K picture has 8 million


class PictureUnusable(Exception):
    """The bytes are not a usable picture. The message is one line."""


@dataclass(frozen=True, slots=True)
class WatermarkPicture:
    """A picture to show. data: the file. width, height: the size to scale it to. left, top: its position."""

    data: bytes
    width: int
    height: int
    left: int
    top: int


@dataclass(frozen=True, slots=True)
class Overlay:
    """The overlay for every picture: an RGBA image at (x, y), within the video; position and size are even.

    notes: messages about parts that could not be drawn.
    """

    x: int
    y: int
    image: Image.Image | None
    notes: tuple[str, ...]


def read_picture(data: bytes, least: tuple[int, int] | None = None) -> Image.Image:
    """Returns the first picture of a PNG, JPEG, WebP or GIF file as RGBA, upright. Raises PictureUnusable.

    least: the size that is needed. A JPEG may then be decoded at a reduced size, which is many times faster.
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
                    _judge_scans(data, width * height)
                if least is not None:
                    picture.draft("RGB", (max(least), max(least)))  # square, because EXIF may rotate the picture
                picture.load()
                return ImageOps.exif_transpose(picture).convert("RGBA")
    except PictureUnusable:
        raise
    except Image.DecompressionBombError:
        raise PictureUnusable("a picture that is too large") from None
    except Exception as error:
        # Pillow raises many kinds of errors for damaged files: OSError, SyntaxError, struct.error, ValueError …
        reason = " ".join(str(error).split()) if not isinstance(error, UnidentifiedImageError) else ""
        raise PictureUnusable(f"no PNG, JPEG, WebP or GIF picture{reason and f': {reason}'}"[:200]) from error


def _judge_scans(data: bytes, pixels: int) -> None:
    found = scans(data, MAX_SCANS)
    if found > MAX_SCANS:
        raise PictureUnusable(f"a JPEG of more than {MAX_SCANS} scans would take too long")
    if found * pixels > MAX_SCANNED:
        raise PictureUnusable(f"a JPEG of {found} scans of {pixels} pixels would take too long")


def place(emblem: WatermarkPicture, picture: Image.Image, width: int, height: int) -> Image.Image:
    """Returns a transparent picture of the video's size, with the picture on it, scaled to the emblem's size.

    Scales only the part within the video, so a huge emblem size costs nothing.
    """
    canvas = Image.new("RGBA", (width, height))
    seen_width = min(emblem.width, width - emblem.left)
    seen_height = min(emblem.height, height - emblem.top)
    if seen_width > 0 and seen_height > 0:
        across, down = picture.width / emblem.width, picture.height / emblem.height
        scaled = picture.resize(
            (seen_width, seen_height),
            Image.Resampling.LANCZOS,
            box=(0, 0, min(picture.width, seen_width * across), min(picture.height, seen_height * down)),
        )
        canvas.paste(scaled, (emblem.left, emblem.top))
    return canvas


def compose(
    words: TextBlock | None, emblem: WatermarkPicture | None, width: int, height: int, book: FontCatalog
) -> Overlay:
    """Returns the overlay with the text above the picture, for a video of width x height.

    It is cropped to the part that is not transparent.
    """
    notes: list[str] = []
    canvas: Image.Image | None = None
    if emblem is not None:
        try:
            canvas = place(emblem, read_picture(emblem.data, (emblem.width, emblem.height)), width, height)
        except PictureUnusable as error:
            notes.append(f"the watermark's picture cannot be shown: {error}")
    if words is not None and words.text:
        text, missing = draw(words, width, height, book)
        notes += [*book.notes, *missing]
        if canvas is None:
            canvas = text
        else:
            canvas.alpha_composite(text)
    box = canvas.getchannel("A").getbbox() if canvas is not None else None
    if canvas is None or box is None:
        return Overlay(0, 0, None, tuple(notes))
    # Even edges: chroma has half the resolution, and rounding in a filter would move the overlay.
    left, top, right, bottom = box[0] & ~1, box[1] & ~1, box[2] + 1 & ~1, box[3] + 1 & ~1
    return Overlay(left, top, canvas.crop((left, top, right, bottom)), tuple(notes))
