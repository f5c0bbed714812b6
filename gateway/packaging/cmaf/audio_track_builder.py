"""Turns audio frames into parts and segments that begin where the video's do."""

from __future__ import annotations

from collections import deque

from gateway.formats.mp4.fragment import Mp4Sample
from gateway.media.clock import AudioClock
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.segment_window import MAX_PART_BYTES
from gateway.packaging.segmenter import Segmenter

_MAX_WAITING = 512  # frames that came before the first picture, about ten seconds
_MAX_CUTS = 64  # segments that video may be ahead


class AudioTrackBuilder:
    """Fills the audio track for one epoch; times are in samples.

    The end of each frame is known with it, so parts and segments are complete with their last frame. `cut` announces
    where the video's segments begin. An audio segment ends with the last frame that begins before such a cut. If audio
    came first, the waiting frames after the cut move to the next segment. Without video (`alone`), or while none comes,
    segments end by time.
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

    def __init__(self, lane: CmafTrack, segmenter: Segmenter, clock: AudioClock, *, alone: bool) -> None:
        self._lane = lane
        self._segmenter = segmenter
        self._clock = clock
        self._alone = alone
        self._started = alone
        self._floor = 0  # time of the first picture: earlier audio is dropped
        self._cuts: deque[int] = deque(maxlen=_MAX_CUTS)
        self._waiting: deque[tuple[int, int, bytes]] = deque(maxlen=_MAX_WAITING)
        self._samples: list[Mp4Sample] = []
        self._size = 0
        self._start = 0  # of the open part
        self._end = 0  # of the last frame

    def add(self, dts: int, length: int, payload: bytes) -> None:
        """Adds a frame of `length` samples with its time as it came. Hot path."""
        clock = self._clock
        time = clock.stamp(dts, length)
        if self._started:
            self._frame(time, length, payload, clock.resynced)
        else:
            self._waiting.append((time, length, payload))

    def cut(self, time: int) -> None:
        """Notes that a segment of the video begins at `time`. The first call lets audio begin; earlier frames are
        dropped.
        """
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

    def begin_anew(self, time: int, last: bool) -> None:
        """Completes the open segment, because the video goes on at `time` with another number or epoch.

        Audio before `time` is dropped; a call of `cut` follows.
        last: the epoch of the open segment is over.
        """
        if self._lane.open:
            self._end_segment(self._end, last=last)
        self._cuts.clear()
        self._floor = time

    def finish(self) -> None:
        """Completes the open segment at the end of the epoch."""
        if self._lane.open:
            self._end_segment(self._end, last=True)

    def _frame(self, time: int, length: int, payload: bytes, gap: bool) -> None:
        lane = self._lane
        cuts = self._cuts
        samples = self._samples
        if not lane.open:
            if time < self._floor:
                return
            lane.fit_parts(length)
            self._begin_segment(time)
        elif (cuts and time >= cuts[0]) or (gap and self._segmenter.exceeds(time + length - lane.start)):
            # After a hole: the cut fell into it, or it is too long for a segment.
            self._end_segment(self._end)
            self._begin_segment(time)
            samples = self._samples
        elif samples and (gap or time + length - self._start > lane.part_ticks or self._size > MAX_PART_BYTES):
            self._end_part(self._end)
            samples = self._samples
        if not samples:
            self._start = time
        samples.append(Mp4Sample(length, 0, True, payload))
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
        """Moves the frames of the open part that begin at or after `time` to a new segment: audio was ahead of the
        video.
        """
        samples = self._samples
        at = self._start
        count = 0
        while count < len(samples) and at < time:
            at += samples[count].duration
            count += 1
        if not count and not self._lane.parts:
            return  # the segment already begins after the cut
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
        self._lane.add_part(self._start, self._samples, end, True)
        self._samples = []
        self._size = 0

    def _end_segment(self, end: int, last: bool = False) -> None:
        if self._samples:
            self._end_part(end)
        self._lane.close_segment(end, last=last)
