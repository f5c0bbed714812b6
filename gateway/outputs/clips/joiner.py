"""Joins the units of several pieces into one movie that shows exactly a time range.

The pieces of a recording arrive in order of time. Three kinds of times meet here:

- Times of the run, in ticks of 90 kHz: the decode and presentation times of the units. Pieces that continue each other
  are one run.
- Times of the movie, in ticks of 90 kHz: zero is the begin of the range, or the first media after it. A time of the run
  plus `_Range.offset` is a time of the movie.
- The clock, in seconds since 1970. The range and the start of each piece are times of the clock. The start is the
  time of the first picture, or of the first sound if the piece has no pictures (`anchored`).

A piece that does not continue the previous one begins a new run. The run begins in the movie where the previous one
ended, so the movie has no gap. Presentation times of a run stay exact. Decode times only need to grow.

The movie begins when a unit reaches the range (`began`). Until then, `_HeldMedia` holds the GOP in which the range may
begin, and its sound. Decoding begins at a key frame, so the movie contains the whole GOP. An edit list hides everything
before the range and after its end. Sound is cut at the begin and the end of the range.

Pictures may be shown in another order than they are decoded. So a picture in the range may need one after the range.
Pictures after the range wait (`_tail`) until one in the range follows. The pictures are
complete at the first decode time after the range. A live stream may end among reordered pictures. Then the movie ends
before the first missing one.

A change of parameters within a codec adds a sample description. A change of the codec cannot be joined.

Each part of the state has one writer. `_Pictures` and `_Sounds` write their track. `MovieFile` knows chunks, tables and
the file. `Joiner` knows pieces, runs and the range.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, Final

from gateway.formats.mp4.movie import MovieHead
from gateway.formats.mp4.tables import Access
from gateway.media import codecs, h264, h265, nal
from gateway.media.caption_cue import CaptionCue
from gateway.media.clock import VIDEO_CLOCK, AudioClock
from gateway.media.open_gops import OpenGops
from gateway.media.random_access import RandomAccess
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.outputs.clips.movie_file import MovieFile, Sample

_TOLERANCE: Final = VIDEO_CLOCK // 1000  # dates have milliseconds
_PREROLL: Final = VIDEO_CLOCK // 10  # sound before the first picture, so that decoders begin with complete frames
_LATE: Final = 3 * VIDEO_CLOCK  # in a piece, sound may come this much later than its pictures
_OVERHANG: Final = VIDEO_CLOCK // 10  # sound after the last picture of a piece that continues in the next piece
_DEFAULT_STEP: Final = VIDEO_CLOCK // 30
_MAX_STEP: Final = VIDEO_CLOCK
_MAX_HELD_BYTES: Final = 32_000_000  # of pictures before the range; a longer GOP is written, and hidden
_MAX_HELD_SOUNDS: Final = 4_000
_MAX_REORDERED: Final = 32  # H.264 §A.3.1: at most 16 pictures are shown after later ones
_NEVER: Final = -(1 << 62)


class JumpedTooFar(Exception):
    """After a jump, the first key frame lies after the start of the range."""


@dataclass(frozen=True, slots=True)
class _Range:
    """The range in times of the current run. A time of the run plus `offset` is a time of the movie."""

    begin: int = 0
    end: int = 0
    offset: int = 0


class _HeldMedia:
    """The media before the movie has begun: the GOP in which the range may begin, and its sound.

    size: bytes of the pictures.
    """

    def __init__(self) -> None:
        self.pictures: list[AccessUnit] = []
        self.sounds: list[AccessUnit] = []
        self.size = 0

    def add_picture(self, unit: AccessUnit, begin: int) -> bool:
        """Holds a picture. Returns False if nothing can be decoded yet. begin: of the range."""
        if unit.key and (unit.dts + unit.cts <= begin + _TOLERANCE or not self.pictures):
            self.pictures, self.size = [], 0
        elif not self.pictures:
            return False
        self.pictures.append(unit)
        self.size += len(unit.payload)
        return True

    def add_sound(self, unit: AccessUnit, begin: int) -> None:
        """Holds a frame of sound. begin: of the range."""
        self.sounds.append(unit)
        if unit.dts < begin - _PREROLL or len(self.sounds) > _MAX_HELD_SOUNDS:
            self.sounds = [s for s in self.sounds[-_MAX_HELD_SOUNDS:] if s.dts > begin - _PREROLL]


class _Pictures:
    """Writes the pictures of the movie.

    done: whether the range has no more pictures. stop: movie time of the first picture after the range.
    first_shown: movie time of the first picture in the range. run_end: movie time of the end of all pictures.
    step: ticks from a picture to the next one.
    """

    def __init__(self, movie: MovieFile) -> None:
        self.done = False
        self.stop = 1 << 62
        self.first_shown: int | None = None
        self.run_end = 0
        self.step = _DEFAULT_STEP
        self._movie = movie
        self._tail: list[AccessUnit] = []  # pictures after the range that earlier ones may need
        self._gops: OpenGops | None = None  # of this run and track
        self._gops_track: MediaTrack | None = None
        self._last_dts: int | None = None  # of this run
        self._last_written = 0  # movie time
        self._recent: deque[int] = deque(maxlen=_MAX_REORDERED)  # movie times of the last pictures

    def begin_run(self) -> None:
        self._last_dts = None

    def end_run(self) -> None:
        """Forgets the pictures after the range, because no picture in the range follows."""
        self._tail = []

    def note_step(self, step: int) -> None:
        if 0 < step <= _MAX_STEP:
            self.step = step

    def take(self, unit: AccessUnit, range: _Range) -> None:
        """Writes a picture, or lets it wait if it lies after the range."""
        if self.done:
            return
        shown = unit.dts + unit.cts
        if shown >= range.end - _TOLERANCE:
            # If later pictures need this one, it is in the movie. So the edit list must end before it.
            self.stop = min(self.stop, shown + range.offset)
            if unit.dts >= range.end - _TOLERANCE:
                self.done = True
                self._tail = []
            else:
                self._tail.append(unit)
            return
        tail, self._tail = self._tail, []
        for needed in (*tail, unit):
            self._write(needed, range)

    def _write(self, unit: AccessUnit, range: _Range) -> None:
        if self._last_dts is not None:
            self.note_step(unit.dts - self._last_dts)
        gops = self._gops
        if gops is None or self._last_dts is None or unit.track is not self._gops_track:
            self._gops_track, gops = unit.track, OpenGops(unit.track)
            self._gops = gops
        payload = gops.add(unit.payload, unit.dts + unit.cts, unit.key)
        if payload is None:
            return
        self._last_dts = unit.dts
        track = self._movie.track_for(unit)
        shown = unit.dts + unit.cts + range.offset
        # Presentation times are exact. Decode times must grow, also where the reordering changes between two runs.
        dts = max(unit.dts + range.offset, track.last + 1)
        if shown >= -_TOLERANCE and unit.dts + unit.cts < range.end - _TOLERANCE:
            self.first_shown = shown if self.first_shown is None else min(self.first_shown, shown)
        self.run_end = max(self.run_end, shown + self.step)
        self._recent.append(shown)
        self._last_written = dts
        if unit.key and len(track.descriptions) > 1:
            # ffmpeg, also in Chrome, parses all pictures with the first description, unless they have their own sets.
            payload = _parameter_sets(unit.track) + payload
        access = Access.NONE if not unit.key else Access.OPEN if gops.access is RandomAccess.OPEN else Access.SYNC
        self._movie.put(track, Sample(dts, shown - dts, self.step, access, payload))

    def complete_end(self, end: int) -> int:
        """Returns `end`, or the time of the first missing picture of a live stream that ended among reordered ones."""
        for earlier, later in pairwise(sorted(self._recent)):
            if later > self._last_written and later - earlier > self.step * 3 // 2:
                return earlier + self.step
        return end


class _Sounds:
    """Writes the sound of the movie.

    done: whether the range has no more sound. run_end: movie time of the end of all sound, while there are no pictures.
    """

    def __init__(self, movie: MovieFile) -> None:
        self.done = False
        self.run_end = 0
        self._movie = movie
        self._clock: AudioClock | None = None  # of this run and track
        self._clock_track: MediaTrack | None = None

    @property
    def has_begun(self) -> bool:
        """Whether this run has sound."""
        return self._clock is not None

    def begin_run(self) -> None:
        self._clock = None

    def take(self, unit: AccessUnit, range: _Range) -> None:
        """Writes a frame of sound, unless it lies after the range."""
        if unit.dts >= range.end:
            self.done = True
            return
        track = self._movie.track_for(unit)
        rate = codecs.audio_rate(unit.track, unit.payload)
        samples = codecs.samples_per_frame(unit.track, unit.payload)
        if self._clock is None or self._clock_track != unit.track:
            self._clock, self._clock_track = AudioClock(rate, VIDEO_CLOCK), unit.track
        scale = track.movie.timescale
        time = self._clock.stamp(unit.dts, samples) * scale // rate + range.offset * scale // VIDEO_CLOCK
        duration = max(samples * scale // rate, 1)
        if track.last + duration // 2 >= time:
            return  # it overlaps the end of the previous run
        if Kind.VIDEO not in self._movie.by_kind:
            self.run_end = max(self.run_end, (time + duration) * VIDEO_CLOCK // scale)
        self._movie.put(track, Sample(time, 0, duration, Access.SYNC, unit.payload))


class Joiner:
    """Writes the media of a movie to a file while units arrive; `finish` returns the bytes to put before them.

    media: an empty file. start, end: of the range, seconds since 1970.
    Memory: one GOP before the range, at most 32 MB, and about 24 bytes for each sample.
    `add` raises CannotJoin, InvalidData, and OSError of the file.

    anchored: whether the times of the current piece are known.
    began: whether the movie has begun. From then on, all media of the range are needed.
    started: time of the first media in the movie, seconds since 1970.
    """

    def __init__(self, media: BinaryIO, start: float, end: float) -> None:
        self.anchored = False
        self.began = False
        self.started: float | None = None
        self._start, self._end = start, end
        self._movie = MovieFile(media)
        self._pictures = _Pictures(self._movie)
        self._sounds = _Sounds(self._movie)
        self._held = _HeldMedia()
        self._range = _Range()
        self._piece_start = 0.0
        self._first_shown: int | None = None
        self._prelude: list[AccessUnit] = []  # sound before the first picture of the piece
        self._jumped = False  # whether media of the piece were left out
        self._is_new_run = True  # whether the piece begins a new run
        self._position = 0  # movie time at which the next run begins
        self._last_seen = _NEVER  # decode time of the last unit of the piece

    @property
    def done(self) -> bool:
        """Whether the movie is complete, so that more units would change nothing."""
        if not self.anchored:
            return False
        complete = self._pictures.done and (self._sounds.done or not self._sounds.has_begun)
        return complete or self._last_seen >= self._range.end + _LATE

    def check_growth(self, size: int) -> bool:
        """Returns whether the file has grown by `size` bytes since the last call that returned True."""
        return self._movie.check_growth(size)

    @property
    def last_dts(self) -> int | None:
        """The last decode time of the current piece; None: nothing was added."""
        return self._last_seen if self._last_seen >= 0 else None

    # ---- pieces ----

    def jump(self) -> None:
        """Leaves media of the piece out, because they lie before the range. The next units come from a later place.

        If these units begin after the begin of the range, `add` raises JumpedTooFar.
        """
        self._held = _HeldMedia()
        self._jumped = True

    def begin_piece(self, start: float, continues: bool, first_shown: int | None = None) -> None:
        """Begins the next piece.

        start: time of the first picture (without pictures: the first sound), seconds since 1970.
        continues: whether its times continue those of the previous piece.
        first_shown: the same time in ticks, if its reader may leave out the first units. None: that of the first unit.
        """
        self._piece_start = start
        self._first_shown = first_shown
        self.anchored = self._jumped = False
        self._is_new_run = self._is_new_run or not continues
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
                self._anchor(unit.dts + unit.cts if self._first_shown is None else self._first_shown)
                prelude, self._prelude = self._prelude, []
                for earlier in prelude:
                    self._add(earlier, has_video)
            self._add(unit, has_video)

    def finish(self, captions: Sequence[CaptionCue] = (), language: str = "") -> MovieHead | None:
        """Ends the movie. Returns its head; None if the pieces have no media of the range.

        captions: become a text track; their times are ticks of 90 kHz since `started`. language: theirs, BCP 47.
        Raises OSError.
        """
        movie, pictures = self._movie, self._pictures
        if not self.began:
            held = self._held.pictures
            if not held or pictures.done or held[-1].dts + held[-1].cts + pictures.step <= self._range.begin:
                return None
            self._begin_movie()  # only the last picture reaches into the range
        reached = pictures.done if Kind.VIDEO in movie.by_kind else self._sounds.done
        stop = min(pictures.stop, self._range.end + self._range.offset)
        self._end_run()
        if not movie.tracks or (Kind.VIDEO in movie.by_kind and pictures.first_shown is None):
            return None  # nothing was written, or no picture in the range
        movie.write_rest()
        end = stop if reached else pictures.complete_end(max(track.shown_end for track in movie.tracks))
        start = pictures.first_shown or 0
        if captions:
            movie.add_captions(start, end, [cue.moved(start) for cue in captions], language)
        return movie.head(start, end, self.started or 0.0)

    # ---- runs ----

    def _anchor(self, first: int) -> None:
        """Relates the times of the piece to the clock. first: presentation time of the piece's first unit."""
        self.anchored = True
        begin = first + round((self._start - self._piece_start) * VIDEO_CLOCK)
        end = first + round((self._end - self._piece_start) * VIDEO_CLOCK)
        offset = self._range.offset
        self._last_seen = _NEVER
        if not self.began:
            begin = max(begin, first) if self._is_new_run and not self._held.pictures else begin
            offset = -begin
            self.started = self._piece_start + (begin - first) / VIDEO_CLOCK
        elif self._is_new_run:
            offset = self._position - first
        self._range = _Range(begin, end, offset)
        if self._is_new_run:
            self._sounds.begin_run()
            self._pictures.begin_run()
            self._is_new_run = False

    def _end_run(self) -> None:
        """Ends pieces that continue each other. The next run begins where this one ends, so the movie has no gap."""
        if not self.began:
            self._held = _HeldMedia()
            return
        self._pictures.end_run()
        sound = self._movie.by_kind.get(Kind.AUDIO)
        sound_end = sound.shown_end if sound is not None else 0
        end = max(self._pictures.run_end, self._sounds.run_end, self._position)
        # Sound of a piece ends a little after its last picture, and the sound of the next piece begins there.
        self._position = sound_end if sound_end > end + _OVERHANG else end

    def _begin_movie(self) -> None:
        """Begins the movie with the media that are held."""
        self.began = True
        held, self._held = self._held, _HeldMedia()
        for unit in held.pictures:
            self._pictures.take(unit, self._range)
        for unit in held.sounds:
            if unit.dts > self._range.begin - _PREROLL:
                self._sounds.take(unit, self._range)

    # ---- units ----

    def _add(self, unit: AccessUnit, has_video: bool) -> None:
        if unit.track.kind is Kind.VIDEO:
            self._last_seen = unit.dts
            if self.began:
                self._pictures.take(unit, self._range)
            else:
                self._hold_picture(unit)
            return
        if not has_video:
            self._last_seen = unit.dts
        if self.began:
            self._sounds.take(unit, self._range)
            return
        self._held.add_sound(unit, self._range.begin)
        if not has_video and unit.dts >= self._range.begin - _TOLERANCE:
            self._begin_movie()

    def _hold_picture(self, unit: AccessUnit) -> None:
        """Holds the GOP in which the range begins, until a picture reaches the range."""
        held, begin, shown = self._held, self._range.begin, unit.dts + unit.cts
        if self._jumped and not held.pictures and shown > begin + _TOLERANCE:
            raise JumpedTooFar
        if not held.add_picture(unit, begin):
            return
        if len(held.pictures) > 1:
            self._pictures.note_step(unit.dts - held.pictures[-2].dts)
        if shown >= begin - _TOLERANCE or held.size > _MAX_HELD_BYTES:
            self._begin_movie()


def _parameter_sets(track: MediaTrack) -> bytes:
    """Returns the parameter sets of a configuration in the form of a sample; empty for other codecs."""
    if track.codec is Codec.H264:
        avcc = h264.parse_avcc(track.config)
        return nal.join((*avcc.sps, *avcc.pps), avcc.length_size)
    if track.codec is Codec.H265:
        hvcc = h265.parse_hvcc(track.config)
        return nal.join((*hvcc.vps, *hvcc.sps, *hvcc.pps), hvcc.length_size)
    return b""
