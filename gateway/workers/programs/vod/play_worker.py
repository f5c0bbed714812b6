"""The play worker encodes a media file and sends its units in real time.

`python -m gateway.workers.programs.vod.play_worker <fd>`

Video becomes H.264 Constrained Baseline, 4:2:0, upright, scaled into a box, with a key frame every two seconds. Audio
becomes AAC.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any, Final

from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit, MediaTrack, Tracks
from gateway.protocols import wire
from gateway.workers.ladder_plan import LadderStep, display_size, fit
from gateway.workers.messages import WorkerMessage
from gateway.workers.package_protocol import PlayRequest
from gateway.workers.programs import program
from gateway.workers.programs.codec import DecodedPicture, VideoEncoder, VideoRecipe
from gateway.workers.programs.filters import Scaler
from gateway.workers.programs.vod.audio_transcoder import AudioTranscoder, open_audio
from gateway.workers.programs.vod.film_pictures import FilmPictures, fill_pauses
from gateway.workers.programs.vod.media_file import NO_PICTURE, MediaFile, failure_text
from gateway.workers.vod_bounds import UnusableFilm, format_duration

_KEY_TICKS: Final = 2 * VIDEO_CLOCK  # distance of key frames
_CRF: Final = 23.0
_MAX_BITS: Final = 2_000_000
_PROGRESS_SECONDS: Final = 1.0  # between progress messages


class EncodedVideo:
    """Yields the pictures of a file as encoded units, in order. `track` is known after the first unit."""

    def __init__(self, film: MediaFile, box: tuple[int, int]) -> None:
        self.source = FilmPictures(film, _ignore_time)
        self._box = box
        self._encoder: VideoEncoder | None = None
        self._scaler: Scaler | None = None

    @property
    def track(self) -> MediaTrack:
        assert self._encoder is not None, "known after the first unit"
        return self._encoder.track

    def __iter__(self) -> Iterator[AccessUnit]:
        """Raises UnusableFilm if no picture can be decoded."""
        next_key: int | None = None
        pictures = ((picture, picture.pts) for picture in self.source.prepared())
        for picture, at in fill_pauses(pictures, lambda: self.source.timeline.end):
            frame = picture.frame
            if self._encoder is None or self._scaler is None:
                self._encoder, self._scaler = self._open(frame, picture.aspect)
            key = next_key is None or at >= next_key
            if key:
                next_key = at + _KEY_TICKS
            yield from self._encoder.encode(self._scaler.scale(frame), DecodedPicture(frame, at, key, 0, 0.0))
        if self._encoder is None:
            raise UnusableFilm(NO_PICTURE)
        yield from self._encoder.flush()

    def _open(self, frame: Any, aspect: Fraction) -> tuple[VideoEncoder, Scaler]:
        width, height = display_size(frame.width, frame.height, aspect)
        (fitted,) = fit((LadderStep("box", *self._box, 0, 0, 0.0),), width, height)
        recipe = VideoRecipe(
            "libx264", fitted.width, fitted.height, bitrate=0, maxrate=_MAX_BITS, rate=self.source.rate,
            timescale=VIDEO_CLOCK, profile="baseline", crf=_CRF,
        )  # fmt: skip
        scaler = Scaler(fitted.width, fitted.height)
        return VideoEncoder(recipe, scaler.scale(frame)), scaler


class VodPlayback:
    """Plays one file to its end."""

    def __init__(self, link: program.ParentLink, request: PlayRequest) -> None:
        self._link = link
        self._request = request
        self._started_at = self._wall = 0.0  # times of the first unit: monotonic, wall clock
        self._first: int | None = None  # decode time of the first unit, in ticks
        self._last_progress = 0.0

    def play(self) -> None:
        """Plays the file. Raises UnusableFilm, OSError."""
        request = self._request
        with closing(MediaFile(Path(request.path))) as film:
            self._check_length(film.declared_duration)
            pictures = None if film.video is None else EncodedVideo(film, (request.width, request.height))
            with closing(film.reopen()) as audio_film:
                audio = open_audio(audio_film, None if pictures is None else pictures.source.timeline, _ignore_time)
                if pictures is None and audio is None:
                    raise UnusableFilm("the audio cannot be decoded")
                for unit in _units(pictures, audio):
                    if self._first is None:
                        self._first, self._started_at, self._wall = unit.dts, time.monotonic(), time.time()
                        video_track = None if pictures is None else pictures.track
                        audio_track = None if audio is None else audio.track
                        self._link.send_tracks(Tracks(video_track, audio_track))
                    self._send(unit, (unit.dts - self._first) / VIDEO_CLOCK)
                    self._report_progress(film, unit.dts)

    def _send(self, unit: AccessUnit, seconds: float) -> None:
        """Waits until the unit is due, then sends it with this wall clock time. seconds: since the first unit."""
        self._check_length(seconds)
        if (wait := self._started_at + seconds / self._request.pace - time.monotonic()) > 0:
            time.sleep(wait)
        unit.wall = self._wall + seconds
        self._link.send_units((unit,))

    def _check_length(self, seconds: float) -> None:
        if 0 < self._request.longest < seconds:
            raise UnusableFilm(f"it lasts longer than {format_duration(self._request.longest)} (kvs.object_seconds)")

    def _report_progress(self, film: MediaFile, at: int) -> None:
        if (now := time.monotonic()) - self._last_progress >= _PROGRESS_SECONDS:
            self._last_progress = now
            self._link.send_json(WorkerMessage.PROGRESS, done=round(film.progress(at), 4))


def _units(pictures: EncodedVideo | None, audio: AudioTranscoder | None) -> Iterator[AccessUnit]:
    """Yields the units of both tracks in decode order."""
    for unit in pictures or ():
        yield from _audio_units(audio, unit.dts)
        yield unit
    yield from _audio_units(audio, inf)


def _audio_units(audio: AudioTranscoder | None, until: float) -> Iterator[AccessUnit]:
    if audio is not None:
        for pts, payload in audio.until(until):
            yield AccessUnit(audio.track, pts, 0, True, 0.0, payload)


def _ignore_time(at: int) -> None:
    """Ignores the progress of reading: only the progress of sending is reported."""


def work(link: program.ParentLink) -> None:
    """Executes one request, then returns."""
    body = link.receive_setup()
    if body is None:
        return
    request = wire.decode_record(PlayRequest, body)
    try:
        VodPlayback(link, request).play()
    except Exception as error:
        if (text := failure_text(error, "workers.memory")) is None:
            raise
        link.send(WorkerMessage.FAILED, text.encode())
    else:
        link.send_end()


if __name__ == "__main__":
    sys.exit(program.run(work))
