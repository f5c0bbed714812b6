"""Writes `live.m3u8?rewind=…`: the live playlist of MPEG-TS, which also lists earlier segments.

All playlists of a packager have the same Media Sequence Numbers, Discontinuity Sequence Numbers and dates. Stored
pieces of earlier packagers are counted back from the first segment of this one.

The § numbers refer to HLS (RFC 8216bis).
"""

from collections.abc import Iterable
from itertools import chain
from typing import Final

from gateway.formats.hls import media_playlist
from gateway.lib.bounded_dict import BoundedDict
from gateway.packaging.segment_window import SegmentWindow
from gateway.packaging.ts.segment_history import PastSegment, SegmentHistory
from gateway.ports import media_keys

_VERSION: Final = 9  # EXT-X-SKIP
_SKIP_TARGETS: Final = 6  # §4.4.3.8: the Skip Boundary is at least six Target Durations
_DATE_INTERVAL: Final = 8  # segments from one date to the next, except after a discontinuity or a jump of dates
_BLOCK: Final = 64  # segments whose lines are written once
_MAX_LENGTHS: Final = 256  # remembered lengths of playlists


class RewindPlaylist:
    """Writes the playlists of one packager. It keeps the lines of complete blocks of segments, about 50 bytes each.

    floor: number of the oldest segment that can be fetched.
    """

    def __init__(self, history: SegmentHistory) -> None:
        self.history = history
        self.floor = 0
        self._oldest = history.first  # number of a segment that has a date, although no discontinuity is before it
        self._blocks: dict[int, str] = {}  # lines of _BLOCK segments, by the number of the first one
        # By the seconds of a playlist: the first number that was listed, and the Target Duration. Neither may decrease.
        self._lengths: BoundedDict[int, tuple[int, int]] = BoundedDict(_MAX_LENGTHS)

    def prepend(self, pieces: Iterable[PastSegment]) -> None:
        """Adds stored pieces before the segments of the packager.

        Their epochs are set here. Epochs are not negative, so pieces before too many discontinuities are left out.
        pieces: the newest one first. The epoch of a piece is 1 if it begins with a discontinuity, otherwise 0.
        """
        history = self.history
        epoch = history[history.own].epoch - 1  # the packager's first segment does not continue the pieces
        older = SegmentHistory()
        for piece in pieces:
            if epoch < 0:
                break
            older.append(PastSegment(piece.name, piece.seconds, piece.wall, epoch))
            epoch -= piece.epoch
        history.prepend(older)
        self._oldest = history.first

    def text(self, seconds: int, window: SegmentWindow, *, ended: bool, delta: bool = False) -> str:
        """Returns the playlist that reaches `seconds` back, with media_playlist.MARK after its URIs.

        delta: replaces all segments before the Skip Boundary by EXT-X-SKIP (§6.2.5.1), if there are any.
        """
        history = self.history
        first, target = self._length(seconds, window)
        head = media_playlist.head(
            target=target,
            sequence=first,
            discontinuity_sequence=history.epoch(first),
            version=_VERSION,
            skip_until=0.0 if ended else float(_SKIP_TARGETS * target),
        )
        kept = self._skip_boundary(first, _SKIP_TARGETS * target) if delta and not ended else first
        if kept > first:
            body = [media_playlist.skip(kept - first), self._lines(kept, history.end)]
        else:
            body = self._body(first)
        return media_playlist.playlist(head, body, ended=ended)

    def first(self, seconds: int, window: SegmentWindow) -> int:
        """Returns the number of the first segment of a playlist with `seconds` before its end. It never decreases."""
        return self._length(seconds, window)[0]

    def _length(self, seconds: int, window: SegmentWindow) -> tuple[int, int]:
        """Returns the first number and the Target Duration of the playlist that reaches `seconds` back.

        Stored pieces may be longer than the live segments.
        """
        history, lengths = self.history, self._lengths
        before, target = lengths.get(seconds, (0, 0))
        lowest = max(self.floor, history.first, before)
        first = max(self._nearest_dated(history.since(history.end_wall - seconds), lowest), before)
        # The live playlist's segments are listed too, unless the history has already dropped them.
        first = max(min(first, window[0].number), history.first)
        target = target or max(window.target, int(history.longest(first) + 0.5))
        lengths[seconds] = first, target
        return first, target

    def _nearest_dated(self, number: int, lowest: int) -> int:
        """Returns the nearest segment with a date, from which a playlist may begin: not before `lowest`."""
        number = max(number, lowest)
        before = range(number, max(number - _DATE_INTERVAL, lowest - 1), -1)
        for nearest in chain(before, range(number + 1, number + _DATE_INTERVAL)):
            if nearest >= self.history.end or self._has_date(nearest):
                return nearest
        return number

    def _has_date(self, number: int) -> bool:
        """Whether a segment has a date. A tag of a listed segment must not change (§6.2.1)."""
        history = self.history
        if number % _DATE_INTERVAL == 0 or number == self._oldest:
            return True
        return number > history.first and not history.continues(number)

    def _skip_boundary(self, first: int, seconds: float) -> int:
        """Returns the number of the first segment that is not skipped."""
        history, number, remaining = self.history, self.history.end, seconds
        while number > first and remaining > 0:
            number -= 1
            remaining -= history[number].seconds
        return number

    def _body(self, first: int) -> list[str]:
        """Returns the lines from segment `first` to the end. whole: number of the first segment of a block."""
        history, blocks = self.history, self._blocks
        whole, end = -(-(first + 1) // _BLOCK) * _BLOCK, history.end
        whole = min(whole, end)
        body = [self._lines(first, whole, begins=True)]
        while whole + _BLOCK <= end:
            lines = blocks.get(whole)
            if lines is None:
                lines = blocks[whole] = self._lines(whole, whole + _BLOCK)
            body.append(lines)
            whole += _BLOCK
        if len(blocks) * _BLOCK > len(history):
            self._blocks = {number: lines for number, lines in blocks.items() if number >= history.first}
        body.append(self._lines(whole, end))
        return body

    def _lines(self, start: int, end: int, *, begins: bool = False) -> str:
        """Returns the lines of segments. begins: whether `start` is the first one of the playlist."""
        history, lines = self.history, []
        own = history.own
        epoch = history.epoch(start if begins else start - 1) if start < end else 0
        for number in range(start, end):
            segment = history[number]
            if segment.epoch != epoch:
                lines.append(media_playlist.DISCONTINUITY * (segment.epoch - epoch))
                epoch = segment.epoch
            if self._has_date(number):
                lines.append(media_playlist.program_date_time(segment.wall))
            uri = f"{segment.name}.ts" if number >= own else f"vod/{media_keys.segment_uri(segment.name)}"
            lines.append(media_playlist.segment(segment.seconds, uri))
        return "".join(lines)
