"""Chapters of a movie in the form that QuickTime players, mpv, VLC and ffmpeg read: `chpl` in `udta`, by Nero."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.formats.mp4.box import box

_UNITS: Final = 10_000_000  # a second
_MOST: Final = 255


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter, which ends where the next one begins. at: seconds on the clock of the samples."""

    at: float
    title: str


def placed(chapters: Sequence[Chapter], start: float, seconds: float, before: str) -> list[Chapter]:
    """Returns the chapters of a movie that has a part of the time, with times from its start on.

    chapters: in order; the title of the last one before the part holds at its start. start, seconds: of the part.
    before: the title before the first chapter. A movie that would have one chapter with this title has none.
    Chapters with the title of the one before are left out; of many, the first 255 stay.
    """
    earlier = [chapter.title for chapter in chapters if chapter.at <= start]
    found = [Chapter(0.0, earlier[-1] if earlier else before)]
    for chapter in chapters:
        if start < chapter.at < start + seconds and chapter.title != found[-1].title:
            found.append(Chapter(chapter.at - start, chapter.title))
    return [] if len(found) == 1 and found[0].title == before else found[:_MOST]


def chapter_box(chapters: Sequence[Chapter]) -> bytes:
    """Returns `udta` with at most 255 chapters; b"" if there are none. Titles: at most 255 bytes of UTF-8."""
    if not chapters:
        return b""
    entries = [(round(chapter.at * _UNITS), chapter.title.encode()) for chapter in chapters]
    listed = b"".join(at.to_bytes(8, "big") + bytes((len(title),)) + title for at, title in entries)
    return box(b"udta", box(b"chpl", b"\1\0\0\0", bytes(4), bytes((len(entries),)), listed))
