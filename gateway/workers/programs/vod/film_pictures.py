"""Decodes the video of a file, and changes its times to a timeline without jumps and without long pauses."""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any, Final, TypeVar

import av.error

from gateway.media.clock import VIDEO_CLOCK
from gateway.workers.programs.codec import DecodedPicture
from gateway.workers.programs.filters import Preparation
from gateway.workers.programs.vod.continuous_timeline import ContinuousTimeline
from gateway.workers.programs.vod.media_file import MediaFile, ticks

T = TypeVar("T")

_MAX_DURATION: Final = 1 * VIDEO_CLOCK  # a picture that lasts longer is repeated, so that each segment has pictures
_USUAL_RATE: Final = Fraction(25)


class _DecodeOrder:
    """The times of frames of AVI and ASF, which have decode times only.

    libav makes presentation times of them, which for H.264 with B-frames are those of other frames. But a decoder
    returns frames in the order of their presentation, each with the decode time of a packet some frames later.
    """

    def __init__(self) -> None:
        self._delay: int | None = None

    def time_of(self, frame: Any) -> int | None:
        """Returns the presentation time of the next frame; None if it has none."""
        if frame.dts is None or (self._delay is None and frame.pts is None):
            return None
        if self._delay is None:
            self._delay = frame.dts - frame.pts
        return int(frame.dts - self._delay)


class FilmPictures:
    """Iterates over the decoded frames in order, with their times on `timeline`, in ticks.

    rate: average pictures per second. step: ticks of one picture. decoded: number of frames, also of those without a
    time of their own. advance: called with the time in the file, in ticks.
    """

    def __init__(self, film: MediaFile, advance: Callable[[int], None]) -> None:
        self.timeline = ContinuousTimeline(film.max_gap)
        self.damaged = self.decoded = 0
        self._film = film
        self._advance = advance
        stream = film.video
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate or _USUAL_RATE
        self.rate = Fraction(rate) if 1 <= rate <= 240 else _USUAL_RATE
        self.step = round(VIDEO_CLOCK / self.rate)

    def __iter__(self) -> Iterator[Any]:
        order = _DecodeOrder() if self._film.lacks_presentation_times else None
        for packet in self._film.packets(self._film.video):
            try:
                frames = packet.decode()
                self.damaged += packet.is_corrupt
            except av.error.FFmpegError:
                self.damaged += 1
                continue
            at = ticks(packet.pts, packet.time_base)
            self._advance(self.timeline.end if at is None else at)
            self.decoded += len(frames)
            for frame in frames:
                at = ticks(frame.pts if order is None else order.time_of(frame), frame.time_base)
                step = ticks(frame.duration, frame.time_base) or self.step
                new_time = self.timeline.place(self.timeline.end if at is None else at, step)
                if new_time is not None:
                    frame.pts, frame.time_base = new_time, Fraction(1, VIDEO_CLOCK)
                    yield frame

    def prepared(self, threads: int = 1) -> Iterator[DecodedPicture]:
        """Yields the frames as progressive, upright pictures. threads: 0: one thread for each core."""
        preparation = Preparation(VIDEO_CLOCK, threads)
        for frame in self:
            aspect = Fraction(self._film.video.sample_aspect_ratio or 1)
            aspect = aspect if 0 < aspect < 100 else Fraction(1)
            yield from preparation.push(DecodedPicture(frame, frame.pts, False, 0, 0.0, aspect))
        yield from preparation.flush()


def fill_pauses(
    pictures: Iterable[tuple[T, int]], end: Callable[[], int], begin: int | None = None
) -> Iterator[tuple[T, int]]:
    """Yields pictures with their times, in ticks. Repeats a picture once for each second of a pause after it.

    end: called after the last picture, until it returns the end of all pictures. begin: from then on, the first picture
    is shown; None: from its own time on.
    """
    last: tuple[T, int] | None = None
    for picture, at in pictures:
        if last is None and begin is not None and at - begin > _MAX_DURATION:
            last = picture, begin
            yield last
        if last is not None:
            yield from _repeat(*last, partial(int, at))
        last = picture, at
        yield last
    if last is not None:
        yield from _repeat(*last, end)


def _repeat(picture: T, at: int, until: Callable[[], int]) -> Iterator[tuple[T, int]]:
    while until() - at > _MAX_DURATION:
        at += _MAX_DURATION
        yield picture, at
