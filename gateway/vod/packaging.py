"""Packaging: one film becomes segments, playlists and pictures in a folder, by pulling its tracks in step."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, Final

import av.error

from gateway.vod import stills
from gateway.vod.film import Film
from gateway.vod.naming import Names
from gateway.vod.order import Made, Order, Unusable
from gateway.vod.pictures import Picture, Pictures
from gateway.vod.segments import Segments, Shown, Written, master_playlist, media_playlist
from gateway.vod.sounds import Sounds, sounds_of
from gateway.vod.timeline import TICKS

_LONG: Final = 2 * TICKS  # pictures that begin so much behind the sound are not waited for by its segments
_SHORT_BY: Final = 0.03  # of the promised length; more is missing: the film was cut off


def package(order: Order, progress: Callable[[float], None]) -> Made:
    """Does what is ordered. progress: called with 0 to 1, now and then.

    Raises Unusable where the film is at fault, OSError for the disk, av.error.FFmpegError. Then nothing is closed: that
    may wait for threads of a coder for ever, and a worker that failed ends anyway.
    """
    film = Film(Path(order.source))
    made = _Packaging(film, order, progress).run()
    film.close()
    return made


class _Packaging:
    def __init__(self, film: Film, order: Order, progress: Callable[[float], None]) -> None:
        self._film = film
        self._order = order
        self._progress = progress
        self._folder = Path(order.folder)
        self._names = Names(order.base, order.base)
        self._length = round(order.encoding.segment * TICKS)
        self._poster = False
        self._reached = 0

    def run(self) -> Made:
        if self._film.video is None:
            return self._sound_alone()
        pictures = Pictures(self._film, self._order.encoding, self._folder, self._show, self._advance)
        other = self._film.again()
        made = self._both(pictures, sounds_of(other, pictures.timeline, lambda time: None))
        other.close()
        return made

    # ---- pictures, with or without sound ----

    def _both(self, pictures: Pictures, sounds: Sounds | None) -> Made:
        coming = iter(pictures)
        first = next(coming)
        assert pictures.first is not None
        zero = pictures.first
        if sounds is not None and (heard := sounds.first()) is not None:
            zero = min(zero, heard)
        # Decode times begin before what is shown first, by as much as pictures are reordered.
        shift = TICKS - min(zero, first.dts)
        audio = sounds.track if sounds is not None else None
        segments = Segments(self._folder, self._names, pictures.track, audio, zero + shift, self._length)
        picture: Picture | None = first
        while picture is not None:
            if sounds is not None:
                wanted = picture.pts if segments.cuts(picture.pts + shift, picture.key) else picture.dts
                self._hear(segments, sounds, wanted, shift, before=picture.dts)
            segments.video(picture.dts + shift, picture.pts + shift, picture.key, picture.payload)
            picture = next(coming, None)
        end = pictures.end
        if sounds is not None:
            self._hear(segments, sounds, inf, shift, before=None)
            end = max(end, sounds.end)
        segments.finish(end + shift)
        self._judge_length((end - zero) / TICKS)
        shown = Shown(pictures.display, pictures.frame_rate)
        self._list(segments.written, pictures.track, audio, shown)
        damaged = pictures.damaged + (sounds.damaged if sounds is not None else 0)
        return self._made(segments.written, pictures.size, damaged)

    def _hear(self, segments: Segments, sounds: Sounds, until: float, shift: int, before: int | None) -> None:
        """Writes the sounds before `until`; before: the decode time of the picture that comes next, if one does."""
        for sound in sounds.until(until):
            alone = before is None or before - sound.pts > _LONG
            segments.audio(sound.pts + shift, sound.payload, alone)

    # ---- sound alone ----

    def _sound_alone(self) -> Made:
        sounds = sounds_of(self._film, None, self._advance)
        if sounds is None or (zero := sounds.first()) is None:
            raise Unusable("there is no sound in it that can be decoded")
        shift = TICKS - zero
        segments = Segments(self._folder, self._names, None, sounds.track, TICKS, self._length)
        for sound in sounds.until(inf):
            segments.audio(sound.pts + shift, sound.payload, alone=True)
        segments.finish(sounds.end + shift)
        self._judge_length((sounds.end - zero) / TICKS)
        self._list(segments.written, None, sounds.track, None)
        self._cover()
        return self._made(segments.written, (0, 0), sounds.damaged)

    def _cover(self) -> None:
        """The picture that a song carries, where it can be decoded."""
        other = self._film.again()
        cover: Any = other.cover
        for packet in other.packets(cover) if cover is not None else ():
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                break
            if frames:
                stills.save(frames[0], (frames[0].width, frames[0].height), self._folder, self._names)
                self._poster = True
                break
        other.close()

    # ---- both ways ----

    def _show(self, frame: Any, display: tuple[int, int]) -> None:
        stills.save(frame, display, self._folder, self._names)
        self._poster = True

    def _advance(self, time: int) -> None:
        if time - self._reached > TICKS // 4:
            self._reached = time
            self._progress(min(0.99, self._film.done(time)))

    def _judge_length(self, seconds: float) -> None:
        promised = self._film.promised
        if promised - seconds > max(1.0, _SHORT_BY * promised):
            raise Unusable(f"it is cut off: {seconds:.1f} s of {promised:.1f} s are there")

    def _list(self, segments: list[Written], video: Any, audio: Any, shown: Shown | None) -> None:
        """Playlists last, as everywhere."""
        if not segments:
            raise Unusable("nothing in it can be decoded")
        (self._folder / self._names.playlist).write_bytes(media_playlist(segments))
        master = master_playlist(self._names, segments, video, audio, shown)
        (self._folder / self._names.master).write_bytes(master)

    def _made(self, segments: list[Written], size: tuple[int, int], damaged: int) -> Made:
        duration = sum(s.duration for s in segments)
        return Made(len(segments), round(duration, 3), *size, self._poster, damaged)
