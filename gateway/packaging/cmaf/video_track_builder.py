"""Turns pictures into parts and segments: a part is complete with its last frame, a segment begins with a key frame."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.formats.mp4.fragment import Mp4Sample, OpenKey
from gateway.media.open_gops import OpenGops
from gateway.media.random_access import RandomAccess
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.segment_window import MAX_PART_BYTES, MAX_SEGMENT_BYTES
from gateway.packaging.segmenter import Segmenter
from gateway.packaging.timing import MAX_STEP, VideoTiming

# Types of stream access points, ISO/IEC 14496-12 Annex I; 0: none. For a key frame without leading pictures.
_SAP = {RandomAccess.CLOSED: 1, RandomAccess.CLEAN: 1, RandomAccess.OPEN: 3, RandomAccess.GRADUAL: 0}
# For a key frame with leading pictures after it: 2 if they can be decoded when decoding starts there.
_SAP_WITH_LEADING = _SAP | {RandomAccess.CLOSED: 2, RandomAccess.CLEAN: 3}
_DEFAULT_STEP = 3_000  # duration of a single frame if it is unknown: a thirtieth of a second


@dataclass(slots=True, eq=False, repr=False)
class VideoTrackBuilder:
    """Fills the video track for one epoch, and announces the start of segments, so that audio can follow.

    A part must be complete when its last frame arrives, so its end is predicted. While frames are regular, the next
    one is expected one step later. If that frame would not fit, the part ends immediately.
    If the frame is later (a frame was dropped), a gap remains between the parts. If it is earlier, its decode time
    moves to the end of the part, by less than a frame; its presentation time does not change. If the rate has risen,
    the frames after it may be earlier than this end too: they follow one tick apart until their times are later.
    Irregular frames are not predicted. Their parts end when the next frame arrives: with exact durations, but one frame
    later.

    Distances between key frames are measured in presentation time. In an open GOP a key frame is decoded before
    pictures that are shown before it (its leading pictures). So its decode time is early by the duration of these
    pictures. The first leading picture is the first picture of the segment on a screen. In H.264, leading pictures are
    left out (`OpenGops`), and the key frame is shown in their place. If a part has ended meanwhile, the next picture
    follows at once in decode time.

    may_begin: returns the correction of the times of a segment that begins at this decode and presentation time (ticks
    of 90 kHz, not corrected); None if none begins. The third argument is whether this track alone would begin one, the
    fourth one whether a gap remains before it if it is moved later.
    cut: called when a segment begins, with the presentation time of its first picture, as far as it is known.
    gops: of the track.
    """

    track: CmafTrack
    segmenter: Segmenter
    timing: VideoTiming
    may_begin: Callable[[int, int, bool, bool], int | None]
    cut: Callable[[int], None]
    gops: OpenGops
    _slew: int = field(default=0, init=False)  # subtracted from all times, see `DateCorrection`
    _left_out: bool = field(default=False, init=False)  # whether the last picture was left out
    _samples: list[Mp4Sample] = field(default_factory=list, init=False)
    _bytes: int = field(default=0, init=False)
    _start: int = field(default=0, init=False)  # decode time of the open part
    _last: int = field(default=0, init=False)  # decode time of the last frame
    _rounded_step: int = field(default=0, init=False)  # the frame distance for which the track's parts were rounded
    _step: int = field(default=_DEFAULT_STEP, init=False)  # the last known frame distance
    # The predicted end of the last part, until the next frame arrives.
    _end: int | None = field(default=None, init=False)
    # Presentation time of the first picture of the open segment.
    _first_presentation: int = field(default=0, init=False)
    # Last segment: from its first decode time to its earliest presentation time.
    _delay: int | None = field(default=None, init=False)
    # Access type of the open segment's first picture.
    _first_access: RandomAccess = field(default=RandomAccess.CLOSED, init=False)
    _independent: bool = field(default=False, init=False)  # the open part has a sync sample
    # Leading pictures of the open segment may still arrive.
    _leading_possible: bool = field(default=False, init=False)

    def add(self, dts: int, cts: int, key: bool, payload: bytes) -> bool:
        """Adds a frame. dts, cts: in ticks of the publisher's track. Hot path.

        Returns False if a segment had to begin with this frame although it is not a key frame.
        """
        track = self.track
        timing = self.timing
        dts, cts = timing.stamp(dts, cts)
        slew = self._slew
        dts -= slew
        step = timing.step
        gops = self.gops
        if key or gops.is_open:
            prepared = gops.add(payload, dts + cts, key)
            if prepared is None:
                self._leave_out(dts, step)
                return True
            payload = prepared
        access = gops.access if key else RandomAccess.GRADUAL
        if step and not -1 <= step - self._rounded_step <= 1:
            self._rounded_step = step
            track.round_parts(step)
        late = 0  # ticks by which its decode time moves; the next frame is expected without them
        end = self._end
        if end is not None:
            if dts < end or self._left_out:
                late = max(end - dts, 0)
                cts += dts - end
                dts = end
            self._end = None
        if dts <= self._last and track.open:
            late += self._last + 1 - dts
            cts += dts - self._last - 1
            dts = self._last + 1
        self._left_out = False
        key_is_first = True
        begins = False
        samples = self._samples
        if not track.open:
            begun = self.may_begin(dts + slew, dts + cts + slew, True, False) if key else None
            if begun is None:
                return True  # an epoch begins with a key frame
            begins = True
            dts -= begun - slew
            self._slew = begun
            self._begin_segment(dts, dts + cts, key)
        else:
            length = step or dts - self._last
            elapsed = dts + cts - self._first_presentation if key else dts - track.start
            shown = dts + cts + slew
            cuts = self.segmenter.take_frame(elapsed, length, key, shown, track.size > MAX_SEGMENT_BYTES)
            if cuts or key:
                leaves_gap = not samples or dts + MAX_STEP - self._start > track.part_ticks
                begun = self.may_begin(dts + slew, shown, cuts, leaves_gap)
                if begun is not None:
                    begins, self._slew = True, begun
                    moved = begun - slew
                elif cuts and not key:
                    self._end_segment(dts)
                    return False  # too long, but the ladder has no boundary here: continues at its next key frame
            if begins:
                if moved > 0 and not samples:
                    late += moved  # only the next pictures are earlier, because this one continues the last part
                    moved = 0
                end = dts - moved
                if moved < 0 and (not samples or end - self._start > track.part_ticks):
                    end = dts  # a gap remains, because no part may exceed the Part Target Duration
                self._end_segment(end, dts + cts - moved if key else None)
                dts -= moved
                self._begin_segment(dts, dts + cts, key)
                samples = self._samples
                key_is_first = key
            elif samples and (dts + length - self._start > track.part_ticks or self._bytes > MAX_PART_BYTES):
                self._end_part(dts)
                samples = self._samples
            self._step = step or max(dts - self._last, 1)
        if samples:
            samples[-1].duration = dts - self._last
        else:
            self._start = dts
        if key or begins:
            if key and gops.is_open:
                # Its leading pictures are left out, so it is shown from the time of the first one (`shift`) on.
                cts = min(cts, track.shift)
            samples.append(self._key_sample(cts, access, payload, begins))
        else:
            if self._leading_possible:
                self._note_leading(dts + cts)
            samples.append(Mp4Sample(0, cts, False, payload))
        self._bytes += len(payload)
        self._last = dts
        if step and dts + 2 * step - self._start > track.part_ticks:
            self._end = max(dts + step - late - self.timing.ahead, dts + 1)
            self._end_part(self._end)
        return key_is_first

    def _leave_out(self, dts: int, step: int | None) -> None:
        """Notes a picture that is left out. The picture before it lasts longer, up to the end of the part."""
        self._left_out = True
        if self._samples and step and dts + 2 * step - self._start > self.track.part_ticks:
            self._end = dts + step - self.timing.ahead
            self._end_part(self._end)

    def finish(self, least: int = 0) -> int | None:
        """Completes the open segment at the end of the epoch.

        least: wanted duration of this segment. A picture that is in no part yet lasts longer, up to that of a part.
        Returns the end of its presentation, at least `least` after its start, in ticks of 90 kHz; None if no segment
        was open.
        """
        track = self.track
        if not track.open:
            return None
        end = self._last + self._step if self._end is None else self._end
        wanted = track.start + least
        self._end_segment(max(end, min(wanted, self._start + track.part_ticks)) if self._samples else end, last=True)
        return max(end, wanted) + track.date_shift

    def _begin_segment(self, dts: int, presentation: int, key: bool) -> None:
        first = presentation
        # Without a key frame, the segment may begin between reordered pictures: its date continues the last one's date.
        date_shift = self._delay if not key else None
        if self._delay is not None and 2 * (presentation - dts - self._delay) > self._step:
            first = dts + self._delay  # its leading pictures begin at the end of the last segment's pictures
        self._delay = None
        self._first_presentation = presentation
        self.cut(first)
        self.track.open_segment(dts, presentation - dts, date_shift, self._slew)
        if key and self.gops.is_open:
            self.track.note_earlier_picture(presentation, first)

    def _key_sample(self, cts: int, access: RandomAccess, payload: bytes, begins: bool) -> Mp4Sample:
        """Returns the sample of a key frame or of a segment's first picture.

        begins: whether it is the first picture of a segment.
        """
        if begins:
            self.track.sap = _SAP[access]
            self._first_access, self._leading_possible = access, True
        if access is RandomAccess.OPEN:
            return OpenKey(0, cts, True, payload)
        self._independent = self._independent or access is not RandomAccess.GRADUAL
        return Mp4Sample(0, cts, access is not RandomAccess.GRADUAL, payload)

    def _note_leading(self, presentation: int) -> None:
        """Notes a picture after the first one of a segment. Leading pictures precede all other pictures."""
        track = self.track
        if presentation < self._first_presentation:
            track.note_earlier_picture(self._first_presentation, presentation)
            track.sap = _SAP_WITH_LEADING[self._first_access]
        else:
            self._leading_possible = False

    def _end_part(self, end: int) -> None:
        self.track.add_part(self._start, self._samples, end, self._independent)
        self._samples = []
        self._bytes = 0
        self._independent = False

    def _end_segment(self, end: int, following: int | None = None, last: bool = False) -> None:
        """Completes the open segment at decode time `end`.

        following: presentation time of the next segment's key frame; None if it does not begin with a key frame.
        last: whether this is the epoch's last segment.
        """
        track = self.track
        spacing = following - self._first_presentation if following is not None else None
        is_gap = False
        media_end = self._last + self._step
        if media_end < end and self.segmenter.exceeds(end - track.start):
            # No frames arrived for some time: this gap belongs to no segment.
            end, spacing = media_end, None
            is_gap = True
        if self._samples:
            self._end_part(end)
        self._delay = None if is_gap else track.date_shift
        track.close_segment(end, spacing, last)
