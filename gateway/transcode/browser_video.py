"""The pictures of a browser push that cannot be copied: decoded and encoded as H.264 in a thread, never in a queue of
minutes."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

import av

from gateway.media.track import Kind, Track
from gateway.media.unit import AccessUnit
from gateway.transcode import child, ladder
from gateway.transcode.bits import Bits, most_bits
from gateway.transcode.browser import BrowserPlan
from gateway.transcode.codec import CodecFailed, Picture, VideoDecoder, VideoEncoder, VideoRecipe, frame_rate
from gateway.transcode.filters import Scaler
from gateway.transcode.lateness import Lateness
from gateway.transcode.outlet import Outlet

KEY_SECONDS: Final = 2.0
_STUCK_SECONDS: Final = 20.0  # for one picture: native code that hangs

_MOST_BYTES: Final = 16_000_000
_MOST_ITEMS: Final = 4000  # of sound and pictures together: a minute

# The box that pictures fit in, lying or standing.
_LONG_SIDE, _SHORT_SIDE = 1920, 1080
# What frames are counted by. Cameras that begin slower than the least do so in the dark, and speed up again.
_GRIDS: Final = tuple(Fraction(rate) for rate in (24, 25, 30, 50, 60))
_LEAST_RATE: Final = 20
_USUAL: Final = Fraction(30)
_MOST_RATE: Final = _GRIDS[-1]
# Pictures by whose times the rate is guessed before the first is encoded, and seconds that they may take to come.
_MEASURED: Final = 4
_MEASURED_SECONDS: Final = 0.25
_KEYS_APART: Final = 1.0  # seconds: the source's own key frames that are nearer are none in the copy

_Opener: TypeAlias = Callable[[VideoRecipe, av.VideoFrame], VideoEncoder]


@dataclass(frozen=True, slots=True)
class Size:
    """Of what is encoded."""

    width: int
    height: int


class Encoding:
    """Units of one video track in, H.264 out, with the sound that came between them still between them.

    `put` never waits. What is late is thinned out first: pictures that are more than `plan.spare` seconds late are
    decoded and not encoded. Where decoding alone is too slow, and beyond `plan.backlog` seconds or some bytes,
    everything up to the next key frame is dropped. Both count in `dropped`. Late is what the recorder's own slices do
    not explain.

    `put`, `finish` and `stuck` belong to one thread; pictures are made in another, which owns the outlet meanwhile.
    """

    def __init__(
        self,
        track: Track,
        plan: BrowserPlan,
        outlet: Outlet,
        *,
        encoder: _Opener = VideoEncoder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """encoder: opens one. Raises CodecFailed where the track cannot be decoded."""
        self.dropped = 0
        self.behind = 0.0
        self._plan = plan
        self._outlet = outlet
        self._open_encoder = encoder
        self._clock = clock
        self._timescale = track.timescale
        # ---- under the lock ----
        self._condition = threading.Condition()
        self._items: deque[AccessUnit] = deque()
        self._bytes = 0
        self._lateness = Lateness()
        self._await_key = False  # units are dropped until a key frame comes
        self._finished = False
        self._busy_since: float | None = None
        # ---- of the thread ----
        self._decoder = VideoDecoder(track, plan.threads)
        self._bits = Bits(track.codec)
        self._held: list[Picture] = []  # while the rate is guessed
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
        self._thread = threading.Thread(target=self._run, name="encoding", daemon=True)
        self._thread.start()

    # ---- the demuxer's side ----

    def put(self, unit: AccessUnit) -> None:
        """The next picture's unit, or one of sound that stands behind those so far."""
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
            if self._bytes > _MOST_BYTES or len(self._items) > _MOST_ITEMS or self._backlog(now) > self._plan.backlog:
                self._shed()
            self._condition.notify()

    def finish(self) -> None:
        """What waits is encoded, and everything sent; waits for that."""
        with self._condition:
            self._finished = True
            self._condition.notify()
        while self._thread.is_alive() and not self.stuck:
            self._thread.join(1)

    @property
    def stuck(self) -> bool:
        """One picture has taken so long that the codec must hang."""
        since = self._busy_since
        return since is not None and self._clock() - since > _STUCK_SECONDS

    @property
    def damaged(self) -> int:
        """Samples that gave no picture, and pictures that could not be encoded."""
        return self._decoder.damaged + self._unfit

    def _backlog(self, now: float) -> float:
        head = next((u for u in self._items if u.track.kind is Kind.VIDEO), None)
        return 0.0 if head is None else self._lateness.behind(head.dts / self._timescale, now)

    def _shed(self) -> None:
        """Pictures up to the last key frame that waits go, or all where none does; of sound, what is too much."""
        items = list(self._items)
        keys = [n for n, u in enumerate(items) if u.track.kind is Kind.VIDEO and u.key]
        first = keys[-1] if keys and keys[-1] > 0 else len(items)
        kept = [u for n, u in enumerate(items) if n >= first or u.track.kind is not Kind.VIDEO]
        self.dropped += len(items) - len(kept)
        self._await_key = first == len(items)
        del kept[: max(0, len(kept) - _MOST_ITEMS // 2)]
        self._items = deque(kept)
        self._bytes = sum(len(u.payload) for u in kept)

    # ---- the thread ----

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                if item.track.kind is Kind.VIDEO:
                    self._decode(item)
                else:
                    self._outlet.units((item,))
                self._busy_since = None
            self._drain()
        except OSError:
            child.leave(0)  # the gateway is gone
        except BaseException:
            child.say(traceback.format_exc())
            child.leave(1)

    def _next(self) -> AccessUnit | None:
        """The next unit; None at the end. While the rate is guessed nothing is waited for longer than that may take."""
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
        """The rate is known as well as it will be soon."""
        held, self._held = self._held, []
        if len(held) > 1:
            self._set_rate([p.pts for p in held])
        for picture in held:
            self._show(picture)

    def _set_rate(self, times: list[int]) -> None:
        measured = frame_rate(times, self._timescale, self._decoder.claimed_rate)
        # A grid that is a little too fine leaves numbers out; one that is too coarse is outrun.
        finer = (grid for grid in _GRIDS if grid >= measured * Fraction(97, 100))
        self._rate = _USUAL if measured < _LEAST_RATE else next(finer, _MOST_RATE)

    def _drain(self) -> None:
        for picture in self._decoder.flush():
            self._held.append(picture) if self._encoder is None else self._show(picture)
        self._guess()
        if self._encoder is not None:
            self._outlet.units(self._encoder.flush())
        self._outlet.flush()

    def _show(self, picture: Picture) -> None:
        """A picture is encoded, unless it is too late or there are too many."""
        if self._key_at is None or picture.pts - self._key_at >= _KEYS_APART * self._timescale:
            self._key_due |= picture.key
        if not self._may_show(picture.pts):
            return
        if self._encoder is not None and self.behind > self._plan.spare:
            self.dropped += 1
            return
        try:
            self._outlet.units(self._encoded(picture))
        except (CodecFailed, av.FFmpegError):
            # A picture of a form that cannot be scaled or encoded: another may come.
            self._unfit += 1
            self._encoder = self._scaler = None

    def _may_show(self, pts: int) -> bool:
        """At most _MOST_RATE pictures a second, however they are spread."""
        step = float(self._timescale / _MOST_RATE)
        due = pts if self._due is None else self._due
        if pts < due - step / 2:
            return False
        self._due = max(due, pts - step / 2) + step
        return True

    def _encoded(self, picture: Picture) -> list[AccessUnit]:
        self._fit(picture)
        assert self._scaler is not None
        frame = self._scaler.scale(picture.frame)
        if self._encoder is None:
            self._open(frame)
        assert self._encoder is not None
        aged = self._key_at is None or picture.pts - self._key_at >= (KEY_SECONDS - 0.01) * self._timescale
        # Decode times are presentation times: nothing is reordered any more.
        picture.key, picture.lead = aged or self._key_due, 0
        if picture.key:
            self._key_at, self._key_due = picture.pts, False
            self._adjust()
        return self._encoder.encode(frame, picture)

    def _fit(self, picture: Picture) -> None:
        """Pictures of another size, or that come faster than was thought, need another encoder."""
        shape = (picture.frame.width, picture.frame.height, picture.aspect)
        outrun = self._encoder is not None and self._encoder.outrun
        if outrun:
            self._rate = next((grid for grid in _GRIDS if grid > self._rate), _MOST_RATE)
        if self._encoder is not None and (outrun or shape != self._shape):
            self._outlet.units(self._encoder.flush())
            self._encoder = None
        if self._scaler is None or shape != self._shape:
            self._shape = shape
            self._size = fitted(*shape)
            self._scaler = Scaler(self._size.width, self._size.height)

    def _open(self, like: av.VideoFrame) -> None:
        width, height = self._size.width, self._size.height
        most = self._bitrate = most_bits(width, height, self._rate)
        recipe = VideoRecipe(
            encoder="libx264",
            width=width,
            height=height,
            bitrate=most,
            maxrate=most,
            bufsize=most,
            rate=self._rate,
            timescale=self._timescale,
            preset=self._plan.preset,
            threads=self._plan.threads,
            instant=True,
        )
        self._encoder = self._open_encoder(recipe, like)
        self._key_due = True
        self._outlet.track(self._encoder.track)

    def _adjust(self) -> None:
        """As many bits as the source has, once that is known: at key frames, and where it is worth it."""
        assert self._encoder is not None
        target = self._bits.target(self._rate, self._encoder.recipe.bitrate)
        if abs(target - self._bitrate) > 0.15 * self._bitrate:
            self._bitrate = target
            self._encoder.retarget(target)


def fitted(width: int, height: int, aspect: Fraction) -> Size:
    """The size in square pixels of pictures that measure this: at most 1080p lying or standing, sides even."""
    wide, high = ladder.display_size(width, height, aspect)
    long_side, short_side = max(wide, high), min(wide, high)
    scale = min(Fraction(1), Fraction(_LONG_SIDE, long_side), Fraction(_SHORT_SIDE, short_side))
    return Size(_even(wide * scale), _even(high * scale))


def _even(side: Fraction) -> int:
    return max(2, 2 * int(side / 2))
