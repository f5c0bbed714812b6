"""Converts one media file to HLS segments, playlists and a poster in a folder. Reads video and audio alternately."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import ceil, inf
from pathlib import Path
from typing import Any, Final

import av.error
from PIL import Image

from gateway.formats.captions.reorder import PictureOrder
from gateway.formats.ts.muxer import TsMuxer
from gateway.media.caption_track import CaptionTrack
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.closed_captions import ClosedCaptions
from gateway.media.track import AccessUnit
from gateway.ports.vod_names import VodNames
from gateway.workers.package_protocol import POSTER_QUALITY, THUMBNAIL_QUALITY, PackageRequest, PackageResult
from gateway.workers.programs.vod.audio_transcoder import AacFrame, AudioTranscoder, open_audio
from gateway.workers.programs.vod.film_texts import FilmTexts
from gateway.workers.programs.vod.media_file import MediaFile
from gateway.workers.programs.vod.ts_segment_writer import TsSegmentWriter, master_playlist, vod_playlist
from gateway.workers.programs.vod.unbroken_sound import UnbrokenSound
from gateway.workers.programs.vod.video_transcoder import VideoTranscoder
from gateway.workers.vod_bounds import Allowance, UnusableFilm

_LONG_GAP: Final = (
    2 * VIDEO_CLOCK
)  # if the next picture is this much later than the audio, segments are cut at audio frames
_MAX_MISSING: Final = 0.03  # fraction of the declared length; if more is missing, the file is incomplete
_SHORT: Final = 0.2  # seconds; a shorter end is not missed
_MAX_UNHEARD: Final = 0.5  # seconds of sound that may be left out without a warning
# The preview pictures of a VOD: all are parts of one JPEG file, the sheet.
MAX_PICTURES: Final = 100  # about 5 MB of memory
_COLUMNS: Final = 10
_SIDE: Final = 160  # pixels of a picture's longer side
_QUALITY: Final = 60
_MIN_SECONDS: Final = 1  # between two pictures


def package(request: PackageRequest, report_progress: Callable[[float, float], None]) -> PackageResult:
    """Executes a request.

    report_progress: called sometimes with the progress (0 to 1) and the finished seconds.
    Raises UnusableFilm for an unusable file, OSError for a disk error, av.error.FFmpegError.
    After an error nothing is closed: closing may wait forever for the threads of a codec, and a worker that failed ends
    anyway.
    """
    film = MediaFile(Path(request.source))
    request.bounds.check_declared_length(film.declared_duration)
    result = _Packaging(film, request, report_progress).run()
    film.close()
    return result


class _Packaging:
    """The conversion of one file."""

    def __init__(
        self, film: MediaFile, request: PackageRequest, report_progress: Callable[[float, float], None]
    ) -> None:
        self._film = film
        self._request = request
        self._report_progress = report_progress
        self._folder = Path(request.folder)
        self._names = VodNames(request.base, request.base)
        self._has_poster = False
        self._previews: PreviewPictures | None = None
        self._source_time = 0  # ticks, in the time of the source
        self._output_time = 0  # ticks since the beginning of the VOD
        self._zero = 0  # time of the first frame, in ticks
        self._shift = 0  # ticks added to all times
        self._closed, self._order = ClosedCaptions(), PictureOrder()  # the encoder keeps those of the file

    def run(self) -> PackageResult:
        """Packages video and audio, or only one of them. Reads both alternately."""
        film, request = self._film, self._request
        pictures = None if film.video is None else self._open_video()
        audio_film = film if pictures is None else film.reopen()
        if pictures is None:
            audio = open_audio(audio_film, None, self._advance)
        else:
            audio = pictures.sound = open_audio(audio_film, pictures.source.timeline, lambda time: None)
        encoded = iter(pictures or ())
        picture = next(encoded, None)
        starts = (None if pictures is None else pictures.first, None if audio is None else audio.first())
        known_starts = [start for start in starts if start is not None]
        if not known_starts:
            raise UnusableFilm("the file has no audio that can be decoded")
        zero = self._zero = min(known_starts)
        # The first decode time is before the first presentation time, because pictures are reordered.
        shift = self._shift = VIDEO_CLOCK - (zero if picture is None else min(zero, picture.dts))
        tracks = None if pictures is None else pictures.track, None if audio is None else audio.track
        allowance = Allowance(request.bounds.output_limit(film.size))
        muxer, length = TsMuxer(*tracks), round(request.encoding.segment * VIDEO_CLOCK)
        segments = TsSegmentWriter(self._folder, self._names, muxer, zero + shift, length, allowance)
        sound = None if audio is None else UnbrokenSound(audio, zero)
        while picture is not None:
            if sound is not None:
                until = picture.pts if segments.cuts(picture.pts + shift, picture.key) else picture.dts
                self._write_audio(segments, sound.until(until), picture.dts)
            self._set_output_time(picture.dts)
            if tracks[0] is not None:
                cts = picture.pts - picture.dts
                unit = AccessUnit(tracks[0], picture.dts, cts, picture.key, 0.0, picture.payload)
                self._find_closed(self._closed.look(unit), picture.pts, picture.dts)
            segments.add_picture(picture.dts + shift, picture.pts + shift, picture.key, picture.payload)
            picture = next(encoded, None)
        if sound is not None:
            self._write_audio(segments, sound.until(0 if pictures is None else pictures.end), None)
            self._write_audio(segments, sound.until(inf, fills=False), None)
        end = max(part.end for part in (pictures, audio) if part is not None)
        segments.finish(end + shift)
        self._find_closed(b"", end, end)
        is_cut = film.lacks_packets(film.video) or (audio is not None and audio_film.lacks_packets(audio_film.audio))
        missing = self._missing_seconds(end, is_cut)
        warning = _warning(film, pictures, audio, missing, is_mute=audio is None and audio_film.has_sound)
        result = replace(self._conclude(segments, pictures, audio, end), warning=warning)
        audio_film.close()
        return result

    def _find_closed(self, pairs: bytes, shown: int, decoded: int) -> None:
        """Finds the captions of pictures when their turn to be shown comes. shown, decoded: of the last one, ticks."""
        for _, data in self._order.add(pairs, shown, decoded):
            self._closed.find(data)

    def _conclude(
        self, segments: TsSegmentWriter, pictures: VideoTranscoder | None, audio: AudioTranscoder | None, end: int
    ) -> PackageResult:
        """Writes the playlists, after all segments that they list, and the pictures. end: of the last frame, ticks."""
        if not segments.written:
            raise UnusableFilm("the file has no content that can be decoded")
        (self._folder / self._names.playlist).write_bytes(vod_playlist(segments.written))
        display = None if pictures is None else (pictures.display, float(pictures.source.rate))
        tracks = None if pictures is None else pictures.track, None if audio is None else audio.track
        duration = round(sum(segment.duration for segment in segments.written), 3)
        captions = FilmTexts(self._film).write(self._folder, self._names, self._zero, duration)
        closed = tuple(CaptionTrack(name, name) for name in self._closed.names)
        master = master_playlist(self._names, segments.written, *tracks, display, captions, closed)
        (self._folder / self._names.master).write_bytes(master)
        if self._previews is not None:
            self._previews.save(self._folder, self._names, (end - self._zero) / VIDEO_CLOCK)
        if pictures is None:
            self._save_cover()
        size = (0, 0) if pictures is None else pictures.size
        has_previews = self._previews is not None
        return PackageResult(len(segments.written), duration, *size, self._has_poster, "", has_previews, captions)

    def _open_video(self) -> VideoTranscoder:
        previews = self._previews = PreviewPictures(self._film.declared_duration) if self._request.previews else None

        def offer(frame: Any, at: int) -> None:
            if previews is not None:
                previews.offer(frame, at, pictures.display)

        encoding = self._request.encoding
        pictures = VideoTranscoder(self._film, encoding, self._save_poster, offer, self._advance)
        return pictures

    def _write_audio(self, segments: TsSegmentWriter, frames: Iterable[AacFrame], next_picture: int | None) -> None:
        """Writes audio. next_picture: its decode time; None if there are no more pictures."""
        for pts, payload in frames:
            alone = next_picture is None or next_picture - pts > _LONG_GAP
            self._set_output_time(pts)
            segments.add_audio(pts + self._shift, payload, alone)

    # ---- the poster ----

    def _save_cover(self) -> None:
        """Saves the embedded cover picture of an audio file as poster, if it can be decoded."""
        film = self._film.reopen()
        cover: Any = film.cover
        for packet in film.packets(cover) if cover is not None else ():
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                break
            if frames:
                self._save_poster(frames[0], (frames[0].width, frames[0].height))
                break
        film.close()

    def _save_poster(self, frame: Any, display: tuple[int, int]) -> None:
        """Saves poster and thumbnail as JPEG. display: a size with the display aspect ratio of the frame."""
        picture = frame.to_image().convert("RGB")
        width, height = picture.size
        # Makes the pixels square by shrinking one side, never by enlarging one.
        ratio = display[0] / display[1]
        if width / height > ratio:
            width = max(1, round(height * ratio))
        else:
            height = max(1, round(width / ratio))
        if (width, height) != picture.size:
            picture = picture.resize((width, height))
        picture.save(self._folder / self._names.poster, "JPEG", quality=POSTER_QUALITY)
        picture.save(self._folder / self._names.thumbnail, "JPEG", quality=THUMBNAIL_QUALITY)
        self._has_poster = True

    # ---- progress and limits ----

    def _advance(self, time: int) -> None:
        if time - self._source_time > VIDEO_CLOCK // 4:
            self._source_time = time
            self._send_progress()

    def _set_output_time(self, time: int) -> None:
        """Records that the output has reached the frame at `time` (ticks). Raises UnusableFilm if it is too long."""
        if time - self._zero - self._output_time > VIDEO_CLOCK:
            self._output_time = time - self._zero
            self._request.bounds.check_length(self._output_time / VIDEO_CLOCK)
            self._send_progress()

    def _send_progress(self) -> None:
        """Reports the progress. Called in the decoding thread and in the encoding thread."""
        self._report_progress(min(0.99, self._film.progress(self._source_time)), self._output_time / VIDEO_CLOCK)

    def _missing_seconds(self, end: int, is_cut: bool) -> float:
        """Returns the seconds that the header declares and the file has not; 0 for a difference that has no cause.

        end: of the last frame, in ticks. is_cut: whether packets are missing. Raises UnusableFilm if much is missing.
        """
        seconds = (end - self._zero) / VIDEO_CLOCK
        declared = self._film.declared_duration
        missing = declared - seconds
        if missing > max(min(1.0, declared / 4), _MAX_MISSING * declared):
            raise UnusableFilm(f"the file is incomplete: {seconds:.1f} s of {declared:.1f} s")
        return missing if missing > (_SHORT if is_cut else 1.0) else 0.0


def _warning(
    film: MediaFile, pictures: VideoTranscoder | None, audio: AudioTranscoder | None, missing: float, *, is_mute: bool
) -> str:
    """Returns sentences about what of the file is not in the VOD, or is damaged; "" without that.

    missing: seconds at the end. is_mute: whether the file has sound that was not decoded.
    """
    said, damaged = ["its sound is left out: it cannot be decoded"] if is_mute else [], 0
    if pictures is not None:
        damaged, count = pictures.source.damaged, pictures.source.decoded
        if pictures.made < count:
            said.append(f"{count - pictures.made} of {count} pictures are left out: their times repeat or go back")
    if audio is not None:
        damaged += audio.damaged
        heard, lasts = audio.heard / VIDEO_CLOCK, (audio.end - (audio.begin or 0)) / VIDEO_CLOCK
        if heard - lasts > max(_MAX_UNHEARD, _MAX_MISSING * heard):
            said.append(f"the sound lasts {lasts:.1f} s, but its samples {heard:.1f} s: its times are too close")
    if others := ", ".join(f"{count} with {kind}" for kind, count in film.others.items() if count > 0):
        said.append(f"tracks are left out: {others}")
    if damaged:
        said.append(f"damaged packets: {damaged}")
    if missing:
        said.append(f"the last {missing:.1f} s are missing")
    return "; ".join(said)


class PreviewPictures:
    """Collects preview pictures at equal distances in time. Doubles the distance when there are too many.

    declared: seconds of the video, from its header; may be 0 or wrong.
    """

    def __init__(self, declared: float) -> None:
        self._distance = max(_MIN_SECONDS, ceil(declared / MAX_PICTURES)) * VIDEO_CLOCK
        self._size: tuple[int, int] | None = None
        self._pictures: list[Image.Image] = []

    def offer(self, frame: Any, at: int, display: tuple[int, int]) -> None:
        """Takes a libav frame if it is the first one of its interval.

        at: ticks since the first frame. display: a size with the display aspect ratio.
        """
        if at < len(self._pictures) * self._distance:
            return
        if self._size is None:
            scale = _SIDE / max(display)
            self._size = max(2, round(display[0] * scale)), max(2, round(display[1] * scale))
        width, height = self._size
        picture = frame.reformat(width=width, height=height, format="rgb24").to_image()
        while at >= len(self._pictures) * self._distance:  # more than one after a pause of the video
            self._pictures.append(picture)
            if len(self._pictures) == MAX_PICTURES:
                del self._pictures[1::2]
                self._distance *= 2

    def save(self, folder: Path, names: VodNames, seconds: float) -> None:
        """Writes the sheet, and the WebVTT list of its pictures. seconds: length of the video."""
        assert self._size is not None, "a video has at least one picture"
        width, height = self._size
        rows = ceil(len(self._pictures) / _COLUMNS)
        sheet = Image.new("RGB", (width * min(_COLUMNS, len(self._pictures)), height * rows))
        lines = ["WEBVTT"]
        for i, picture in enumerate(self._pictures):
            x, y = i % _COLUMNS * width, i // _COLUMNS * height
            sheet.paste(picture, (x, y))
            begin, end = i * self._distance / VIDEO_CLOCK, (i + 1) * self._distance / VIDEO_CLOCK
            if i == len(self._pictures) - 1:
                end = max(seconds, begin + 0.001)
            place = f"{names.preview_pictures}#xywh={x},{y},{width},{height}"
            lines.append(f"\n{_time(begin)} --> {_time(end)}\n{place}")
        sheet.save(folder / names.preview_pictures, "JPEG", quality=_QUALITY)
        (folder / names.preview).write_text("\n".join(lines) + "\n", encoding="ascii")


def _time(seconds: float) -> str:
    """Returns a time of WebVTT, `HH:MM:SS.mmm`."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
