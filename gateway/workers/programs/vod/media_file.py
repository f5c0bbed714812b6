"""Opens a media file of any kind for reading, chooses its tracks, and checks its header."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition

from gateway.workers.programs.vod.continuous_timeline import TICKS
from gateway.workers.vod_errors import UnusableMedia

# Containers, by libav's names. Without playlist formats, because these could name other files to read.
CONTAINERS: Final = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "flv", "live_flv", "kux", "mpegts", "mpeg", "avi"),
    *("asf", "ogg", "mxf", "gxf", "dv", "rm", "nut", "ivf", "h264", "hevc", "mpegvideo", "m4v", "obu", "wtv", "swf"),
    *("wav", "w64", "aiff", "mp3", "aac", "ac3", "eac3", "flac", "caf", "amr", "au"),
)
# Containers whose header declares the exact length. The length of others is an estimate.
_TRUE_LENGTH: Final = frozenset(("mov", "matroska", "webm"))
_JUMPS: Final = 0x0200  # AVFMT_TS_DISCONT: the format allows times that jump
_MAX_PIXELS: Final = 8192 * 4352
_PROBE: Final = {"probesize": "20000000", "analyzeduration": "10000000"}


class MediaFile:
    """An open file, with one video and one audio track: the default ones, else the first.

    Video and audio are read through separate descriptors (`MediaFile.again`). So a file in which one lies far behind
    the other needs no memory for a buffer. Raises UnusableMedia if the file is not usable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = _open(path)
        self._position = 0
        self._size = os.path.getsize(path)
        try:
            self.video = _chosen(v for v in self._container.streams.video if not _is_cover(v) and _has_codec(v))
            self.audio = _chosen(a for a in self._container.streams.audio if _has_codec(a))
            if self.video is None and self.audio is None:
                raise UnusableMedia("there is neither picture nor sound in it that can be decoded")
            if (
                self.video is not None
                and self.video.codec_context.width * self.video.codec_context.height > _MAX_PIXELS
            ):
                size = f"{self.video.codec_context.width}x{self.video.codec_context.height}"
                raise UnusableMedia(f"pictures of {size} are larger than can be handled")
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file and the decoders of its tracks."""
        self._container.close()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    @property
    def cover(self) -> Any:
        """The stream of an embedded picture (of a song), or None."""
        return next((v for v in self._container.streams.video if _is_cover(v)), None)

    @property
    def jumps(self) -> int:
        """Ticks; a longer step of time is a jump and not a pause."""
        return (10 if self._container.format.flags & _JUMPS else 3600) * TICKS

    @property
    def duration(self) -> float:
        """Length in seconds, declared by the file or estimated by libav; 0 if unknown."""
        return (self._container.duration or 0) / 1_000_000

    @property
    def start(self) -> int:
        """The earliest time, in ticks, that the file declares."""
        return round((self._container.start_time or 0) * TICKS / 1_000_000)

    @property
    def promised(self) -> float:
        """Length of the chosen tracks, in seconds, that the file's header declares; 0 if it declares none."""
        if not _TRUE_LENGTH & set(self._container.format.name.split(",")):
            return 0.0
        own = [float(s.duration * s.time_base) for s in (self.video, self.audio) if s is not None and s.duration]
        return max(own, default=self.duration)

    def done(self, time: int) -> float:
        """Returns the share of the file before `time` (ticks), 0 to 1; if its length is unknown, of the bytes read."""
        if self.duration:
            share = (time - self.start) / TICKS / self.duration
        else:
            share = self._position / max(1, self._size)
        return min(1.0, max(0.0, share))

    def packets(self, stream: Any) -> Iterator[Any]:
        """Yields the packets of a stream, and at the end an empty one that flushes its decoder.

        A damaged container ends the packets early; the packets before remain usable.
        """
        for other in self._container.streams:
            other.discard = av.stream.Discard.default if other.index == stream.index else av.stream.Discard.all
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                packet = None
            if packet is None:
                return
            self._position = packet.pos or self._position
            yield packet

    def again(self) -> MediaFile:
        """Opens the file again, through another descriptor."""
        return MediaFile(self.path)


def _open(path: Path) -> InputContainer:
    options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file", **_PROBE}
    try:
        return av.open(str(path), options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise UnusableMedia(_why(path, error)) from None
    except OSError as error:
        raise UnusableMedia(error.strerror or str(error)) from None


def _why(path: Path, error: av.error.FFmpegError) -> str:
    """Returns the reason why a file cannot be opened, in words for the user who uploaded it."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return error.strerror or str(error)
    with suppress(OSError), path.open("rb") as file:
        head = file.read(12)
        if not head:
            return "the file is empty"
        if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"skip"):
            return "it is cut off: an MP4 file without its index (moov)"
        if not any(byte < 9 or 13 < byte < 32 for byte in head):
            return "it is text, not media"
    return "it is no media file that can be read"


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _has_codec(stream: Any) -> bool:
    """Returns whether libav has a decoder and the header contains enough to use it."""
    context = stream.codec_context
    return context is not None and (stream.type != "video" or (context.width > 0 and context.height > 0))


def _chosen(streams: Iterator[Any]) -> Any:
    found = list(streams)
    return next((s for s in found if s.disposition & Disposition.default), found[0] if found else None)


def ticks(time: int | None, base: Fraction | None) -> int | None:
    """Converts a time of libav to ticks."""
    return None if time is None or base is None else round(time * base * TICKS)
