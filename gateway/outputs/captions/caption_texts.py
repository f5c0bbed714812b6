"""Makes captions of recognised words: short texts with their times."""

import textwrap
from collections.abc import Iterator
from typing import Final

from gateway.media.timed_data import CaptionText
from gateway.workers.speech_protocol import Words

MAX_CHARACTERS: Final = 84  # of a caption: two lines of 42
SHOWN_MS: Final = 2_000  # for which a caption is shown at least, after it became known and after its last word


def captions_of(words: Words, known: int, language: str) -> Iterator[CaptionText]:
    """Yields the captions of a result, in order.

    words: in seconds of the stream. known: the newest time of the stream, in ms. language: see CaptionText.
    A long text is split between words, and its time is shared out by length.
    """
    parts = textwrap.wrap(words.text, MAX_CHARACTERS, break_on_hyphens=False)
    start, length = words.start * 1000, (words.end - words.start) * 1000
    total, before = sum(map(len, parts)), 0
    for part in parts:
        begin, before = start + length * before / total, before + len(part)
        end = max(known, start + length * before / total) + SHOWN_MS
        yield CaptionText(part, round(begin), round(end), language, is_speech=True)
