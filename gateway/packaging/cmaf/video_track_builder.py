"""Turns pictures into parts and segments: a part is complete with its last frame, a segment begins with a key frame."""

from __future__ import annotations

from collections.abc import Callable

from gateway.formats.mp4.fragment import Mp4Sample, OpenKey
from gateway.media.random_access import RandomAccess, RandomAccessOf
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.segment_window import MAX_PART_BYTES, MAX_SEGMENT_BYTES
from gateway.packaging.segmenter import Segmenter
from gateway.packaging.timing import VideoTiming

# Types of stream access points, ISO/IEC 14496-12 Annex I, 0 for none: for a key frame without leading pictures …
_SAP = {RandomAccess.CLOSED: 1, RandomAccess.CLEAN: 1, RandomAccess.OPEN: 3, RandomAccess.GRADUAL: 0}
# … and for one with leading pictures after it: 2 if they can be decoded from there.
_SAP_LED = _SAP | {RandomAccess.CLOSED: 2, RandomAccess.CLEAN: 3}
_USUAL_STEP = 3_000  # duration of a single frame about which nothing is known: a thirtieth of a second


class VideoTrackBuilder:
    """Fills the video track for one epoch, and announces where segments begin, so that audio can follow.

    A part must be complete when its last frame comes, so it is closed on a prediction. While frames are regular, the
    next one is expected one step later. If that frame would no longer fit, the part ends at once.
    If the frame comes later (a frame was dropped), a gap of that length remains between the parts. If it comes earlier,
    its decode time moves to the end of the part, by less than a frame; its presentation time stays.
    Irregular frames are not predicted: their parts close when the next frame comes, with exact durations, one frame
    later.

    Distances between key frames are measured in presentation time. In an open GOP a key frame is decoded before
    pictures that are shown before it (its leading pictures). So its decode time is early by the duration of those
    pictures. The first of them is the first picture of the segment on a screen.
    """

    __slots__ = (
        "_access",
        "_begun_with",
        "_bytes",
        "_cut",
        "_delay",
        "_end",
        "_first_access",
        "_fitted",
        "_independent",
        "_lane",
        "_last",
        "_may_begin",
        "_may_lead",
        "_samples",
        "_segmenter",
        "_start",
        "_step",
        "timing",
    )

    def __init__(
        self,
        lane: CmafTrack,
        segmenter: Segmenter,
        timing: VideoTiming,
        may_begin: Callable[[int, int, bool], bool],
        cut: Callable[[int, int], None],
        access: RandomAccessOf,
    ) -> None:
        """may_begin: tells whether a segment begins at a decode and presentation time (ticks of 90 kHz). Its third
        argument says whether this track alone would begin one.
        cut: is called when a segment begins, with its decode time and the presentation time of its first picture, as
        far as known.
        access: classifies key frames.
        """
        self.timing = timing
        self._access = access
        self._lane = lane
        self._segmenter = segmenter
        self._cut = cut
        self._may_begin = may_begin
        self._samples: list[Mp4Sample] = []
        self._bytes = 0
        self._start = 0  # decode time of the open part
        self._last = 0  # decode time of the last frame
        self._fitted = 0  # the frame distance to which the track's parts were fitted
        self._step = _USUAL_STEP  # the last known frame distance
        self._end: int | None = None  # the announced end of the last part, until the next frame comes
        self._begun_with = 0  # presentation time of the picture with which the open segment began
        self._delay: int | None = None  # last segment: from its first decode time to its earliest presentation time
        self._first_access = RandomAccess.CLOSED  # of the picture with which the open segment began
        self._independent = False  # the open part has a sync sample
        self._may_lead = False  # leading pictures of that first picture may still come

    def add(self, dts: int, cts: int, key: bool, payload: bytes) -> bool:
        """Adds a frame with its times as they came. Hot path.

        Returns False if a segment had to begin with this frame although it is no key frame.
        """
        lane = self._lane
        timing = self.timing
        dts, cts = timing.stamp(dts, cts)
        step = timing.step
        if step and not -1 <= step - self._fitted <= 1:
            self._fitted = step
            lane.fit_parts(step)
        end = self._end
        if end is not None:
            if dts < end:
                cts += dts - end
                dts = end
            self._end = None
        keyed = True
        begins = False
        samples = self._samples
        if not lane.open:
            if not key or not self._may_begin(dts, dts + cts, True):
                return True  # an epoch begins with a key frame
            begins = True
            self._begin_segment(dts, dts + cts, key)
        else:
            length = step or dts - self._last
            elapsed = dts + cts - self._begun_with if key else dts - lane.start
            cuts = self._segmenter.cuts(elapsed, length, key) or lane.size > MAX_SEGMENT_BYTES
            if cuts or key:
                begins = self._may_begin(dts, dts + cts, cuts)
                if cuts and not key and not begins:
                    self._end_segment(dts)
                    return False  # too long, but the ladder has no boundary here: goes on with its next key frame
            if begins:
                self._end_segment(dts, dts + cts if key else None)
                self._begin_segment(dts, dts + cts, key)
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
        if key or begins:
            samples.append(self._judged(cts, key, payload, begins))
        else:
            if self._may_lead:
                self._follows_first(dts + cts)
            samples.append(Mp4Sample(0, cts, False, payload))
        self._bytes += len(payload)
        self._last = dts
        if step and dts + 2 * step - self._start > lane.part_ticks:
            self._end = dts + step
            self._end_part(self._end)
        return keyed

    def finish(self) -> None:
        """Completes the open segment at the end of the epoch."""
        if self._lane.open:
            self._end_segment(self._last + self._step if self._end is None else self._end, last=True)

    def _begin_segment(self, dts: int, shown: int, key: bool) -> None:
        first = shown
        # Without a key frame it may begin among reordered pictures: its date continues that of the last segment.
        dated = self._delay if not key else None
        if self._delay is not None and shown - dts - self._delay >= self._step:
            first = dts + self._delay  # its leading pictures begin where the last segment's pictures end
        self._delay = None
        self._begun_with = shown
        self._cut(dts, first)
        self._lane.open_segment(dts, shown - dts, dated)

    def _judged(self, cts: int, key: bool, payload: bytes, begins: bool) -> Mp4Sample:
        """Returns the sample of a key frame or of a segment's first picture, marked by what a decoder can show from
        there on.

        begins: it is the first picture of a segment.
        """
        access = self._access(payload) if key else RandomAccess.GRADUAL
        if begins:
            self._lane.sap = _SAP[access]
            self._first_access, self._may_lead = access, True
        if access is RandomAccess.OPEN:
            return OpenKey(0, cts, True, payload)
        self._independent = self._independent or access is not RandomAccess.GRADUAL
        return Mp4Sample(0, cts, access is not RandomAccess.GRADUAL, payload)

    def _follows_first(self, shown: int) -> None:
        """Handles a picture after the first one of a segment: leading pictures come before all others."""
        lane = self._lane
        if shown < self._begun_with:
            lane.lead(self._begun_with, shown)
            lane.sap = _SAP_LED[self._first_access]
        else:
            self._may_lead = False

    def _end_part(self, end: int) -> None:
        self._lane.add_part(self._start, self._samples, end, self._independent)
        self._samples = []
        self._bytes = 0
        self._independent = False

    def _end_segment(self, end: int, following: int | None = None, last: bool = False) -> None:
        """Completes the open segment at decode time `end`.

        following: presentation time of the key frame with which the next segment begins, None if there is none.
        last: the epoch is over.
        """
        lane = self._lane
        spacing = following - self._begun_with if following is not None else None
        hole = False
        usual = self._last + self._step
        if usual < end and self._segmenter.exceeds(end - lane.start):
            # No frames came for a while: the hole belongs to no segment.
            end, spacing = usual, None
            hole = True
        if self._samples:
            self._end_part(end)
        self._delay = None if hole else lane.dated
        lane.close_segment(end, spacing, last)
