"""Reads SubRip (.srt), which has no specification: what its readers accept."""

import re
from collections.abc import Iterator
from typing import Final

from gateway.formats.captions.cue_lines import Timing, finished, read_timing
from gateway.media.caption_cue import CaptionCue

# Only known tags are removed: "<3" is a text.
_TAGS: Final = re.compile(r"</?(?:b|i|u|s|font|span|ruby|rt|c|v)(?:[ .][^<>]*)?/?>|\{\\[^{}]*\}", re.IGNORECASE)
_AT_TOP: Final = re.compile(r"\{\\an[789]\}")  # ASS: alignments 7, 8 and 9 are at the top
_TOP: Final = 10  # percent


def read_subrip(text: str) -> list[CaptionCue] | None:
    """Returns the cues, sorted; None if there is no line with times. A cue lasts until the next one's number."""
    cues = list(_cues(text.split("\n")))
    return finished(cues) if cues else None


def _cues(lines: list[str]) -> Iterator[CaptionCue]:
    timing: Timing | None = None
    body: list[str] = []
    for line in lines:
        following = read_timing(line)
        if following is None:
            body.append(line)
            continue
        if timing is not None:
            yield _cue(timing, _without_number(body))
        timing, body = following, []
    if timing is not None:
        yield _cue(timing, body)


def _without_number(body: list[str]) -> list[str]:
    """Returns the lines before a cue without its number. A number inside a text has no empty line before it."""
    numbered = body and body[-1].strip().isdecimal() and (len(body) == 1 or not body[-2].strip())
    return body[:-1] if numbered else body


def _cue(timing: Timing, body: list[str]) -> CaptionCue:
    text = "\n".join(body)
    return CaptionCue(timing.start, timing.end, _TAGS.sub("", text), _TOP if _AT_TOP.search(text) else None)
