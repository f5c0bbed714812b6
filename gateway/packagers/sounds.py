"""Audio frames into parts and segments that begin where the picture's do."""

from __future__ import annotations

from collections import deque

from gateway.formats.mp4.fragment import Sample
from gateway.media.clock import AudioClock
from gateway.packagers.lane import Lane
from gateway.packagers.segmenter import Segmenter
from gateway.packagers.window import MAX_PART_BYTES

_MOST_WAITING = 512  # frames that came before the first picture, about ten seconds
_MOST_CUTS = 64  # segments that the picture may be ahead


class Sounds:
    """Fills the audio lane for one epoch; times are samples.

    Where each frame ends is known with it, so parts and segments are complete with their last frame. `cut` tells where
    the picture's segments begin: a segment ends with the last frame that begins before, also where audio had come first
    and part of what waits belongs behind the cut. Without a picture (`alone`), or while it is missing, segments end by
    time.
    """

    __slots__ = (
        "_alone",
        "_clock",
        "_cuts",
        "_end",
        "_floor",
        "_lane",
        "_samples",
        "_segmenter",
        "_size",
        "_start",
        "_started",
        "_waiting",
    )

    def __init__(self, lane: Lane, segmenter: Segmenter, clock: AudioClock, *, alone: bool) -> None:
        self._lane = lane
        self._segmenter = segmenter
        self._clock = clock
        self._alone = alone
        self._started = alone
        self._floor = 0  # the first picture: what lies before is dropped
        self._cuts: deque[int] = deque(maxlen=_MOST_CUTS)
        self._waiting: deque[tuple[int, int, bytes]] = deque(maxlen=_MOST_WAITING)
        self._samples: list[Sample] = []
        self._size = 0
        self._start = 0  # of the open part
        self._end = 0  # of the last frame

    def add(self, dts: int, length: int, payload: bytes) -> None:
        """Hot. A frame of `length` samples with its time as it came."""
        clock = self._clock
        time = clock.stamp(dts, length)
        if self._started:
            self._frame(time, length, payload, clock.resynced)
        else:
            self._waiting.append((time, length, payload))

    def cut(self, time: int) -> None:
        """A segment of the picture begins at `time`; the first lets audio begin, and what lies before is dropped."""
        if not self._started:
            self._started = True
            self._floor = time
            waiting, self._waiting = list(self._waiting), deque()
            for at, length, payload in waiting:
                self._frame(at, length, payload, False)
            return
        if self._end < time:
            self._cuts.append(time)
        elif self._lane.open:
            self._split(time)

    def begin_anew(self, time: int) -> None:
        """The picture goes on at `time` with another number or epoch: what is open is complete, what lies before then
        is dropped. `cut` follows."""
        if self._lane.open:
            self._end_segment(self._end)
        self._cuts.clear()
        self._floor = time

    def finish(self) -> None:
        """The epoch is over: completes what is open."""
        if self._lane.open:
            self._end_segment(self._end)

    def _frame(self, time: int, length: int, payload: bytes, gap: bool) -> None:
        lane = self._lane
        cuts = self._cuts
        samples = self._samples
        if not lane.open:
            if time < self._floor:
                return
            self._begin_segment(time)
        elif (cuts and time >= cuts[0]) or (gap and self._segmenter.exceeds(time + length - lane.start)):
            # Behind a hole: the cut fell into it, or it is too long for a segment.
            self._end_segment(self._end)
            self._begin_segment(time)
            samples = self._samples
        elif samples and (gap or time + length - self._start > lane.part_ticks or self._size > MAX_PART_BYTES):
            self._end_part(self._end)
            samples = self._samples
        if not samples:
            self._start = time
        samples.append(Sample(length, 0, True, payload))
        self._size += len(payload)
        end = self._end = time + length
        if cuts:
            over = end >= cuts[0]
        elif self._alone:
            over = self._segmenter.enough(end - lane.start)
        else:
            over = False
        if over or self._segmenter.exceeds(end + length - lane.start):
            self._end_segment(end)
        elif end + length - self._start > lane.part_ticks:
            self._end_part(end)

    def _split(self, time: int) -> None:
        """Audio is ahead of the picture: what waits in the open part and begins behind `time` goes to a new segment."""
        samples = self._samples
        at = self._start
        count = 0
        while count < len(samples) and at < time:
            at += samples[count].duration
            count += 1
        if not count and not self._lane.parts:
            return  # the segment begins behind the cut already
        if not samples:
            at = self._end
        rest = samples[count:]
        self._samples = samples[:count]
        self._end_segment(at)
        if rest:
            self._begin_segment(at)
            self._start = at
            self._samples = rest
            self._size = sum([len(s.payload) for s in rest])

    def _begin_segment(self, time: int) -> None:
        cuts = self._cuts
        while cuts and cuts[0] <= time:
            cuts.popleft()
        self._lane.open_segment(time, 0)

    def _end_part(self, end: int) -> None:
        self._lane.add_part(self._start, self._samples, end)
        self._samples = []
        self._size = 0

    def _end_segment(self, end: int) -> None:
        if self._samples:
            self._end_part(end)
        self._lane.close_segment(end)
