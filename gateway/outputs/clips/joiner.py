"""Joins the units of several pieces into one movie that shows exactly a time range."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO, Final

from gateway.formats.mp4.init import TrackInit
from gateway.formats.mp4.movie import MovieHead, MovieTrack, add_description, movie_head, new_track
from gateway.formats.mp4.tables import Access
from gateway.media import codecs, h264, h265, nal
from gateway.media.clock import AudioClock
from gateway.media.open_gops import OpenGops
from gateway.media.random_access import RandomAccess
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.media.unit import AccessUnit
from gateway.packaging.timing import VIDEO_CLOCK

_TOLERANCE: Final = VIDEO_CLOCK // 1000  # dates have milliseconds
_PREROLL: Final = VIDEO_CLOCK // 10  # sound before the first picture, so that decoders begin with complete frames
_LATE: Final = 3 * VIDEO_CLOCK  # how far sound may lie behind pictures in a piece
_OVERHANG: Final = VIDEO_CLOCK // 10  # sound after the last picture of a piece that continues in the next piece
_DEFAULT_STEP: Final = VIDEO_CLOCK // 30
_MAX_STEP: Final = VIDEO_CLOCK
_CHUNK_TICKS: Final = VIDEO_CLOCK // 2  # length of the chunks in which the tracks alternate
_CHUNK_BYTES: Final = 1_000_000
_MAX_HELD_BYTES: Final = 32_000_000  # of pictures before the range; a longer GOP is written, and hidden
_MAX_HELD_SOUNDS: Final = 4_000
_MAX_DESCRIPTIONS: Final = 255
_MAX_REORDERED: Final = 32  # H.264 §A.3.1: at most 16 pictures are shown after later ones


class CannotJoin(Exception):
    """The pieces do not fit into one movie. The text says why, for users."""


class JumpedTooFar(Exception):
    """After a jump, the first key frame lies after the start of the range."""


@dataclass(slots=True)
class _Sample:
    """A sample that is not written yet. Times are in ticks of the movie's track."""

    dts: int
    cts: int
    duration: int
    access: Access
    payload: bytes


@dataclass(slots=True)
class _Lane:
    """A track of the movie that is being written. descriptions: index of the sample description by configuration."""

    movie: MovieTrack
    codec: str
    descriptions: dict[bytes, int]
    description: int = 1
    chunk: list[_Sample] = field(default_factory=list)
    chunk_bytes: int = 0
    last: int = -(1 << 62)  # decode time of the last sample
    end: int = 0  # presentation end of all samples


class Joiner:
    """Writes the media of a movie to a file while units arrive; `finish` returns the bytes to put before them.

    Units have times in ticks of 90 kHz. Pieces arrive in order of time. Pieces that do not continue each other are
    joined without a gap. The movie begins with the key frame at or before the range; an edit list hides everything
    before it, and after its end. Sound is cut at the same times. Changed parameters make a further sample description.

    anchored: whether the times of the piece are known, from its first picture.
    media: an empty file. start, end: of the range, seconds since the epoch.
    Memory: one GOP before the range, at most 32 MB, and about 24 bytes for each sample.
    `add` raises CannotJoin, InvalidData, and OSError of the file.
    """

    def __init__(self, media: BinaryIO, start: float, end: float) -> None:
        self._media = media
        self._start, self._end = start, end
        self._size = self._checked_size = 0
        self._video: _Lane | None = None
        self._audio: _Lane | None = None
        self._gops: OpenGops | None = None  # of this run's pictures …
        self._gops_track: MediaTrack | None = None
        self._clock: AudioClock | None = None  # of this run …
        self._clock_track: MediaTrack | None = None
        self._piece_start = 0.0
        self._jumped = False  # whether media of this piece were left out
        self.anchored = False  # whether the times of this piece are known
        self._fresh = True  # whether this piece begins a new run
        self._prelude: list[AccessUnit] = []  # sound before the first picture of a piece
        self._offset = 0  # added to times of this run to get times of the movie
        self._from = self._to = 0  # the range in times of this run
        self._committed = False  # whether the movie has begun
        self._gop: list[AccessUnit] = []  # before the movie has begun
        self._gop_bytes = 0
        self._sounds: list[AccessUnit] = []  # like that
        self._tail: list[AccessUnit] = []  # pictures after the range that earlier ones may need
        self._stop = 1 << 62  # movie time of the first picture after the range
        self._step = _DEFAULT_STEP
        self._last_dts: int | None = None  # of this run's pictures
        self._recent: deque[int] = deque(maxlen=_MAX_REORDERED)  # movie times of the last pictures
        self._last_dts_written = 0  # movie time
        self._first_shown: int | None = None  # movie time of the first picture in the range
        self._position = 0  # movie time at which the next run begins
        self._run_end = 0  # movie time of the end of this run's pictures
        self._video_done = self._audio_done = False
        self._last_seen = -(1 << 62)  # of this piece
        self.started: float | None = None  # time of the first media in the movie, seconds since the epoch

    @property
    def done(self) -> bool:
        """Whether the movie is complete, so that further units would change nothing."""
        if not self.anchored:
            return False
        complete = self._video_done and (self._audio_done or self._clock is None)
        return complete or self._last_seen >= self._to + _LATE

    def grew(self, size: int) -> bool:
        """Whether the file has grown by `size` bytes since the last call that returned True."""
        if self._size - self._checked_size < size:
            return False
        self._checked_size = self._size
        return True

    @property
    def last_dts(self) -> int | None:
        """The last decode time of the current pieces; None: nothing was added."""
        return self._last_seen if self._last_seen >= 0 else None

    # ---- pieces ----

    @property
    def began(self) -> bool:
        """Whether the movie has begun, so that all further media are needed."""
        return self._committed

    def jump(self) -> None:
        """The next units lie later in the piece. Raised by `add`: JumpedTooFar, if they begin after the range does."""
        self._gop, self._gop_bytes, self._sounds = [], 0, []
        self._jumped = True

    def begin_piece(self, start: float, continues: bool) -> None:
        """Begins the next piece.

        start: time of the first picture (without pictures: the first sound), seconds since the epoch.

        continues: whether its times continue those of the previous piece.
        """
        self._piece_start = start
        self.anchored = self._jumped = False
        self._fresh = self._fresh or not continues
        if not continues:
            self._end_run()

    def add(self, units: list[AccessUnit], has_video: bool) -> None:
        """Adds units of the piece. has_video: whether the piece has pictures."""
        for unit in units:
            if not self.anchored:
                is_video = unit.track.kind is Kind.VIDEO
                if has_video and not is_video and len(self._prelude) < _MAX_HELD_SOUNDS:
                    self._prelude.append(unit)
                    continue
                self._anchor(unit.dts + unit.cts)
                prelude, self._prelude = self._prelude, []
                for earlier in prelude:
                    self._add(earlier, has_video)
            self._add(unit, has_video)

    def finish(self) -> MovieHead | None:
        """Ends the movie. Returns its head, whose media are in the file; None if the pieces have nothing of the range.

        Raises OSError.
        """
        if not self._committed:
            if self._gop and not self._video_done and self._gop[-1].dts + self._gop[-1].cts + self._step > self._from:
                self._commit()  # only the last picture reaches into the range
            else:
                return None
        reached = self._video_done if self._video is not None else self._audio_done
        stop = min(self._stop, self._to + self._offset)
        self._end_run()
        lanes = [lane for lane in (self._video, self._audio) if lane is not None]
        if not lanes or (self._video is not None and self._first_shown is None):
            return None  # the media after the range, or none of its pictures
        for lane in lanes:
            self._write(lane)
        end = stop if reached else self._complete_end(max(_in_video_ticks(lane, lane.end) for lane in lanes))
        zero = self._first_shown or 0
        for lane in lanes:
            table, scale = lane.movie.table, lane.movie.timescale
            table.shown_start = max(table.shown_start, zero * scale // VIDEO_CLOCK)
            table.shown_end = max(min(table.shown_end, -(-end * scale // VIDEO_CLOCK)), table.shown_start + 1)
        return movie_head([lane.movie for lane in lanes], self.started or 0.0)

    def _complete_end(self, end: int) -> int:
        """Returns `end`, or the time of the first missing picture: a live stream may end among reordered pictures."""
        shown = sorted(self._recent)
        for earlier, later in pairwise(shown):
            if later > self._last_dts_written and later - earlier > self._step * 3 // 2:
                return earlier + self._step
        return end

    # ---- runs ----

    def _anchor(self, first: int) -> None:
        """Relates the times of the piece to the clock. first: presentation time of its first unit."""
        self.anchored = True
        self._from = first + round((self._start - self._piece_start) * VIDEO_CLOCK)
        self._to = first + round((self._end - self._piece_start) * VIDEO_CLOCK)
        self._last_seen = -(1 << 62)
        if not self._committed:
            self._from = max(self._from, first) if self._fresh and not self._gop else self._from
            self._offset = -self._from
            self.started = self._piece_start + (self._from - first) / VIDEO_CLOCK
        elif self._fresh:
            self._offset = self._position - first
        if self._fresh:
            self._clock = None
            self._last_dts = None
            self._fresh = False

    def _end_run(self) -> None:
        """Ends pieces that continue each other. The next run begins where this one ends, so the movie has no gap."""
        if not self._committed:
            self._gop, self._gop_bytes, self._sounds = [], 0, []
            return
        sound_end = _in_video_ticks(self._audio, self._audio.end) if self._audio is not None else 0
        self._tail = []
        end = max(self._run_end, self._position)
        # Sound of a piece ends a little after its last picture, and the sound of the next piece begins there.
        self._position = sound_end if sound_end > end + _OVERHANG else end

    def _commit(self) -> None:
        """Begins the movie."""
        self._committed = True
        pictures, self._gop = self._gop, []
        sounds, self._sounds = self._sounds, []
        for unit in pictures:
            self._take_picture(unit)
        for unit in sounds:
            if unit.dts > self._from - _PREROLL:
                self._take_sound(unit)

    # ---- units ----

    def _add(self, unit: AccessUnit, has_video: bool) -> None:
        if unit.track.kind is Kind.VIDEO:
            self._last_seen = unit.dts
            if self._committed:
                self._take_picture(unit)
            else:
                self._await_range(unit)
            return
        if not has_video:
            self._last_seen = unit.dts
        if self._committed:
            self._take_sound(unit)
            return
        self._sounds.append(unit)
        if unit.dts < self._from - _PREROLL or len(self._sounds) > _MAX_HELD_SOUNDS:
            self._sounds = [s for s in self._sounds[-_MAX_HELD_SOUNDS:] if s.dts > self._from - _PREROLL]
        if not has_video and unit.dts >= self._from - _TOLERANCE:
            self._commit()

    def _await_range(self, unit: AccessUnit) -> None:
        """Holds the GOP that the range begins in."""
        shown = unit.dts + unit.cts
        if self._jumped and not self._gop and shown > self._from + _TOLERANCE:
            raise JumpedTooFar
        if unit.key and (shown <= self._from + _TOLERANCE or not self._gop):
            self._gop, self._gop_bytes = [], 0
        elif not self._gop:
            return  # nothing can be decoded yet
        self._gop.append(unit)
        self._gop_bytes += len(unit.payload)
        if len(self._gop) > 1:
            self._note_step(self._gop[-1].dts - self._gop[-2].dts)
        if shown >= self._from - _TOLERANCE or self._gop_bytes > _MAX_HELD_BYTES:
            self._commit()

    def _take_picture(self, unit: AccessUnit) -> None:
        shown = unit.dts + unit.cts
        if self._video_done:
            return
        if shown >= self._to - _TOLERANCE:
            # An edit list that ended up to a millisecond later would show this picture, if later ones need it.
            self._stop = min(self._stop, shown + self._offset)
            if unit.dts >= self._to - _TOLERANCE:
                self._video_done = True
                self._tail = []
            else:
                self._tail.append(unit)
            return
        tail, self._tail = self._tail, []
        for needed in (*tail, unit):
            self._write_picture(needed)

    def _write_picture(self, unit: AccessUnit) -> None:
        if self._last_dts is not None:
            self._note_step(unit.dts - self._last_dts)
        gops = self._gops
        if gops is None or self._last_dts is None or unit.track is not self._gops_track:
            self._gops_track, gops = unit.track, OpenGops(unit.track)
            self._gops = gops
        payload = gops.add(unit.payload, unit.dts + unit.cts, unit.key)
        if payload is None:
            return
        self._last_dts = unit.dts
        lane = self._video = self._lane(self._video, unit)
        shown = unit.dts + unit.cts + self._offset
        # Presentation times are exact. Decode times must grow, also where the reordering changes between two runs.
        dts = max(unit.dts + self._offset, lane.last + 1)
        if shown >= -_TOLERANCE and unit.dts + unit.cts < self._to - _TOLERANCE:
            self._first_shown = shown if self._first_shown is None else min(self._first_shown, shown)
        self._run_end = max(self._run_end, shown + self._step)
        self._recent.append(shown)
        self._last_dts_written = dts
        if unit.key and len(lane.descriptions) > 1:
            # ffmpeg, also in Chrome, parses all pictures with the first description, unless they have their own sets.
            payload = _parameter_sets(unit.track) + payload
        access = Access.NONE if not unit.key else Access.OPEN if gops.access is RandomAccess.OPEN else Access.SYNC
        self._put(lane, _Sample(dts, shown - dts, self._step, access, payload))

    def _take_sound(self, unit: AccessUnit) -> None:
        if unit.dts >= self._to:
            self._audio_done = True
            return
        lane = self._audio = self._lane(self._audio, unit)
        rate = codecs.audio_rate(unit.track, unit.payload)
        samples = codecs.samples_per_frame(unit.track, unit.payload)
        if self._clock is None or self._clock_track != unit.track:
            self._clock, self._clock_track = AudioClock(rate, VIDEO_CLOCK), unit.track
        scale = lane.movie.timescale
        time = self._clock.stamp(unit.dts, samples) * scale // rate + self._offset * scale // VIDEO_CLOCK
        duration = max(samples * scale // rate, 1)
        if lane.last + duration // 2 >= time:
            return  # it overlaps the end of the previous run
        if self._video is None:
            self._run_end = max(self._run_end, (time + duration) * VIDEO_CLOCK // scale)
        self._put(lane, _Sample(time, 0, duration, Access.SYNC, unit.payload))

    def _note_step(self, step: int) -> None:
        if 0 < step <= _MAX_STEP:
            self._step = step

    # ---- samples ----

    def _lane(self, lane: _Lane | None, unit: AccessUnit) -> _Lane:
        """Returns the track of the movie for this unit, with its sample description."""
        track = unit.track
        if lane is not None and lane.codec == track.codec and lane.descriptions.get(track.config) == lane.description:
            return lane
        if lane is not None and lane.codec != track.codec:
            raise CannotJoin(
                f"the {track.kind} changes from {lane.codec} to {track.codec} in this time: take the parts one by one"
            )
        is_video = track.kind is Kind.VIDEO
        scale = VIDEO_CLOCK if is_video else codecs.audio_rate(track, unit.payload)
        size = codecs.video_size(track, unit.payload) if is_video else None
        init = TrackInit(track, 1 if is_video else 2, scale, size, unit.payload)
        if lane is None:
            return _Lane(new_track(init), track.codec, {track.config: 1})
        self._write(lane)
        index = lane.descriptions.get(track.config)
        if index is None:
            index = len(lane.descriptions) + 1
            if index > _MAX_DESCRIPTIONS:
                raise CannotJoin(f"the {track.kind} changes too often in this time: take a shorter time")
            add_description(lane.movie, init)
            lane.descriptions[track.config] = index
        lane.description = index
        return lane

    def _put(self, lane: _Lane, sample: _Sample) -> None:
        lane.last = sample.dts
        lane.end = max(lane.end, sample.dts + sample.cts + sample.duration)
        lane.chunk.append(sample)
        lane.chunk_bytes += len(sample.payload)
        ticks = sample.dts - lane.chunk[0].dts
        if lane.chunk_bytes > _CHUNK_BYTES or ticks * VIDEO_CLOCK > _CHUNK_TICKS * lane.movie.timescale:
            self._write(lane)

    def _write(self, lane: _Lane) -> None:
        """Writes the waiting samples as one chunk."""
        samples, lane.chunk, lane.chunk_bytes = lane.chunk, [], 0
        if not samples:
            return
        for sample, following in pairwise(samples):
            sample.duration = following.dts - sample.dts
        lane.movie.table.add(
            samples[0].dts,
            [s.duration for s in samples],
            [len(s.payload) for s in samples],
            [s.access for s in samples],
            [s.cts for s in samples],
            self._size,
            lane.description,
        )
        data = b"".join([s.payload for s in samples])
        self._media.write(data)
        self._size += len(data)


def _parameter_sets(track: MediaTrack) -> bytes:
    """Returns the parameter sets of a configuration in the form of a sample; empty for other codecs."""
    if track.codec is Codec.H264:
        avcc = h264.parse_avcc(track.config)
        return nal.join((*avcc.sps, *avcc.pps), avcc.length_size)
    if track.codec is Codec.H265:
        hvcc = h265.parse_hvcc(track.config)
        return nal.join((*hvcc.vps, *hvcc.sps, *hvcc.pps), hvcc.length_size)
    return b""


def _in_video_ticks(lane: _Lane, time: int) -> int:
    return time * VIDEO_CLOCK // lane.movie.timescale
