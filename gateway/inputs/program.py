"""The program of a channel: writes the input on air into the channel's stream, on one time line."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.live.additional_relay import AdditionalRelay
from gateway.live.publisher import StreamPublisher
from gateway.live.silent_sound import silence_limit
from gateway.live.track_publisher import TrackPublisher
from gateway.media.clock import MILLISECONDS
from gateway.media.silent_frames import LIKE_OTHERS, silent_frame
from gateway.media.track import AccessUnit, Kind, MadeSilence, MediaTrack, TimedData, Tracks, have_same_media

_FRAME_MS: Final = 33  # from the last unit of an input to the first of the next one, if no time has passed
_MAX_SILENCE_SECONDS: Final = 5  # a longer gap in the sound is not filled
_VIDEO: Final = Kind.VIDEO


class Program:
    """Writes one input after the other into a stream. All times are in ticks of the stream's tracks.

    An input may count otherwise: then its times are rounded, or become finer than they are exact.
    An input begins at a key frame. Its times are moved, so that the stream's time goes on as the clock does. Audio and
    video are moved alike, so they stay in sync. If two inputs have the same audio configuration, the sound has no gap:
    frames of silence fill the time between the inputs. The second input then moves by at most half a frame of sound, so
    that its frames follow directly. An input without sound gets silence in the form of the sound before it, because
    browsers stop where one of two tracks ends.

    Additional tracks are moved like the default ones. If an input lacks one, the track has the default media
    (`TrackPublisher`). The program announces a discontinuity at this change, so that all renditions have it together.

    publisher: of the channel's stream; it must leave times unchanged (`keep_time`).
    """

    def __init__(self, publisher: StreamPublisher) -> None:
        self.publisher = publisher
        additional = publisher.additional
        self._additional = additional if isinstance(additional, TrackPublisher) else None
        self._additional_due = False  # at the next key frame, the input's additional tracks replace the default media
        self._scale = MILLISECONDS  # ticks a second
        self._shift = 0  # ticks from the input's times to the stream's
        self._sound_from = 0  # decode time of the input; its earlier sound is left out
        self._video: MediaTrack | None = None
        self._audio: MediaTrack | None = None
        self._is_new = True  # nothing was announced yet
        self._silence: tuple[bytes, float] | None = None  # a frame of the stream's sound, and its ticks
        self._silence_due = False  # it will be like the next frame of the sound
        # The last such frame and its track; a slate may need it after other sound was on air.
        self._silence_like: tuple[MediaTrack, bytes] | None = None
        # Time of the stream's last frame of sound, since the last announcement. Of silence it is not rounded: otherwise
        # the errors of many frames would add up.
        self._last_sound: float | None = None
        self._last_shown = 0  # presentation time of the stream's last picture
        self._sound_due = False  # the first sound of this input is still to come
        self._is_mute = False  # this input has no sound, and gets silence
        self._limit = silence_limit()

    def begin(
        self,
        tracks: Tracks,
        units: Sequence[AccessUnit],
        now: float,
        sound: int | None = None,
        additional: AdditionalRelay | None = None,
    ) -> None:
        """Begins another input.

        tracks: of the input. If the stream has the same tracks, they are not announced: decoders go on.
        units: from a key frame to the newest one. If there are several, the pictures are squeezed into the time since
        the last unit of the stream, without their sound: players catch up at once, and the delay does not grow.
        now: monotonic seconds. sound: the time of any frame of the input's sound; None: unknown.
        additional: the additional tracks of the input.
        """
        self._announce(tracks, begins=True)
        if self._additional is not None:
            self._additional.leave()
            self.publisher.has_additional |= bool(self.publisher.stream.pushed_tracks)
        self._begin(tracks, units, now, sound)
        if additional is not None and self._additional is not None:
            self._additional_due = len(units) > 1 and bool(additional.tracks)
            additional.announce(self.publisher, now)

    def _begin(self, tracks: Tracks, units: Sequence[AccessUnit], now: float, sound: int | None) -> None:
        received = self.publisher.stream.received
        ms = self._scale // MILLISECONDS
        if sound is not None and (track := tracks.audio or tracks.video) is not None:
            sound = sound * self._scale // track.timescale
        units = [unit.counted(self._scale) for unit in units]
        first, newest = units[0], units[-1]
        self._additional_due, self._sound_due, self._sound_from = False, True, first.dts
        last, elapsed = received.last_dts_ms * ms + ms - 1, round((now - received.last_push) * self._scale)
        pictures = [unit for unit in units if unit.track.kind is _VIDEO] if tracks.video is not None else []
        if received.last_push and len(pictures) > 1:
            begin = max(last, self._last_shown) + ms
            least = begin + (len(pictures) - 1) * ms
            self._shift = self._align(max(least, last + elapsed) - newest.dts, least - newest.dts, sound)
            self._squeeze(pictures, begin, newest.dts + self._shift, now)
            self._sound_from = newest.dts
            return
        self._shift = 0
        if received.last_push:
            least = max(last, self._last_shown - first.cts) + ms - first.dts  # reordered pictures have ended, too
            self._shift = self._align(max(last + max(_FRAME_MS * ms, elapsed) - first.dts, least), least, sound)
            self._fill(first.dts + self._shift, first.wall, now)
        for unit in units:
            self.push(unit, now)

    def _align(self, shift: int, least: int, sound: int | None) -> int:
        """Returns the shift, changed so that the sound of the input follows in whole frames. At least `least`."""
        if sound is None or self._last_sound is None or self._silence is None:
            return shift
        frame = self._silence[1]
        excess = (sound + shift - self._last_sound) % frame
        aligned = shift - excess if excess <= frame / 2 else shift + frame - excess
        return round(aligned if aligned >= least else aligned + frame)

    def take_over(self, tracks: Tracks | None) -> None:
        """Takes over a push whose media are in the stream already, because the channel had no other inputs before.

        tracks: of the push; None: not known yet.
        """
        self._is_new = False
        if tracks is not None:
            self._use(tracks)

    def change(self, tracks: Tracks) -> None:
        """Announces changed tracks or metadata of the input on air."""
        before = self._video, self._audio
        self._announce(tracks)
        if self._additional is not None and before != (self._video, self._audio):
            self._additional.change_default()
        original = self.publisher.stream.original.tracks
        if original is not None and original.metadata != tracks.metadata:
            self.publisher.set_tracks(self._video, self._audio, tracks.metadata)

    def _announce(self, tracks: Tracks, *, begins: bool = False) -> None:
        """Announces tracks that differ from those of the stream.

        A new Program always announces them, because the stream may have tracks of an earlier one.

        begins: whether another input begins. Then renditions may change their tracks.
        """
        original = self.publisher.stream.original.tracks
        tracks = self._with_sound(tracks)
        if self._is_new or original is None or not have_same_media(original, tracks):
            self._is_new = False
            self.publisher.set_tracks(tracks.video, tracks.audio, tracks.metadata)
            self._use(tracks)
        elif self._video is not original.video or self._audio is not original.audio:
            self._use(original)  # units refer to the track objects that consumers know
        if begins and original is not None and self.publisher.stream.original.tracks is original:
            self._discontinue()

    def _with_sound(self, tracks: Tracks) -> Tracks:
        """Returns the tracks of an input; for pictures alone, with the sound of the stream, which is then silent."""
        audio, video = self._audio, tracks.video
        if audio is None or video is None or tracks.audio is not None or not silent_frame(audio, self.silence(audio)):
            self._is_mute = False
            return tracks
        self._is_mute = True
        return replace(tracks, audio=replace(audio, timescale=video.timescale))

    def _discontinue(self) -> None:
        """Announces a discontinuity, if renditions change their tracks now."""
        tracks = self.publisher.stream.original.tracks
        if self._additional is not None and tracks is not None and self._additional.differs(tracks.video, tracks.audio):
            self.publisher.set_tracks(tracks.video, tracks.audio, tracks.metadata, continuous=False)

    def _use(self, tracks: Tracks) -> None:
        self._video, self._audio, self._last_sound = tracks.video, tracks.audio, None
        before = self._scale
        self._scale = next((track.timescale for track in tracks), before)
        self._last_shown = self._last_shown * self._scale // before
        self._silence, audio = None, tracks.audio
        self._silence_due = audio is not None and audio.codec in LIKE_OTHERS and not self._is_mute
        if audio is not None and not self._silence_due:
            self._make_silence(audio, self.silence(audio) if self._is_mute else b"")

    def _make_silence(self, audio: MediaTrack, frame: bytes = b"") -> None:
        """Makes the silent frame, which may be like one of the track's."""
        known, self._silence_due = silent_frame(audio, frame), False
        if known is not None and frame:
            self._silence_like = audio, known.payload
        self._silence = None if known is None else (known.payload, float(known.seconds) * self._scale)

    def silence(self, track: MediaTrack) -> bytes:
        """Returns a silent frame like those of the last sound that needs one; b"" if the track is another one."""
        audio, payload = self._silence_like or (None, b"")
        return payload if audio is not None and (audio.codec, audio.config) == (track.codec, track.config) else b""

    def _squeeze(self, pictures: Sequence[AccessUnit], begin: int, end: int, now: float) -> None:
        """Writes pictures between two times of the stream. `end` is the time of the last one.

        Their arrivals are as far apart as their new times. They came earlier, and dates follow arrivals.
        """
        ms = self._scale // MILLISECONDS
        decoded, times = [unit.dts for unit in pictures], [begin - ms]
        first, last = decoded[0], decoded[-1]
        scale = (end - begin) / (last - first) if last > first else 1.0
        for dts in decoded:
            times.append(max(times[-1] + ms, begin + round((dts - first) * scale)))
        del times[0]
        wall = pictures[-1].wall - times[-1] / self._scale  # of the stream's time 0
        for unit, time in zip(pictures, times, strict=True):
            arrival = wall + time / self._scale
            self._fill(time, arrival, now)
            cts = _interpolate(decoded, times, unit.dts + unit.cts, scale) - time
            self._write(replace(unit, wall=arrival), time, cts, now)
        self._shift = max(self._shift, times[-1] - last)

    def push(self, unit: AccessUnit, now: float) -> None:
        """Writes the next unit of the input on air. Hot path. now: monotonic seconds."""
        if unit.track.timescale != self._scale:
            unit = unit.counted(self._scale)
        if unit.track.kind is _VIDEO:
            if self._additional_due and unit.key:
                self._additional_due = False
                self._discontinue()
            if self._is_mute:
                self._accompany(unit.dts + self._shift, unit.wall, now)
            self._write(unit, unit.dts + self._shift, unit.cts, now)
        elif unit.dts >= self._sound_from:
            dts = unit.dts + self._shift
            if self._silence_due and self._audio is not None:
                self._make_silence(self._audio, unit.payload)
            if self._sound_due and not self._join(unit, dts, now):
                return
            self._last_sound = dts
            self._write(unit, dts, unit.cts, now)

    def _join(self, unit: AccessUnit, dts: int, now: float) -> bool:
        """Fills the time before the first sound of the input with silence. Returns False if this sound is too early."""
        if self._last_sound is not None and self._silence is not None:
            frame = self._silence[1]
            if round((dts - self._last_sound) / frame) < 1:
                return False
            self._fill(dts + frame / 2, unit.wall, now)
        self._sound_due = False
        return True

    def _fill(self, time: float, wall: float, now: float) -> None:
        """Writes silence up to a frame before `time`.

        Silence comes before the pictures that it belongs to: consumers take pictures far ahead of the sound for a hole.
        """
        last, audio = self._last_sound, self._audio
        if last is None or audio is None or self._silence is None or time - last > _MAX_SILENCE_SECONDS * self._scale:
            return
        payload, frame = self._silence
        while last + 2 * frame <= time:
            last += frame
            self.publisher.push(MadeSilence(audio, round(last), 0, True, wall, payload), now)
        self._last_sound = last

    def _accompany(self, dts: int, wall: float, now: float) -> None:
        """Writes silence up to a picture of an input without sound."""
        assert self._silence is not None, "otherwise the input has no track of sound"
        frame, last = self._silence[1], self._last_sound
        seconds = (dts - (dts if last is None else last)) / self._scale
        if last is None or seconds > _MAX_SILENCE_SECONDS or not self._limit.take(max(0.0, seconds), now):
            self._last_sound = dts - frame
        self._fill(dts + frame, wall, now)

    def push_additional(self, number: int, unit: AccessUnit, now: float) -> None:
        """Writes the next unit of an additional track. Hot path. number: twice its id, and one more for audio."""
        ticks = unit.track.timescale
        if unit.track.kind is _VIDEO or unit.dts * self._scale >= self._sound_from * ticks:
            unit.dts += self._shift * ticks // self._scale  # may be changed: its stream keeps no additional units
            self.publisher.push_additional(number, unit, now)

    def push_timed(self, timed: TimedData) -> None:
        self.publisher.push_timed(timed.moved(self._shift * timed.timescale // self._scale))

    def _write(self, unit: AccessUnit, dts: int, cts: int, now: float) -> None:
        # A new unit of its type, because the input's stream still has this one in its cache.
        if unit.track.kind is _VIDEO:
            track, self._last_shown = self._video, max(self._last_shown, dts + cts)
        else:
            track = self._audio
        if track is not None:
            self.publisher.push(type(unit)(track, dts, cts, unit.key, unit.wall, unit.payload), now)


def _interpolate(before: Sequence[int], after: Sequence[int], time: int, scale: float) -> int:
    """Returns the new time of an old one. Times between two old ones stay between their new ones.

    before, after: old and new times in order. scale: of times after the last one, and before equal first ones.
    """
    n = max(0, bisect_right(before, time) - 1)
    if n + 1 < len(before) and before[n] < before[n + 1]:
        scale = (after[n + 1] - after[n]) / (before[n + 1] - before[n])
    return after[n] + round((time - before[n]) * scale)
