"""The times in which the same captions are shown: the samples of a text track, which has no gaps."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from gateway.formats.captions.cue_lines import shown_text
from gateway.media.caption_cue import CaptionCue


def cue_spans(start: int, end: int, cues: Sequence[CaptionCue]) -> Iterator[tuple[int, int, list[CaptionCue]]]:
    """Yields (begin, end, cues with a text that are shown then), in order. The spans cover [start, end) without gaps.

    start, end: ticks of 90 kHz. A cue without an end is shown until `end`.
    """
    clipped = ((max(cue.start, start), end if cue.end is None else min(cue.end, end), cue) for cue in cues)
    shown = sorted(
        (each for each in clipped if each[0] < each[1] and shown_text(each[2].text)), key=lambda each: each[0]
    )
    moments = sorted({start, max(start, end), *(moment for each in shown for moment in each[:2])})
    active: list[tuple[int, int, CaptionCue]] = []
    following = 0
    for at, until in pairwise(moments):
        active = [each for each in active if each[1] > at]
        while following < len(shown) and shown[following][0] == at:
            active.append(shown[following])
            following += 1
        yield at, until, [each[2] for each in active]
