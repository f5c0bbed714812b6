"""Poster and thumbnail: a film's first picture as two JPEGs, in the qualities of the original system."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from gateway.vod.naming import Names

POSTER_QUALITY: Final = 20
THUMBNAIL_QUALITY: Final = 5


def save(frame: Any, display: tuple[int, int], folder: Path, names: Names) -> None:
    """frame: a libav picture; display: the size whose proportions it has on a screen."""
    picture = frame.to_image().convert("RGB")
    width, height = picture.size
    # Square pixels, made so by taking away and not by adding.
    shape = display[0] / display[1]
    if width / height > shape:
        width = max(1, round(height * shape))
    else:
        height = max(1, round(width / shape))
    if (width, height) != picture.size:
        picture = picture.resize((width, height))
    picture.save(folder / names.poster, "JPEG", quality=POSTER_QUALITY)
    picture.save(folder / names.thumbnail, "JPEG", quality=THUMBNAIL_QUALITY)
