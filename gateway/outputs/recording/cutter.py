"""Cuts a stream into recorded files at key frames. Sound and picture are cut at one time, without lost frames."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.live.track_changes import IntervalLimiter
from gateway.media import codecs
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, MediaTrack, Tracks
from gateway.packaging.timing import AudioTiming, VideoTiming

MAX_BURST: Final = 30  # new pieces at once, then one a second, because a file may be pushed faster than real time
_ROUNDING: Final = VIDEO_CLOCK // 200  # millisecond rounding makes a GOP of two seconds 1.999 s long
# Maximum time that sound of a piece may arrive after the picture that ended it.
_MAX_LATE_SOUND: Final = 3 * VIDEO_CLOCK
_PICTURE_TIMEOUT: Final = 10 * VIDEO_CLOCK  # without a picture, after which pieces end by time
_MAX_HELD: Final = 2_000  # audio frames ahead of the picture, about 40 s


class RecordingPiece(Protocol):
    """One file of a recording. Frames arrive in time order.

    Times of pictures are in ticks of 90 kHz, times of sound in ticks of its sample rate.
    """

    def add_picture(self, dts: int, cts: int, key: bool, payload: bytes) -> None: ...

    def add_sound(self, time: int, samples: int, payload: bytes) -> None: ...

    def close(self, end: int | None) -> None:
        """Ends the piece.

        end: decode time of the next piece's first picture, or of its first sound without a picture, 90 kHz.
        None if there is no next piece.
        """


@dataclass(frozen=True, slots=True)
class PieceStart:
    """The properties of a new piece.

    first_video, first_audio: a payload, for codecs with their configuration in the frames; None if there is none yet.
    wall_clock: time of the first frame, seconds since 1970.
    continues: whether the piece continues the timeline of the previous piece.
    language, label: of the sound; "" if unknown.
    """

    video: MediaTrack | None
    audio: MediaTrack | None
    first_video: bytes | None
    first_audio: bytes | None
    wall_clock: float
    continues: bool
    language: str = ""
    label: str = ""


class Cutter:
    """Distributes the units of one epoch to pieces.

    A piece ends at the first key frame that is at least `seconds` after its first picture.
    Sound is cut at the presentation time of that key frame.
    Early sound is held until a picture with its time arrives (bounded). Late sound still goes to its own piece.
    Without a picture, or if it is missing for 10 s, pieces end by time.
    Sound before the first picture belongs to the first piece.

    make_piece: called at each beginning of a piece.
    limiter: limits new pieces by the units' arrival times. Pieces are longer if a timeline runs faster than the clock.
    `dropped` counts pictures before the first key frame, and frames that cannot be parsed.
    """

    def __init__(
        self,
        tracks: Tracks,
        seconds: float,
        make_piece: Callable[[PieceStart], RecordingPiece],
        limiter: IntervalLimiter | None = None,
    ) -> None:
        self.seconds = seconds
        self.has_additional = False  # whether a piece stays open for late units of additional tracks
        self._limiter = limiter or IntervalLimiter(MAX_BURST)
        self.dropped = 0
        self._make_piece = make_piece
        self._video, self._audio = tracks.video, tracks.audio
        self._timing: VideoTiming | None = None
        if tracks.video is not None:
            self._timing = VideoTiming(tracks.video.timescale, _frame_rate(tracks.video))
        self._sound: AudioTiming | None = None
        self._first_audio: bytes | None = None
        self._piece: RecordingPiece | None = None  # the open piece
        self._previous: RecordingPiece | None = None  # the previous piece, while sound for it may still arrive
        self._cut = 0  # presentation time of the first picture of the open piece
        self._start = 0  # decode time of its first picture, or of its first sound without a picture
        self._has_picture = False  # the open piece has a picture
        self._last = 0  # decode time of the last picture
        self._held: deque[tuple[int, int, int, bytes, float]] = deque()  # sound: 90 kHz, ticks, samples, payload, wall
        self._continues = False

    def add(self, unit: AccessUnit) -> None:
        """Adds one unit. Hot path."""
        try:
            if unit.track.kind is Kind.VIDEO:
                self._add_picture(unit)
            else:
                self._add_sound(unit)
        except InvalidData:
            self.dropped += 1

    @property
    def cut(self) -> int:
        """Presentation time of the first picture of the open piece, 90 kHz; without video, of its first sound."""
        return self._cut if self._video is not None else self._start

    @property
    def reached(self) -> int | None:
        """Decode time of the last picture, 90 kHz; None without video."""
        return self._last if self._video is not None else None

    def finish(self) -> None:
        """Ends the epoch: closes the open pieces."""
        if self._piece is None and self._held:  # no picture arrived
            self._open_without_picture(self._held[0][0], self._held[0][4])
        self._write_held(None)
        for piece in (self._previous, self._piece):
            if piece is not None:
                piece.close(self._start if piece is self._previous else None)
        self._previous = self._piece = None

    # ---- pictures ----

    def _add_picture(self, unit: AccessUnit) -> None:
        assert self._timing is not None
        dts, cts = self._timing.stamp(unit.dts, unit.cts)
        key = unit.key
        if self._piece is None or not self._has_picture:
            if not key:
                self.dropped += 1
                return
            if self._piece is not None:  # it has only sound, because pictures were missing
                if not self._limiter.take(unit.wall):
                    self.dropped += 1
                    return
                self._cut_at(dts, dts + cts, unit)
            else:
                self._open_piece(unit.wall, unit.payload)
            self._start, self._cut, self._has_picture = dts, dts + cts, True
        elif (
            key
            # Presentation times, because in an open GOP a key frame is decoded before pictures that are shown earlier.
            and dts + cts - self._cut >= int(self.seconds * VIDEO_CLOCK) - _ROUNDING
            and self._limiter.take(unit.wall)
        ):
            self._cut_at(dts, dts + cts, unit)
        elif self._previous is not None and dts - self._cut > _MAX_LATE_SOUND:
            self._end_previous()
        self._last = dts
        assert self._piece is not None
        if self._held:
            self._write_held(dts)
        self._piece.add_picture(dts, cts, key, unit.payload)

    def _cut_at(self, dts: int, pts: int, unit: AccessUnit) -> None:
        self._end_previous()
        self._previous = self._piece
        self._start, self._cut = dts, pts
        self._open_piece(unit.wall, unit.payload)
        if self._audio is None and not self.has_additional:
            self._end_previous()

    def _end_previous(self) -> None:
        if self._previous is not None:
            self._previous.close(self._start)
            self._previous = None

    # ---- sound ----

    def _add_sound(self, unit: AccessUnit) -> None:
        payload, sound = unit.payload, self._sound
        if sound is None:
            sound = self._sound = AudioTiming(unit.track, payload)
            self._first_audio = payload
        samples = sound.length(unit)
        ticks = sound.clock.stamp(unit.dts, samples)
        time = ticks * VIDEO_CLOCK // sound.rate
        if self._video is None:
            self._open_without_picture(time, unit.wall)
            self._write_sound(time, ticks, samples, payload)
            return
        if (
            self._has_picture
            and time - self._last > _PICTURE_TIMEOUT
            and time - self._start >= self.seconds * VIDEO_CLOCK
        ):
            # Pictures stopped, but the piece must end.
            self._write_held(None)
            self._end_previous()
            self._has_picture = False
        held = self._held
        held.append((time, ticks, samples, payload, unit.wall))
        if self._piece is None:
            if time - held[0][0] > _PICTURE_TIMEOUT or len(held) > _MAX_HELD:
                self._open_without_picture(held[0][0], held[0][4])  # no picture arrives
                self._write_held(None)
        elif not self._has_picture:
            self._open_without_picture(time, unit.wall)
            self._write_held(None)
        elif time <= self._last or time - self._last > _PICTURE_TIMEOUT or len(held) > _MAX_HELD:
            self._write_held(None if time > self._last else self._last)

    def _open_without_picture(self, time: int, wall: float) -> None:
        """Opens a piece for sound without a picture, or the next piece after `seconds`."""
        due = time - self._start >= int(self.seconds * VIDEO_CLOCK) - _ROUNDING
        if self._piece is not None and due and self._limiter.take(wall):
            self._piece.close(time)
            self._piece = None
        if self._piece is None:
            self._start = time
            self._open_piece(wall, None)

    def _write_held(self, until: int | None) -> None:
        """Writes held sound up to the picture's time `until` (90 kHz); None: all of it."""
        held = self._held
        while held and (until is None or held[0][0] <= until):
            time, ticks, samples, payload, _ = held.popleft()
            self._write_sound(time, ticks, samples, payload)

    def _write_sound(self, time: int, ticks: int, samples: int, payload: bytes) -> None:
        if self._previous is not None:
            if time < self._cut:
                self._previous.add_sound(ticks, samples, payload)
                return
            if not self.has_additional:
                self._end_previous()
        if self._piece is None:
            self.dropped += 1
            return
        self._piece.add_sound(ticks, samples, payload)

    def _open_piece(self, wall: float, first_video: bytes | None) -> None:
        start = PieceStart(self._video, self._audio, first_video, self._first_audio, wall, self._continues)
        self._piece = self._make_piece(start)
        self._continues = True


def _frame_rate(track: MediaTrack) -> float | None:
    """Returns the frame rate of the configuration; None if it is invalid, because recording is still possible."""
    try:
        return codecs.frame_rate(track)
    except InvalidData:
        return None
