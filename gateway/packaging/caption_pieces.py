"""Cuts the captions of a stream into the pieces of its segments and parts."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

from gateway.live.stream_captions import ShownCaption, StreamCaptions
from gateway.media.caption_cue import CaptionCue
from gateway.media.clock import VIDEO_CLOCK

# The captions of one segment or part, by the id of their track. Times are ticks of 90 kHz on the stream's clock.
CaptionPieces: TypeAlias = Mapping[str, tuple[CaptionCue, ...]]

_MAX_COLLECTED: Final = 50_000  # captions of one track: one every two seconds for more than a day


@dataclass(slots=True, eq=False)
class _OpenCaption:
    """A caption that pieces carry. start: of the cue that is given next. ends: whether that cue's end is known."""

    caption: ShownCaption
    start: int
    ends: bool = False


class CaptionCutter:
    """Cuts the captions for one packager, whose pieces follow each other.

    A cue whose end is known is in each piece that it touches, always with equal times, so players show it once. One
    that is still shown is given up to the end of the piece, and continues in the next one. A caption that became known
    after the piece of its start is in the next piece, with its true start. What ended before the first piece is left
    out, and so is what is left of earlier pieces when the times go back.
    Call `collect` often during a long piece: the stream forgets its captions early. Of a track, a piece has the last
    50,000 captions.
    """

    def __init__(self, captions: StreamCaptions) -> None:
        self._captions = captions
        self._collected: defaultdict[str, deque[ShownCaption]] = defaultdict(partial(deque, maxlen=_MAX_COLLECTED))
        self._given: dict[str, list[_OpenCaption]] = {}
        self._seen: dict[str, int] = {}  # by track, the number of the next caption
        self._begin: int | None = None  # of the last piece

    def collect(self) -> None:
        """Takes the captions that are new. They belong to the next piece."""
        for track, log in self._captions.logs.items():
            self._collected[track].extend(log.since(self._seen.get(track, 0)))
            self._seen[track] = log.count

    def cut(self, start: int, end: int, clock: int) -> CaptionPieces | None:
        """Returns the captions of a piece, in presentation time with `clock` ticks a second; None: it has none."""
        begin, stop = start * VIDEO_CLOCK // clock, end * VIDEO_CLOCK // clock
        before, self._begin = self._begin, begin
        logs, is_first = self._captions.logs, before is None
        if before is not None and begin < before:  # another timeline
            self._given.clear()
        if not logs:
            return None
        self.collect()
        pieces: dict[str, tuple[CaptionCue, ...]] = {}
        for track, log in logs.items():
            log.expire(stop)
            given = self._given.setdefault(track, [])
            given += [
                _OpenCaption(caption, caption.start)
                for caption in self._collected.pop(track)
                if not is_first or caption.end is None or caption.end > begin
            ]
            if given:
                self._given[track], cues = _cut(given, begin, stop)
                if cues:
                    pieces[track] = cues
        return pieces or None


def _cut(given: Iterable[_OpenCaption], begin: int, stop: int) -> tuple[list[_OpenCaption], tuple[CaptionCue, ...]]:
    """Returns the captions that later pieces need, and the cues of this one."""
    kept: list[_OpenCaption] = []
    cues: list[CaptionCue] = []
    for each in given:
        caption = each.caption
        if each.start >= stop:
            if caption.end is None or caption.end > each.start:
                kept.append(each)
            continue
        end = caption.end
        if each.ends and caption.end is not None and caption.end <= begin:
            continue
        if end is None or end > each.start:
            cues.append(CaptionCue(each.start, stop if end is None else end, caption.text, caption.line))
        if end is None:
            each.start = stop
            kept.append(each)
        elif end > stop:
            each.ends = True
            kept.append(each)
    return kept, tuple(cues)


def join_pieces(pieces: Iterable[CaptionPieces | None]) -> CaptionPieces | None:
    """Returns the captions of a segment from those of its parts. Cues that continue each other become one."""
    joined: dict[str, list[CaptionCue]] = {}
    for piece in pieces:
        for track, cues in (piece or {}).items():
            for cue in cues:
                _join(joined.setdefault(track, []), cue)
    return {track: tuple(cues) for track, cues in joined.items()} or None


def moved(pieces: CaptionPieces | None, by: int, clock: int) -> CaptionPieces | None:
    """Returns captions `by` ticks later. clock: ticks a second."""
    if pieces is None or not by:
        return pieces
    by = by * VIDEO_CLOCK // clock
    return {track: tuple([cue.moved(by) for cue in cues]) for track, cues in pieces.items()}


def _join(cues: list[CaptionCue], cue: CaptionCue) -> None:
    if cue in cues:
        return
    for at, before in enumerate(cues):
        if before.end == cue.start and (before.text, before.line) == (cue.text, cue.line):
            cues[at] = replace(before, end=cue.end)
            return
    cues.append(cue)
