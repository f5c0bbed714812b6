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
from pathlib import Path
from typing import Any, Final

import av.error
import av.logging

from gateway.media.errors import InvalidData
from gateway.media.track import MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.workers.ladder_plan import LadderStep, display_size, fit
from gateway.workers.package_protocol import VodMessage
from gateway.workers.programs import program
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, VideoEncoder, VideoRecipe
from gateway.workers.programs.filters import Preparation, Scaler
from gateway.workers.programs.vod.audio_transcoder import AudioTranscoder, open_audio
from gateway.workers.programs.vod.continuous_timeline import TICKS, ContinuousTimeline
from gateway.workers.programs.vod.media_file import MediaFile, ticks
from gateway.workers.vod_bounds import format_duration
from gateway.workers.vod_errors import UnusableMedia

_KEYS: Final = 2 * TICKS
_PAUSE: Final = TICKS  # a picture that lasts longer is repeated, because a receiver's fragments are limited in time
_CRF: Final = 23.0
_MOST_BITS: Final = 2_000_000
_TOLD: Final = 1.0  # seconds between progress messages


class PacedVideo:
    """Yields the pictures of a file as encoded units, in order. `track` is known after the first unit."""

    def __init__(self, film: MediaFile, box: tuple[int, int]) -> None:
        self.timeline = ContinuousTimeline(film.jumps)
        self._film = film
        self._stream = film.video
        self._stream.thread_type = "AUTO"
        self._box = box
        self._preparation = Preparation(TICKS)
        self._encoder: VideoEncoder | None = None
        self._scaler: Scaler | None = None
        self._next_key: int | None = None
        self._last: DecodedPicture | None = None
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self._rate = Fraction(rate) if 1 <= rate <= 240 else Fraction(25)
        self.damaged = 0

    @property
    def track(self) -> MediaTrack:
        assert self._encoder is not None, "known with the first unit"
        return self._encoder.track

    def __iter__(self) -> Iterator[AccessUnit]:
        """Raises UnusableMedia if no picture can be decoded."""
        for packet in self._film.packets(self._stream):
            for picture in self._decode(packet):
                for ready in self._preparation.push(picture):
                    yield from self._encode(ready)
        for ready in self._preparation.flush():
            yield from self._encode(ready)
        if self._encoder is None or self._last is None:
            raise UnusableMedia("none of its pictures can be decoded")
        yield from self._repeat(self.timeline.end)
        yield from self._encoder.flush()

    def _decode(self, packet: Any) -> Iterator[DecodedPicture]:
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            self.damaged += 1
            return
        for frame in frames:
            at = ticks(frame.pts, frame.time_base)
            step = ticks(frame.duration, frame.time_base) or round(TICKS / self._rate)
            place = self.timeline.place(self.timeline.end if at is None else at, step)
            if place is not None and frame.width and frame.height:
                frame.pts, frame.time_base = place, Fraction(1, TICKS)
                yield DecodedPicture(frame, place, False, 0, 0.0)

    def _encode(self, picture: DecodedPicture) -> Iterator[AccessUnit]:
        if self._encoder is None:
            self._open(picture.frame)
        yield from self._repeat(picture.pts)
        yield from self._coded(picture)
        self._last = picture

    def _repeat(self, until: int) -> Iterator[AccessUnit]:
        """Yields the last picture again, once for each second of a pause."""
        last = self._last
        while last is not None and until - last.pts > _PAUSE:
            last = self._last = DecodedPicture(last.frame, last.pts + _PAUSE, False, 0, 0.0)
            yield from self._coded(last)

    def _coded(self, picture: DecodedPicture) -> Iterator[AccessUnit]:
        assert self._encoder is not None and self._scaler is not None
        picture.key = self._next_key is None or picture.pts >= self._next_key
        if picture.key:
            self._next_key = picture.pts + _KEYS
        yield from self._encoder.encode(self._scaler.scale(picture.frame), picture)

    def _open(self, frame: Any) -> None:
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
            maxrate=_MOST_BITS,
            bufsize=_MOST_BITS,
            rate=self._rate,
            timescale=TICKS,
            profile="baseline",
            crf=_CRF,
        )
        self._encoder, self._scaler = VideoEncoder(recipe, frame), Scaler(fitted.width, fitted.height)


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
            if film.video is None:
                with film.again() as voice:
                    self._only_sounds(film, open_audio(voice, None, _nowhere))
                return
            pictures = PacedVideo(film, self._box)
            with film.again() as voice:
                self._both(film, pictures, open_audio(voice, pictures.timeline, _nowhere))

    def _both(self, film: MediaFile, pictures: PacedVideo, sounds: AudioTranscoder | None) -> None:
        announced = False
        for unit in pictures:
            if not announced:
                announced = True
                self._announce(pictures.track, sounds.track if sounds is not None else None)
            if sounds is not None:
                self._sound(sounds, unit.dts)
            self._unit(unit)
            self._progress(film, unit.dts)
        if sounds is not None:
            self._sound(sounds, float("inf"))

    def _only_sounds(self, film: MediaFile, sounds: AudioTranscoder | None) -> None:
        if sounds is None:
            raise UnusableMedia("its sound cannot be decoded")
        self._announce(None, sounds.track)
        for sound in sounds.until(float("inf")):
            self._unit(AccessUnit(sounds.track, sound.pts, 0, True, 0.0, sound.payload))
            self._progress(film, sound.pts)

    def _sound(self, sounds: AudioTranscoder, until: float) -> None:
        for sound in sounds.until(until):
            self._unit(AccessUnit(sounds.track, sound.pts, 0, True, 0.0, sound.payload))

    def _announce(self, video: MediaTrack | None, audio: MediaTrack | None) -> None:
        self._link.send_tracks(Tracks(video, audio))

    def _unit(self, unit: AccessUnit) -> None:
        """Waits until the unit is due, then sends it with this due time as its wall clock time."""
        if self._first is None:
            self._first, self._began, self._wall = unit.dts, time.monotonic(), time.time()
        since = (unit.dts - self._first) / TICKS
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


def _nowhere(at: int) -> None:
    """Ignores the progress of reading, because only the progress of sending is reported."""


def work(link: program.ParentLink) -> None:
    """Executes one order, then returns."""
    av.logging.set_level(av.logging.PANIC)
    asked = link.receive()
    if asked is None:
        return
    kind, body = asked
    if kind != VodMessage.ORDER:
        raise InvalidData(f"an order is expected, not a frame of kind {kind}")
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
