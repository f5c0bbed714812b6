"""Chapters of movies: their places in a part of the time, and what ffprobe lists."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest

from gateway.formats.mp4.chapters import Chapter, chapter_box, placed
from gateway.formats.mp4.finish import finish
from gateway.media.timed_data import AdCue, CueType
from gateway.outputs.recording.break_chapters import BreakChapters
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.unit.formats.mp4.test_finish import finished, recording, samples


def chapters(*pairs: tuple[float, str]) -> list[Chapter]:
    return [Chapter(at, title) for at, title in pairs]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], []),
        ([(12.0, "Break")], [(0.0, "Program"), (2.0, "Break")]),
        ([(12.0, "Break"), (15.0, "Program")], [(0.0, "Program"), (2.0, "Break"), (5.0, "Program")]),
        ([(5.0, "Break")], [(0.0, "Break")]),
        ([(5.0, "Break"), (12.0, "Program")], [(0.0, "Break"), (2.0, "Program")]),
        ([(10.0, "Break")], [(0.0, "Break")]),
        ([(2.0, "Break"), (5.0, "Program")], []),
        ([(20.0, "Break")], []),
        ([(12.0, "Program")], []),
        ([(12.0, "Break"), (13.0, "Break")], [(0.0, "Program"), (2.0, "Break")]),
    ],
)
def test_chapters_have_the_times_of_their_movie(given: list[tuple[float, str]], found: list[tuple[float, str]]) -> None:
    assert placed(chapters(*given), 10.0, 10.0, "Program") == chapters(*found)


def test_a_movie_has_at_most_255_chapters() -> None:
    many = chapters(*((10 + n / 100, ("Break", "Program")[n % 2]) for n in range(1, 600)))
    found = placed(many, 10.0, 10.0, "Program")
    assert len(found) == 255
    assert len(chapter_box(found)) < 10_000
    assert chapter_box([]) == b""


def test_ffprobe_lists_the_chapters(tmp_path: Path) -> None:
    need("ffprobe")
    target = io.BytesIO()
    marks = chapters((6.0, "Break"), (7.25, "Program"))
    finish(io.BytesIO(b"".join(recording(4))), target, chapters=marks, before="Program")
    movie = target.getvalue()
    assert samples(movie) == samples(finished(b"".join(recording(4)))[0])
    (tmp_path / "a.mp4").write_bytes(movie)
    command = ["ffprobe", "-v", "error", "-show_chapters", "-of", "json", str(tmp_path / "a.mp4")]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=at_most(30)).stdout)[
        "chapters"
    ]
    assert [(float(one["start_time"]), one["tags"]["title"]) for one in listed] == [
        (0.0, "Program"),
        (1.0, "Break"),
        (2.25, "Program"),
    ]


# ---- cues ----


def cue(kind: CueType, at: int, seconds: float | None = None) -> AdCue:
    return AdCue(kind, "1", at, seconds, b"")


@pytest.mark.parametrize(
    ("cues", "found"),
    [
        ([cue(CueType.OUT, 5000)], [(5.0, "Break")]),
        ([cue(CueType.OUT, 5000, 30)], [(5.0, "Break"), (35.0, "Program")]),
        ([cue(CueType.OUT, 5000, 30), cue(CueType.IN, 20_000)], [(5.0, "Break"), (20.0, "Program")]),
        (
            [cue(CueType.OUT, 5000, 30), cue(CueType.OUT, 20_000, 30)],
            [(5.0, "Break"), (20.0, "Break"), (50.0, "Program")],
        ),
        ([cue(CueType.OTHER, 5000)], []),
    ],
)
def test_breaks_become_chapters(cues: list[AdCue], found: list[tuple[float, str]]) -> None:
    breaks = BreakChapters()
    for one in cues:
        breaks.add(one)
    assert list(breaks.chapters) == chapters(*found)


def test_the_chapters_of_a_long_stream_have_a_bound() -> None:
    breaks = BreakChapters()
    for number in range(1000):
        breaks.add(cue(CueType.OUT, number * 1000))
    assert len(breaks.chapters) == 256
    assert breaks.chapters[-1].at == 999
