"""The chapters of recordings: they begin at the ad cues of the stream."""

from typing import Final

from gateway.formats.mp4.chapters import Chapter
from gateway.media.timed_data import AdCue, CueType

PROGRAM: Final = "Program"
_BREAK: Final = "Break"
_KEPT: Final = 256  # the last ones


class BreakChapters:
    """Collects the chapters of a stream. A break without an end has its planned length."""

    def __init__(self) -> None:
        self.chapters: tuple[Chapter, ...] = ()  # in order

    def add(self, cue: AdCue) -> None:
        """Adds a cue in milliseconds. It replaces what an earlier cue planned for the time from then on."""
        if cue.type is CueType.OTHER:
            return
        at = cue.at / 1000
        added = [Chapter(at, _BREAK if cue.type is CueType.OUT else PROGRAM)]
        if cue.type is CueType.OUT and cue.seconds is not None:
            added.append(Chapter(at + cue.seconds, PROGRAM))
        self.chapters = (*(chapter for chapter in self.chapters if chapter.at < at), *added)[-_KEPT:]
