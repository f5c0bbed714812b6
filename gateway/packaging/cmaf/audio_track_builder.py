"""Turns audio frames into parts and segments that begin together with the video's segments."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.formats.mp4.fragment import Mp4Sample
from gateway.media.clock import AudioClock
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.segment_window import MAX_PART_BYTES
from gateway.packaging.segmenter import Segmenter

_MAX_WAITING = 512  # frames that arrived before the first picture, about ten seconds
_MAX_CUTS = 64  # segments by which video may be ahead
_MIN_FILL, _MAX_FILL = 4, 512  # frames by which an epoch's sound may end before its pictures: 0.1 to ten seconds


@dataclass(slots=True, eq=False, repr=False)
class AudioTrackBuilder:
    """Fills the audio track for one epoch. Times are in samples.

    Each frame has a known duration, so parts and segments are complete with their last frame. `cut` announces the start
    of a video segment. An audio segment ends with the last frame that begins before this time. If audio arrived first,
    the waiting frames after the cut move to the next segment. If audio is behind, its epoch begins later than that of
    the video, so that no frame is lost. Without video (`alone`), or while no video arrives, segments end by their
    duration.

    slew: correction of the times, see `DateCorrection`. Players count samples, so the sound has no gaps: where half a
    frame is missing to this correction, a frame is left out or repeated.
    """

    track: CmafTrack
    segmenter: Segmenter
    clock: AudioClock
    alone: bool
    slew: int
    _slewed: int = field(init=False)  # the correction that is done
    _started: bool = field(init=False)
    _min_time: int = field(default=0, init=False)  # start of the video; earlier audio is dropped
    _cuts: deque[int] = field(default_factory=lambda: deque(maxlen=_MAX_CUTS), init=False)
    # Of those cuts, the ones with which an epoch begins, and what begins it for this track.
    _epochs: deque[tuple[int, Callable[[], None]]] = field(default_factory=deque, init=False)
    _waiting: deque[tuple[int, int, bytes]] = field(default_factory=lambda: deque(maxlen=_MAX_WAITING), init=False)
    _samples: list[Mp4Sample] = field(default_factory=list, init=False)
    _size: int = field(default=0, init=False)
    _start: int = field(default=0, init=False)  # start of the open part
    _end: int = field(default=0, init=False)  # end of the last frame

    def __post_init__(self) -> None:
        self._started = self.alone
        self._slewed = self.slew

    def add(self, dts: int, length: int, payload: bytes) -> None:
        """Adds a frame of `length` samples. dts: its time, in ticks of the publisher's track. Hot path."""
        clock = self.clock
        slewed = self._slewed
        time = clock.stamp(dts, length) - slewed
        if not self._started:
            self._waiting.append((time, length, payload))
            return
        if self.slew != slewed and 2 * abs(self.slew - slewed) > length and not clock.resynced:
            if self.slew > slewed:
                self._slewed += length
                return
            self._slewed -= length
            self._add_frame(time, length, payload, False)
            time += length
        self._add_frame(time, length, payload, clock.resynced)

    def cut(self, time: int, begin_epoch: Callable[[], None] | None = None) -> None:
        """Notes that a video segment begins at `time`. Audio begins with the first call; earlier frames are dropped.

        begin_epoch: is called when the audio before `time` is complete, if an epoch begins with this segment.
        """
        if not self._started:
            self._started = True
            self._min_time = time
            waiting, self._waiting = list(self._waiting), deque()
            for at, length, payload in waiting:
                self._add_frame(at, length, payload, False)
            return
        if begin_epoch is not None:
            if self._end < time and len(self._epochs) < _MAX_CUTS:
                self._epochs.append((time, begin_epoch))
            else:
                self.restart(time, last=True)
                begin_epoch()
        if self._end < time:
            self._cuts.append(time)
        elif self.track.open:
            self._split(time)

    def restart(self, time: int, last: bool) -> None:
        """Completes the open segment, because the video continues at `time` with another number or epoch.

        Audio before `time` is dropped. A call of `cut` must follow.
        last: whether the epoch of the open segment has ended.
        """
        if self.track.open:
            self._end_segment(self._end, last=last or bool(self._epochs))
        self._pass_cuts(time)
        self._min_time = time

    def finish(self) -> None:
        """Completes the open segment at the end of the epoch."""
        if self.track.open:
            self._end_segment(self._end, last=True)

    def fill(self, time: int, length: int, payload: bytes) -> None:
        """Adds frames up to `time`, the end of the pictures, if the open segment misses _MIN_FILL to _MAX_FILL."""
        if self.track.open and _MIN_FILL * length <= time - self._end <= _MAX_FILL * length:
            while 2 * (time - self._end) > length:
                self._add_frame(self._end, length, payload, False)

    def _add_frame(self, time: int, length: int, payload: bytes, gap: bool) -> None:
        """Adds a frame to the open part. gap: whether its time does not continue that of the previous frame."""
        track = self.track
        cuts = self._cuts
        samples = self._samples
        if not track.open:
            if time < self._min_time:
                return
            track.round_parts(length)
            self._begin_segment(time)
        elif (cuts and time >= cuts[0]) or (gap and self.segmenter.exceeds(time + length - track.start)):
            # After a gap: the cut is inside the gap, or the gap is too long for a segment.
            self._end_segment(self._end, last=self._is_epoch_over(time))
            self._begin_segment(time)
            samples = self._samples
        elif samples and (gap or time + length - self._start > track.part_ticks or self._size > MAX_PART_BYTES):
            self._end_part(self._end)
            samples = self._samples
        if not samples:
            self._start = time
        samples.append(Mp4Sample(length, 0, True, payload))
        self._size += len(payload)
        end = self._end = time + length
        if cuts:
            ends = end >= cuts[0]
        elif self.alone:
            ends = self.segmenter.enough(end - track.start)
        else:
            ends = False
        if ends or self.segmenter.exceeds(end + length - track.start):
            self._end_segment(end, last=self._is_epoch_over(end))
            self._pass_cuts(end)  # sound may step back behind the cut
        elif end + length - self._start > track.part_ticks:
            self._end_part(end)

    def _split(self, time: int) -> None:
        """Moves the frames of the open part that begin at or after `time` to a new segment.

        This is necessary if audio is ahead of the video.
        """
        samples = self._samples
        at = self._start
        count = 0
        while count < len(samples) and at < time:
            at += samples[count].duration
            count += 1
        if not count and not self.track.parts:
            return  # the segment already begins after the cut
        if not samples:
            at = self._end
        remaining = samples[count:]
        self._samples = samples[:count]
        self._end_segment(at)
        if remaining:
            self._begin_segment(at)
            self._start = at
            self._samples = remaining
            self._size = sum([len(s.payload) for s in remaining])

    def _begin_segment(self, time: int) -> None:
        self._pass_cuts(time)
        self.track.open_segment(time, 0, slew=self._slewed)

    def _is_epoch_over(self, time: int) -> bool:
        epochs = self._epochs
        return bool(epochs) and epochs[0][0] <= time

    def _pass_cuts(self, time: int) -> None:
        """Forgets the cuts up to `time`, and begins their epochs. No segment is open."""
        cuts, epochs = self._cuts, self._epochs
        while cuts and cuts[0] <= time:
            cuts.popleft()
        while epochs and epochs[0][0] <= time:
            epochs.popleft()[1]()

    def _end_part(self, end: int) -> None:
        self.track.add_part(self._start, self._samples, end, True)
        self._samples = []
        self._size = 0

    def _end_segment(self, end: int, last: bool = False) -> None:
        if self._samples:
            self._end_part(end)
        self.track.close_segment(end, last=last)
