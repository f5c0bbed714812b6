"""Decodes the pictures of a browser push that cannot be copied, and encodes them as H.264, in a thread.

The queue of this thread is limited in seconds, bytes and number.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

import av

from gateway.media.track import Kind, MediaTrack
from gateway.media.unit import AccessUnit
from gateway.workers import ladder_plan
from gateway.workers.browser_protocol import BrowserPlan
from gateway.workers.programs import program
from gateway.workers.programs.browser.bitrate_estimator import BitrateEstimator, max_bitrate
from gateway.workers.programs.browser.encoder_lag import EncoderLag
from gateway.workers.programs.browser.unit_writer import UnitWriter
from gateway.workers.programs.codec import (
    CodecFailed,
    DecodedPicture,
    VideoDecoder,
    VideoEncoder,
    VideoRecipe,
    frame_rate,
)
from gateway.workers.programs.filters import Scaler

KEY_SECONDS: Final = 2.0
_STUCK_SECONDS: Final = 20.0  # for one picture; beyond this the native code hangs

_MAX_BYTES: Final = 16_000_000
_MAX_ITEMS: Final = 4000  # audio units and pictures together: about a minute

# The box that pictures have to fit into, in landscape or portrait format.
_LONG_SIDE, _SHORT_SIDE = 1920, 1080
# The frame rates of the encoder. A camera that begins slower than _LEAST_RATE is usually in the dark; it becomes
# faster again later.
_GRIDS: Final = tuple(Fraction(rate) for rate in (24, 25, 30, 50, 60))
_LEAST_RATE: Final = 20
_USUAL: Final = Fraction(30)
_MAX_RATE: Final = _GRIDS[-1]
# Pictures for the estimate of the frame rate, before the first is encoded; and the most seconds to wait for them.
_MEASURED: Final = 4
_MEASURED_SECONDS: Final = 0.25
_KEYS_APART: Final = 1.0  # seconds; key frames of the source that follow sooner are encoded as normal frames

_Opener: TypeAlias = Callable[[VideoRecipe, av.VideoFrame], VideoEncoder]


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the encoded pictures in pixels."""

    width: int
    height: int


class BrowserVideoEncoder:
    """Encodes the units of one video track as H.264. Audio units keep their place between the pictures.

    `put` never waits. Pictures that are more than `plan.spare` seconds late are decoded but not encoded.
    If the queue exceeds `plan.backlog` seconds, 16 MB or 4,000 units, pictures up to the next key frame are dropped.
    Both count in `dropped`. Lateness is measured by `EncoderLag`, which allows for the slices of the recorder.

    One thread calls `put`, `finish` and `stuck`. Another thread makes the pictures and meanwhile owns the outlet.
    """

    def __init__(
        self,
        track: MediaTrack,
        plan: BrowserPlan,
        outlet: UnitWriter,
        *,
        encoder: _Opener = VideoEncoder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """encoder: opens an encoder. Raises CodecFailed if the track cannot be decoded."""
        self.dropped = 0
        self.behind = 0.0
        self._plan = plan
        self._unit_writer = outlet
        self._open_encoder = encoder
        self._clock = clock
        self._timescale = track.timescale
        # ---- under the lock ----
        self._condition = threading.Condition()
        self._items: deque[AccessUnit] = deque()
        self._bytes = 0
        self._lateness = EncoderLag()
        self._await_key = False  # units are dropped until a key frame comes
        self._finished = False
        self._busy_since: float | None = None
        # ---- of the thread ----
        self._decoder = VideoDecoder(track, plan.threads)
        self._bits = BitrateEstimator(track.codec)
        self._held: list[DecodedPicture] = []  # until the rate is estimated
        self._rate = _USUAL
        self._due: float | None = None  # ticks at which the next picture may be shown
        self._encoder: VideoEncoder | None = None
        self._scaler: Scaler | None = None
        self._shape: tuple[int, int, Fraction] | None = None
        self._size = Size(2, 2)
        self._bitrate = 0
        self._key_at: int | None = None
        self._key_due = True
        self._unfit = 0
        self._thread = program.start_thread(self._run, "encoding")

    # ---- the demuxer's side ----

    def put(self, unit: AccessUnit) -> None:
        """Queues the next video or audio unit, in the order of publishing. Never waits."""
        now = self._clock()
        with self._condition:
            if unit.track.kind is Kind.VIDEO:
                self._lateness.arrived(unit.dts / self._timescale, now)
                if self._await_key and not unit.key:
                    self.dropped += 1
                    return
                self._await_key = False
            self._items.append(unit)
            self._bytes += len(unit.payload)
            if self._bytes > _MAX_BYTES or len(self._items) > _MAX_ITEMS or self._backlog(now) > self._plan.backlog:
                self._shed()
            self._condition.notify()

    def finish(self) -> None:
        """Waits until everything in the queue is encoded and sent, or until the codec hangs."""
        with self._condition:
            self._finished = True
            self._condition.notify()
        while self._thread.is_alive() and not self.stuck:
            self._thread.join(1)

    @property
    def stuck(self) -> bool:
        """Whether one picture has taken more than 20 s, so that the codec must hang."""
        since = self._busy_since
        return since is not None and self._clock() - since > _STUCK_SECONDS

    @property
    def damaged(self) -> int:
        """Number of samples that gave no picture, plus pictures that could not be encoded."""
        return self._decoder.damaged + self._unfit

    def _backlog(self, now: float) -> float:
        head = next((u for u in self._items if u.track.kind is Kind.VIDEO), None)
        return 0.0 if head is None else self._lateness.behind(head.dts / self._timescale, now)

    def _shed(self) -> None:
        """Drops pictures before the last key frame in the queue (all if there is none), and the excess of audio."""
        items = list(self._items)
        keys = [n for n, u in enumerate(items) if u.track.kind is Kind.VIDEO and u.key]
        first = keys[-1] if keys and keys[-1] > 0 else len(items)
        kept = [u for n, u in enumerate(items) if n >= first or u.track.kind is not Kind.VIDEO]
        self.dropped += len(items) - len(kept)
        self._await_key = first == len(items)
        del kept[: max(0, len(kept) - _MAX_ITEMS // 2)]
        self._items = deque(kept)
        self._bytes = sum(len(u.payload) for u in kept)

    # ---- the thread ----

    def _run(self) -> None:
        while (item := self._next()) is not None:
            if item.track.kind is Kind.VIDEO:
                self._decode(item)
            else:
                self._unit_writer.units((item,))
            self._busy_since = None
        self._drain()

    def _next(self) -> AccessUnit | None:
        """Returns the next unit; None at the end.

        While the rate is estimated, waits at most _MEASURED_SECONDS; then the estimate has to do with fewer pictures.
        """
        with self._condition:
            while not self._items and not self._finished:
                if not self._condition.wait(_MEASURED_SECONDS if self._held else None) and self._held:
                    break
            if self._items:
                item = self._items.popleft()
                self._bytes -= len(item.payload)
                self._busy_since = self._clock()
                return item
            if self._finished:
                return None
        self._guess()
        return self._next()

    def _decode(self, unit: AccessUnit) -> None:
        seconds = unit.dts / self._timescale
        self._bits.came(len(unit.payload))
        with self._condition:
            self.behind = self._lateness.behind(seconds, self._clock())
        for picture in self._decoder.decode(unit):
            if self._encoder is None:
                self._held.append(picture)
                first, last = self._held[0].pts, picture.pts
                if len(self._held) >= _MEASURED or last - first >= _MEASURED_SECONDS * self._timescale:
                    self._guess()
            else:
                self._show(picture)

    def _guess(self) -> None:
        """Estimates the rate from the held pictures, and encodes them."""
        held, self._held = self._held, []
        if len(held) > 1:
            self._set_rate([p.pts for p in held])
        for picture in held:
            self._show(picture)

    def _set_rate(self, times: list[int]) -> None:
        measured = frame_rate(times, self._timescale, self._decoder.claimed_rate)
        # If the rate is a little too high, frame numbers are left out. If it is too low, the encoder is outrun.
        finer = (grid for grid in _GRIDS if grid >= measured * Fraction(97, 100))
        self._rate = _USUAL if measured < _LEAST_RATE else next(finer, _MAX_RATE)

    def _drain(self) -> None:
        for picture in self._decoder.flush():
            self._held.append(picture) if self._encoder is None else self._show(picture)
        self._guess()
        if self._encoder is not None:
            self._unit_writer.units(self._encoder.flush())
        self._unit_writer.flush()

    def _show(self, picture: DecodedPicture) -> None:
        """Encodes a picture, unless it is too late or pictures come too fast."""
        if self._key_at is None or picture.pts - self._key_at >= _KEYS_APART * self._timescale:
            self._key_due |= picture.key
        if not self._may_show(picture.pts):
            return
        if self._encoder is not None and self.behind > self._plan.spare:
            self.dropped += 1
            return
        try:
            self._unit_writer.units(self._encoded(picture))
        except (CodecFailed, av.FFmpegError):
            # This picture cannot be scaled or encoded; a later one of another size may work.
            self._unfit += 1
            self._encoder = self._scaler = None

    def _may_show(self, pts: int) -> bool:
        """Returns whether a picture may be encoded: at most _MAX_RATE per second, also if they come unevenly."""
        step = float(self._timescale / _MAX_RATE)
        due = pts if self._due is None else self._due
        if pts < due - step / 2:
            return False
        self._due = max(due, pts - step / 2) + step
        return True

    def _encoded(self, picture: DecodedPicture) -> list[AccessUnit]:
        self._fit(picture)
        assert self._scaler is not None
        frame = self._scaler.scale(picture.frame)
        if self._encoder is None:
            self._open(frame)
        assert self._encoder is not None
        aged = self._key_at is None or picture.pts - self._key_at >= (KEY_SECONDS - 0.01) * self._timescale
        # Without B-frames nothing is reordered, so decode times equal presentation times.
        picture.key, picture.lead = aged or self._key_due, 0
        if picture.key:
            self._key_at, self._key_due = picture.pts, False
            self._adjust()
        return self._encoder.encode(frame, picture)

    def _fit(self, picture: DecodedPicture) -> None:
        """Closes the encoder if the picture size changed or if pictures come faster than estimated."""
        shape = (picture.frame.width, picture.frame.height, picture.aspect)
        outrun = self._encoder is not None and self._encoder.outrun
        if outrun:
            self._rate = next((grid for grid in _GRIDS if grid > self._rate), _MAX_RATE)
        if self._encoder is not None and (outrun or shape != self._shape):
            self._unit_writer.units(self._encoder.flush())
            self._encoder = None
        if self._scaler is None or shape != self._shape:
            self._shape = shape
            self._size = fitted(*shape)
            self._scaler = Scaler(self._size.width, self._size.height)

    def _open(self, like: av.VideoFrame) -> None:
        width, height = self._size.width, self._size.height
        most = self._bitrate = max_bitrate(width, height, self._rate)
        recipe = VideoRecipe(
            encoder="libx264",
            width=width,
            height=height,
            bitrate=most,
            maxrate=most,
            rate=self._rate,
            timescale=self._timescale,
            preset=self._plan.preset,
            threads=self._plan.threads,
            instant=True,
        )
        self._encoder = self._open_encoder(recipe, like)
        self._key_due = True
        self._unit_writer.track(self._encoder.track)

    def _adjust(self) -> None:
        """Adapts the bitrate to that of the source, at key frames, if it differs by more than 15 %."""
        assert self._encoder is not None
        target = self._bits.target(self._rate, self._encoder.recipe.bitrate)
        if abs(target - self._bitrate) > 0.15 * self._bitrate:
            self._bitrate = target
            self._encoder.retarget(target)


def fitted(width: int, height: int, aspect: Fraction) -> Size:
    """Returns the size to encode pictures in, in square pixels with even sides.

    It is at most 1920x1080, or 1080x1920 in portrait format. aspect: width of a sample divided by its height.
    """
    wide, high = ladder_plan.display_size(width, height, aspect)
    long_side, short_side = max(wide, high), min(wide, high)
    scale = min(Fraction(1), Fraction(_LONG_SIDE, long_side), Fraction(_SHORT_SIDE, short_side))
    return Size(_even(wide * scale), _even(high * scale))


def _even(side: Fraction) -> int:
    return max(2, 2 * int(side / 2))
