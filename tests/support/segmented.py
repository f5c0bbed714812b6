"""Streams for packager tests: frames of a timetable, given to a packager without clock and network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from gateway.live.sink import EndReason
from gateway.live.stream_captions import StreamCaptions
from gateway.media.caption_track import CaptionTrack
from gateway.media.track import AccessUnit, MediaTrack, Tracks
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.packager import Packager, SegmentPlan
from gateway.packaging.ts.packager import TsPackager
from tests.support.builders import AUDIO, VIDEO

WALL = 1_700_000_000.0
NAL = b"\x00\x00\x00\x20"


def nal(number: int, key: bool, size: int = 32) -> bytes:
    """A unique length-prefixed picture."""
    body = bytes([0x65 if key else 0x41]) + number.to_bytes(8, "big")
    return size.to_bytes(4, "big") + body.ljust(size, b"x")


@dataclass
class Timetable:
    """The times of all frames.

    gop: frames between key frames, as a cycle. shifts: composition offsets in frames, as a cycle. rounding: converts
    exact milliseconds into sent ones. video_at, audio_at: start of each in seconds. audio_late: delay of the audio
    arrival in seconds. audio_until: end of the audio. pause: from when to when pictures are missing. steps:
    milliseconds between frames, as a cycle that replaces the rate. clock_jump: jump of the machine's clock after five
    seconds, in seconds. pace: seconds of media that arrive in a second.
    """

    seconds: float = 12.0
    fps: Fraction = Fraction(30)
    gop: tuple[int, ...] = (60,)
    shifts: tuple[int, ...] = (0,)
    rounding: Callable[[Fraction], int] = round
    video: MediaTrack | None = VIDEO
    audio: MediaTrack | None = AUDIO
    rate: int = 44100
    samples: int = 1024
    video_at: float = 0.0
    audio_at: float = 0.0
    audio_late: float = 0.0
    audio_drift: float = 0.0
    audio_until: float = math.inf
    pause: tuple[float, float] = (math.inf, math.inf)
    steps: tuple[int, ...] = ()
    start: float = 0.0
    clock_jump: float = 0.0
    pace: float = 1.0
    size: int = 200
    keys: list[int] = field(default_factory=list)

    def units(self) -> Iterator[AccessUnit]:
        """Yields the units in the order of arrival."""
        timed = sorted([*self._pictures(), *self._sounds()], key=lambda x: x[0])
        first, jumped = WALL + self.start, WALL + self.start + 5
        for _, unit in timed:
            if self.pace != 1.0:
                unit.wall = first + (unit.wall - first) / self.pace
            elif self.clock_jump and unit.wall >= jumped:
                unit.wall += self.clock_jump
            yield unit

    def _pictures(self) -> Iterable[tuple[float, AccessUnit]]:
        if self.video is None:
            return
        keys, at, turn = set(), 0, 0
        while at < self.seconds * self.fps:
            keys.add(at)
            at += self.gop[turn % len(self.gop)]
            turn += 1
        count = int((self.seconds - self.video_at) * self.fps)
        frame, part = 1000 * self.fps.denominator, self.fps.numerator  # a frame has `frame / part` milliseconds
        start = round((self.start + self.video_at) * 1000) * part
        for n in range(count):
            exact = n * frame
            if self.steps:
                turns, rest = divmod(n, len(self.steps))
                exact = (turns * sum(self.steps) + sum(self.steps[:rest])) * part
                if exact / part / 1000 >= self.seconds - self.video_at:
                    return
            if self.pause[0] <= exact / part / 1000 < self.pause[1]:
                continue
            exact += start
            dts = self._sent(exact, part)
            cts = self._sent(exact + self.shifts[n % len(self.shifts)] * frame, part) - dts
            came = exact / part / 1000
            key = n in keys
            yield came, AccessUnit(self.video, dts, cts, key, WALL + came, nal(n, key, self.size))

    def _sounds(self) -> Iterable[tuple[float, AccessUnit]]:
        if self.audio is None:
            return
        count = int((self.seconds - self.audio_at) * self.rate / self.samples)
        length = Fraction(self.samples * 1000, self.rate) * Fraction(1 + self.audio_drift).limit_denominator(10**6)
        frame, part = length.numerator, length.denominator
        start = round((self.start + self.audio_at) * 1000) * part
        for n in range(count):
            exact = n * frame
            if exact / part / 1000 + self.audio_at >= self.audio_until:
                return
            exact += start
            dts = self._sent(exact, part)
            came = exact / part / 1000 + self.audio_late
            yield came, AccessUnit(self.audio, dts, 0, True, WALL + came, n.to_bytes(8, "big") * 4)

    def _sent(self, exact: int, part: int) -> int:
        """Rounds `exact / part` milliseconds. Integers, because fractions cost ten times as much for each unit."""
        if self.rounding is not round:
            return self.rounding(Fraction(exact, part))
        whole, rest = divmod(exact, part)
        return whole + (2 * rest > part or (2 * rest == part and whole % 2))  # halves to even numbers, as `round`


def ts(seconds: float = 2.0, size: int = 5) -> TsPackager:
    return TsPackager("c1", SegmentPlan(seconds, size), WALL)


def cmaf(
    seconds: float = 2.0,
    size: int = 5,
    part: float = 0.5,
    numbers: SequenceNumbers | None = None,
    texts: Callable[[], tuple[CaptionTrack, ...]] = tuple,
) -> CmafPackager:
    plan = SegmentPlan(seconds, size, part, captions=StreamCaptions(texts))
    return CmafPackager("c1", plan, WALL, numbers or SequenceNumbers(prefix=int(WALL)))


def feed(
    packager: Packager,
    *tables: Timetable,
    each: Callable[[AccessUnit], None] | None = None,
    end: bool = True,
    epochs: Iterable[int] | None = None,
) -> None:
    """Gives each timetable as its own epoch. each: is called after every unit."""
    for epoch, table in zip(epochs if epochs is not None else range(len(tables)), tables, strict=False):
        packager.take_tracks(Tracks(table.video, table.audio, epoch))
        for unit in table.units():
            packager.take(unit)
            if each is not None:
                each(unit)
    if end:
        packager.on_end(EndReason.PUBLISHER_GONE)


def viewed(packager: CmafPackager) -> Callable[[AccessUnit], None]:
    """Returns an `each` for `feed`: a client gets a playlist as soon as there is one."""

    def look(unit: AccessUnit) -> None:
        if packager.ready:
            packager.manifests.playlist(packager.manifests.tracks[0])

    return look
