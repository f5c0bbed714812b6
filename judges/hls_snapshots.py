"""Rules of RFC 8216bis for one Media Playlist and for its successive snapshots; no network and no clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from judges.findings import Findings
from judges.hls_playlist import Part, Playlist, Segment

# Figures in playlists have five decimals, dates three.
FIGURE, DATE = 0.00002, 0.0021


@dataclass
class Known:
    """A segment as it was listed first. discontinuity_number: as told by the first full playlist that lists it."""

    segment: Segment
    discontinuity_number: int | None = None


@dataclass
class Follower:
    """A client that holds each snapshot of one Media Playlist against all earlier ones. name: of the rendition."""

    name: str
    findings: Findings
    last: Playlist | None = None
    segments: dict[int, Known] = field(default_factory=dict)
    parts: dict[tuple[int, int], Part] = field(default_factory=dict)
    gone_parts: dict[tuple[int, int], float] = field(default_factory=dict)
    gone_segments: dict[int, float] = field(default_factory=dict)
    longest: float = 0.0
    first_sequence: int | None = None

    def see(self, playlist: Playlist, now: float) -> None:
        """Judges a snapshot. now: seconds of a monotonic clock, kept as the time at which something went away."""
        if playlist.target is None:
            self.findings.breaks("4.4.3.1 TARGETDURATION is required", self.name)
            return
        if self.first_sequence is None:
            self.first_sequence = playlist.sequence
        self._values(playlist, playlist.target)
        self._window(playlist, playlist.target)
        if self.last is not None:
            self._goes_on(self.last, playlist)
            self._hint_comes_true(self.last, playlist)
        self._segments(playlist)
        self._parts_near_the_end(playlist, playlist.target)
        self._removed(playlist, now)
        self.last = playlist

    def _values(self, playlist: Playlist, target: int) -> None:
        require, control = self.findings.require, playlist.control
        if any(segment.map_uri for segment in playlist.segments):
            require(playlist.version >= 6, "7 EXT-X-MAP needs version 6", playlist.version)
        if playlist.skipped:
            require(playlist.version >= 9, "7 EXT-X-SKIP needs version 9", playlist.version)
        if playlist.part_target:
            hold = float(control.get("PART-HOLD-BACK", 0))
            enough = hold >= 3 * playlist.part_target - 1e-9
            require(enough, "4.4.3.8 PART-HOLD-BACK is three PART-TARGETs or more", f"{hold} {playlist.part_target}")
        for name, factor in (("CAN-SKIP-UNTIL", 6), ("HOLD-BACK", 3)):
            if name in control:
                enough = float(control[name]) >= factor * target - 1e-9
                require(enough, f"4.4.3.8 {name} is {factor} targets or more", f"{control[name]} of {target}")
        for segment in playlist.segments:
            duration = segment.duration or 0.0
            fits = int(duration + 0.5) <= target
            require(
                fits, "4.4.3.1 EXTINF rounded is TARGETDURATION at most", f"{self.name} {segment.number} {duration}"
            )
        if playlist.ended:
            require(not playlist.hint, "4.4.5.3 no PRELOAD-HINT with ENDLIST", self.name)
            require(not playlist.open.parts, "no parts behind the last segment with ENDLIST", self.name)

    def _window(self, playlist: Playlist, target: int) -> None:
        require = self.findings.require
        self.longest = max(self.longest, playlist.duration)
        assert self.first_sequence is not None
        moved = playlist.sequence > self.first_sequence
        if not moved or playlist.skipped:
            return
        if not playlist.ended:
            long_enough = playlist.duration >= 3 * target - 1e-6
            words = f"{self.name} {playlist.duration:.3f} s at {playlist.sequence}"
            require(long_enough, "6.2.2 a playlist that lost segments lasts three targets or more", words)
        if any(segment.discontinuity for segment in playlist.segments):
            told = playlist.discontinuity_sequence is not None
            words = f"{self.name} at {playlist.sequence}"
            require(told, "6.2.2 DISCONTINUITY-SEQUENCE is there once segments were removed", words)

    def _goes_on(self, old: Playlist, new: Playlist) -> None:
        require, name = self.findings.require, self.name
        require(new.target == old.target, "6.2.1 TARGETDURATION stays", f"{name} {old.target} -> {new.target}")
        require(new.sequence >= old.sequence, "6.2.2 MEDIA-SEQUENCE does not go back", f"{name} {new.sequence}")
        require(new.last >= old.last, "6.2.2 the playlist does not go back", f"{name} {old.last} -> {new.last}")
        same = not old.part_target or new.part_target == old.part_target
        require(same, "4.4.3.7 PART-TARGET stays", f"{name} {old.part_target} -> {new.part_target}")
        require(new.ended or not old.ended, "ENDLIST stays", name)

    def _hint_comes_true(self, old: Playlist, new: Playlist) -> None:
        """§4.4.5.3: the hinted part is the next one, in the open segment or as the first of the following one.

        A discontinuity may come instead: nobody knows before that the media end.
        """
        hinted = old.hinted
        if hinted is None or new.skipped:
            return
        number, count = old.last + 1, len(old.open.parts)
        segments = [*new.segments, new.open]
        by_number = {segment.number: segment.parts for segment in segments if not segment.discontinuity}
        parts = by_number.get(number, [])
        came = None
        if len(parts) > count:
            came = parts[count].uri
        elif len(parts) == count and new.last >= number and not new.ended and by_number.get(number + 1):
            came = by_number[number + 1][0].uri
        if came is not None:
            self.findings.require(
                came == hinted, "4.4.5.3 PRELOAD-HINT comes true", f"{self.name} {hinted} came {came}"
            )

    def _segments(self, playlist: Playlist) -> None:
        number = playlist.discontinuity_sequence or 0
        before: Segment | None = None
        for index, segment in enumerate(playlist.segments):
            number += segment.discontinuity
            self._unchanged(playlist, segment, index, None if playlist.skipped else number)
            if before is not None:
                self._dates(before, segment)
                new_map = before.map_uri != segment.map_uri and not segment.discontinuity
                self.findings.require(not new_map, "a new MAP follows a DISCONTINUITY", f"{self.name} {segment.number}")
            before = segment
            self._parts(segment, playlist, closed=True)
        if not playlist.ended:
            self._parts(playlist.open, playlist, closed=False)

    def _unchanged(self, playlist: Playlist, segment: Segment, index: int, discontinuity_number: int | None) -> None:
        known = self.segments.get(segment.number)
        if known is None:
            self.segments[segment.number] = Known(replace(segment), discontinuity_number)
            return
        require, words = self.findings.require, f"{self.name} {segment.number}"
        was = known.segment
        # The DISCONTINUITY of the first segment may go with the segment before; the sequence counts it then.
        left = index == 0 and was.discontinuity and not segment.discontinuity
        same = (was.uri, was.duration, was.date, was.discontinuity and not left) == (
            segment.uri, segment.duration, segment.date, segment.discontinuity,
        )  # fmt: skip
        require(same, "6.2.1 a listed segment does not change", f"{words} {was} -> {segment}")
        if playlist.skipped:
            return
        require(was.map_uri == segment.map_uri, "6.2.1 the MAP of a listed segment does not change", words)
        if known.discontinuity_number is None:
            known.discontinuity_number = discontinuity_number
        changed = f"{words} {known.discontinuity_number} -> {discontinuity_number}"
        same = known.discontinuity_number == discontinuity_number
        require(same, "6.2.2 the discontinuity number of a segment does not change", changed)

    def _dates(self, before: Segment, segment: Segment) -> None:
        if before.date is None or segment.date is None:
            return
        require, words = self.findings.require, f"{self.name} {segment.number}"
        off = segment.date - before.date - (before.duration or 0.0)
        exact = segment.discontinuity or abs(off) <= DATE
        require(exact, "4.4.4.6 PROGRAM-DATE-TIME follows the sum of EXTINF", f"{words} off {off:+.4f} s")
        require(segment.date > before.date, "4.4.4.6 PROGRAM-DATE-TIME goes on", words)

    def _parts(self, segment: Segment, playlist: Playlist, *, closed: bool) -> None:
        require, target = self.findings.require, playlist.part_target
        for index, part in enumerate(segment.parts):
            words = f"{self.name} {segment.number}.{index} {part.duration}"
            if target:
                require(part.duration <= target + 1e-6, "4.4.4.9 a part is PART-TARGET at most", words)
                inner = index < len(segment.parts) - 1 and not part.gap
                full = not inner or part.duration >= 0.85 * target - 1e-6
                require(full, "4.4.4.9 a part that is not the last has 85 % of PART-TARGET", words)
            known = self.parts.setdefault((segment.number, index), part)
            same = (known.uri, known.duration, known.independent) == (part.uri, part.duration, part.independent)
            require(same, "6.2.1 a listed part does not change", words)
        if closed and segment.parts and segment.duration is not None:
            total = sum(part.duration for part in segment.parts)
            near = abs(total - segment.duration) <= FIGURE * (len(segment.parts) + 1)
            require(near, "parts add up to EXTINF", f"{self.name} {segment.number} {total:.5f} {segment.duration}")

    def _parts_near_the_end(self, playlist: Playlist, target: int) -> None:
        """§4.4.4.9: parts are listed within three targets of the end, and should not be farther from it."""
        if playlist.part_target is None or playlist.ended:
            return
        assert self.first_sequence is not None
        behind = sum(part.duration for part in playlist.open.parts)
        for segment in reversed(playlist.segments):
            words = f"{self.name} {segment.number} {behind:.2f} s from the end"
            far = segment.parts and behind > 3 * target + 1e-6
            self.findings.require(not far, "4.4.4.9 no parts farther than three targets from the end (should)", words)
            start = behind + (segment.duration or 0.0)
            missing = not segment.parts and start <= 3 * target - 1e-6 and segment.number > self.first_sequence
            self.findings.require(not missing, "4.4.4.9 the parts of the last three targets are listed", words)
            behind = start

    def _removed(self, playlist: Playlist, now: float) -> None:
        for number in self.segments:
            if number < playlist.sequence:
                self.gone_segments.setdefault(number, now)
        if playlist.skipped:
            return
        listed = {(segment.number, index) for segment in playlist.segments for index in range(len(segment.parts))}
        for key in self.parts:
            if key[0] <= playlist.last and key not in listed:
                self.gone_parts.setdefault(key, now)
