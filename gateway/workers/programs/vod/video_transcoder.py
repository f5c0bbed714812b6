"""Decodes the video of a VOD, rotates it, converts it to progressive 8-bit 4:2:0, and encodes it as H.264."""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, Final, TypeVar

import av
import av.error
import av.filter
from av.codec.context import Flags
from av.video.frame import PictureType

from gateway.media import nal
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.workers.package_protocol import VodEncoding
from gateway.workers.programs.codec import encoder_config
from gateway.workers.programs.filters import build_graph, pull_frames
from gateway.workers.programs.vod.continuous_timeline import TICKS
from gateway.workers.programs.vod.film_pictures import FilmPictures, fill_pauses
from gateway.workers.programs.vod.hdr import Transfer, table
from gateway.workers.programs.vod.media_file import MediaFile, ticks
from gateway.workers.vod_bounds import UnusableMedia

_KEY_TICKS: Final = 2 * TICKS  # distance of key frames
_PQ, _HLG = 16, 18  # color_trc of ITU-T H.273
_FULL_RANGE: Final = 2  # color_range
_MAX_AHEAD: Final = 4  # frames that are decoded before the encoder needs them
_END: Final = object()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """An encoded picture. dts, pts: ticks on the timeline of the file. payload: length-prefixed NAL units."""

    dts: int
    pts: int
    key: bool
    payload: bytes


class VideoTranscoder:
    """Iterates over the encoded pictures in decode order. `track` is known after the first picture.

    on_first: called with the first upright picture, a libav frame, and its display size.
    on_picture: called with every upright picture and its time in ticks since the first one.
    advance: called sometimes with the time in the file, in ticks.
    """

    def __init__(
        self,
        media_file: MediaFile,
        encoding: VodEncoding,
        scratch: Path,
        on_first: Callable[[Any, tuple[int, int]], None],
        on_picture: Callable[[Any, int], None],
        advance: Callable[[int], None],
    ) -> None:
        self.source = FilmPictures(media_file, advance)
        self.first: int | None = None  # ticks of the first picture
        self.end = 0  # end of the last picture, in ticks
        self._stream = media_file.video
        self._encoding = encoding
        self._scratch = scratch
        self._on_first = on_first
        self._on_picture = on_picture
        self._filters: _Filters | None = None
        self._encoder: Any = None
        self._next_key: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the encoded pictures; (0, 0) before the first one."""
        return (self._encoder.width, self._encoder.height) if self._encoder is not None else (0, 0)

    @property
    def display(self) -> tuple[int, int]:
        """Width and height of the pictures as displayed, in square pixels."""
        width, height = self.size
        aspect = self._encoder.sample_aspect_ratio if self._encoder is not None else None
        return (round(width * aspect), height) if aspect and aspect > 1 else (width, round(height / (aspect or 1)))

    @property
    def track(self) -> MediaTrack:
        """The H.264 track with the encoder's parameter sets."""
        return MediaTrack(Kind.VIDEO, Codec.H264, TICKS, encoder_config("libx264", self._encoder.extradata))

    def __iter__(self) -> Iterator[EncodedPicture]:
        decoded = read_ahead(self._frames(), _MAX_AHEAD)
        pictures = ((picture, _ticks(picture[0])) for picture in decoded)
        for (frame, aspect), at in fill_pauses(pictures, self._end_of_last):
            if self._encoder is None:
                self._encoder = self._open_encoder(frame, aspect)
                self.first = at
                self._on_first(frame, self.display)
            assert self.first is not None
            self._on_picture(frame, at - self.first)
            yield from self._encode(frame, at)
        if self._encoder is None:
            raise UnusableMedia("no picture of the file can be decoded")
        self.end = self._end_of_last()
        yield from self._packets(None)

    def _end_of_last(self) -> int:
        return max(self.end, self.source.timeline.end)

    # ---- in another thread, which uses `source` and `_filters` ----

    def _frames(self) -> Iterator[tuple[Any, Fraction]]:
        """Yields upright frames in order, each with its sample aspect ratio."""
        for frame in self.source:
            if self._filters is None or not self._filters.fits(frame):
                size = None
                if self._filters is not None:
                    yield from self._filters.put(None)
                    size = self._filters.size
                self._filters = _Filters(frame, self._stream.sample_aspect_ratio or Fraction(1), self._scratch, size)
            yield from self._filters.put(frame)
        if self._filters is not None:
            yield from self._filters.put(None)

    # ---- in the thread that iterates ----

    def _encode(self, frame: Any, at: int) -> Iterator[EncodedPicture]:
        key = self._next_key is None or at >= self._next_key
        if key:
            assert self.first is not None
            self._next_key = at - (at - self.first) % _KEY_TICKS + _KEY_TICKS
        frame.pts, frame.time_base = at, Fraction(1, TICKS)
        frame.pict_type = PictureType.I if key else PictureType.NONE
        self.end = max(self.end, at + self.source.step)
        yield from self._packets(frame)

    def _packets(self, frame: Any) -> Iterator[EncodedPicture]:
        for packet in self._encoder.encode(frame):
            payload = nal.from_annexb(bytes(packet))
            yield EncodedPicture(packet.dts, packet.pts, packet.is_keyframe, payload)

    def _open_encoder(self, frame: Any, aspect: Fraction) -> Any:
        encoder: Any = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, TICKS), self.source.rate
        encoder.sample_aspect_ratio = aspect
        encoder.gop_size = max(12, ceil(self.source.rate * _KEY_TICKS / TICKS) * 2)
        encoder.flags |= Flags.global_header | Flags.closed_gop
        # By default x264 uses 1.5 threads per core. More than 24 threads only use more memory.
        encoder.thread_count = 0 if (os.cpu_count() or 1) <= 16 else 24
        for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
            setattr(encoder, name, getattr(frame, name))
        encoder.options = {
            "preset": self._encoding.preset,
            "crf": f"{self._encoding.crf:g}",
            "maxrate": str(self._encoding.max_bits),
            "bufsize": str(self._encoding.max_bits),
            "forced-idr": "1",
            "profile": "high",
        }
        encoder.open()
        return encoder


class _Filters:
    """The filters that prepare a frame for the encoder. Each filter is present only if the video needs it.

    aspect: sample aspect ratio of the source. size: the size of the open encoder; None: the encoder is not open yet.
    """

    def __init__(self, frame: Any, aspect: Fraction, scratch: Path, size: tuple[int, int] | None) -> None:
        self._properties = _properties(frame)
        self._interlaced = bool(frame.interlaced_frame)
        chain, swaps_sides = self._chain(frame, scratch)
        self._aspect = (1 / aspect if swaps_sides else aspect) if 0 < aspect < 100 else Fraction(1)
        width, height = (frame.height, frame.width) if swaps_sides else (frame.width, frame.height)
        even_width, even_height = width - width % 2, height - height % 2
        self.size = size or (max(2, even_width), max(2, even_height))
        if size is not None and size != (even_width, even_height):
            chain.append(f"scale={size[0]}:{size[1]}:force_original_aspect_ratio=decrease:force_divisible_by=2")
            chain.append(f"pad={size[0]}:{size[1]}:-1:-1")
        elif min(width, height) == 1:
            chain.append("scale=max(2\\,trunc(iw/2)*2):max(2\\,trunc(ih/2)*2)")
        elif width % 2 or height % 2:
            # 4:2:0 needs even sides. Cropping one line keeps the picture sharper than resampling all lines.
            chain.append(f"crop={even_width}:{even_height}:0:0")
        chain.append("format=yuv420p")
        self._graph, _, self._sink = build_graph(frame, chain, TICKS, aspect, threads=0)

    def fits(self, frame: Any) -> bool:
        """Returns whether these filters can process this frame."""
        return _properties(frame) == self._properties and (self._interlaced or not frame.interlaced_frame)

    def put(self, frame: Any) -> list[tuple[Any, Fraction]]:
        """Returns the frames that are ready, each with its sample aspect ratio. frame: None at the end."""
        self._graph.vpush(frame)
        return [(upright, self._aspect) for upright in pull_frames(self._sink)]

    def _chain(self, frame: Any, scratch: Path) -> tuple[list[str], bool]:
        """Returns the filters up to the rotation, and whether the rotation swaps width and height."""
        chain = []
        if self._interlaced:
            chain.append("bwdif=mode=send_frame:deint=interlaced")
        if frame.color_trc in (_PQ, _HLG):
            transfer = Transfer.PQ if frame.color_trc == _PQ else Transfer.HLG
            cube = scratch / f"{transfer}.cube"
            cube.write_text(table(transfer))
            in_range = "full" if frame.color_range == _FULL_RANGE else "limited"
            chain += [
                f"scale=in_color_matrix=bt2020:in_range={in_range}",
                "format=gbrp12le",
                f"lut3d=file={_quote(str(cube))}:interp=tetrahedral",
                "scale=out_color_matrix=bt709:out_range=limited",
                "format=yuv420p",
                "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=limited",
            ]
        elif frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj"):
            chain.append("scale=out_range=limited")
        elif not frame.format.name.startswith("yuv"):
            chain.append("scale=out_color_matrix=bt709:out_range=limited")
        rotation = _ROTATIONS.get(_matrix(frame), [])
        return chain + rotation, any(step.startswith("transpose") for step in rotation)


def _properties(frame: Any) -> tuple[Any, ...]:
    return frame.width, frame.height, frame.format.name, frame.color_trc, frame.color_range, _matrix(frame)


def _quote(text: str) -> str:
    """Quotes a text for a filter's argument list. The second quoting level, of a graph description, is not needed."""
    return "".join(f"\\{c}" if c in "\\':,;[]" else c for c in text)


def _matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """Returns the signs of a, b, c, d of the display matrix (ISO/IEC 14496-12 §6.2.2). None: no matrix."""
    for entry in frame.side_data:
        if entry.type.name == "DISPLAYMATRIX" and len(bytes(entry)) >= 36:
            a, b, _, c, d = struct.unpack_from("=5i", bytes(entry))
            return _sign(a), _sign(b), _sign(c), _sign(d)
    return None


# The filters that apply a display matrix to the picture; x' = ax + cy, y' = bx + dy.
_ROTATIONS: Final[dict[tuple[int, int, int, int] | None, list[str]]] = {
    (1, 0, 0, 1): [],
    (0, 1, -1, 0): ["transpose=clock"],
    (-1, 0, 0, -1): ["hflip", "vflip"],
    (0, -1, 1, 0): ["transpose=cclock"],
    (-1, 0, 0, 1): ["hflip"],
    (1, 0, 0, -1): ["vflip"],
    (0, 1, 1, 0): ["transpose=cclock_flip"],
    (0, -1, -1, 0): ["transpose=clock_flip"],
}


def _ticks(frame: Any) -> int:
    at = ticks(frame.pts, frame.time_base)
    assert at is not None  # filters keep times
    return at


def _sign(fixed: int) -> int:
    """Returns the sign of a 16.16 number, 0 below one half. Only rotations by multiples of 90° are supported."""
    return (fixed > 0x8000) - (fixed < -0x8000)


def read_ahead(source: Iterator[T], max_items: int) -> Iterator[T]:
    """Yields the items of `source`. It runs in a thread, at most `max_items` ahead. Raises its exceptions.

    Decoding and encoding both release the GIL, so each can use one core. If the caller stops early, the thread stops
    after the item that it makes; the caller does not wait for it.
    """
    thread = ThreadPoolExecutor(1, "ahead")
    try:
        waiting = deque(thread.submit(next, source, _END) for _ in range(max_items))
        while True:
            waiting.append(thread.submit(next, source, _END))
            item: Any = waiting.popleft().result()
            if item is _END:
                return
            yield item
    finally:
        thread.shutdown(wait=False, cancel_futures=True)
