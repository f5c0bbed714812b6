"""Opens a media file for reading, selects its tracks, and checks its header."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition

from gateway.media.clock import VIDEO_CLOCK
from gateway.workers.programs.audio_codec import LAYOUTS
from gateway.workers.programs.codec import CodecFailed
from gateway.workers.vod_bounds import UnusableFilm

# Containers, by libav's names. Playlist formats are excluded, because they can refer to other files.
CONTAINERS: Final = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "flv", "live_flv", "kux", "mpegts", "mpeg", "avi"),
    *("asf", "ogg", "mxf", "gxf", "dv", "rm", "nut", "ivf", "h264", "hevc", "mpegvideo", "m4v", "obu", "wtv", "swf"),
    *("wav", "w64", "aiff", "mp3", "aac", "ac3", "eac3", "flac", "caf", "amr", "au"),
)
# Containers with the exact duration in the header. The duration of others is an estimate.
_EXACT_DURATION: Final = frozenset(("mov", "matroska", "webm"))
_TEXTS: Final = frozenset(("mov_text", "subrip", "srt", "ass", "ssa", "webvtt", "text"))  # decoders of captions
_TS_DISCONT: Final = 0x0200  # AVFMT_TS_DISCONT: the format allows timestamp jumps
_MAX_PIXELS: Final = 8192 * 4352
_HEAD: Final = 512  # bytes from which the kind of a file is told that cannot be opened
_MAX_BOXES: Final = 10_000  # of an MP4 file, among which its index is sought
_MAX_INDEX: Final = 1 << 20  # bytes of an index that are searched
_TAG: Final = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)")
# Signatures of pictures. libav reads some as films: of a phone's picture (HEIC, ISO/IEC 23008-12), it shows one tile.
_PICTURE: Final = re.compile(
    rb"GIF8|\xff\n|\x89PNG|\xff\xd8\xff|RIFF....WEBP|II\*\0|MM\0\*|\0\0\0\x0cJXL |....ftyp(?:heic|heix|mif1|avif)",
    re.DOTALL,
)
_ENCRYPTED_ENTRY: Final = re.compile(rb"stsd.{12}enc[va]", re.DOTALL)
NO_PICTURE: Final = "no picture of the file can be decoded"
_ENCRYPTED: Final = "the film is encrypted"
_NO_FILM: Final = "it is a picture, not a film: slates take it as PNG or JPEG"
_DAMAGED: Final = "the index (moov) of the MP4 file is damaged"
_PROBE: Final = {"probesize": "20000000", "analyzeduration": "10000000"}


def failure_text(error: Exception, memory: str) -> str | None:
    """Returns the text of an error that the user or operator can solve; None for a bug of the gateway.

    memory: the option that bounds it.
    """
    match error:
        case UnusableFilm() | CodecFailed():
            return str(error)
        case MemoryError():
            return f"not enough memory ({memory})"
        case av.error.ExternalError():
            return f"the encoder failed, most likely because of too little memory ({memory})"
        case av.error.FFmpegError():
            return "its pictures or its sound cannot be converted"
        case OSError():
            return error.strerror or "the disk or the network failed"
    return None


class MediaFile:
    """An open file, with one video and one audio track: the default ones, else the first.

    others: number of the tracks of each kind that are not used.

    Video and audio have separate descriptors (`MediaFile.reopen`), so poorly interleaved files need no buffer.
    """

    def __init__(self, path: Path) -> None:
        """Raises UnusableFilm."""
        _check_kind(path)
        self.path = path
        self.size = os.path.getsize(path)
        self._container = _open(path)
        self._position = 0
        self._read = 0  # number of packets that `packets` has yielded
        for stream in self._container.streams.audio:
            set_usual_layout(stream)
        try:
            pictures, sounds = self._usable("video"), self._usable("audio")
            self.video, self.audio = _select_stream(pictures), _select_stream(sounds)
            texts = len(self._container.streams.subtitles) - len(self.texts)
            self.others = {"pictures": len(pictures) - 1, "sound": len(sounds) - 1}
            self.others["subtitles that are not text"] = texts
            if any("enc_key_id" in stream.metadata for stream in (self.video, self.audio) if stream is not None):
                raise UnusableFilm(_ENCRYPTED)  # Matroska
            if self.video is None and self.audio is None:
                raise UnusableFilm("the file has no video or audio that can be decoded")
            if self.video is None and any(v.codec_context is None for v in self._container.streams.video):
                raise UnusableFilm(NO_PICTURE)
            if self.video is not None:
                width, height = self.video.codec_context.width, self.video.codec_context.height
                if width * height > _MAX_PIXELS:
                    raise UnusableFilm(f"pictures of {width}x{height} are too large")
        except BaseException:
            self._container.close()
            raise

    def close(self) -> None:
        """Closes the file and the decoders of its tracks."""
        self._container.close()

    def _usable(self, kind: str) -> list[Any]:
        return [s for s in self._container.streams if s.type == kind and not _is_cover(s) and _has_codec(s)]

    @property
    def cover(self) -> Any:
        """The stream of an embedded cover picture, or None."""
        return next((v for v in self._container.streams.video if _is_cover(v)), None)

    @property
    def texts(self) -> list[Any]:
        """The streams with captions as text."""
        return [s for s in self._container.streams.subtitles if s.codec_context and s.codec_context.name in _TEXTS]

    @property
    def max_gap(self) -> int:
        """The maximum gap between frames, in ticks; a longer gap is a timestamp jump."""
        return (10 if self._container.format.flags & _TS_DISCONT else 3600) * VIDEO_CLOCK

    @property
    def lacks_presentation_times(self) -> bool:
        return lacks_presentation_times(self._container.format.name, self.video)

    @property
    def duration(self) -> float:
        """Duration in seconds, from the header or estimated by libav; 0 if unknown."""
        return (self._container.duration or 0) / 1_000_000

    @property
    def start(self) -> int:
        """The earliest time in the header, in ticks."""
        return round((self._container.start_time or 0) * VIDEO_CLOCK / 1_000_000)

    @property
    def declared_duration(self) -> float:
        """Duration of the selected tracks in the header, in seconds; 0 if missing."""
        if not _EXACT_DURATION & set(self._container.format.name.split(",")):
            return 0.0
        tracks = [seconds for s in (self.video, self.audio) if s is not None and (seconds := _duration(s))]
        # Without them, other tracks may be longer, such as captions.
        others = len(self._container.streams) > sum(s is not None for s in (self.video, self.audio))
        return max(tracks, default=0.0 if others else self.duration)

    @property
    def has_sound(self) -> bool:
        """Whether packets of the selected sound were read, or no sound has a decoder."""
        return self._read > 0 if self.audio is not None else bool(self._container.streams.audio)

    def lacks_packets(self, stream: Any) -> bool:
        """Whether the index of an MP4 file has more packets of this stream, the only one that was read."""
        return stream is not None and "mp4" in self._container.format.name and self._read < int(stream.frames)

    def progress(self, time: int) -> float:
        """Returns the progress at `time` (ticks), 0 to 1. If the duration is unknown, uses the bytes read."""
        if self.duration:
            fraction = (time - self.start) / VIDEO_CLOCK / self.duration
        else:
            fraction = self._position / max(1, self.size)
        return min(1.0, max(0.0, fraction))

    def packets(self, *streams: Any) -> Iterator[Any]:
        """Yields the packets of streams, and at the end an empty one for each that flushes its decoder.

        A damaged container ends the iteration early.
        """
        wanted = {stream.index for stream in streams}
        for other in self._container.streams:
            other.discard = av.stream.Discard.default if other.index in wanted else av.stream.Discard.all
        with suppress(av.error.FFmpegError):
            for packet in self._container.demux(*streams):
                self._position = packet.pos or self._position
                self._read += packet.size > 0
                yield packet

    def reopen(self) -> MediaFile:
        """Opens the file again, with another descriptor."""
        return MediaFile(self.path)


def _open(path: Path) -> InputContainer:
    options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file", **_PROBE}
    try:
        return av.open(str(path), options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise UnusableFilm(_open_error(path, error)) from None
    except OSError as error:
        raise UnusableFilm(error.strerror or str(error)) from None


def _open_error(path: Path, error: av.error.FFmpegError) -> str:
    """Returns the error text for the user if the file cannot be opened."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return error.strerror or str(error)
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_HEAD)
        if not head:
            return "the file is empty"
        if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"skip"):
            index = _index(file)
            return "the MP4 file is incomplete: it has no index (moov)" if index is None else _DAMAGED
        if _is_text(head):
            return "it is text, not media"
    return "the file is not a readable media file"


def _index(file: BinaryIO) -> bytes | None:
    """Returns the beginning of the index of an MP4 file; None if it has none."""
    file.seek(0)
    for _ in range(_MAX_BOXES):
        header = file.read(16)
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        size = int.from_bytes(header[8:], "big") if size == 1 else size
        if kind == b"moov":
            return file.read(min(size, _MAX_INDEX))
        if not 8 <= size < 1 << 62:  # also of a raw H.264 stream, whose start code looks like a long size
            break
        file.seek(size - len(header), os.SEEK_CUR)
    return None


def _check_kind(path: Path) -> None:
    """Raises UnusableFilm for a picture, a pipe, and an encrypted first sample entry (ISO/IEC 14496-12 §8.12)."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UnusableFilm("it is no regular file")  # opening a pipe waits for its writer
    with suppress(OSError), path.open("rb") as file:
        if _PICTURE.match(file.read(_HEAD)):
            raise UnusableFilm(_NO_FILM)
        if _ENCRYPTED_ENTRY.search(_index(file) or b""):
            raise UnusableFilm(_ENCRYPTED)


def _is_text(head: bytes) -> bool:
    """Whether the beginning of a file is text in UTF-8, which may be cut within a character."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not any(byte < 9 or 13 < byte < 32 for byte in head)


def _duration(stream: Any) -> float:
    """Returns the duration of a track in its header, in seconds; 0 if missing. Matroska has it as a tag.

    libav counts that of fragments from time 0, although a film of saved segments may begin later.
    """
    if stream.duration:
        begin = 0 if stream.frames else max(0, stream.start_time or 0)
        return float((stream.duration - begin) * stream.time_base)
    found = _TAG.fullmatch(stream.metadata.get("DURATION", ""))
    return 0.0 if found is None else int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def lacks_presentation_times(container: str, stream: Any) -> bool:
    """Whether libav gives pictures of this stream no presentation times, or those of other pictures."""
    is_reordered = stream.type == "video" and stream.codec_context.has_b_frames
    return container in ("h264", "hevc") or (container in ("avi", "asf") and bool(is_reordered))


def set_usual_layout(stream: Any) -> None:
    """Gives the channels of sound the usual order of their number, if they have one of their own, as in QuickTime.

    Call it before other code reads the layout. PyAV 18.1 makes an object for each reading, and each object frees the
    same list.
    """
    context = stream.codec_context
    if context is None:
        return
    layout = context.layout
    if "(" in layout.name or "+" in layout.name:
        context.layout = LAYOUTS.get(layout.nb_channels, f"{layout.nb_channels}C")


def _has_codec(stream: Any) -> bool:
    """Returns whether libav has a decoder and the header contains enough to use it."""
    context = stream.codec_context
    return context is not None and (stream.type != "video" or (context.width > 0 and context.height > 0))


def _select_stream(found: list[Any]) -> Any:
    return next((s for s in found if s.disposition & Disposition.default), found[0] if found else None)


def ticks(time: int | None, base: Fraction | None) -> int | None:
    """Converts a time of libav to ticks."""
    return None if time is None or base is None else round(time * base * VIDEO_CLOCK)


def new_config(packet: Any) -> bytes:
    """Returns the configuration that a container has from this packet on; b"" if it is the same as before.

    FLV repeats sequence headers, and an MP4 may have several sample entries.
    """
    return bytes(packet.get_sidedata("new_extradata")) if packet.has_sidedata("new_extradata") else b""
