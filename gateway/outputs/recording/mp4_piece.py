"""One file of an MP4 recording: converts each second of media to fragments for the disk."""

from dataclasses import dataclass
from typing import Final

from gateway.formats.mp4.fragment import Mp4Sample, OpenKey, fragment
from gateway.formats.mp4.init import TrackInit, movie_init
from gateway.media import codecs
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.open_gops import OpenGops
from gateway.media.random_access import RandomAccess, RandomAccessOf, random_access_of
from gateway.media.track import Kind, MediaTrack
from gateway.outputs.recording.cutter import PieceStart

_SECOND: Final = VIDEO_CLOCK
_MAX_BYTES: Final = 4_000_000  # of media; a second with more bytes becomes several fragments
_LONGEST: Final = 2**32 - 1  # ticks of a picture: the field of its duration has 32 bits
_VIDEO_ID, _AUDIO_ID, _FIRST_ADDITIONAL_ID = 1, 2, 3
_VIDEO_GROUP, _AUDIO_GROUP = 1, 2  # alternate groups: players play one track of each


@dataclass(frozen=True, slots=True)
class AdditionalMedia:
    """An additional track, for a piece. timescale: ticks a second of its times."""

    name: str
    track: MediaTrack
    timescale: int
    language: str
    label: str


@dataclass(frozen=True, slots=True)
class AdditionalSample:
    """A unit of an additional track. time: decode time, in its ticks. length: ticks; 0: until the next unit."""

    time: int
    cts: int
    length: int
    key: bool
    payload: bytes


@dataclass(slots=True)
class _Additional:
    """An additional track of the piece.

    at, last: first and last decode time of its waiting samples.

    step: ticks between its last two units. id: its number in the header; 0 while the header does not contain it.
    """

    media: AdditionalMedia
    access: RandomAccessOf
    samples: list[Mp4Sample]
    at: int
    last: int
    step: int
    id: int = 0


class Mp4Piece:
    """A RecordingPiece as MP4 fragments. The caller appends the bytes of `pop_data` to a file.

    formats.mp4.finish makes the final MP4 from that file.
    Every fragment is complete, so a crash loses at most the last second.
    A picture is written after the next one has arrived, because only that defines its duration.
    unsupported: the reason if MP4 does not support these tracks, else None.
    `begin` and `end` are the presentation times of its media, ticks of 90 kHz; `end` is known when it is closed.
    `dropped` counts audio frames that arrived too late for the header, of codecs with in-band configuration.
    """

    def __init__(self, start: PieceStart) -> None:
        self.wall_clock = start.wall_clock
        self.closed = False
        self.begin: int | None = None
        self.end = 0
        self.unsupported: str | None = None
        self.dropped = 0
        self._start = start
        self._access_of_sound: RandomAccessOf = lambda payload: RandomAccess.CLOSED
        self._gops = OpenGops(start.video) if start.video is not None else None
        self._first_audio = start.first_audio
        self._header_written = False
        self._has_audio = start.audio is not None
        self._rate = VIDEO_CLOCK
        self._sequence = 0
        self._pictures: list[Mp4Sample] = []
        self._pictures_at = 0  # decode time of the first of them
        self._last = 0  # decode time of the last picture, whose duration is still unknown
        self._step = VIDEO_CLOCK // 30
        self._additional: dict[str, _Additional] = {}
        self._sounds: list[Mp4Sample] = []
        self._sounds_at = 0
        self._sounds_end = 0
        self._size = 0
        self._data: list[bytes] = []

    def add_picture(self, dts: int, cts: int, key: bool, payload: bytes) -> None:
        """Adds one picture. Hot path."""
        pictures = self._pictures
        gops, opens = self._gops, False
        if gops is not None and (key or gops.is_open):
            prepared = gops.add(payload, dts + cts, key)
            if prepared is None:
                return
            payload, opens = prepared, key and gops.access is RandomAccess.OPEN
        if pictures:
            step = self._step = min(dts - self._last, _LONGEST)
            pictures[-1].duration = step
            if dts - self._pictures_at >= _SECOND or self._size > _MAX_BYTES:
                self._flush()
                pictures = self._pictures
        if not pictures:
            self._pictures_at = dts
        if self.begin is None or dts + cts < self.begin:
            self.begin = dts + cts
        kind = OpenKey if opens else Mp4Sample
        pictures.append(kind(0, cts, key, payload))
        self._last = dts
        self._size += len(payload)

    def add_sound(self, time: int, samples: int, payload: bytes) -> None:
        """Adds one audio frame. Hot path."""
        if not self._has_audio:
            self.dropped += 1
            return
        sounds = self._sounds
        if self._first_audio is None or not self._sounds_end:
            self._first_audio = self._first_audio or payload
            if self._start.audio is not None:
                self._rate = codecs.audio_rate(self._start.audio, payload)
        if sounds and time != self._sounds_end:  # a gap: a longer duration keeps sound in sync
            sounds[-1].duration = max(sounds[-1].duration + time - self._sounds_end, 1)
        if not sounds:
            self._sounds_at = time
            if self.begin is None or time * _SECOND < self.begin * self._rate:
                self.begin = time * _SECOND // self._rate  # pictures in another order than shown begin after the sound
        elif time - self._sounds_at >= 2 * self._rate or self._size > _MAX_BYTES:
            self._flush(last=False)  # no picture arrives to do it
            sounds = self._sounds
            self._sounds_at = time
        sounds.append(Mp4Sample(samples, 0, True, payload))
        self._sounds_end = time + samples
        self._size += len(payload)

    def add_additional(self, media: AdditionalMedia, sample: AdditionalSample) -> None:
        """Adds a unit of an additional track. Hot path.

        The header has the tracks that come within the first second; units of other tracks are dropped.
        """
        state = self._additional.get(media.name)
        if state is None:
            if self._header_written:
                self.dropped += 1
                return
            is_video = media.track.kind is Kind.VIDEO
            access = random_access_of(media.track) if is_video else self._access_of_sound
            state = self._additional[media.name] = _Additional(media, access, [], sample.time, sample.time, self._step)
        if state.media.track != media.track or (self._header_written and not state.id):
            self.dropped += 1
            return
        samples = state.samples
        if samples:
            samples[-1].duration = state.step = max(sample.time - state.last, 1)  # also over a gap
        else:
            state.at = sample.time
        kind = OpenKey if sample.key and state.access(sample.payload) is RandomAccess.OPEN else Mp4Sample
        samples.append(kind(sample.length or state.step, sample.cts, sample.key, sample.payload))
        state.last = sample.time
        self._size += len(sample.payload)

    def close(self, end: int | None) -> None:
        sound_end = self._sounds_end * _SECOND // self._rate
        picture_end = self._last + self._step if self._pictures else 0
        self.end = end if end is not None else max(picture_end, sound_end)
        if self._pictures:
            self._pictures[-1].duration = min(max(end - self._last, 1), _LONGEST) if end is not None else self._step
        self._flush()
        self._flush_additional(last=True)
        self.closed = True

    def flush(self) -> None:
        """Converts the waiting frames to fragments, except the last picture, whose duration is unknown."""
        self._flush(last=False)

    def pop_data(self) -> list[bytes]:
        """Returns the bytes to append to the file."""
        data, self._data = self._data, []
        return data

    @property
    def has_data(self) -> bool:
        """Whether `pop_data` returns bytes."""
        return bool(self._data)

    def _flush(self, last: bool = True) -> None:
        """Converts the waiting frames to fragments: pictures, then sound. last: whether to include the last picture."""
        pictures, sounds = self._pictures, self._sounds
        waiting: list[Mp4Sample] = []
        if not last and pictures:
            pictures, waiting = pictures[:-1], pictures[-1:]
        at = self._pictures_at
        self._pictures, self._pictures_at = waiting, self._last
        self._sounds, self._size = [], 0
        if not pictures and not sounds:
            return
        if self.unsupported is not None or (not self._header_written and not self._write_header()):
            return
        self._flush_additional(last=False)
        if pictures:
            self._sequence += 1
            self._data.append(fragment(self._sequence, _VIDEO_ID, at, pictures))
        if sounds and not self._has_audio:
            self.dropped += len(sounds)
        elif sounds:
            self._sequence += 1
            self._data.append(fragment(self._sequence, _AUDIO_ID, self._sounds_at, sounds))

    def _flush_additional(self, *, last: bool) -> None:
        """Converts the samples of additional tracks. last: whether to include the last ones.

        Until the end they wait, because a gap after them makes them longer.
        """
        if not self._header_written:
            return
        for state in self._additional.values():
            samples, state.samples = (state.samples, []) if last else (state.samples[:-1], state.samples[-1:])
            if samples and state.id:
                self._sequence += 1
                self._data.append(fragment(self._sequence, state.id, state.at, samples))
            state.at = state.last

    def _write_header(self) -> bool:
        """Writes the header. Returns False if MP4 does not support the tracks."""
        video, audio = self._start.video, self._start.audio
        tracks = []
        try:
            if video is not None and (first := self._start.first_video) is not None:
                size, group = codecs.video_size(video, first), self._group(Kind.VIDEO)
                tracks.append(TrackInit(video, _VIDEO_ID, VIDEO_CLOCK, size, first, group=group))
            if audio is not None and (init := self._audio_init(audio)) is not None:
                tracks.append(init)
            self._has_audio = any(t.track_id == _AUDIO_ID for t in tracks)
            tracks += self._additional_inits()
            self._data.append(movie_init(tracks))
        except InvalidData as error:
            self.unsupported = str(error)
            return False
        self._header_written = True
        return True

    def _audio_init(self, audio: MediaTrack) -> TrackInit | None:
        if self._first_audio is None and not audio.config:
            return None
        rate = codecs.audio_rate(audio, self._first_audio)
        language, name = self._start.language, self._start.label
        group = self._group(Kind.AUDIO)
        return TrackInit(audio, _AUDIO_ID, rate, None, self._first_audio, language, name, group)

    def _group(self, kind: Kind) -> int:
        """Returns the alternate group of the tracks of this kind; 0 if there is only one such track."""
        if not any(state.media.track.kind is kind for state in self._additional.values()):
            return 0
        return _VIDEO_GROUP if kind is Kind.VIDEO else _AUDIO_GROUP

    def _additional_inits(self) -> list[TrackInit]:
        """Returns the additional tracks for the header. A track that MP4 does not support is left out."""
        inits: list[TrackInit] = []
        for state in self._additional.values():
            media, first = state.media, state.samples[0].payload if state.samples else None
            try:
                size = codecs.video_size(media.track, first) if media.track.kind is Kind.VIDEO else None
                init = TrackInit(
                    media.track, _FIRST_ADDITIONAL_ID + len(inits), media.timescale, size, first, media.language,
                    media.label, self._group(media.track.kind),
                )  # fmt: skip
                movie_init([init])  # raises here, not for the whole movie
            except InvalidData:
                continue
            state.id = init.track_id
            inits.append(init)
        return inits
