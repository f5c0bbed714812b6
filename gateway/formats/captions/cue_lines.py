"""What text files with captions have in common: times, clean text and limits of their cues."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from gateway.media.caption_cue import CaptionCue

MAX_CUES: Final = 50_000  # of a file; the others are left out
MAX_TEXT: Final = 500  # characters of a cue; the rest is cut

_TICKS_PER_MS: Final = 90
_TIME: Final = r"(?:(\d{1,4}):)?(\d{1,2}):([0-5]?\d)(?:[.,](\d{1,3}))?"
# SubRip has a comma and always hours, WebVTT a dot. Both forms are read in both formats, because writers mix them.
_TIMING: Final = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s+(.*))?", re.ASCII)


class Timing(NamedTuple):
    """The line with the times of a cue. start, end: ticks of 90 kHz. settings: the text behind them."""

    start: int
    end: int
    settings: str


def read_timing(line: str) -> Timing | None:
    """Returns the times of a cue; None for any other line."""
    found = _TIMING.fullmatch(line) if "-->" in line else None
    if found is None:
        return None
    values = found.groups("0")
    return Timing(_ticks(values[:4]), _ticks(values[4:8]), found[9] or "")


def shown_text(text: str) -> str:
    """Returns text without control characters, empty lines and spaces around its lines."""
    lines = ("".join(c for c in line if c >= " " and not "\x7f" <= c <= "\x9f").strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def finished(cues: Iterable[CaptionCue]) -> list[CaptionCue]:
    """Returns the cues with a text and a duration, cut to the limits, sorted by their starts."""
    return sorted(islice(_cleaned(cues), MAX_CUES), key=lambda cue: cue.start)


def _cleaned(cues: Iterable[CaptionCue]) -> Iterator[CaptionCue]:
    for cue in cues:
        text = shown_text(cue.text)[:MAX_TEXT].rstrip()
        if text and cue.end is not None and cue.end > cue.start:
            yield CaptionCue(cue.start, cue.end, text, cue.line)


def _ticks(parts: tuple[str, ...]) -> int:
    hours, minutes, seconds, fraction = parts
    whole = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return (whole * 1000 + int(fraction.ljust(3, "0"))) * _TICKS_PER_MS
