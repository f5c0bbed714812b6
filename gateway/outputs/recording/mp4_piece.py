"""One piece of an MP4 recording: turns each second of media into fragments for the disk."""

from __future__ import annotations

from typing import Final

from gateway.formats.mp4.fragment import Mp4Sample, OpenKey, fragment
from gateway.formats.mp4.init import TrackInit, movie_init
from gateway.media import codecs
from gateway.media.errors import InvalidData
from gateway.media.random_access import RandomAccess, RandomAccessOf, random_access_of
from gateway.media.track import MediaTrack
from gateway.outputs.recording.cutter import PieceStart
from gateway.packaging.timing import VIDEO_CLOCK

_SECOND: Final = VIDEO_CLOCK
_MAX_BYTES: Final = 4_000_000  # of media; more makes a fragment before the second is over
_VIDEO_ID, _AUDIO_ID = 1, 2


def _closed(payload: bytes) -> RandomAccess:
    return RandomAccess.CLOSED


class Mp4Piece:
    """A Piece whose bytes (`take`) are appended to a file; formats.mp4.finish makes the final MP4 of that file.

    Every fragment is complete, so a crash costs at most the last second.
    A picture waits for the next one, which gives its duration.
    refused: why no MP4 can carry these tracks; None while one can.
    `dropped` counts audio frames whose codec describes itself in its frames, if the first came too late for the header.
    """

    def __init__(self, opening: PieceStart) -> None:
        self.wall = opening.wall
        self.closed = False
        self.refused: str | None = None
        self.dropped = 0
        self._opening = opening
        self._access: RandomAccessOf = random_access_of(opening.video) if opening.video is not None else _closed
        self._first_audio = opening.first_audio
        self._begun = False  # the header is made
        self._has_audio = opening.audio is not None
        self._rate = VIDEO_CLOCK
        self._sequence = 0
        self._pictures: list[Mp4Sample] = []
        self._pictures_at = 0  # decode time of the first of them
        self._last = 0  # decode time of the last one, whose duration is not known yet
        self._step = VIDEO_CLOCK // 30
        self._sounds: list[Mp4Sample] = []
        self._sounds_at = 0
        self._sounds_end = 0
        self._size = 0
        self._ready: list[bytes] = []

    def picture(self, dts: int, cts: int, key: bool, payload: bytes) -> None:
        """Takes one picture. Hot path."""
        pictures = self._pictures
        if pictures:
            step = self._step = dts - self._last
            pictures[-1].duration = step
            if dts - self._pictures_at >= _SECOND or self._size > _MAX_BYTES:
                self._flush()
                pictures = self._pictures
        if not pictures:
            self._pictures_at = dts
        kind = OpenKey if key and self._access(payload) is RandomAccess.OPEN else Mp4Sample
        pictures.append(kind(0, cts, key, payload))
        self._last = dts
        self._size += len(payload)

    def sound(self, time: int, samples: int, payload: bytes) -> None:
        """Takes one audio frame. Hot path."""
        if not self._has_audio:
            self.dropped += 1
            return
        sounds = self._sounds
        if self._first_audio is None or not self._sounds_end:
            self._first_audio = self._first_audio or payload
            if self._opening.audio is not None:
                self._rate = codecs.audio_rate(self._opening.audio, payload)
        if sounds and time != self._sounds_end:
            sounds[-1].duration = max(sounds[-1].duration + time - self._sounds_end, 1)  # a gap: keeps sound in sync
        if not sounds:
            self._sounds_at = time
        elif time - self._sounds_at >= 2 * self._rate or self._size > _MAX_BYTES:
            self._flush(last=False)  # no picture triggers it
            sounds = self._sounds
            self._sounds_at = time
        sounds.append(Mp4Sample(samples, 0, True, payload))
        self._sounds_end = time + samples
        self._size += len(payload)

    def close(self, end: int | None) -> None:
        if self._pictures:
            self._pictures[-1].duration = max(end - self._last, 1) if end is not None else self._step
        self._flush()
        self.closed = True

    def take(self) -> list[bytes]:
        """Returns the bytes to append to the file now."""
        ready, self._ready = self._ready, []
        return ready

    @property
    def waits(self) -> bool:
        """Whether there is something to take."""
        return bool(self._ready)

    def _flush(self, last: bool = True) -> None:
        """Makes fragments of what waits: the pictures, then their sound. last: include the last picture."""
        pictures, sounds = self._pictures, self._sounds
        waits: list[Mp4Sample] = []
        if not last and pictures:
            pictures, waits = pictures[:-1], pictures[-1:]
        at = self._pictures_at
        self._pictures, self._pictures_at = waits, self._last
        self._sounds, self._size = [], 0
        if not pictures and not sounds:
            return
        if self.refused is not None or (not self._begun and not self._begin()):
            return
        if pictures:
            self._sequence += 1
            self._ready.append(fragment(self._sequence, _VIDEO_ID, at, pictures))
        if sounds and not self._has_audio:
            self.dropped += len(sounds)
        elif sounds:
            self._sequence += 1
            self._ready.append(fragment(self._sequence, _AUDIO_ID, self._sounds_at, sounds))

    def _begin(self) -> bool:
        """Makes the header. Returns False if the tracks cannot have one."""
        video, audio = self._opening.video, self._opening.audio
        tracks = []
        try:
            if video is not None and self._opening.first_video is not None:
                size = codecs.video_size(video, self._opening.first_video)
                tracks.append(TrackInit(video, _VIDEO_ID, VIDEO_CLOCK, size, self._opening.first_video))
            if audio is not None and (init := self._audio_init(audio)) is not None:
                tracks.append(init)
            self._has_audio = any(t.track_id == _AUDIO_ID for t in tracks)
            self._ready.append(movie_init(tracks))
        except InvalidData as error:
            self.refused = str(error)
            return False
        self._begun = True
        return True

    def _audio_init(self, audio: MediaTrack) -> TrackInit | None:
        if self._first_audio is None and not audio.config:
            return None
        rate = codecs.audio_rate(audio, self._first_audio)
        return TrackInit(audio, _AUDIO_ID, rate, None, self._first_audio)
