"""Measures one push: frame rate, bitrate, key frames, silence, gaps, and the times of sound and picture."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

import structlog

from gateway.live.pushed_opus import PushedOpus
from gateway.live.sink import EndReason, PartialSink
from gateway.media.codecs import frame_rate, frame_seconds, unusual_pixels, video_size
from gateway.media.errors import InvalidData
from gateway.media.h264_slices import coding_parameters
from gateway.media.random_access import RandomAccess, random_access_of
from gateway.media.silence import is_silent
from gateway.media.slice_check import has_readable_slice
from gateway.media.track import AccessUnit, Codec, Kind, MadeSilence, MediaTrack, Tracks

log = structlog.get_logger(__name__)

HISTORY_SECONDS: Final = 30  # of the detailed history
JUMP_MS: Final = 1_000  # a larger step of the timestamps, without a pause of this length, is a jump
SETTLE_SECONDS: Final = 3  # at the beginning of a push, when bursts are normal
EARLY_SECONDS: Final = 10  # in which media comes faster than it plays
MIN_CELL_MS: Final = 900  # a cell of the bitrate is at least this long, and ends at a key frame
_CELLS: Final = 24
_MINUTE: Final = 61  # samples of the received bytes, one a second: a minute has 61
_MAX_RATE: Final = 240.0  # a larger declared frame rate is the clock of a variable frame rate
# The first pictures of each second whose slices are checked, and how many of them are remembered.
_CHECKED, _SLICES = 8, 32
# Of the duration of a sound unit. If 8 units share the timestamp of a packet, a wrong rate of 44.1 kHz or 48 kHz makes
# the step to the next packet longer or shorter by 0.71 units.
_GAP_SHARE: Final = 0.75
# Times are wrong by their own speed if pictures come faster than this in them (a second), or this share of them is no
# later than the one before, or sound lasts so many times as long as they do. A header with a wrong sample rate is wrong
# by 2.
_CLOCK_SECONDS: Final = 5
_MAX_CLOCK_FPS: Final = 400
_CLOCK_FRAMES: Final = 40
_CLOCK_SOUND_MS: Final = 2_000
_REPEATED_SHARE: Final = 0.7
_CLOCK_FACTOR: Final = 2.5
_APART_MS: Final = 5_000  # between the times of sound and pictures that come together
_APART_SECONDS: Final = 3
_STANDS: Final = 50  # a larger factor is a clock that stands still
_NEVER: Final = float("inf")
_VIDEO: Final = Kind.VIDEO


@dataclass(frozen=True, slots=True)
class Second:
    """The units that arrived between two samples, about one second apart.

    seconds: the time between them. frames, sounds: number of units. heard: whether any sound was not silent.
    repeated: number of pictures with the time of the one before, or one millisecond later.
    delay: smallest wall time minus decode time of a unit, milliseconds; only its changes have a meaning.
    offset: how far the sound's times are ahead of the picture's, milliseconds.
    excess: how far the sound's times are ahead of its samples and gaps, milliseconds; only its changes have a meaning.
    `video_ms`, `audio_ms`: by how much the times of pictures and of sound grew, milliseconds.
    gop: longest time between two key frames, seconds. gap: longest pause between two units, seconds.
    delay, offset, excess, `video_ms` and `audio_ms` are None if there were no units to measure.
    """

    seconds: float
    frames: int
    repeated: int
    sounds: int
    heard: bool
    delay: float | None
    offset: float | None
    excess: float | None
    video_ms: int | None
    audio_ms: int | None
    gop: float
    gap: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One or more whole GOPs. ended: decode time of the next key frame, milliseconds. bitrate: bits per second."""

    ended: int
    bitrate: float


class Measurement(PartialSink):
    """A Sink of `stream.original` for one push. `sample` is called about once a second.

    It needs constant memory: at most 20 kB for HISTORY_SECONDS of seconds, a minute of byte counts and 24 cells.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        # The sink of the pushed Opus. It is measured instead of the AAC, which is made only while somebody listens.
        self.opus = PushedOpus(lambda: None, self.on_unit)
        self.tracks: Tracks | None = None
        self.size: tuple[int, int] | None = None
        self.size_changes = 0
        self.declared_fps: float | None = None
        self.jumps = 0  # of the timestamps; without those that the intake has repaired
        self.jump_ms = 0  # size of the last jump
        self.has_key = False  # whether a key frame of these tracks has come; intra refresh is none
        self._can_close_gops = True  # whether browsers get the open GOPs of these tracks closed
        self.unusual_pixels = ""  # chroma and depth of the pictures, if few browsers decode them
        self._last_wall = 0.0  # when the last unit arrived, milliseconds since 1970
        self._slices: deque[bool] = deque(maxlen=_SLICES)  # whether the first slices of pictures could be read
        self.forget_times()
        self.begin(0.0)

    def begin(self, now: float) -> None:
        """Starts a new measurement soon after a push began. now: monotonic seconds.

        Before this call, `on_tracks` or the caller has called `forget_times`.
        """
        self.began = now
        self.history: deque[Second] = deque(maxlen=HISTORY_SECONDS)
        self.cells: deque[Cell] = deque(maxlen=_CELLS)
        self._bytes: deque[tuple[float, int]] = deque(maxlen=_MINUTE)
        self.last_video = self.last_audio = now  # monotonic time of the last sample with units of this kind
        self.last_heard = now  # monotonic time of the last sample with sound that is not silent
        self.video_since = now  # monotonic time since which each sample had pictures of these tracks
        self.has_video = self.has_audio = False  # whether any unit has arrived
        self._silent_frame = b""
        self._begin_second()
        self._sampled = now

    def forget_times(self) -> None:
        """Starts new decode times: they do not continue the earlier ones."""
        self._high: int | None = None  # latest decode time, milliseconds
        self._audio_high = 0
        self._audio_ms = 0.0  # duration of all sound units so far, and of the gaps between them
        self._frame_ms: float | None = None  # duration of one sound unit; None if it is not known yet
        self._key: int | None = None  # decode time of the last key frame, later by the pauses of the pictures since
        self.last_gop = 0.0  # seconds between the last two key frames; 0: there were no two yet
        self._delay = self._best_delay = _NEVER  # smallest delay of this second, and of these times, milliseconds
        # The delay of the first unit, then the smallest one so far, once a second.
        self._best_delays = deque[float](maxlen=SETTLE_SECONDS + EARLY_SECONDS + 1)
        self._video_high = 0
        # Times of pictures and sound at the last sample; None: it had no such units.
        self._highs: list[int | None] = [None, None]
        self._shown = -_NEVER  # latest presentation time
        self._reorders = self._reordered = False  # whether pictures are reordered in this GOP, and in the last one
        self._opens = self._opened = False  # whether this GOP is open, and whether the last one was
        self._cell_start: int | None = None
        self._cell_bytes = 0

    def _begin_second(self) -> None:
        self._frames = self._repeated = self._sounds = 0
        self._heard = False
        self._video_delay = self._audio_delay = 0.0  # sums of wall time minus decode time, milliseconds
        self._delay = _NEVER
        self._gop = self._gap = 0.0

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        before, self.tracks = self.tracks, tracks
        if before is None or before.epoch != tracks.epoch:
            self.forget_times()
            self.has_key = False
            self.video_since = self._sampled  # their first key frame may come a whole GOP later
            self._silent_frame = b""
            self._slices.clear()
        self.declared_fps = _declared_fps(tracks)
        self.unusual_pixels = "" if tracks.video is None else unusual_pixels(tracks.video)
        self._can_close_gops = tracks.video is None or _can_close_gops(tracks.video)
        self._set_size(tracks.video, None)

    def on_unit(self, unit: AccessUnit) -> None:
        """Hot path: about 1 µs."""
        scale = unit.track.timescale
        dts = unit.dts if scale == 1000 else unit.dts * 1000 // scale
        wall = unit.wall * 1000
        delay = wall - dts
        if delay < self._delay:
            self._delay = delay
        pause = wall - self._last_wall
        if pause > self._gap:
            self._gap = pause
        high = self._high
        if high is None:
            self._high = dts
            self._gap = 0.0
            self._best_delays.append(delay)
        elif dts > high:
            if dts - high > JUMP_MS and dts - high - pause > JUMP_MS:
                self.jumps += 1
                self.jump_ms = dts - high
                self._key = self._cell_start = None
                self._best_delays.clear()
            self._high = dts
        self._last_wall = wall
        if unit.track.kind is _VIDEO:
            self._frames += 1
            if self._frames <= _CHECKED and (is_readable := has_readable_slice(unit.track, unit.payload)) is not None:
                self._slices.append(is_readable)
            self._video_delay += delay
            if dts - self._video_high > JUMP_MS and self._key is not None:
                self._key += dts - self._video_high  # a camera that pauses has no long GOP
            if unit.key:
                self._on_key(unit, dts)
            shown = dts + unit.cts * 1000 // scale
            if shown < self._shown:
                self._reorders = True
            else:
                self._shown = shown
            if dts - self._video_high <= 1:
                self._repeated += 1
            self._video_high = dts
            self._cell_bytes += len(unit.payload)
        elif type(unit) is not MadeSilence and (self.opus.tracks is None or unit.track.codec is Codec.OPUS):
            self._sounds += 1
            self._audio_delay += delay
            # The units between were lost, or it makes up for equal times. Steps of a wrong rate are smaller.
            if (frame := self._frame_ms) and abs(gap := dts - self._audio_high - frame) > _GAP_SHARE * frame:
                self._audio_ms += gap
            self._audio_high = dts
            if not self._heard:
                self._check_silence(unit)

    def on_end(self, reason: EndReason) -> None:
        self._on_end()

    def on_failed(self, error: Exception) -> None:
        log.error("a stream is no longer measured", exc_info=error)
        self._on_end()

    def _on_key(self, unit: AccessUnit, dts: int) -> None:
        access = random_access_of(unit.track)(unit.payload)
        if access is RandomAccess.GRADUAL:
            return  # browsers cannot begin with a part of a picture
        if self._key is None:
            if self.size is None:  # VP8 and VP9 have it only in their key frames
                self._set_size(unit.track, unit.payload)
        else:
            self.last_gop = (dts - self._key) / 1000
            self._gop = max(self._gop, self.last_gop)
        self._key, self.has_key = dts, True
        self._reordered, self._reorders = self._reorders, False
        self._opened, self._opens = self._opens, access is RandomAccess.OPEN
        start = self._cell_start
        if start is None or dts < start:
            self._cell_start, self._cell_bytes = dts, 0
        elif dts - start >= MIN_CELL_MS:
            self.cells.append(Cell(dts, self._cell_bytes * 8000 / (dts - start)))
            self._cell_start, self._cell_bytes = dts, 0

    def _check_silence(self, unit: AccessUnit) -> None:
        """Sets `_heard` unless the frame is silent. Encoders usually repeat the same bytes for silence."""
        if self._frame_ms is None:
            self._frame_ms = _frame_ms(unit)
        if unit.payload != self._silent_frame:
            if is_silent(unit.track, unit.payload):
                self._silent_frame = unit.payload
            else:
                self._heard = True

    def _set_size(self, video: MediaTrack | None, key_frame: bytes | None) -> None:
        if video is None:
            return
        try:
            size = video_size(video, key_frame)
        except InvalidData:
            return
        if self.size is not None and size != self.size:
            self.size_changes += 1
        self.size = size

    # ---- once a second ----

    def sample(self, now: float, bytes_in: int) -> None:
        """Adds the last second to the history. now: monotonic seconds. bytes_in: all bytes of the stream."""
        frames, sounds = self._frames, self._sounds
        offset = self._video_delay / frames - self._audio_delay / sounds if frames and sounds else None
        delay = self._delay if self._delay < _NEVER else None
        self._best_delay = min(self._best_delay, self._delay)
        if self._best_delay < _NEVER:
            self._best_delays.append(self._best_delay)
        excess = None
        if sounds and self._frame_ms:
            self._audio_ms += sounds * self._frame_ms
            excess = self._audio_high - self._audio_ms
        grown = self._growth(0, frames, self._video_high), self._growth(1, sounds, self._audio_high)
        seconds = now - self._sampled
        gap = self._gap / 1000
        units = frames, self._repeated, sounds
        self.history.append(Second(seconds, *units, self._heard, delay, offset, excess, *grown, self._gop, gap))
        self._bytes.append((now, bytes_in))
        self._sampled = now
        if frames:
            self.last_video, self.has_video = now, True
        else:
            self.video_since = now
        if sounds:
            self.last_audio, self.has_audio = now, True
        if self._heard or not sounds:
            self.last_heard = now
        self._begin_second()

    def _growth(self, index: int, units: int, high: int) -> int | None:
        """Returns by how much a track's times grew since the last sample; None if it had no units then or now.

        high: 0 if all units came before the times were forgotten.
        """
        before, now = self._highs[index], high if units and high else None
        self._highs[index] = now
        return now - before if now is not None and before is not None else None

    def forget_delays(self) -> None:
        """Clears the history: the wall clock was set, or the times jumped. Delays before and after differ."""
        self.history.clear()
        self._best_delay = _NEVER
        self._best_delays.clear()
        self._begin_second()

    # ---- values ----

    @property
    def age(self) -> float:
        """Seconds from the beginning of the push to the last sample."""
        return self._sampled - self.began

    @property
    def fps(self) -> float | None:
        """Frames a second that arrived in the last five seconds. Several may arrive at once, so it varies by 4 %."""
        seconds, frames = 0.0, 0
        for second in islice(reversed(self.history), 5):
            seconds += second.seconds
            frames += second.frames
        return frames / seconds if seconds > 0.5 else None

    @property
    def declared_bitrate(self) -> float | None:
        """Bits per second of the video in the publisher's metadata; None if there is none."""
        declared = self.tracks.metadata.get("videodatarate") if self.tracks is not None else None
        return declared * 1000 if isinstance(declared, int | float) and declared > 0 else None

    @property
    def bitrate(self) -> int | None:
        """Bits per second in the last minute, or since the push began."""
        if len(self._bytes) < 2:
            return None
        (t0, b0), (t1, b1) = self._bytes[0], self._bytes[-1]
        return round((b1 - b0) * 8 / (t1 - t0)) if t1 > t0 else None

    @property
    def gop(self) -> float | None:
        """Longest of three: the last GOP, the GOPs of the last eight seconds, and the time since the last key frame.

        Seconds; None without video.
        """
        if self._key is None:
            return None
        longest = max([second.gop for second in islice(reversed(self.history), 8)], default=0.0)
        return max(longest, self.last_gop, (self._video_high - self._key) / 1000)

    @property
    def behind(self) -> float | None:
        """Seconds by which media arrives later now than at the best time of the push; None if it is not known."""
        delay = self.history[-1].delay if self.history else None
        return (delay - self._best_delay) / 1000 if delay is not None and self._best_delay < _NEVER else None

    @property
    def gained(self) -> tuple[float, bool]:
        """Seconds of media that came in addition to the real time of the last EARLY_SECONDS, and whether these settled.

        Until then they count since these times began. Media that was late before does not count.
        """
        delays = self._best_delays
        is_settled = len(delays) == delays.maxlen
        first = -1 - EARLY_SECONDS if is_settled else 0
        return (delays[first] - min(delays[-1], self._delay)) / 1000 if delays else 0.0, is_settled

    @property
    def clock_fault(self) -> str:
        """What the times of pictures and sound do that their number contradicts; "": nothing.

        Arrivals do not matter: late or early media has times that fit to its frame rate and its samples.
        """
        recent = list(islice(reversed(self.history), _CLOCK_SECONDS))
        pictures = [second for second in recent if second.video_ms is not None]
        frames, shown = sum(s.frames for s in pictures), sum(s.video_ms or 0 for s in pictures)
        found = []
        if frames >= _CLOCK_FRAMES and frames * 1000 > _MAX_CLOCK_FPS * shown:
            found.append("the pictures stand still")
        elif frames >= _CLOCK_FRAMES and sum(s.repeated for s in pictures) > _REPEATED_SHARE * frames:
            found.append("most pictures have the time of the one before")
        length = sum(second.sounds for second in recent if second.audio_ms is not None) * (self._frame_ms or 0)
        grown = max(1, sum(second.audio_ms or 0 for second in recent))
        arrived = sum(second.seconds for second in recent) * 1000
        if length >= _CLOCK_SOUND_MS and length > _CLOCK_FACTOR * grown:
            slow = length / grown
            found.append("the sound stands still" if slow > _STANDS else f"the sound is {slow:.0f} times too slow")
        elif length >= _CLOCK_SOUND_MS and grown > _CLOCK_FACTOR * max(length, arrived):
            found.append(f"the sound is {grown / length:.0f} times too fast")
        apart = [second.offset for second in recent if second.offset is not None]
        is_steady = len(apart) >= _APART_SECONDS and max(apart) - min(apart) < _APART_MS / 10
        if not found and is_steady and abs(apart[0]) > _APART_MS:
            where = "ahead of" if apart[0] > 0 else "behind"
            found.append(f"the sound is {abs(apart[0]) / 1000:.0f} s {where} the pictures that come with it")
        return " and ".join(found)

    @property
    def arrived(self) -> float:
        """When the last unit arrived, seconds since 1970; 0: there was none."""
        return self._last_wall / 1000

    @property
    def has_unreadable_slices(self) -> bool:
        """Whether pictures are not what their NAL units say, as after encryption. Real pictures have no such slice."""
        return self._slices.count(False) >= _SLICES // 4

    @property
    def has_open_gops(self) -> bool:
        """Whether this GOP or the last one is an open GOP of H.264: with B-frames, or one that cannot be closed."""
        return (self._opens or self._opened) and (bool(self.reorders) or not self._can_close_gops)

    @property
    def reorders(self) -> bool | None:
        """Whether pictures are shown in another order than they are sent (B-frames); None without video."""
        return (self._reorders or self._reordered) if self._key is not None else None


def _declared_fps(tracks: Tracks) -> float | None:
    """Returns the frame rate of the publisher's metadata, else of the video's parameter sets; None if there is none."""
    if tracks.video is None:
        return None
    rate: object = tracks.metadata.get("framerate")
    if not isinstance(rate, int | float) or not 1 < rate <= _MAX_RATE:
        try:
            rate = frame_rate(tracks.video)
        except InvalidData:
            return None
    return float(rate) if isinstance(rate, int | float) and 1 < rate <= _MAX_RATE else None


def _can_close_gops(video: MediaTrack) -> bool:
    """Returns whether the coding parameters can be read; other codecs than H.264 need none. See `OpenGops`."""
    try:
        return video.codec is not Codec.H264 or bool(coding_parameters(video.config))
    except InvalidData:
        return False


def _frame_ms(unit: AccessUnit) -> float:
    """Returns the duration of a sound unit in milliseconds; 0 if it is not known. Encoders do not change it."""
    try:
        return 1000 * frame_seconds(unit.track, unit.payload)
    except InvalidData:
        return 0.0
