"""An encoded slate, and its endless repetition by the clock."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from gateway.media.silent_frames import silent_frame
from gateway.media.track import AccessUnit, MediaTrack
from gateway.workers.stream_form import DEFAULT_AUDIO

_TICK_SECONDS: Final = 0.02  # between two calls of the timer
_MAX_PICTURES: Final = 4  # in one call: after a stall, the slate catches up without a burst
_MAX_LATE_MS: Final = 2_000  # a longer stall is not caught up


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class SlateLoop:
    """The media of a slate.

    pictures: of one loop; every `gop`-th one is a key frame. rate: pictures per second.
    sounds: frames from the loop's start on; a single one is repeated. `with_silence` must add one if there is none.
    sound_seconds: duration of a frame.
    is_card: whether it is a card, which may get a clock.
    """

    video: MediaTrack | None
    pictures: tuple[bytes, ...]
    gop: int
    rate: Fraction
    audio: MediaTrack | None
    sounds: tuple[bytes, ...]
    sound_seconds: Fraction
    is_card: bool = False

    @property
    def size(self) -> int:
        """Bytes of all pictures and frames."""
        return sum(map(len, self.pictures)) + sum(map(len, self.sounds))


def with_silence(loop: SlateLoop, frame: bytes = b"") -> SlateLoop:
    """Returns the loop with silence if it has a track, but no sound. If its silence is unknown, the track becomes AAC.

    frame: one of the track, for the codecs whose silent frames are like others.
    """
    audio = loop.audio
    if audio is None or loop.sounds:
        return loop
    silence = silent_frame(audio, frame)
    if silence is None:
        audio, silence = DEFAULT_AUDIO, silent_frame(DEFAULT_AUDIO)
    assert silence is not None, "it is known for AAC"
    return replace(loop, audio=audio, sounds=(silence.payload,), sound_seconds=silence.seconds)


class LoopPlayback:
    """Publishes a loop from its first key frame on, again and again, each unit at its time.

    All times come from counts of pictures and frames since the start: they do not drift, and sound has no gaps.

    loop: the one that is published now. push: publishes a unit at a monotonic time.
    announce: called before the first unit, and before units of other tracks.
    """

    def __init__(
        self, loop: SlateLoop, push: Callable[[AccessUnit, float], None], announce: Callable[[SlateLoop], None]
    ) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # gets the error of a push
        self.loop = loop
        self._next_loop: SlateLoop | None = None
        self._push = push
        self._announce = announce
        self._started: float | None = None  # monotonic seconds
        self._picture = 0  # number of the next picture, counted since `_origin`
        self._sound = 0  # number of the next frame of sound, counted since `_origin`
        self._origin = Fraction(0), Fraction(0)  # seconds at which the counts of pictures and sound began
        self._first_picture = self._first_sound = 0  # of this repetition of the loop
        self._last_sounds: tuple[bytes, ...] = ()  # of the previous repetition
        self._last_first_sound = 0  # of the previous repetition
        self._picture_ms = self._sound_ms = 0
        self._set_grids()

    def change(self, loop: SlateLoop) -> None:
        """Goes on with another loop at the next key frame."""
        self._next_loop = None if loop is self.loop else loop

    def push_due(self, now: float) -> None:
        """Publishes the units that are due. now: monotonic seconds."""
        if self._started is None:
            self._started = now
            self._announce(self.loop)
        due = int((now - self._started) * 1000)
        next_ms = self._picture_ms if self.loop.video is not None else self._sound_ms
        if due - next_ms > _MAX_LATE_MS:
            self._started += (due - next_ms) / 1000
            due = next_ms
        wall = time.time()
        pictures = 0
        while pictures < _MAX_PICTURES:
            loop = self.loop
            if loop.video is not None and (loop.audio is None or self._picture_ms <= self._sound_ms):
                if self._picture_ms > due:
                    return
                self._push_picture(now, wall)
                pictures += 1
            elif loop.audio is not None and self._sound_ms <= due:
                self._push_sound(loop.audio, now, wall)
                pictures += loop.video is None
            else:
                return

    def _push_picture(self, now: float, wall: float) -> None:
        index = self._picture - self._first_picture
        if index % self.loop.gop == 0 and (self._next_loop is not None or index >= len(self.loop.pictures)):
            self._begin_loop(self._next_loop or self.loop)
            index = 0
        loop = self.loop
        assert loop.video is not None, "the caller checks it"
        key = index % loop.gop == 0
        self._push(AccessUnit(loop.video, self._picture_ms, 0, key, wall, loop.pictures[index]), now)
        self._picture += 1
        if index + 1 == len(loop.pictures) and self._next_loop is None:
            self._begin_loop(loop)
        base, step, divisor = self._picture_grid
        self._picture_ms = (base + self._picture * step) // divisor

    def _push_sound(self, audio: MediaTrack, now: float, wall: float) -> None:
        loop = self.loop
        # Sound follows the pictures: each frame is chosen by its time in the loop, so both repeat together.
        sounds, first = loop.sounds, self._first_sound
        if self._sound < first:  # the next repetition has been set already, after its last picture
            sounds, first = self._last_sounds, self._last_first_sound
        payload = sounds[min(max(0, self._sound - first), len(sounds) - 1)]
        self._push(AccessUnit(audio, self._sound_ms, 0, True, wall, payload), now)
        self._sound += 1
        base, step, divisor = self._sound_grid
        self._sound_ms = (base + self._sound * step) // divisor

    def _set_grids(self) -> None:
        self._picture_grid = _grid(self._origin[0], 1 / self.loop.rate)
        self._sound_grid = _grid(self._origin[1], self.loop.sound_seconds)

    def _begin_loop(self, loop: SlateLoop) -> None:
        """Begins a repetition, or another loop, with the next picture."""
        old, self.loop, self._next_loop = self.loop, loop, None
        begin = self._origin[0] + self._picture / old.rate
        if loop.rate != old.rate or loop.sound_seconds != old.sound_seconds:
            self._origin = begin, self._origin[1] + self._sound * old.sound_seconds
            self._first_sound -= self._sound
            self._picture = self._sound = 0
            self._set_grids()
        self._first_picture = self._picture
        self._last_sounds = old.sounds if old.audio == loop.audio else loop.sounds
        self._last_first_sound = self._first_sound
        self._first_sound = round((begin - self._origin[1]) / loop.sound_seconds) if loop.audio is not None else 0
        if loop is not old and (loop.video, loop.audio) != (old.video, old.audio):
            self._announce(loop)


class LoopTimer:
    """Calls all playbacks on air with one timer, which runs only while there are some."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._playbacks: dict[LoopPlayback, None] = {}
        self._handle: asyncio.TimerHandle | None = None

    def add(self, playback: LoopPlayback) -> None:
        """Publishes the first picture now, and then all units at their times."""
        self._playbacks[playback] = None
        self._push(playback, self._clock())
        if self._handle is None:
            self._arm()

    def remove(self, playback: LoopPlayback) -> None:
        """Ends a playback. Idempotent."""
        self._playbacks.pop(playback, None)

    def _arm(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._handle = None
        now = self._clock()
        for playback in list(self._playbacks):
            self._push(playback, now)
        if self._playbacks:
            self._arm()

    def _push(self, playback: LoopPlayback, now: float) -> None:
        try:
            playback.push_due(now)
        except Exception as error:  # the other slates go on
            self.remove(playback)
            if not playback.failed.done():
                playback.failed.set_exception(error)


def _grid(origin: Fraction, step: Fraction) -> tuple[int, int, int]:
    """Returns (a, b, c) for the times (a + n · b) // c in milliseconds. origin, step: seconds.

    Integers, because calculations with fractions would cost ten times as much for each unit.
    """
    divisor = math.lcm(origin.denominator, step.denominator)
    return int(origin * divisor) * 1000, int(step * divisor) * 1000, divisor
