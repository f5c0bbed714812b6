"""Picture files that a watermark's address may serve."""

from __future__ import annotations

import io
from contextlib import suppress
from functools import cache

from PIL import Image

from gateway.workers.programs.watermark.overlay_image import MAX_PIXELS, PictureUnusable, read_picture


@cache
def seeds() -> list[bytes]:
    """Returns one small picture of each kind."""
    made = []
    for form in ("PNG", "JPEG", "GIF", "WEBP"):
        out = io.BytesIO()
        Image.new("RGB", (9, 7), (200, 100, 0)).save(out, form)
        made.append(out.getvalue())
    out = io.BytesIO()
    Image.new("RGBA", (5, 4), (200, 100, 0, 128)).save(out, "PNG")
    return [*made, out.getvalue(), b"<svg/>", b""]


def fuzz(data: bytes) -> None:
    """Oracle: PictureUnusable, or a picture with transparency that is not too large."""
    with suppress(PictureUnusable):
        # A damaged header may claim any size: what decodes it takes what it claims, up to the bound.
        if _claims(data) > 1_000_000:
            return
        picture = read_picture(data)
        assert picture.mode == "RGBA"
        assert 0 < picture.width * picture.height <= MAX_PIXELS


def _claims(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF")) as picture:
            return picture.width * picture.height
    except Exception:
        return 0
