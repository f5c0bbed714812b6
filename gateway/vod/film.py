"""Film: a media file of any kind opened for reading, its tracks chosen, its claims judged."""

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

from gateway.vod.order import Unusable
from gateway.vod.timeline import TICKS

# Containers, by libav's names. Playlists and the like are not among them: they would name other files to be read.
CONTAINERS: Final = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "flv", "live_flv", "kux", "mpegts", "mpeg", "avi"),
    *("asf", "ogg", "mxf", "gxf", "dv", "rm", "nut", "ivf", "h264", "hevc", "mpegvideo", "m4v", "obu", "wtv", "swf"),
    *("wav", "w64", "aiff", "mp3", "aac", "ac3", "eac3", "flac", "caf", "amr", "au"),
)
# Their header tells a length that the media must then have; elsewhere it is an estimate.
_TRUE_LENGTH: Final = frozenset(("mov", "matroska", "webm"))
_JUMPS: Final = 0x0200  # AVFMT_TS_DISCONT: times that jump are allowed there
_MOST_PIXELS: Final = 8192 * 4352
_PROBE: Final = {"probesize": "20000000", "analyzeduration": "10000000"}


class Film:
    """An open file and the two of its tracks that are shown: the default ones, else the first.

    Pictures and sound are read through descriptors of their own (`Film.again`), so that a file in which one lies far
    behind the other needs no memory for it. Raises Unusable for what is no film.
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
                raise Unusable("there is neither picture nor sound in it that can be decoded")
            if (
                self.video is not None
                and self.video.codec_context.width * self.video.codec_context.height > _MOST_PIXELS
            ):
                size = f"{self.video.codec_context.width}x{self.video.codec_context.height}"
                raise Unusable(f"pictures of {size} are larger than can be handled")
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file and of the decoders of its tracks."""
        self._container.close()

    @property
    def cover(self) -> Any:
        """The stream of an embedded picture (of a song), or None."""
        return next((v for v in self._container.streams.video if _is_cover(v)), None)

    @property
    def jumps(self) -> int:
        """Ticks; a longer step of time is a jump and no pause."""
        return (10 if self._container.format.flags & _JUMPS else 3600) * TICKS

    @property
    def duration(self) -> float:
        """Seconds, as the file says or libav estimates; 0 where nobody knows."""
        return (self._container.duration or 0) / 1_000_000

    @property
    def start(self) -> int:
        """Ticks of the earliest time, as the file says."""
        return round((self._container.start_time or 0) * TICKS / 1_000_000)

    @property
    def promised(self) -> float:
        """Seconds that the file's header promises of the chosen tracks; 0: it promises none."""
        if not _TRUE_LENGTH & set(self._container.format.name.split(",")):
            return 0.0
        own = [float(s.duration * s.time_base) for s in (self.video, self.audio) if s is not None and s.duration]
        return max(own, default=self.duration)

    def done(self, time: int) -> float:
        """How much of the film lies before `time` (ticks), 0 to 1; by bytes read where nobody knows how long it is."""
        if self.duration:
            share = (time - self.start) / TICKS / self.duration
        else:
            share = self._position / max(1, self._size)
        return min(1.0, max(0.0, share))

    def packets(self, stream: Any) -> Iterator[Any]:
        """The packets of a stream of this film, and at the end an empty one that flushes its decoder.

        Damage in the container ends it early; what came until then stands.
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

    def again(self) -> Film:
        """The same file through another descriptor."""
        return Film(self.path)


def _open(path: Path) -> InputContainer:
    options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file", **_PROBE}
    try:
        return av.open(str(path), options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise Unusable(_why(path, error)) from None
    except OSError as error:
        raise Unusable(error.strerror or str(error)) from None


def _why(path: Path, error: av.error.FFmpegError) -> str:
    """Why a file cannot be opened, as somebody who uploaded it would say it."""
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
    """Whether libav knows a decoder, and the header said enough to use it."""
    context = stream.codec_context
    return context is not None and (stream.type != "video" or (context.width > 0 and context.height > 0))


def _chosen(streams: Iterator[Any]) -> Any:
    found = list(streams)
    return next((s for s in found if s.disposition & Disposition.default), found[0] if found else None)


def ticks(time: int | None, base: Fraction | None) -> int | None:
    """A time of libav's in ticks."""
    return None if time is None or base is None else round(time * base * TICKS)
