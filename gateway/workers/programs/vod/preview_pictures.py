"""Makes the small pictures for the time bar of players: one JPEG sheet, and a WebVTT list of its parts."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any, Final

from PIL import Image

from gateway.ports.vod_names import VodNames
from gateway.workers.programs.vod.continuous_timeline import TICKS

MAX_PICTURES: Final = 100  # of one VOD; about 5 MB of memory
_COLUMNS: Final = 10
_SIDE: Final = 160  # pixels of the longer side
_QUALITY: Final = 60
_MIN_SECONDS: Final = 1


class PreviewPictures:
    """Collects pictures at equal distances. Doubles the distance when there are too many.

    declared: seconds of the video, from its header; may be 0 or wrong.
    """

    def __init__(self, declared: float) -> None:
        self._distance = max(_MIN_SECONDS, ceil(declared / MAX_PICTURES)) * TICKS
        self._size: tuple[int, int] | None = None
        self._pictures: list[Image.Image] = []

    def offer(self, frame: Any, at: int, display: tuple[int, int]) -> None:
        """Takes a libav frame if it is the first one of its interval.

        at: ticks since the first frame. display: a size with the display aspect ratio.
        """
        if at < len(self._pictures) * self._distance:
            return
        if self._size is None:
            scale = _SIDE / max(display)
            self._size = max(2, round(display[0] * scale)), max(2, round(display[1] * scale))
        width, height = self._size
        picture = frame.reformat(width=width, height=height, format="rgb24").to_image()
        while at >= len(self._pictures) * self._distance:  # more than one after a pause of the video
            self._pictures.append(picture)
            if len(self._pictures) == MAX_PICTURES:
                del self._pictures[1::2]
                self._distance *= 2

    def save(self, folder: Path, names: VodNames, seconds: float) -> None:
        """Writes the sheet and the list. seconds: length of the video."""
        assert self._size is not None, "a video has at least one picture"
        width, height = self._size
        rows = ceil(len(self._pictures) / _COLUMNS)
        sheet = Image.new("RGB", (width * min(_COLUMNS, len(self._pictures)), height * rows))
        lines = ["WEBVTT"]
        for i, picture in enumerate(self._pictures):
            x, y = i % _COLUMNS * width, i // _COLUMNS * height
            sheet.paste(picture, (x, y))
            begin, end = i * self._distance / TICKS, (i + 1) * self._distance / TICKS
            if i == len(self._pictures) - 1:
                end = max(seconds, begin + 0.001)
            place = f"{names.preview_pictures}#xywh={x},{y},{width},{height}"
            lines.append(f"\n{_time(begin)} --> {_time(end)}\n{place}")
        sheet.save(folder / names.preview_pictures, "JPEG", quality=_QUALITY)
        (folder / names.preview).write_text("\n".join(lines) + "\n", encoding="ascii")


def _time(seconds: float) -> str:
    """Returns a time of WebVTT, `HH:MM:SS.mmm`."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
