"""The play worker: `python -m gateway.vod.play <fd>` sends a film's units at the film's own pace, coded for receivers.

Pictures become H.264 Constrained Baseline, 4:2:0, upright, inside a box, with a key frame each two seconds; sound AAC.
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
from gateway.media.track import Track, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import Message
from gateway.transcode import child
from gateway.transcode.codec import CodecFailed, Picture, VideoEncoder, VideoRecipe
from gateway.transcode.filters import Preparation, Scaler
from gateway.transcode.ladder import Rung, display_size, fit
from gateway.vod.film import Film, ticks
from gateway.vod.order import Say, Unusable
from gateway.vod.sounds import Sounds, sounds_of
from gateway.vod.timeline import TICKS, Timeline

_KEYS: Final = 2 * TICKS
_PAUSE: Final = TICKS  # a picture that stands longer is sent again: a receiver's fragments are bounded in time
_CRF: Final = 23.0
_MOST_BITS: Final = 2_000_000
_TOLD: Final = 1.0  # seconds between words about progress


class Pictures:
    """A film's pictures as units, in order; `track` is there with the first."""

    def __init__(self, film: Film, box: tuple[int, int]) -> None:
        self.timeline = Timeline(film.jumps)
        self._film = film
        self._stream = film.video
        self._stream.thread_type = "AUTO"
        self._box = box
        self._preparation = Preparation(TICKS)
        self._encoder: VideoEncoder | None = None
        self._scaler: Scaler | None = None
        self._next_key: int | None = None
        self._last: Picture | None = None
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self._rate = Fraction(rate) if 1 <= rate <= 240 else Fraction(25)
        self.damaged = 0

    @property
    def track(self) -> Track:
        assert self._encoder is not None, "known with the first unit"
        return self._encoder.track

    def __iter__(self) -> Iterator[AccessUnit]:
        """Raises Unusable where not one picture can be decoded."""
        for packet in self._film.packets(self._stream):
            for picture in self._decode(packet):
                for ready in self._preparation.push(picture):
                    yield from self._encode(ready)
        for ready in self._preparation.flush():
            yield from self._encode(ready)
        if self._encoder is None or self._last is None:
            raise Unusable("none of its pictures can be decoded")
        yield from self._repeat(self.timeline.end)
        yield from self._encoder.flush()

    def _decode(self, packet: Any) -> Iterator[Picture]:
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
                yield Picture(frame, place, False, 0, 0.0)

    def _encode(self, picture: Picture) -> Iterator[AccessUnit]:
        if self._encoder is None:
            self._open(picture.frame)
        yield from self._repeat(picture.pts)
        yield from self._coded(picture)
        self._last = picture

    def _repeat(self, until: int) -> Iterator[AccessUnit]:
        """The last picture again, each second of a pause."""
        last = self._last
        while last is not None and until - last.pts > _PAUSE:
            last = self._last = Picture(last.frame, last.pts + _PAUSE, False, 0, 0.0)
            yield from self._coded(last)

    def _coded(self, picture: Picture) -> Iterator[AccessUnit]:
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
        (fitted,) = fit((Rung("box", *self._box, 0, 0, 0.0),), width, height)
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


class Playing:
    """One film to its end. pace: times its own speed."""

    def __init__(self, link: child.Link, path: str, box: tuple[int, int], pace: float) -> None:
        self._link = link
        self._path = path
        self._box = box
        self._pace = pace
        self._began = self._wall = 0.0
        self._first: int | None = None
        self._told = 0.0

    def play(self) -> None:
        """Raises Unusable, OSError."""
        with Film(Path(self._path)) as film:
            if film.video is None:
                with film.again() as voice:
                    self._only_sounds(film, sounds_of(voice, None, _nowhere))
                return
            pictures = Pictures(film, self._box)
            with film.again() as voice:
                self._both(film, pictures, sounds_of(voice, pictures.timeline, _nowhere))

    def _both(self, film: Film, pictures: Pictures, sounds: Sounds | None) -> None:
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

    def _only_sounds(self, film: Film, sounds: Sounds | None) -> None:
        if sounds is None:
            raise Unusable("its sound cannot be decoded")
        self._announce(None, sounds.track)
        for sound in sounds.until(float("inf")):
            self._unit(AccessUnit(sounds.track, sound.pts, 0, True, 0.0, sound.payload))
            self._progress(film, sound.pts)

    def _sound(self, sounds: Sounds, until: float) -> None:
        for sound in sounds.until(until):
            self._unit(AccessUnit(sounds.track, sound.pts, 0, True, 0.0, sound.payload))

    def _announce(self, video: Track | None, audio: Track | None) -> None:
        self._link.send(Message.TRACKS, wire.encode_tracks(Tracks(video, audio)))

    def _unit(self, unit: AccessUnit) -> None:
        """Sent when its time has come; its wall clock is the time at which it was due."""
        if self._first is None:
            self._first, self._began, self._wall = unit.dts, time.monotonic(), time.time()
        since = (unit.dts - self._first) / TICKS
        if (ahead := self._began + since / self._pace - time.monotonic()) > 0:
            time.sleep(ahead)
        unit.wall = self._wall + since
        self._link.send(Message.UNIT, wire.encode_unit(unit))

    def _progress(self, film: Film, at: int) -> None:
        if (now := time.monotonic()) - self._told >= _TOLD:
            self._told = now
            self._link.send(Say.PROGRESS, wire.write_json({"done": round(film.done(at), 4)}))


def _nowhere(at: int) -> None:
    """How far the reading is does not matter: how far the sending is does."""


def work(link: child.Link) -> None:
    """One order, then the end."""
    av.logging.set_level(av.logging.PANIC)
    asked = link.receive()
    if asked is None:
        return
    kind, body = asked
    if kind != Say.ORDER:
        raise InvalidData(f"an order is expected, not a frame of kind {kind}")
    order = wire.read_json(body)
    try:
        Playing(link, str(order["path"]), (int(order["width"]), int(order["height"])), float(order["pace"])).play()
    except (Unusable, CodecFailed) as error:
        link.send(Say.FAILED, str(error).encode())
    except (BrokenPipeError, ConnectionResetError):
        raise
    except (OSError, MemoryError) as error:
        words = "not enough memory" if isinstance(error, MemoryError) else error.strerror or str(error)
        link.send(Say.FAILED, words.encode())
    else:
        link.send(Message.END, wire.encode_end())


if __name__ == "__main__":
    sys.exit(child.run(work))
