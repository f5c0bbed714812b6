"""Pictures into parts and segments: a part is complete with its last frame, a segment begins with a key frame."""

from __future__ import annotations

from collections.abc import Callable

from gateway.formats.mp4.fragment import Sample
from gateway.packagers.lane import Lane
from gateway.packagers.segmenter import Segmenter
from gateway.packagers.timing import VideoTiming
from gateway.packagers.window import MAX_PART_BYTES, MAX_SEGMENT_BYTES

_USUAL_STEP = 3_000  # of a single frame about which nothing is known: a thirtieth of a second


class Pictures:
    """Fills the video lane for one epoch, and says where segments begin so that audio can follow.

    A part must be there when its last frame is, so it is closed on a promise: while frames come at a regular rate, the
    next one is taken to be due one step later, and where it would no longer fit, the part ends there and then. Should
    it come later after all (a frame was dropped), a gap of that length stands between the parts; should it come
    earlier, its decode time is moved to where the part ended, less than a frame, and it is shown when it should.
    Frames without a rate are not foretold: their parts are closed when the next frame comes, with exact durations,
    one frame later.
    """

    __slots__ = (
        "_bytes",
        "_cut",
        "_end",
        "_lane",
        "_last",
        "_may_begin",
        "_samples",
        "_segmenter",
        "_start",
        "_step",
        "timing",
    )

    def __init__(
        self,
        lane: Lane,
        segmenter: Segmenter,
        timing: VideoTiming,
        may_begin: Callable[[int, int, bool], bool],
        cut: Callable[[int, int], None],
    ) -> None:
        """may_begin: whether a segment begins at a decode and presentation time (ticks of 90 kHz), given whether this
        lane by itself would begin one; cut: called with the times with which one does."""
        self.timing = timing
        self._lane = lane
        self._segmenter = segmenter
        self._cut = cut
        self._may_begin = may_begin
        self._samples: list[Sample] = []
        self._bytes = 0
        self._start = 0  # decode time of the open part
        self._last = 0  # decode time of the last frame
        self._step = _USUAL_STEP  # the last known distance of two frames
        self._end: int | None = None  # where the last part was said to end, until the next frame comes

    def add(self, dts: int, cts: int, key: bool, payload: bytes) -> bool:
        """Hot. A frame with its times as they came. False where a segment had to begin with it, though it is no key."""
        lane = self._lane
        timing = self.timing
        dts, cts = timing.stamp(dts, cts)
        step = timing.step
        end = self._end
        if end is not None:
            if dts < end:
                cts += dts - end
                dts = end
            self._end = None
        keyed = True
        samples = self._samples
        if not lane.open:
            if not key or not self._may_begin(dts, dts + cts, True):
                return True  # an epoch begins with a key frame
            self._begin_segment(dts, cts)
        else:
            length = step or dts - self._last
            cuts = self._segmenter.cuts(dts - lane.start, length, key) or lane.size > MAX_SEGMENT_BYTES
            if cuts or key:
                begins = self._may_begin(dts, dts + cts, cuts)
                if cuts and not key and not begins:
                    self._end_segment(dts)
                    return False  # too long, and the others do not cut here: it goes on with their next key frame
                cuts = begins
            if cuts:
                self._end_segment(dts)
                self._begin_segment(dts, cts)
                samples = self._samples
                keyed = key
            elif samples and (dts + length - self._start > lane.part_ticks or self._bytes > MAX_PART_BYTES):
                self._end_part(dts)
                samples = self._samples
            self._step = step or max(dts - self._last, 1)
        if samples:
            samples[-1].duration = dts - self._last
        else:
            self._start = dts
        samples.append(Sample(0, cts, key, payload))
        self._bytes += len(payload)
        self._last = dts
        if step and dts + 2 * step - self._start > lane.part_ticks:
            self._end = dts + step
            self._end_part(self._end)
        return keyed

    def finish(self) -> None:
        """The epoch is over: completes what is open."""
        if self._lane.open:
            self._end_segment(self._last + self._step if self._end is None else self._end)

    def _begin_segment(self, dts: int, cts: int) -> None:
        self._cut(dts, dts + cts)
        self._lane.open_segment(dts, cts)

    def _end_part(self, end: int) -> None:
        self._lane.add_part(self._start, self._samples, end)
        self._samples = []
        self._bytes = 0

    def _end_segment(self, end: int) -> None:
        lane = self._lane
        usual = self._last + self._step
        if usual < end and self._segmenter.exceeds(end - lane.start):
            # Frames stood still for a while: a hole, which belongs to no segment.
            end = usual
        if self._samples:
            self._end_part(end)
        lane.close_segment(end)
