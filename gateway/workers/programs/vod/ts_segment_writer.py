"""Writes encoded video and audio as MPEG-TS segments of about equal length, and makes their playlists."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from gateway.formats.hls import media_playlist, multivariant_playlist
from gateway.formats.hls.multivariant_playlist import SubtitleRendition
from gateway.formats.hls.subtitles import with_subtitles
from gateway.formats.ts.muxer import TsMuxer
from gateway.media.caption_track import CaptionTrack
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.codecs import codec_string
from gateway.media.track import MediaTrack
from gateway.ports.films import FilmCaptions
from gateway.ports.vod_names import VodNames, reference
from gateway.workers.vod_bounds import Allowance

_MAX_PES_AUDIO: Final = VIDEO_CLOCK // 10  # audio in one PES packet
_MIN_AUDIO: Final = VIDEO_CLOCK // 2  # shorter audio without video is written to the previous segment


@dataclass(frozen=True, slots=True)
class WrittenSegment:
    """A finished segment. duration: seconds. size: bytes."""

    name: str
    duration: float
    size: int


class TsSegmentWriter:
    """Writes pictures and audio frames to segments. All times are ticks, not negative.

    A segment ends at the first key picture at or after a multiple of `length`. After the last picture, it ends at an
    audio frame at or after that time.

    zero: the beginning of the VOD. allowance: the limit of bytes; above it, UnusableFilm is raised.
    """

    def __init__(
        self, folder: Path, names: VodNames, muxer: TsMuxer, zero: int, length: int, allowance: Allowance
    ) -> None:
        self.written: list[WrittenSegment] = []
        self._folder = folder
        self._names = names
        self._muxer = muxer
        self._zero = zero
        self._length = length
        self._allowance = allowance
        self._segment_start = zero
        self._boundary = zero + length
        self._file: BinaryIO | None = None
        self._audio_frames: list[bytes] = []
        self._audio_pts = 0
        self._late_audio: list[tuple[int, bytes]] = []  # (pts, frame) after a boundary that no picture has passed yet

    def cuts(self, pts: int, key: bool) -> bool:
        """Returns whether this picture begins a segment. Audio before it belongs to the previous segment."""
        return key and pts >= self._boundary

    def add_picture(self, dts: int, pts: int, key: bool, payload: bytes) -> None:
        """Adds a picture. Pictures and audio frames come in decode order."""
        if self.cuts(pts, key):
            self._cut(pts)
        self._write_late_audio()
        self._flush_audio()
        self._write(self._muxer.write_video(dts, pts - dts, key, payload).render())

    def add_audio(self, pts: int, payload: bytes, alone: bool) -> None:
        """Adds an audio frame. alone: no picture follows, or only after a long time."""
        if alone and pts >= self._boundary:
            self._late_audio.append((pts, payload))
            if pts - self._late_audio[0][0] >= _MIN_AUDIO:
                self._cut(self._late_audio[0][0])
                self._write_late_audio()
            return
        if self._audio_frames and pts - self._audio_pts >= _MAX_PES_AUDIO:
            self._flush_audio()
        if not self._audio_frames:
            self._audio_pts = pts
        self._audio_frames.append(payload)

    def finish(self, end: int) -> None:
        """Closes the last segment, which ends at `end`."""
        self._write_late_audio()
        self._flush_audio()
        self._close(max(end, self._segment_start + 1))

    def _write_late_audio(self) -> None:
        late, self._late_audio = self._late_audio, []
        for pts, payload in late:
            self.add_audio(pts, payload, alone=False)

    def _flush_audio(self) -> None:
        if self._audio_frames:
            frames, self._audio_frames = self._audio_frames, []
            for packets in self._muxer.write_audio(frames, self._audio_pts):
                self._write(packets.render())

    def _cut(self, at: int) -> None:
        self._flush_audio()
        self._close(at)
        self._segment_start = at
        self._boundary = at - (at - self._zero) % self._length + self._length

    def _close(self, end: int) -> None:
        if self._file is not None:
            size = self._file.tell()
            self._file.close()
            self._file = None
            name = self._names.segment(len(self.written) + 1)
            self.written.append(WrittenSegment(name, (end - self._segment_start) / VIDEO_CLOCK, size))

    def _write(self, data: bytes) -> None:
        self._allowance.spend(len(data))
        if self._file is None:
            path = self._folder / self._names.segment(len(self.written) + 1)
            self._file = path.open("wb", buffering=1 << 20)
            self._file.write(self._muxer.write_tables())
        self._file.write(data)


def vod_playlist(segments: Sequence[WrittenSegment]) -> bytes:
    """Returns the media playlist of a finished VOD (RFC 8216bis)."""
    target = max(1, max(math.floor(s.duration + 0.5) for s in segments))
    head = media_playlist.head(target=target, sequence=1, discontinuity_sequence=None, version=3, independent=True)
    body = [media_playlist.segment(s.duration, reference(s.name)) for s in segments]
    return media_playlist.with_suffix(media_playlist.playlist(head + "#EXT-X-PLAYLIST-TYPE:VOD\n", body, ended=True))


def master_playlist(
    names: VodNames,
    segments: Sequence[WrittenSegment],
    video: MediaTrack | None,
    audio: MediaTrack | None,
    display: tuple[tuple[int, int], float] | None,
    captions: Sequence[FilmCaptions] = (),
    closed: tuple[CaptionTrack, ...] = (),
) -> bytes:
    """Returns the multivariant playlist with one variant. Its bitrates are measured, with the TS overhead.

    display: size and frame rate of the video as displayed; None without video. captions: of the file.
    closed: captions in the pictures.
    """
    codecs = tuple(codec_string(track) for track in (video, audio) if track is not None)
    size, rate = display or (None, None)
    variant = multivariant_playlist.Variant(
        reference(names.playlist), peak(segments), average(segments), codecs, size, rate, captions=closed or None
    )
    plain = media_playlist.with_suffix(multivariant_playlist.multivariant([variant], version=3))
    renditions = [
        SubtitleRendition(c.label, reference(names.captions_playlist(c.language)), c.language) for c in captions
    ]
    return with_subtitles(plain.decode(), renditions).encode()


def average(segments: Sequence[WrittenSegment]) -> int:
    """Returns the average bits per second of all segments."""
    return math.ceil(sum(s.size for s in segments) * 8 / max(sum(s.duration for s in segments), 0.001))


def peak(segments: Sequence[WrittenSegment]) -> int:
    """Returns the peak bits per second of successive segments of 0.5 to 1.5 target durations (RFC 8216bis §4.4.6.2)."""
    target = max(s.duration for s in segments)
    highest = 0.0
    for first in range(len(segments)):
        size, duration = 0, 0.0
        for segment in segments[first:]:
            size, duration = size + segment.size, duration + segment.duration
            if duration > 1.5 * target:
                break
            if duration >= 0.5 * target:
                highest = max(highest, size * 8 / duration)
    return max(math.ceil(highest), average(segments))
