"""Pictures from outside: decoded with bounds, scaled, and laid together with a text into one overlay."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from gateway.transcode.fonts import Fontbook
from gateway.transcode.lettering import Words, draw

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
MOST_PIXELS: Final = 25_000_000  # decoded: 100 MB as RGBA, and half a second's work; a 4K picture has 8 million


class PictureUnusable(Exception):
    """The bytes are no picture that can be shown; one line."""


@dataclass(frozen=True, slots=True)
class Emblem:
    """A picture to show. data: the file; width, height: the size it is scaled to; left, top: where it begins."""

    data: bytes
    width: int
    height: int
    left: int
    top: int


@dataclass(frozen=True, slots=True)
class Overlay:
    """What is laid over every picture: RGBA at (x, y), all even, within the video. notes: what could not be had."""

    x: int
    y: int
    image: Image.Image | None
    notes: tuple[str, ...]


def read_picture(data: bytes, least: tuple[int, int] | None = None) -> Image.Image:
    """The first picture of a PNG, JPEG, WebP or GIF file as RGBA, upright. Raises PictureUnusable.

    least: the size that is needed; a photograph may come smaller than it is, which is many times faster. The header's
    size is judged before anything is decoded: a small file may claim to be a very large picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's own, larger bound; and of odd metadata
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    raise PictureUnusable(f"a picture of {width} x {height} is too large")
                if least is not None:
                    picture.draft("RGB", (max(least), max(least)))  # it may lie on its side
                picture.load()
                return ImageOps.exif_transpose(picture).convert("RGBA")
    except PictureUnusable:
        raise
    except Image.DecompressionBombError:
        raise PictureUnusable("a picture that is too large") from None
    except Exception as error:
        # Pillow's readers raise whatever a damaged file leads them to: OSError, SyntaxError, struct.error, ValueError …
        reason = " ".join(str(error).split()) if not isinstance(error, UnidentifiedImageError) else ""
        raise PictureUnusable(f"no PNG, JPEG, WebP or GIF picture{reason and f': {reason}'}"[:200]) from error


def place(emblem: Emblem, picture: Image.Image, width: int, height: int) -> Image.Image:
    """The picture scaled to the emblem's size on an otherwise transparent one of the video's size.

    Only what lies within the video is scaled, however large the whole would be.
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


def compose(words: Words | None, emblem: Emblem | None, width: int, height: int, book: Fontbook) -> Overlay:
    """The text above the picture, each at its place on a video of width x height, cut to what is not transparent."""
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
    # Even edges: chroma has half the resolution, and a filter that had to round would move everything.
    left, top, right, bottom = box[0] & ~1, box[1] & ~1, box[2] + 1 & ~1, box[3] + 1 & ~1
    return Overlay(left, top, canvas.crop((left, top, right, bottom)), tuple(notes))
