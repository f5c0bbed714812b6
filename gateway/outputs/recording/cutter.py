"""Decides where recordings are cut: at key frames, sound and picture at one moment, every frame in one piece."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.live.track_changes import IntervalLimiter
from gateway.media import codecs
from gateway.media.clock import AudioClock
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.packaging.timing import VIDEO_CLOCK, VideoTiming

MAX_BURST: Final = 30  # pieces that may begin at once, then one a second: a file may be pushed faster than real time
_ROUNDING: Final = VIDEO_CLOCK // 200  # millisecond rounding makes a GOP of two seconds 1.999 s long
_LATE: Final = 3 * VIDEO_CLOCK  # the time for which sound of a piece may arrive after the picture that ended it
_SILENT: Final = 10 * VIDEO_CLOCK  # after this time without a picture, pieces end by time
_MAX_HELD: Final = 2_000  # audio frames ahead of the picture, about 40 s


class Piece(Protocol):
    """One file of a recording. Picture times are in ticks of 90 kHz, sound times in ticks of its own rate, in time
    order.
    """

    def picture(self, dts: int, cts: int, key: bool, payload: bytes) -> None: ...

    def sound(self, time: int, samples: int, payload: bytes) -> None: ...

    def close(self, end: int | None) -> None:
        """Ends the piece. end: where the picture continues in the next piece, in ticks of 90 kHz; None: nowhere."""


@dataclass(frozen=True, slots=True)
class PieceStart:
    """How a piece begins.

    first_video, first_audio: a payload, for codecs that describe themselves in their frames; None if there was none
    yet.
    wall: time of the first frame, seconds since the epoch.
    continues: whether the piece continues the timeline of the one before it.
    """

    video: MediaTrack | None
    audio: MediaTrack | None
    first_video: bytes | None
    first_audio: bytes | None
    wall: float
    continues: bool


class Cutter:
    """Distributes the units of one epoch to pieces, which `begin` makes.

    A piece ends at the first key frame that is at least `seconds` after its first picture.
    Sound is cut at the moment when that key frame is shown.
    Early sound is held until the picture has reached it (bounded); late sound still goes to the piece where it belongs.
    Without a picture, or while it is missing for 10 s, pieces end by time.
    Sound before the first picture belongs to the first piece.

    pace: limits new pieces by the units' wall time; pieces become longer if a timeline runs faster than the clock.
    `dropped` counts pictures before the first key frame, and frames that cannot be read.
    """

    def __init__(
        self, tracks: Tracks, seconds: float, begin: Callable[[PieceStart], Piece], pace: IntervalLimiter | None = None
    ) -> None:
        self.seconds = seconds
        self._pace = pace or IntervalLimiter(MAX_BURST)
        self.dropped = 0
        self._begin = begin
        self._video, self._audio = tracks.video, tracks.audio
        self._timing: VideoTiming | None = None
        if tracks.video is not None:
            self._timing = VideoTiming(tracks.video.timescale, _frame_rate(tracks.video))
        self._clock: AudioClock | None = None
        self._rate = VIDEO_CLOCK
        self._frame_samples = 0  # 0: it differs from frame to frame
        self._first_audio: bytes | None = None
        self._piece: Piece | None = None  # the open one
        self._earlier: Piece | None = None  # the one before it, while sound for it may still arrive
        self._cut = 0  # presentation time of the first picture of the open piece
        self._start = 0  # decode time of its first picture, or of its first sound if it has no picture
        self._pictured = False  # it has a picture
        self._last = 0  # decode time of the last picture
        self._held: deque[tuple[int, int, int, bytes, float]] = deque()  # sound: 90 kHz, ticks, samples, payload, wall
        self._continues = False

    def add(self, unit: AccessUnit) -> None:
        """Takes one unit. Hot path."""
        try:
            if unit.track.kind is Kind.VIDEO:
                self._picture(unit)
            else:
                self._sound(unit)
        except InvalidData:
            self.dropped += 1

    def finish(self) -> None:
        """Ends the epoch: closes the open pieces."""
        if self._piece is None and self._held:  # the announced picture did not arrive
            self._alone(self._held[0][0], self._held[0][4])
        self._release(None)
        for piece in (self._earlier, self._piece):
            if piece is not None:
                piece.close(self._start if piece is self._earlier else None)
        self._earlier = self._piece = None

    # ---- pictures ----

    def _picture(self, unit: AccessUnit) -> None:
        assert self._timing is not None
        dts, cts = self._timing.stamp(unit.dts, unit.cts)
        key = unit.key
        if self._piece is None or not self._pictured:
            if not key:
                self.dropped += 1
                return
            if self._piece is not None:  # it has only sound, because the picture was missing
                self._cut_at(dts, dts + cts, unit)
            else:
                self._open(unit.wall, unit.payload)
            self._start, self._cut, self._pictured = dts, dts + cts, True
        elif (
            key
            # Presentation times: in an open GOP, a key frame is decoded before pictures that are shown before it.
            and dts + cts - self._cut >= int(self.seconds * VIDEO_CLOCK) - _ROUNDING
            and self._pace.take(unit.wall)
        ):
            self._cut_at(dts, dts + cts, unit)
        elif self._earlier is not None and dts - self._cut > _LATE:
            self._end_earlier()
        self._last = dts
        assert self._piece is not None
        if self._held:
            self._release(dts)
        self._piece.picture(dts, cts, key, unit.payload)

    def _cut_at(self, dts: int, shown: int, unit: AccessUnit) -> None:
        self._end_earlier()
        self._earlier = self._piece
        self._start, self._cut = dts, shown
        self._open(unit.wall, unit.payload)
        if self._audio is None:
            self._end_earlier()

    def _end_earlier(self) -> None:
        if self._earlier is not None:
            self._earlier.close(self._start)
            self._earlier = None

    # ---- sound ----

    def _sound(self, unit: AccessUnit) -> None:
        track, payload = unit.track, unit.payload
        clock = self._clock
        if clock is None:
            self._rate = codecs.audio_rate(track, payload)
            clock = self._clock = AudioClock(self._rate, track.timescale)
            self._frame_samples = codecs.samples_per_frame(track, payload) if track.codec is Codec.AAC else 0
            self._first_audio = payload
        samples = self._frame_samples or codecs.samples_per_frame(track, payload)
        ticks = clock.stamp(unit.dts, samples)
        time = ticks * VIDEO_CLOCK // self._rate
        if self._video is None:
            self._alone(time, unit.wall)
            self._give(time, ticks, samples, payload)
            return
        if self._pictured and time - self._last > _SILENT and time - self._start >= self.seconds * VIDEO_CLOCK:
            # The picture stopped, but its pieces must still end.
            self._release(None)
            self._end_earlier()
            if self._piece is not None:
                self._piece.close(None)
            self._piece, self._pictured = None, False
        held = self._held
        held.append((time, ticks, samples, payload, unit.wall))
        if self._piece is None:
            if time - held[0][0] > _SILENT or len(held) > _MAX_HELD:
                self._alone(held[0][0], held[0][4])  # the announced picture does not arrive
                self._release(None)
        elif not self._pictured:
            self._alone(time, unit.wall)
            self._release(None)
        elif time <= self._last or time - self._last > _SILENT or len(held) > _MAX_HELD:
            self._release(None if time > self._last else self._last)

    def _alone(self, time: int, wall: float) -> None:
        """Makes sure that a piece is open for sound without a picture, and cuts it by time."""
        due = time - self._start >= int(self.seconds * VIDEO_CLOCK) - _ROUNDING
        if self._piece is not None and due and self._pace.take(wall):
            self._piece.close(None)
            self._piece = None
        if self._piece is None:
            self._start = time
            self._open(wall, None)

    def _release(self, until: int | None) -> None:
        """Passes on held sound up to the picture's time `until` (90 kHz); None: all of it."""
        held = self._held
        while held and (until is None or held[0][0] <= until):
            time, ticks, samples, payload, _ = held.popleft()
            self._give(time, ticks, samples, payload)

    def _give(self, time: int, ticks: int, samples: int, payload: bytes) -> None:
        if self._earlier is not None:
            if time < self._cut:
                self._earlier.sound(ticks, samples, payload)
                return
            self._end_earlier()
        if self._piece is None:
            self.dropped += 1
            return
        self._piece.sound(ticks, samples, payload)

    def _open(self, wall: float, first_video: bytes | None) -> None:
        opening = PieceStart(self._video, self._audio, first_video, self._first_audio, wall, self._continues)
        self._piece = self._begin(opening)
        self._continues = True


def _frame_rate(track: MediaTrack) -> float | None:
    """Returns the frame rate of the configuration; None if it is invalid, which must not prevent the recording."""
    try:
        return codecs.frame_rate(track)
    except InvalidData:
        return None
