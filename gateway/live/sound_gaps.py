"""SoundGaps: publishes silence while an encoder's sound pauses, because players stop where one track has a hole.

Phones that are muted, discontinuous transmission, and converters that start again leave such holes.
"""

from collections.abc import Callable
from typing import Final

import structlog

from gateway.lib.token_bucket import TokenBucket
from gateway.media.clock import MILLISECONDS
from gateway.media.silent_frames import LIKE_OTHERS, silent_frame
from gateway.media.track import AccessUnit, Kind, MadeSilence, MediaTrack

log = structlog.get_logger(__name__)

LATE_MS: Final = 300  # sound pauses if it is later than usual by more than this
# A hole in both tracks is no pause of the sound: so many pictures must have come without it, none later than this.
_PICTURES: Final = 3
_STEP_MS: Final = 2_000
# Silence at once, and for each second: a hostile push has times that are much faster than real time.
_MOST_SILENCE_MS: Final = 30_000
_SILENCE_RATE: Final = 2_000
_UNKNOWN_MS: Final = 1_000  # what is usual, before it was measured: some encoders interleave a second late
_MOST_MS: Final = 3_000  # the latest that is usual
_WINDOW_MS: Final = 5_000  # the usual lateness is the greatest of one to two such times
_FIRST_WINDOW_MS: Final = 1_000
_NEVER: Final = -(1 << 62)
_AUDIO: Final = Kind.AUDIO


class SoundGaps:
    """Gives the units of a push to `publish`, and silent frames between them. It counts milliseconds.

    A real frame is never replaced: silence ends where sound usually has arrived. What comes later than that is dropped,
    because its time has passed.

    made: number of silent frames. For codecs without a known silent frame nothing is added.
    """

    __slots__ = (
        *("_earlier_latest", "_frame", "_frame_ms", "_heard", "_is_paused", "_latest", "_name", "_next", "_publish"),
        *("_pictures", "_shown", "_silence", "_silent_to", "_track", "_until", "_usual", "_window", "made"),
    )

    def __init__(self, name: str, publish: Callable[[AccessUnit, float], None]) -> None:
        self._name, self._publish = name, publish
        self._track: MediaTrack | None = None  # of the sound, while both tracks are announced
        self._frame = b""
        self._frame_ms = 0.0
        self._next: float | None = None  # the time at which the next frame of sound begins
        self._silent_to = float(_NEVER)  # end of the last silence
        self._shown: float | None = None  # decode time of the last picture
        self._pictures = 0  # since the last sound
        self._heard = 0.0  # when sound came last, or is due, monotonic seconds
        self._is_paused = False
        self._usual = float(_UNKNOWN_MS)
        self._latest = self._earlier_latest = 0.0  # greatest lateness of this window, and of the one before
        self._window: float | None = None  # begin of this window
        # Up to pictures of this time, sound that is not later than `_latest` needs no measurement.
        self._until: float = _NEVER
        self._silence = TokenBucket(_SILENCE_RATE, _MOST_SILENCE_MS)  # milliseconds that may be filled
        self.made = 0

    def set_tracks(self, video: MediaTrack | None, audio: MediaTrack | None) -> None:
        """Learns the announced tracks."""
        track = audio if video is not None else None
        if track == self._track:
            return
        self._track, self._next, self._is_paused, self._frame = track, None, False, b""
        self._until = self._silent_to = _NEVER
        if track is not None and not self._make_frame(track) and track.codec not in LIKE_OTHERS:
            self._track = None

    def _make_frame(self, track: MediaTrack, frame: bytes = b"") -> bool:
        """Makes the silent frame, which may be like one of the track's. Returns False if it is unknown."""
        silence = silent_frame(track, frame)
        if silence is not None:
            self._frame, self._frame_ms = silence.payload, float(1000 * silence.seconds)
        return silence is not None

    def push(self, unit: AccessUnit, now: float) -> None:
        """Publishes a unit, with silence before it if the sound pauses. Hot path. now: monotonic seconds."""
        track = self._track
        if track is not None:
            scale = unit.track.timescale
            dts = unit.dts if scale == MILLISECONDS else unit.dts * MILLISECONDS / scale
            if unit.track.kind is _AUDIO:
                self._heard = now
                if (shown := self._shown) is not None and shown < self._until and shown - dts <= self._latest:
                    self._next, self._pictures = dts + self._frame_ms, 0
                elif not self._frame and not self._make_frame(track, unit.payload):
                    self._track = None
                elif not self._take_sound(dts):
                    return
            else:
                before, self._shown = self._shown, dts
                self._pictures += 1
                after = self._next
                if after is None or (before is not None and dts - before > _STEP_MS):
                    self._next, self._pictures = dts, 0
                    self._heard = now + self._usual / 1000  # its first frames may be as late as that
                elif dts - after > self._usual and self._frame and self._pictures >= _PICTURES:
                    self._fill(track, dts, unit.wall, now)
        self._publish(unit, now)

    def _take_sound(self, dts: float) -> bool:
        """Measures how late a frame is. Returns False if silence has taken its place."""
        if (shown := self._shown) is not None:
            if shown - dts > self._latest:
                self._latest = shown - dts
                self._usual = max(self._usual, min(self._latest, _MOST_MS))
            if self._window is None:
                self._window = shown - _WINDOW_MS + _FIRST_WINDOW_MS
            elif shown - self._window >= _WINDOW_MS:
                self._usual = min(max(self._latest, self._earlier_latest), _MOST_MS)
                self._window, self._earlier_latest, self._latest = shown, self._latest, 0.0
            self._until = _NEVER if self.made else self._window + _WINDOW_MS
        # Only silence: some encoders stamp frames when they come, in pairs of one time, or some milliseconds early.
        if dts + self._frame_ms / 2 < self._silent_to:
            return False
        self._is_paused = False
        self._pictures = 0
        self._next = dts + self._frame_ms
        return True

    def _fill(self, track: MediaTrack, dts: float, wall: float, now: float) -> None:
        """Publishes silence up to the time that sound usually has reached at a picture of the time `dts`.

        It is bounded: a hole grows by at most _STEP_MS for each picture, and is filled from the third one on. Silence
        that is too much for the time in which it came is left out.
        """
        assert self._next is not None, "a hole has a beginning"
        if now - self._heard < LATE_MS / 1000:
            return  # a burst of media is faster than its converter, or the sound goes on later than before
        if not self._is_paused:
            if dts - self._next <= self._usual + LATE_MS:
                return
            self._is_paused, self._until = True, _NEVER
            log.info("the sound pauses, silence is published", stream=self._name, at_ms=round(dts))
        after, end = self._next, dts - self._usual
        count = max(0, int((end - after) / self._frame_ms))
        if not self._silence.take(count * self._frame_ms, now):
            after, count = end, 0
        for _ in range(count):
            self.made += 1
            at = round(after * track.timescale / MILLISECONDS)
            self._publish(MadeSilence(track, at, 0, True, wall, self._frame), now)
            after += self._frame_ms
        self._next = self._silent_to = after
