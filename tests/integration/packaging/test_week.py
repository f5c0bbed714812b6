"""A week of a stream through both packagers, with a moved clock: what players read and compute is judged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from gateway.formats.dash import mpd
from gateway.formats.hls import media_playlist
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit, MediaTrack, Tracks
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.ts.packager import TsPackager
from judges import mpd as manifests
from judges.dash_rules import Presentation
from judges.findings import Findings
from judges.hls_playlist import parse_media
from judges.hls_snapshots import Follower
from judges.mpd import Manifest, Representation
from tests.support.builders import AUDIO, VIDEO
from tests.support.segmented import WALL, nal

pytestmark = pytest.mark.nightly

DAY, HOUR = 86_400.0, 3_600.0
SLOW_SOUND = replace(AUDIO, config=b"\x15\x88")  # 8 kHz, one channel: 8 frames a second, so that a week takes a minute
_SECONDS = 4.0
# Seconds by which media may be away from the clock. A segment is dated at its first picture.
_APART = 1.0
_FRAME = 0.51  # the longest picture: a date is that of its begin, and its end may be in the future
_LISTED_AHEAD = 0.15  # as the judge of DASH allows
_SETTLES = 30.0  # seconds after a leap of the clock in which late media may catch up, or their epoch begins
_EVERY = 61.3  # seconds between looks: no multiple of a segment, so that players come at each moment of one


@dataclass
class Encoder:
    """A push that returns after each `push` seconds. Times in seconds.

    ppm: by which its clock is fast. steps: between its pictures, as a cycle. gop: pictures between key frames.
    rate: of the sound, samples a second. loop: after which its film begins again, with a short group of pictures.
    sound_ppm: by which the clock of its sound is faster than that of its pictures.
    leaps: what is added to the clock of the gateway, by second. stall: from when to when nothing arrives.
    """

    seconds: float
    ppm: float = 0.0
    steps: tuple[float, ...] = (0.5,)
    gop: int = 8
    sound: MediaTrack = SLOW_SOUND
    rate: int = 8000
    loop: float = 0.0
    sound_ppm: float = 0.0
    push: float = DAY
    leaps: tuple[tuple[float, float], ...] = ()
    stall: tuple[float, float] = (0.0, 0.0)

    def units(self) -> Iterator[tuple[int, AccessUnit]]:
        """Yields the units with the numbers of their pushes."""
        pace, epoch, begins = 1 + self.ppm / 1e6, 0, 0.0
        while begins < self.seconds:
            media = min(self.push, self.seconds - begins) * pace - 20.0  # the encoder needs 20 s to return
            for at, unit in self._push(begins * pace, media):
                wall = begins + at / pace
                if self.stall[0] <= wall < self.stall[1]:
                    wall = self.stall[1]
                unit.wall = WALL + wall + sum([leap for second, leap in self.leaps if wall >= second])
                yield epoch, unit
            begins, epoch = begins + self.push, epoch + 1

    def _push(self, start: float, seconds: float) -> Iterator[tuple[float, AccessUnit]]:
        """Yields the media of one push with their times in it. start: the stream's time at its begin."""
        picture, sound, number, steps = 0.0, 0.0, 0, itertools.cycle(self.steps)
        key, looped = 0, self.loop or seconds + 1
        frame = 1024 / self.rate * (1 - self.sound_ppm / 1e6)
        while picture < seconds:
            is_key = key == 0 or picture >= looped
            if picture >= looped:
                looped, key = looped + self.loop, 0
            yield picture, AccessUnit(VIDEO, round((start + picture) * 1000), 0, is_key, 0.0, nal(number, is_key, 12))
            number, key = number + 1, (key + 1) % self.gop
            picture += next(steps)
            while sound < picture:
                yield sound, AccessUnit(self.sound, round((start + sound) * 1000), 0, True, 0.0, b"sound")
                sound += frame


@dataclass
class Players:
    """What players of one stream load from time to time, and compute from it.

    flexible: whether dates may be in the future (the clock of this machine went back).
    leapt: when this clock leapt last.
    """

    cmaf: CmafPackager
    ts: TsPackager
    flexible: bool = False
    findings: Findings = field(default_factory=Findings)
    shapes: dict[str, object] = field(default_factory=dict)
    periods: set[str] = field(default_factory=set)
    looks: int = 0
    leapt: float = 0.0

    def __post_init__(self) -> None:
        names = ("live", "video", "audio")
        self.followers = {name: Follower(name, self.findings) for name in names}
        self.presentation = Presentation("http://x/manifest.mpd", self.findings)
        self.dates = dict.fromkeys(names, 0.0)

    def look(self, now: float) -> None:
        if not (self.cmaf.ready and self.ts.ready):
            return
        self.looks += 1
        self._playlist("live", self.ts.playlist(), now)
        for track in self.cmaf.manifests.tracks:
            self._playlist(track.kind, self.cmaf.manifests.playlist(track), now)
        text = mpd.finish(self.cmaf.manifests.manifest(), "", now)
        found = manifests.parse(text, "http://x/manifest.mpd", self.findings)
        assert found is not None
        self.presentation.header_fields(found, now)
        for one in found.representations:
            self.periods.add(one.period)
            self._stays(one)
            if one.entries is not None:
                self.presentation.entries_stay(one, one.entries, found.max_segment)
        self._periods_join(found)
        last = found.representations[-1].period
        for one in found.representations:
            if one.period == last and found.dynamic:
                self._dash(one, found, now)
        if self.looks % 1000 == 0:
            self.presentation.listed.clear()
            for follower in self.followers.values():
                follower.segments.clear()
                follower.parts.clear()

    # ---- hls.js ----

    def _playlist(self, name: str, text: str, now: float) -> None:
        url, follower = f"http://x/{name}/index.m3u8", self.followers[name]
        playlist = parse_media(media_playlist.with_suffix(text, "").decode(), url, self.findings)
        if follower.last is not None:
            follower.last.hint = {}  # its part is no longer listed
        follower.see(playlist, now)
        dated = [s for s in playlist.segments if s.date is not None]
        newest = dated[-1]
        assert newest.date is not None
        # hls.js: the date of the live edge is that of the newest fragment and its duration.
        edge = newest.date + (newest.duration or 0.0)
        ahead = edge - now
        late = ahead < -2 * _SECONDS - _APART  # the next segment is still open
        self.findings.require(not late, "hls.js: the live edge is near the clock", f"{name} {ahead:+.2f}")
        future = ahead > _FRAME + 0.35 and not self.flexible
        self.findings.require(
            not future, "hls.js: no date is in the future", f"{name} {ahead:+.2f} at {now - WALL:.0f}"
        )
        self.findings.require(newest.date >= self.dates[name], "hls.js: dates do not go back", f"{name} {newest.date}")
        self.dates[name] = newest.date

    # ---- shaka-player and dash.js ----

    def _stays(self, one: Representation) -> None:
        """shaka-player: a Period has the addressing and the times with which it was loaded first."""
        first = one.start_number if one.entries is None else None
        shape = first, one.duration, one.offset, one.period_start, one.initialization, one.media
        was = self.shapes.setdefault(f"{one.period} {one.id}", shape)
        self.findings.require(
            was == shape, "shaka: a Period does not change", f"{one.period} {one.id} {was} -> {shape}"
        )

    def _periods_join(self, found: Manifest) -> None:
        """dash.js and shaka-player: playback goes on from a Period to the next one of its push without a gap."""
        tracks = {(one.period, one.id): one for one in found.representations}
        ids = list(dict.fromkeys(one.period for one in found.representations))
        for one, two in itertools.pairwise(ids):
            for kind in ("video", "audio"):
                before, after = tracks.get((one, kind)), tracks.get((two, kind))
                both = before is not None and after is not None
                self.findings.require(both, "each Period has picture and sound", f"{one} {two} {kind}")
                if before is None or after is None or before.media != after.media:
                    continue
                media = after.offset / after.timescale - before.offset / before.timescale
                off = after.period_start - before.period_start - media
                self.findings.require(
                    abs(off) < 0.002, "a Period begins where the last one ends", f"{one} {two} {off:+.4f}"
                )

    def _dash(self, one: Representation, found: Manifest, now: float) -> None:
        track = self.cmaf.manifests.track(one.id)
        assert track is not None and found.time_shift is not None
        begin = found.available + one.period_start
        if one.entries is not None:
            last = one.entries[-1]
            edge = begin + (last.time + last.duration - one.offset) / one.timescale - now
            fits = -2 * _SECONDS - _APART < edge < max(_LISTED_AHEAD, _FRAME) or self.flexible
            self.findings.require(fits, "a listed segment is available", f"{one.period} {one.id} {edge:+.2f}")
            return
        assert one.duration is not None
        seconds = one.duration / one.timescale
        elapsed = now - begin
        # dash.js and shaka-player at the live edge: the newest segment that is complete, and the one that grows.
        complete = one.start_number + int((elapsed - _APART) // seconds) - 1
        newest = one.start_number + int((elapsed + one.time_offset - _APART) // seconds) - 1
        listed = {s.number: s for s in [*track.window.unlisted(), *track.window]}
        if complete >= one.start_number and not self.flexible:
            words = f"{one.period} {one.id} {complete} of {track.number}"
            # The gateway holds requests for late media. Only after a leap, segments are late by more than `_APART`.
            is_held = now < self.leapt + _SETTLES and complete in track.numbers_players_expect(now)
            self.findings.require(complete in listed or is_held, "a complete segment is there", words)
        grows = newest <= track.number or self.flexible
        self.findings.require(grows, "a growing segment has begun", f"{one.period} {one.id} {newest} {track.number}")
        oldest = max(one.start_number, one.start_number + int((elapsed - found.time_shift) // seconds))
        if oldest <= complete and not self.flexible:
            self.findings.require(oldest in listed, "the oldest offered segment is there", f"{one.id} {oldest}")
        for number, segment in listed.items():
            nominal = (number - one.start_number) * seconds
            off = segment.time / segment.clock - one.offset / one.timescale - nominal
            own = number >= one.start_number
            self.findings.require(
                not own or abs(off) < seconds / 2, "5.3.9.5.3 within half a segment", f"{number} {off:+.2f}"
            )


def judged(encoder: Encoder, every: float = _EVERY, flexible: bool = False) -> Players:
    plan = SegmentPlan(_SECONDS, 5, 1.0)
    players = Players(
        CmafPackager("c1", plan, WALL, SequenceNumbers(prefix=int(WALL))), TsPackager("c1", plan, WALL), flexible
    )
    next_look, epoch = 0.0, -1
    last = 0.0
    for number, unit in encoder.units():
        if number != epoch:
            epoch, next_look = number, max(next_look, unit.wall + 3 * _SECONDS)  # the first segment takes its time
            for packager in (players.cmaf, players.ts):
                packager.take_tracks(Tracks(VIDEO, encoder.sound, epoch))
        if unit.wall >= next_look or unit.wall < last - 1:
            players.look(last)
            next_look = unit.wall + every
        if encoder.leaps and unit.wall > last + 1:
            players.leapt = unit.wall
        last = unit.wall
        for packager in (players.cmaf, players.ts):
            packager.take(unit)
    players.look(last)
    for packager in (players.cmaf, players.ts):
        packager.on_end(EndReason.PUBLISHER_GONE)
    players.look(last)
    assert players.looks > 10
    return players


HOLDS: dict[str, Callable[[], Encoder]] = {
    "50 ppm fast": lambda: Encoder(7 * DAY, 50),
    "50 ppm slow": lambda: Encoder(7 * DAY, -50),
    "200 ppm fast": lambda: Encoder(7 * DAY, 200),
    "200 ppm slow": lambda: Encoder(7 * DAY, -200),
    "200 ppm fast for a week": lambda: Encoder(7 * DAY, 200, push=8 * DAY),
    "loops": lambda: Encoder(DAY, 50, loop=903.3, push=8 * HOUR),
    "the clock leaps": lambda: Encoder(8 * HOUR, 50, leaps=((HOUR, 3.0), (3 * HOUR, 400.0))),
    "a stall": lambda: Encoder(2 * HOUR, stall=(1000.0, 1007.0)),
    "variable": lambda: Encoder(3 * HOUR, -200, steps=(0.04, 0.033, 0.05, 0.035), gop=100),
    "59.94 and 44.1 kHz": lambda: Encoder(2 * HOUR, 200, (1001 / 60000,), 240, AUDIO, 44_100, push=HOUR),
}


@pytest.mark.parametrize("encoder", HOLDS.values(), ids=HOLDS)
def test_players_find_no_fault_in_a_week(encoder: Callable[[], Encoder]) -> None:
    players = judged(encoder())
    assert not players.findings.broken, players.findings.lines()


def test_a_sound_card_that_is_fast_only_shortens_segments() -> None:
    """Its times step back by 40 ms, and no frame is left out. So the parts of such a segment are longer than it."""
    players = judged(Encoder(DAY, sound_ppm=200))
    rare = ("4.4.4.9", "parts add up", "4.4.4.6 PROGRAM-DATE-TIME follows")
    assert not [rule for rule in players.findings.broken if not rule.startswith(rare)], players.findings.lines()
    assert sum(players.findings.counts.values()) < 40


def test_a_clock_that_leaps_back_breaks_no_list() -> None:
    players = judged(Encoder(HOUR, leaps=((900.0, -5.0),)), flexible=True)
    broken = [rule for rule in players.findings.broken if "publishTime" not in rule]
    assert not broken, players.findings.lines()
