"""The play worker sends the units of a media file in real time, encoded for receivers.

`python -m gateway.workers.programs.vod.play_worker <fd>`

Video becomes H.264 Constrained Baseline, 4:2:0, upright, scaled into a box, with a key frame every two seconds. Audio
becomes AAC.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any, Final

import av.logging

from gateway.media.track import MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.workers.ladder_plan import LadderStep, display_size, fit
from gateway.workers.package_protocol import VodMessage
from gateway.workers.programs import program
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, VideoEncoder, VideoRecipe
from gateway.workers.programs.filters import Preparation, Scaler
from gateway.workers.programs.vod.audio_transcoder import AudioTranscoder, open_audio
from gateway.workers.programs.vod.continuous_timeline import TICKS
from gateway.workers.programs.vod.film_pictures import FilmPictures, fill_pauses
from gateway.workers.programs.vod.media_file import MediaFile
from gateway.workers.vod_bounds import format_duration
from gateway.workers.vod_errors import UnusableMedia

_KEYS: Final = 2 * TICKS
_CRF: Final = 23.0
_MAX_BITS: Final = 2_000_000
_TOLD: Final = 1.0  # seconds between progress messages


class PacedVideo:
    """Yields the pictures of a file as encoded units, in order. `track` is known after the first unit."""

    def __init__(self, film: MediaFile, box: tuple[int, int]) -> None:
        self.source = FilmPictures(film, _nowhere)
        self._stream = film.video
        self._box = box
        self._preparation = Preparation(TICKS)
        self._encoder: VideoEncoder | None = None
        self._scaler: Scaler | None = None

    @property
    def track(self) -> MediaTrack:
        assert self._encoder is not None, "known with the first unit"
        return self._encoder.track

    def __iter__(self) -> Iterator[AccessUnit]:
        """Raises UnusableMedia if no picture can be decoded."""
        next_key: int | None = None
        for frame, at in fill_pauses(self._frames(), lambda: self.source.timeline.end):
            if self._encoder is None or self._scaler is None:
                self._encoder, self._scaler = self._open(frame)
            key = next_key is None or at >= next_key
            if key:
                next_key = at + _KEYS
            yield from self._encoder.encode(self._scaler.scale(frame), DecodedPicture(frame, at, key, 0, 0.0))
        if self._encoder is None:
            raise UnusableMedia("none of its pictures can be decoded")
        yield from self._encoder.flush()

    def _frames(self) -> Iterator[tuple[Any, int]]:
        for frame in self.source:
            for ready in self._preparation.push(DecodedPicture(frame, frame.pts, False, 0, 0.0)):
                yield ready.frame, ready.pts
        for ready in self._preparation.flush():
            yield ready.frame, ready.pts

    def _open(self, frame: Any) -> tuple[VideoEncoder, Scaler]:
        aspect = Fraction(self._stream.sample_aspect_ratio or 1)
        turned = (frame.width < frame.height) != (self._stream.width < self._stream.height)
        shape = 1 / aspect if turned else aspect
        width, height = display_size(frame.width, frame.height, shape if 0 < shape < 100 else Fraction(1))
        (fitted,) = fit((LadderStep("box", *self._box, 0, 0, 0.0),), width, height)
        recipe = VideoRecipe(
            "libx264",
            fitted.width,
            fitted.height,
            bitrate=0,
            maxrate=_MAX_BITS,
            rate=self.source.rate,
            timescale=TICKS,
            profile="baseline",
            crf=_CRF,
        )
        return VideoEncoder(recipe, frame), Scaler(fitted.width, fitted.height)


class VodPlayback:
    """Plays one file to its end.

    pace: playback speed, 1 is real time. longest: seconds that the file may last, 0 for no limit.
    """

    def __init__(self, link: program.ParentLink, path: str, box: tuple[int, int], pace: float, longest: float) -> None:
        self._link = link
        self._path = path
        self._box = box
        self._pace = pace
        self._longest = longest
        self._began = self._wall = 0.0
        self._first: int | None = None
        self._told = 0.0

    def play(self) -> None:
        """Plays the file. Raises UnusableMedia, OSError."""
        with MediaFile(Path(self._path)) as film:
            self._judge(film.promised)
            pictures = None if film.video is None else PacedVideo(film, self._box)
            with film.again() as voice:
                sounds = open_audio(voice, None if pictures is None else pictures.source.timeline, _nowhere)
                if pictures is None and sounds is None:
                    raise UnusableMedia("its sound cannot be decoded")
                for unit in _units(pictures, sounds):
                    if self._first is None:
                        self._first, self._began, self._wall = unit.dts, time.monotonic(), time.time()
                        video, audio = (None if of is None else of.track for of in (pictures, sounds))
                        self._link.send_tracks(Tracks(video, audio))
                    self._unit(unit, self._first)
                    self._progress(film, unit.dts)

    def _unit(self, unit: AccessUnit, first: int) -> None:
        """Waits until the unit is due, then sends it with this due time as its wall clock time."""
        since = (unit.dts - first) / TICKS
        self._judge(since)
        if (ahead := self._began + since / self._pace - time.monotonic()) > 0:
            time.sleep(ahead)
        unit.wall = self._wall + since
        self._link.send_units((unit,))

    def _judge(self, seconds: float) -> None:
        if self._longest and seconds > self._longest:
            raise UnusableMedia(f"it lasts longer than {format_duration(self._longest)} (kvs.object_seconds)")

    def _progress(self, film: MediaFile, at: int) -> None:
        if (now := time.monotonic()) - self._told >= _TOLD:
            self._told = now
            self._link.send_json(VodMessage.PROGRESS, done=round(film.done(at), 4))


def _units(pictures: PacedVideo | None, sounds: AudioTranscoder | None) -> Iterator[AccessUnit]:
    """Yields the units of both tracks in decode order."""
    for unit in pictures or ():
        yield from _heard(sounds, unit.dts)
        yield unit
    yield from _heard(sounds, inf)


def _heard(sounds: AudioTranscoder | None, until: float) -> Iterator[AccessUnit]:
    if sounds is not None:
        for sound in sounds.until(until):
            yield AccessUnit(sounds.track, sound.pts, 0, True, 0.0, sound.payload)


def _nowhere(at: int) -> None:
    """Ignores the progress of reading, because only the progress of sending is reported."""


def work(link: program.ParentLink) -> None:
    """Executes one order, then returns."""
    av.logging.set_level(av.logging.PANIC)
    body = link.receive_order(VodMessage.ORDER)
    if body is None:
        return
    order = wire.read_json(body)
    try:
        box = int(order["width"]), int(order["height"])
        VodPlayback(link, str(order["path"]), box, float(order["pace"]), float(order["longest"])).play()
    except (UnusableMedia, CodecFailed) as error:
        link.send(VodMessage.FAILED, str(error).encode())
    except (BrokenPipeError, ConnectionResetError):
        raise
    except (OSError, MemoryError) as error:
        words = "not enough memory" if isinstance(error, MemoryError) else error.strerror or str(error)
        link.send(VodMessage.FAILED, words.encode())
    else:
        link.send_end()


if __name__ == "__main__":
    sys.exit(program.run(work))
