"""The small pictures for the time bar: never too many, at equal distances, each at its place of the sheet."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from gateway.media.clock import VIDEO_CLOCK
from gateway.ports.vod_names import VodNames
from gateway.workers.programs.vod.hls_package import MAX_PICTURES, PreviewPictures

NAMES = VodNames("a", "a")
_CUE = re.compile(
    r"(\d\d):(\d\d):(\d\d\.\d{3}) --> (\d\d):(\d\d):(\d\d\.\d{3})\nthumbnails\.jpg#xywh=(\d+),(\d+),(\d+),(\d+)"
)


@dataclass
class Frame:
    """A libav frame of one colour."""

    colour: tuple[int, int, int]

    def reformat(self, width: int, height: int, format: str) -> Frame:
        assert format == "rgb24"
        self.size = width, height
        return self

    def to_image(self) -> Image.Image:
        return Image.new("RGB", self.size, self.colour)


def made(folder: Path, seconds: int, declared: float, display: tuple[int, int] = (1280, 720)) -> list[list[float]]:
    """The cues of a film with four pictures a second: begin, end, x, y, width, height."""
    previews = PreviewPictures(declared)
    for quarter in range(seconds * 4):
        previews.offer(Frame((quarter // 4 % 256, 0, 0)), quarter * VIDEO_CLOCK // 4, display)
    previews.save(folder, NAMES, seconds)
    found = _CUE.findall((folder / NAMES.preview).read_text())
    return [
        [
            float(h) * 3600 + float(m) * 60 + float(s),
            float(h2) * 3600 + float(m2) * 60 + float(s2),
            *map(float, place),
        ]
        for h, m, s, h2, m2, s2, *place in found
    ]


def test_a_short_film_has_a_picture_each_second(tmp_path: Path) -> None:
    cues = made(tmp_path, 12, 12.0)
    assert [cue[:2] for cue in cues] == [[i, i + 1] for i in range(12)]
    assert cues[11][2:] == [160, 90, 160, 90]  # the second of the second row
    with Image.open(tmp_path / NAMES.preview_pictures) as sheet:
        assert sheet.size == (1600, 180)
        assert abs(sheet.getpixel((1500, 40))[0] - 9) < 12  # type: ignore[index]


@pytest.mark.parametrize("declared", [0.0, 1.0, 450.0, 90_000.0])
def test_the_number_of_pictures_is_bounded_for_any_declared_length(declared: float, tmp_path: Path) -> None:
    cues = made(tmp_path, 450, declared)
    assert 1 <= len(cues) <= MAX_PICTURES
    assert cues[0][0] == 0 and cues[-1][1] == 450
    assert all(after[0] == before[1] for before, after in itertools.pairwise(cues))
    assert len({round(cue[1] - cue[0], 3) for cue in cues[:-1]}) <= 1


def test_a_pause_repeats_the_picture(tmp_path: Path) -> None:
    previews = PreviewPictures(10.0)
    previews.offer(Frame((1, 1, 1)), 0, (90, 160))
    previews.offer(Frame((200, 1, 1)), 3 * VIDEO_CLOCK, (90, 160))
    previews.save(tmp_path, NAMES, 4.0)
    cues = _CUE.findall((tmp_path / NAMES.preview).read_text())
    assert len(cues) == 4
    assert cues[0][8:] == ("90", "160")  # an upright film
