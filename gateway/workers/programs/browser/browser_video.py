"""Decodes the pictures of a browser push that cannot be copied, and encodes them as H.264, in a thread.

The queue of this thread is limited in seconds, bytes and number of units.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Final, TypeAlias

import av

from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.workers import ladder_plan
from gateway.workers.browser_protocol import BrowserPlan
from gateway.workers.programs import program
from gateway.workers.programs.codec import (
    CodecFailed,
    DecodedPicture,
    VideoDecoder,
    VideoEncoder,
    VideoRecipe,
    estimate_frame_rate,
)
from gateway.workers.programs.filters import Scaler
from gateway.workers.programs.unit_writer import UnitWriter

KEY_SECONDS: Final = 2.0
_HANG_SECONDS: Final = 20.0  # for one picture; if it needs more, the native code hangs

_MAX_BYTES: Final = 16_000_000
_MAX_ITEMS: Final = 4000  # audio units and pictures together: about a minute

# The maximum size of pictures, in landscape or portrait format.
_LONG_SIDE, _SHORT_SIDE = 1920, 1080
# The frame rates of the encoder. A camera in the dark begins with fewer pictures than _MIN_RATE. It becomes faster
# in the light. So a lower estimate than _MIN_RATE is not used.
_RATES: Final = tuple(Fraction(rate) for rate in (24, 25, 30, 50, 60))
_MIN_RATE: Final = 20
_USUAL_RATE: Final = Fraction(30)
_MAX_RATE: Final = _RATES[-1]
# The frame rate is estimated before the first picture is encoded: over this many pictures, or at most these seconds.
_RATE_PICTURES: Final = 4
_RATE_SECONDS: Final = 0.25
_MIN_KEY_SECONDS: Final = 1.0  # key frames of the source that follow sooner are encoded as normal frames

_Opener: TypeAlias = Callable[[VideoRecipe, av.VideoFrame], VideoEncoder]
_WINDOW: Final = 5.0  # seconds; an arrival is used for one or two windows
# For equal quality, live H.264 (no B-frames, no lookahead) needs the bits of these codecs times this factor.
_BIT_FACTORS: Final = {Codec.VP8: 1.0, Codec.VP9: 1.4, Codec.AV1: 1.6, Codec.H265: 1.5}
_HD_BITS: Final = 2_500_000  # for 1280x720 at 30 frames per second
_HD_PIXELS: Final = 1280 * 720 * 30
_MIN_FRACTION: Final = 0.25  # of the maximum bitrate: the lowest target
_WINDOW_PICTURES: Final = 60  # pictures whose mean size is measured at a time


class BrowserVideoEncoder:
    """Encodes the units of one video track as H.264. Audio units keep their order with the pictures.

    `put` never waits. Pictures that are more than `plan.max_lag` seconds late are decoded but not encoded.
    If the queue exceeds `plan.backlog` seconds, 16 MB or 4,000 units, pictures up to the next key frame are dropped.
    `dropped` counts all these pictures. `EncoderLag` measures the delay, without that of the browser's MediaRecorder.

    One thread calls `put`, `finish` and `hangs`. Another thread encodes. Only that thread uses the unit writer until it
    ends.
    """

    def __init__(
        self,
        track: MediaTrack,
        plan: BrowserPlan,
        unit_writer: UnitWriter,
        *,
        encoder: _Opener = VideoEncoder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises CodecFailed if the track cannot be decoded. encoder: opens an encoder."""
        self.dropped = 0
        self.behind = 0.0
        self._plan = plan
        self._unit_writer = unit_writer
        self._open_encoder = encoder
        self._clock = clock
        self._timescale = track.timescale
        # ---- under the lock ----
        self._condition = threading.Condition()
        self._items: deque[AccessUnit] = deque()
        self._bytes = 0
        self._lag = EncoderLag()
        self._await_key = False  # pictures are dropped until the next key frame
        self._finished = False
        self._busy_since: float | None = None
        # ---- of the thread ----
        self._decoder = VideoDecoder(track, plan.threads)
        self._bitrate_estimator = BitrateEstimator(track.codec)
        self._held_pictures: list[DecodedPicture] = []  # until the rate is estimated
        self._rate = _USUAL_RATE
        self._next_due: float | None = None  # ticks; earlier pictures are dropped
        self._encoder: VideoEncoder | None = None
        self._scaler: Scaler | None = None
        self._source_size: tuple[int, int, Fraction] | None = None
        self._output_size = 2, 2
        self._bitrate = 0
        self._last_key: int | None = None
        self._needs_key = True
        self._failed_pictures = 0
        self._thread = program.start_thread(self._run, "encoding")

    # ---- the demuxer's side ----

    def put(self, unit: AccessUnit) -> None:
        """Queues the next video or audio unit, in the order of publishing. Never waits."""
        now = self._clock()
        with self._condition:
            if unit.track.kind is Kind.VIDEO:
                self._lag.record_arrival(unit.dts / self._timescale, now)
                if self._await_key and not unit.key:
                    self.dropped += 1
                    return
                self._await_key = False
            self._items.append(unit)
            self._bytes += len(unit.payload)
            if self._bytes > _MAX_BYTES or len(self._items) > _MAX_ITEMS or self._backlog(now) > self._plan.backlog:
                self._drop_pictures()
            self._condition.notify()

    def finish(self) -> None:
        """Waits until all units in the queue are encoded and sent, or until the codec hangs."""
        with self._condition:
            self._finished = True
            self._condition.notify()
        while self._thread.is_alive() and not self.hangs:
            self._thread.join(1)

    @property
    def hangs(self) -> bool:
        """Whether the codec hangs: one picture has needed more than 20 s."""
        since = self._busy_since
        return since is not None and self._clock() - since > _HANG_SECONDS

    @property
    def damaged(self) -> int:
        """Number of samples that could not be decoded, plus pictures that could not be encoded."""
        return self._decoder.damaged + self._failed_pictures

    def _backlog(self, now: float) -> float:
        head = next((u for u in self._items if u.track.kind is Kind.VIDEO), None)
        return 0.0 if head is None else self._lag.behind(head.dts / self._timescale, now)

    def _drop_pictures(self) -> None:
        """Drops pictures before the last key frame in the queue (without one: all pictures), and excess audio."""
        items = list(self._items)
        keys = [n for n, u in enumerate(items) if u.track.kind is Kind.VIDEO and u.key]
        first = keys[-1] if keys and keys[-1] > 0 else len(items)
        remaining = [u for n, u in enumerate(items) if n >= first or u.track.kind is not Kind.VIDEO]
        self.dropped += len(items) - len(remaining)
        self._await_key = first == len(items)
        del remaining[: max(0, len(remaining) - _MAX_ITEMS // 2)]
        self._items = deque(remaining)
        self._bytes = sum(len(u.payload) for u in remaining)

    # ---- the thread ----

    def _run(self) -> None:
        while (item := self._next_item()) is not None:
            if item.track.kind is Kind.VIDEO:
                self._decode(item)
            else:
                self._unit_writer.send_units((item,))
            self._busy_since = None
        self._finish_thread()

    def _next_item(self) -> AccessUnit | None:
        """Returns the next unit; None at the end.

        While the rate is not known, waits at most _RATE_SECONDS. Then the rate is estimated from fewer pictures.
        """
        with self._condition:
            while not self._items and not self._finished:
                if not self._condition.wait(_RATE_SECONDS if self._held_pictures else None) and self._held_pictures:
                    break
            if self._items:
                item = self._items.popleft()
                self._bytes -= len(item.payload)
                self._busy_since = self._clock()
                return item
            if self._finished:
                return None
        self._estimate_rate()
        return self._next_item()

    def _decode(self, unit: AccessUnit) -> None:
        seconds = unit.dts / self._timescale
        self._bitrate_estimator.add(len(unit.payload))
        with self._condition:
            self.behind = self._lag.behind(seconds, self._clock())
        for picture in self._decoder.decode(unit):
            if self._encoder is None:
                self._held_pictures.append(picture)
                first, last = self._held_pictures[0].pts, picture.pts
                if len(self._held_pictures) >= _RATE_PICTURES or last - first >= _RATE_SECONDS * self._timescale:
                    self._estimate_rate()
            else:
                self._on_picture(picture)

    def _estimate_rate(self) -> None:
        """Estimates the rate from the held pictures, and encodes them."""
        held, self._held_pictures = self._held_pictures, []
        if len(held) > 1:
            measured = estimate_frame_rate([p.pts for p in held], self._timescale, self._decoder.declared_rate)
            # If the rate is a little too high, some frame numbers are skipped. If it is too low, `outrun` becomes true.
            rates = (rate for rate in _RATES if rate >= measured * Fraction(97, 100))
            self._rate = _USUAL_RATE if measured < _MIN_RATE else next(rates, _MAX_RATE)
        for picture in held:
            self._on_picture(picture)

    def _finish_thread(self) -> None:
        for picture in self._decoder.flush():
            self._held_pictures.append(picture) if self._encoder is None else self._on_picture(picture)
        self._estimate_rate()
        if self._encoder is not None:
            self._unit_writer.send_units(self._encoder.flush())
        self._unit_writer.flush()

    def _on_picture(self, picture: DecodedPicture) -> None:
        """Encodes a picture, unless it is too late or the frame rate is too high."""
        if self._last_key is None or picture.pts - self._last_key >= _MIN_KEY_SECONDS * self._timescale:
            self._needs_key |= picture.key
        if not self._admit(picture.pts):
            return
        if self._encoder is not None and self.behind > self._plan.max_lag:
            self.dropped += 1
            return
        try:
            self._unit_writer.send_units(self._encode(picture))
        except (CodecFailed, av.FFmpegError):
            # This picture cannot be scaled or encoded; a later one of another size may work.
            self._failed_pictures += 1
            self._encoder = self._scaler = None

    def _admit(self, pts: int) -> bool:
        """Returns True and counts a picture if it may be encoded: at most _MAX_RATE a second, at any times."""
        interval = float(self._timescale / _MAX_RATE)
        due = pts if self._next_due is None else self._next_due
        if pts < due - interval / 2:
            return False
        self._next_due = max(due, pts - interval / 2) + interval
        return True

    def _encode(self, picture: DecodedPicture) -> list[AccessUnit]:
        self._adapt_to_size(picture)
        assert self._scaler is not None
        frame = self._scaler.scale(picture.frame)
        if self._encoder is None:
            self._open(frame)
        assert self._encoder is not None
        expired = self._last_key is None or picture.pts - self._last_key >= (KEY_SECONDS - 0.01) * self._timescale
        # Without B-frames nothing is reordered, so decode times equal presentation times.
        picture.key, picture.lead = expired or self._needs_key, 0
        if picture.key:
            self._last_key, self._needs_key = picture.pts, False
            self._adapt_bitrate()
        return self._encoder.encode(frame, picture)

    def _adapt_to_size(self, picture: DecodedPicture) -> None:
        """Closes the encoder if the picture size has changed, or if the frame rate is higher than estimated."""
        source_size = (picture.frame.width, picture.frame.height, picture.aspect)
        outrun = self._encoder is not None and self._encoder.outrun
        if outrun:
            self._rate = next((rate for rate in _RATES if rate > self._rate), _MAX_RATE)
        if self._encoder is not None and (outrun or source_size != self._source_size):
            self._unit_writer.send_units(self._encoder.flush())
            self._encoder = None
        if self._scaler is None or source_size != self._source_size:
            self._source_size = source_size
            self._output_size = output_size(*source_size)
            self._scaler = Scaler(*self._output_size)

    def _open(self, like: av.VideoFrame) -> None:
        width, height = self._output_size
        bitrate = self._bitrate = max_bitrate(width, height, self._rate)
        recipe = VideoRecipe(
            "libx264", width, height, bitrate, maxrate=bitrate, rate=self._rate, timescale=self._timescale,
            preset=self._plan.preset, threads=self._plan.threads, instant=True,
        )  # fmt: skip
        self._encoder = self._open_encoder(recipe, like)
        self._needs_key = True
        self._unit_writer.set_track(self._encoder.track)

    def _adapt_bitrate(self) -> None:
        """Adapts the bitrate to that of the source if it differs by more than 15 %. Called at key frames."""
        assert self._encoder is not None
        target = self._bitrate_estimator.target(self._rate, self._encoder.recipe.bitrate)
        if abs(target - self._bitrate) > 0.15 * self._bitrate:
            self._bitrate = target
            self._encoder.set_bitrate(target)


def output_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Returns width and height of the encoded pictures, in square pixels, even.

    They are at most 1920x1080, or 1080x1920 in portrait format. aspect: width of a sample divided by its height.
    """
    wide, high = ladder_plan.display_size(width, height, aspect)
    long_side, short_side = max(wide, high), min(wide, high)
    scale = min(Fraction(1), Fraction(_LONG_SIDE, long_side), Fraction(_SHORT_SIDE, short_side))
    return _even(wide * scale), _even(high * scale)


def _even(side: Fraction) -> int:
    return max(2, 2 * int(side / 2))


class EncoderLag:
    """Measures the delay in addition to that of the browser's MediaRecorder.

    A MediaRecorder sends blocks. The first picture of a block waits for the last one. Viewers have this delay anyway,
    so a unit within it is not late. So a block may be encoded until the next block arrives. Media that arrive faster
    than real time are never late.
    Media times and `now` are seconds on different clocks. This class does no I/O and reads no clock.
    """

    __slots__ = ("_previous_max", "_window_max", "_window_start")

    def __init__(self) -> None:
        self._window_start: float | None = None
        self._window_max = self._previous_max = 0.0  # the longest delay of a unit, in this window and the previous one

    def record_arrival(self, time: float, now: float) -> None:
        """Records the arrival of a unit. time: its media time."""
        delay = now - time
        if self._window_start is None:
            self._window_start, self._window_max, self._previous_max = now, delay, delay
        elif now - self._window_start > _WINDOW:
            self._window_start, self._previous_max, self._window_max = now, self._window_max, delay
        elif delay > self._window_max:
            self._window_max = delay

    def behind(self, time: float, now: float) -> float:
        """Returns the seconds of delay if the unit is finished now; 0 if it is not late."""
        if self._window_start is None:
            return 0.0
        return max(0.0, now - time - max(self._window_max, self._previous_max))


def max_bitrate(width: int, height: int, rate: Fraction) -> int:
    """Returns the highest useful bitrate for this size and frame rate, in bits per second.

    Examples: 0.9 Mbit/s for 640x360 at 30 frames per second, 4.6 for 1920x1080 at 30, 7.7 for 1920x1080 at 60.
    """
    factor: float = (float(width * height * rate) / _HD_PIXELS) ** 0.75
    return max(100_000, round(_HD_BITS * factor))


class BitrateEstimator:
    """Measures the mean bytes of a picture. Durations are ignored: they do not change the size of a picture."""

    def __init__(self, codec: Codec) -> None:
        self._bit_factor = _BIT_FACTORS.get(codec, 1.0)
        self._pictures = self._bytes = 0
        self._mean: float | None = None  # bytes of a picture

    def add(self, size: int) -> None:
        """Counts a picture of `size` bytes."""
        self._pictures += 1
        self._bytes += size
        if self._pictures >= _WINDOW_PICTURES:
            mean = self._bytes / self._pictures
            self._mean = mean if self._mean is None else (self._mean + mean) / 2
            self._pictures = self._bytes = 0

    def target(self, rate: Fraction, maximum: int) -> int:
        """Returns the bits per second for `rate` pictures per second, at most `maximum`.

        It is `maximum` until 60 pictures have been counted.
        """
        if self._mean is None:
            return maximum
        return round(max(_MIN_FRACTION * maximum, min(maximum, 8 * self._mean * float(rate) * self._bit_factor)))
