"""Saves the first picture of a VOD as poster and thumbnail (JPEG), with the qualities of the original system."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from gateway.ports.vod_names import VodNames

POSTER_QUALITY: Final = 20
THUMBNAIL_QUALITY: Final = 5


def save(frame: Any, display: tuple[int, int], folder: Path, names: VodNames) -> None:
    """Writes both files. frame: a libav picture. display: a size with the display aspect ratio of the picture."""
    picture = frame.to_image().convert("RGB")
    width, height = picture.size
    # Makes the pixels square by shrinking one side, never by enlarging one.
    shape = display[0] / display[1]
    if width / height > shape:
        width = max(1, round(height * shape))
    else:
        height = max(1, round(width / shape))
    if (width, height) != picture.size:
        picture = picture.resize((width, height))
    picture.save(folder / names.poster, "JPEG", quality=POSTER_QUALITY)
    picture.save(folder / names.thumbnail, "JPEG", quality=THUMBNAIL_QUALITY)
