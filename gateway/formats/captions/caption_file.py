"""Reads files with captions, WebVTT or SubRip, in any of the usual text encodings."""

import re
from collections.abc import Iterator
from typing import Final

from gateway.formats.captions.charsets import decode_text
from gateway.formats.captions.cue_lines import Timing, finished, read_timing
from gateway.formats.captions.webvtt import read_webvtt
from gateway.media.caption_cue import CaptionCue
from gateway.media.errors import InvalidData

MAX_BYTES: Final = 5_000_000
# Only known tags are removed: "<3" is a text.
_TAGS: Final = re.compile(r"</?(?:b|i|u|s|font|span|ruby|rt|c|v)(?:[ .][^<>]*)?/?>|\{\\[^{}]*\}", re.IGNORECASE)
_AT_TOP: Final = re.compile(r"\{\\an[789]\}")  # ASS: alignments 7, 8 and 9 are at the top
_TOP: Final = 10  # percent


def read_caption_file(
    data: bytes, max_bytes: int = MAX_BYTES, *, language: str = "", charset: str = ""
) -> list[CaptionCue]:
    """Returns the cues of a WebVTT or SubRip file, sorted by their starts; times count from 0.

    language, charset: see `decode_text`. Bounds: see `cue_lines`. Damaged cues are left out. Raises InvalidData for
    other files, and above `max_bytes`.
    """
    if len(data) > max_bytes:
        raise InvalidData(f"captions of more than {max_bytes // 1_000_000} MB")
    text = decode_text(data, language, charset).replace("\r\n", "\n").replace("\r", "\n")
    cues = read_webvtt(text)
    if cues is None:
        cues = _read_subrip(text)
    if cues is None:
        raise InvalidData("the file is neither WebVTT nor SubRip")
    return cues


def _read_subrip(text: str) -> list[CaptionCue] | None:
    """Returns the cues of SubRip, sorted; None if there is no line with times. A cue lasts until the next one's number.

    SubRip has no specification: this is what its readers accept.
    """
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
    """Returns the lines before a cue without its number, which some writers separate from its times by an empty line.

    A number inside a text has no empty line before it.
    """
    end = len(body)
    while end and not body[end - 1].strip():
        end -= 1
    is_separate = end > 1 and not body[end - 2].strip()
    numbered = end and body[end - 1].strip().isdecimal() and (is_separate or len(body) == 1)
    return body[: end - 1] if numbered else body


def _cue(timing: Timing, body: list[str]) -> CaptionCue:
    text = "\n".join(body)
    return CaptionCue(timing.start, timing.end, _TAGS.sub("", text), _TOP if _AT_TOP.search(text) else None)
