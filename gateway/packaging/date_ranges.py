"""Writes the ad breaks of a stream into its playlists: EXT-X-DATERANGE, and EXT-X-CUE-OUT and -IN at segments.

The § numbers refer to HLS (RFC 8216bis).
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from gateway.formats.hls import media_playlist
from gateway.formats.ts.splice_sections import is_section
from gateway.media.clock import MILLISECONDS, VIDEO_CLOCK
from gateway.media.labels import quotable
from gateway.media.timed_data import MAX_ID, AdCue, CueType

_MAX_RANGES: Final = 50
_SAME: Final = 1.0  # seconds: a cue with the id of a break, and a time that differs less, repeats its cue
_EARLY: Final = 0.1  # seconds by which a segment at a splice may begin before it


@dataclass(slots=True, eq=False)
class DateRange:
    """A break, or the moment of another cue. start, end: seconds since 1970; end None: unknown.

    key: the id of its cues. id: the attribute, unique in the playlist. lines: its tags, which never change.
    """

    key: str
    id: str
    type: CueType
    start: float
    planned: float | None
    lines: str
    end: float | None = None

    @property
    def likely_end(self) -> float | None:
        """When it ends, as far as known; None: unknown."""
        if self.end is not None or self.type is not CueType.OUT:
            return self.start if self.end is None else self.end
        return None if self.planned is None else self.start + self.planned


class DateRanges:
    """The date ranges of one stream, at most _MAX_RANGES. Above, those that are over are forgotten first.

    A cue writes one tag. The tags of one break have one ID, and no attribute differs between them (§4.4.5.1).
    """

    def __init__(self) -> None:
        self._ranges: deque[DateRange] = deque()

    def add(self, cue: AdCue, wall: float) -> None:
        """Adds a cue in ticks of 90 kHz. Repetitions change nothing. wall: the date of its time, seconds since 1970."""
        same = next((r for r in reversed(self._ranges) if r.key == cue.id and _belongs(r, cue)), None)
        if cue.type is CueType.IN and same is not None and same.type is CueType.OUT:
            if same.end is None:
                same.end = max(wall, same.start)
                same.lines += media_playlist.date_range(same.id, same.start, end=same.end, scte35=_attribute(cue))
            return
        if same is not None and abs(same.start - wall) < _SAME:
            return
        name = quotable(cue.id)[:MAX_ID] or "cue"  # two ids must not become equal when they are written
        if any(r.id == name for r in self._ranges):
            name = f"{name}-{cue.at * MILLISECONDS // VIDEO_CLOCK}"
        if any(r.id == name for r in self._ranges):
            return
        if len(self._ranges) == _MAX_RANGES:
            over = (r for r in self._ranges if (end := r.likely_end) is not None and end <= wall)
            self._ranges.remove(next(over, self._ranges[0]))
        end = None if cue.type is CueType.OUT else wall
        line = media_playlist.date_range(name, wall, planned=cue.seconds, scte35=_attribute(cue))
        self._ranges.append(DateRange(cue.id, name, cue.type, wall, cue.seconds, line, end))

    def lines(self, first: float) -> str:
        """Returns the tags of a playlist whose first segment has the date `first`. Ranges before it are left out."""
        return "".join([r.lines for r in self._ranges if (end := r.likely_end) is None or end >= first])

    def breaks(self) -> list[DateRange]:
        """Returns the breaks, the oldest first."""
        return [r for r in self._ranges if r.type is CueType.OUT]


class CueTags:
    """Writes EXT-X-CUE-OUT, -OUT-CONT and -IN before the segments of one playlist, in their order.

    Once written they stay, so a break whose end is told too late ends after its planned duration.
    """

    def __init__(self, ranges: DateRanges) -> None:
        self._ranges = ranges
        self._open: DateRange | None = None
        self._last = 0.0  # start of the last break

    def before(self, wall: float) -> str:
        """Returns the tags before a segment. wall: its date, seconds since 1970."""
        now = wall + _EARLY
        current, text = self._open, ""
        if current is not None and (end := current.likely_end) is not None and end <= now:
            self._open, text = None, media_playlist.CUE_IN
        begun = [r for r in self._ranges.breaks() if self._last < r.start <= now]
        if begun:
            self._last = begun[-1].start
            begun = [r for r in begun if (end := r.likely_end) is None or end > now]
        if begun:
            self._open = begun[-1]
            return text + media_playlist.cue_out(self._open.planned)
        if self._open is not None:
            text += media_playlist.cue_out_cont(max(wall - self._open.start, 0.0), self._open.planned)
        return text


def _belongs(r: DateRange, cue: AdCue) -> bool:
    return cue.type is r.type or (cue.type is CueType.IN and r.type is CueType.OUT)


def _attribute(cue: AdCue) -> tuple[str, bytes]:
    """Returns the name and the value of the attribute with the section (§4.4.5.1.1); b"" if it has no valid one."""
    name = {CueType.OUT: "SCTE35-OUT", CueType.IN: "SCTE35-IN"}.get(cue.type, "SCTE35-CMD")
    return name, cue.section if is_section(cue.section) else b""
