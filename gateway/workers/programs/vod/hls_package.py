"""Converts one media file to HLS segments, playlists and a poster in a folder. Reads video and audio in step."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, Final

import av.error

from gateway.formats.ts.muxer import TsMuxer
from gateway.media.track import MediaTrack
from gateway.ports.vod_names import VodNames
from gateway.workers.package_protocol import PackageRequest, PackageResult
from gateway.workers.programs.vod import poster
from gateway.workers.programs.vod.audio_transcoder import AudioTranscoder, open_audio
from gateway.workers.programs.vod.continuous_timeline import TICKS
from gateway.workers.programs.vod.media_file import MediaFile
from gateway.workers.programs.vod.ts_segment_writer import (
    TsSegmentWriter,
    VideoProperties,
    WrittenSegment,
    master_playlist,
    vod_playlist,
)
from gateway.workers.programs.vod.video_transcoder import EncodedPicture, VideoTranscoder
from gateway.workers.vod_bounds import Allowance
from gateway.workers.vod_errors import UnusableMedia

_LONG: Final = 2 * TICKS  # if the next picture is so much later than the audio, segments are cut without it
_SHORT_BY: Final = 0.03  # share of the declared length; if more is missing, the file was cut off


def package(order: PackageRequest, progress: Callable[[float, float], None]) -> PackageResult:
    """Executes an order.

    progress: called now and then with the finished share (0 to 1) and the seconds that were made.
    Raises UnusableMedia for an unusable file, OSError for a disk error, av.error.FFmpegError.
    After an error nothing is closed: closing may wait for the threads of a codec for ever, and a worker that failed
    ends anyway.
    """
    film = MediaFile(Path(order.source))
    order.bounds.judge_promise(film.promised)
    made = _Packaging(film, order, progress).run()
    film.close()
    return made


class _Packaging:
    def __init__(self, film: MediaFile, order: PackageRequest, progress: Callable[[float, float], None]) -> None:
        self._film = film
        self._order = order
        self._progress = progress
        self._folder = Path(order.folder)
        self._names = VodNames(order.base, order.base)
        self._length = round(order.encoding.segment * TICKS)
        self._poster = False
        self._reached = 0  # ticks of the source's own time
        self._made_to = 0  # ticks of the output

    def run(self) -> PackageResult:
        if self._film.video is None:
            return self._sound_alone()
        pictures = VideoTranscoder(self._film, self._order.encoding, self._folder, self._show, self._advance)
        other = self._film.again()
        made = self._both(pictures, open_audio(other, pictures.source.timeline, lambda time: None))
        other.close()
        return made

    # ---- pictures, with or without sound ----

    def _both(self, pictures: VideoTranscoder, sounds: AudioTranscoder | None) -> PackageResult:
        coming = iter(pictures)
        first = next(coming)
        assert pictures.first is not None
        zero = pictures.first
        if sounds is not None and (heard := sounds.first()) is not None:
            zero = min(zero, heard)
        # The first decode time lies before the first presentation time, because pictures are reordered.
        shift = TICKS - min(zero, first.dts)
        audio = sounds.track if sounds is not None else None
        segments = self._segments(pictures.track, audio, zero + shift)
        picture: EncodedPicture | None = first
        while picture is not None:
            if sounds is not None:
                wanted = picture.pts if segments.cuts(picture.pts + shift, picture.key) else picture.dts
                self._hear(segments, sounds, wanted, shift, before=picture.dts, zero=zero)
            self._place(picture.dts - zero)
            segments.video(picture.dts + shift, picture.pts + shift, picture.key, picture.payload)
            picture = next(coming, None)
        end = pictures.end
        if sounds is not None:
            self._hear(segments, sounds, inf, shift, before=None, zero=zero)
            end = max(end, sounds.end)
        segments.finish(end + shift)
        self._judge_length((end - zero) / TICKS)
        shown = VideoProperties(pictures.display, float(pictures.source.rate))
        self._list(segments.written, pictures.track, audio, shown)
        damaged = pictures.source.damaged + (sounds.damaged if sounds is not None else 0)
        return self._made(segments.written, pictures.size, damaged)

    def _hear(
        self,
        segments: TsSegmentWriter,
        sounds: AudioTranscoder,
        until: float,
        shift: int,
        *,
        before: int | None,
        zero: int,
    ) -> None:
        """Writes the audio before `until`. before: decode time of the next picture, None if there is none."""
        for sound in sounds.until(until):
            alone = before is None or before - sound.pts > _LONG
            self._place(sound.pts - zero)
            segments.audio(sound.pts + shift, sound.payload, alone)

    # ---- sound alone ----

    def _sound_alone(self) -> PackageResult:
        sounds = open_audio(self._film, None, self._advance)
        if sounds is None or (zero := sounds.first()) is None:
            raise UnusableMedia("there is no sound in it that can be decoded")
        shift = TICKS - zero
        segments = self._segments(None, sounds.track, TICKS)
        self._hear(segments, sounds, inf, shift, before=None, zero=zero)
        segments.finish(sounds.end + shift)
        self._judge_length((sounds.end - zero) / TICKS)
        self._list(segments.written, None, sounds.track, None)
        self._cover()
        return self._made(segments.written, (0, 0), sounds.damaged)

    def _cover(self) -> None:
        """Saves the embedded cover picture of an audio file as poster, if it can be decoded."""
        other = self._film.again()
        cover: Any = other.cover
        for packet in other.packets(cover) if cover is not None else ():
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                break
            if frames:
                poster.save(frames[0], (frames[0].width, frames[0].height), self._folder, self._names)
                self._poster = True
                break
        other.close()

    # ---- both ways ----

    def _segments(self, video: MediaTrack | None, audio: MediaTrack | None, zero: int) -> TsSegmentWriter:
        allowance = Allowance(self._order.bounds.output_limit(self._film.size))
        return TsSegmentWriter(self._folder, self._names, TsMuxer(video, audio), zero, self._length, allowance)

    def _show(self, frame: Any, display: tuple[int, int]) -> None:
        poster.save(frame, display, self._folder, self._names)
        self._poster = True

    def _advance(self, time: int) -> None:
        if time - self._reached > TICKS // 4:
            self._reached = time
            self._tell()

    def _place(self, time: int) -> None:
        """Notes that the output has reached `time` (ticks). Raises UnusableMedia if that is too long."""
        if time - self._made_to > TICKS:
            self._made_to = time
            self._order.bounds.judge_length(time / TICKS)
            self._tell()

    def _tell(self) -> None:
        """Reports the progress. Called in the decoding thread and in the encoding thread."""
        self._progress(min(0.99, self._film.done(self._reached)), self._made_to / TICKS)

    def _judge_length(self, seconds: float) -> None:
        promised = self._film.promised
        if promised - seconds > max(1.0, _SHORT_BY * promised):
            raise UnusableMedia(f"it is cut off: {seconds:.1f} s of {promised:.1f} s are there")

    def _list(self, segments: list[WrittenSegment], video: Any, audio: Any, shown: VideoProperties | None) -> None:
        """Writes the playlists, after all segments that they list."""
        if not segments:
            raise UnusableMedia("nothing in it can be decoded")
        (self._folder / self._names.playlist).write_bytes(vod_playlist(segments))
        master = master_playlist(self._names, segments, video, audio, shown)
        (self._folder / self._names.master).write_bytes(master)

    def _made(self, segments: list[WrittenSegment], size: tuple[int, int], damaged: int) -> PackageResult:
        duration = sum(s.duration for s in segments)
        return PackageResult(len(segments), round(duration, 3), *size, self._poster, damaged)
