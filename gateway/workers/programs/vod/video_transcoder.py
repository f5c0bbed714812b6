"""Decodes the video of a VOD, rotates it upright, converts it to progressive 8-bit 4:2:0, and encodes it as H.264."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, Final

import av
import av.error
import av.filter
from av.codec.context import Flags
from av.video.frame import PictureType

from gateway.media import nal
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.workers.package_protocol import VodEncoding
from gateway.workers.programs.codec import encoder_config
from gateway.workers.programs.filters import build_graph, pulled
from gateway.workers.programs.vod.continuous_timeline import TICKS
from gateway.workers.programs.vod.film_pictures import FilmPictures, fill_pauses
from gateway.workers.programs.vod.hdr import Transfer, table
from gateway.workers.programs.vod.media_file import MediaFile, ticks
from gateway.workers.programs.vod.read_ahead import read_ahead
from gateway.workers.vod_errors import UnusableMedia

_GOP: Final = 2 * TICKS  # a player can begin every two seconds
_PQ, _HLG = 16, 18  # color_trc of ITU-T H.273
_FULL: Final = 2  # color_range
_AHEAD: Final = 4  # frames that are decoded ahead of the encoder


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """An encoded picture. dts, pts: ticks on the timeline of the file. payload: length-prefixed NAL units."""

    dts: int
    pts: int
    key: bool
    payload: bytes


class VideoTranscoder:
    """Iterates over the encoded pictures in decode order. `track` is known after the first picture.

    shown: called with the first upright picture, a libav frame, and its display size.
    advance: called now and then with the time in the file, in ticks.
    """

    def __init__(
        self,
        film: MediaFile,
        encoding: VodEncoding,
        scratch: Path,
        shown: Callable[[Any, tuple[int, int]], None],
        advance: Callable[[int], None],
    ) -> None:
        self.source = FilmPictures(film, advance)
        self.first: int | None = None  # ticks of the first picture
        self.end = 0  # end of the last picture, in ticks
        self._stream = film.video
        self._encoding = encoding
        self._scratch = scratch
        self._shown = shown
        self._upright: _Upright | None = None
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
        shape = self._encoder.sample_aspect_ratio if self._encoder is not None else None
        return (round(width * shape), height) if shape and shape > 1 else (width, round(height / (shape or 1)))

    @property
    def track(self) -> MediaTrack:
        """The H.264 track with the encoder's parameter sets."""
        return MediaTrack(Kind.VIDEO, Codec.H264, TICKS, encoder_config("libx264", self._encoder.extradata))

    def __iter__(self) -> Iterator[EncodedPicture]:
        ahead = read_ahead(self._frames(), _AHEAD)
        pictures = ((picture, _ticks(picture[0])) for picture in ahead)
        for (frame, shape), at in fill_pauses(pictures, self._end_of_last):
            if self._encoder is None:
                self._encoder = self._make_encoder(frame, shape)
                self.first = at
                self._shown(frame, self.display)
            yield from self._encode(frame, at)
        if self._encoder is None:
            raise UnusableMedia("none of its pictures can be decoded")
        self.end = self._end_of_last()
        yield from self._packets(None)

    def _end_of_last(self) -> int:
        return max(self.end, self.source.timeline.end)

    # ---- in a thread of its own, with `source` and `_upright` ----

    def _frames(self) -> Iterator[tuple[Any, Fraction]]:
        """Yields upright frames in order, each with its sample aspect ratio."""
        for frame in self.source:
            if self._upright is None or not self._upright.fits(frame):
                fit = None
                if self._upright is not None:
                    yield from self._upright.flush()
                    fit = self._upright.size
                self._upright = _Upright(frame, self._stream.sample_aspect_ratio or Fraction(1), self._scratch, fit)
            yield from self._upright.put(frame)
        if self._upright is not None:
            yield from self._upright.flush()

    # ---- in the thread that iterates ----

    def _encode(self, frame: Any, at: int) -> Iterator[EncodedPicture]:
        key = self._next_key is None or at >= self._next_key
        if key:
            assert self.first is not None
            self._next_key = at - (at - self.first) % _GOP + _GOP
        frame.pts, frame.time_base = at, Fraction(1, TICKS)
        frame.pict_type = PictureType.I if key else PictureType.NONE
        self.end = max(self.end, at + self.source.step)
        yield from self._packets(frame)

    def _packets(self, frame: Any) -> Iterator[EncodedPicture]:
        for packet in self._encoder.encode(frame):
            payload = nal.from_annexb(bytes(packet))
            yield EncodedPicture(packet.dts, packet.pts, packet.is_keyframe, payload)

    def _make_encoder(self, frame: Any, shape: Fraction) -> Any:
        how = self._encoding
        encoder: Any = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, TICKS), self.source.rate
        encoder.sample_aspect_ratio = shape
        encoder.gop_size = max(12, ceil(self.source.rate * _GOP / TICKS) * 2)
        encoder.flags |= Flags.global_header | Flags.closed_gop
        # x264 uses 1.5 threads per core by default. More than 24 only cost memory.
        encoder.thread_count = 0 if (os.cpu_count() or 1) <= 16 else 24
        for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
            setattr(encoder, name, getattr(frame, name))
        encoder.options = {
            "preset": how.preset,
            "crf": f"{how.crf:g}",
            "maxrate": str(how.most_bits),
            "bufsize": str(how.most_bits),
            "forced-idr": "1",
            "profile": "high",
        }
        encoder.open()
        return encoder


class _Upright:
    """The filters that prepare a frame for the encoder. Each filter is present only if the video needs it.

    shape: sample aspect ratio of the source. fit: output size, if the encoder was opened with another size; else None.
    """

    def __init__(self, frame: Any, shape: Fraction, scratch: Path, fit: tuple[int, int] | None) -> None:
        self._looks = _looks(frame)
        self._interlaced = bool(frame.interlaced_frame)
        chain, turned = self._chain(frame, scratch)
        self._shape = (1 / shape if turned else shape) if 0 < shape < 100 else Fraction(1)
        width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        self.size = fit or (max(2, width - width % 2), max(2, height - height % 2))
        if fit is not None and fit != (width - width % 2, height - height % 2):
            chain.append(f"scale={fit[0]}:{fit[1]}:force_original_aspect_ratio=decrease:force_divisible_by=2")
            chain.append(f"pad={fit[0]}:{fit[1]}:-1:-1")
        elif width % 2 or height % 2:
            # 4:2:0 needs even sides. Cropping one line keeps the picture sharper than resampling all lines.
            chain.append(f"crop={max(2, width - width % 2)}:{max(2, height - height % 2)}:0:0" if min(width, height) > 1
                         else "scale=max(2\\,trunc(iw/2)*2):max(2\\,trunc(ih/2)*2)")  # fmt: skip
        chain.append("format=yuv420p")
        self._graph, _, self._sink = build_graph(frame, chain, TICKS, shape, threads=0)

    def fits(self, frame: Any) -> bool:
        return _looks(frame) == self._looks and (self._interlaced or not frame.interlaced_frame)

    def put(self, frame: Any) -> list[tuple[Any, Fraction]]:
        """Returns the frames that this one completes, each with its sample aspect ratio. frame: None at the end."""
        self._graph.vpush(frame)
        return [(upright, self._shape) for upright in pulled(self._sink)]

    def flush(self) -> list[tuple[Any, Fraction]]:
        """Returns the frames that are left at the end."""
        return self.put(None)

    def _chain(self, frame: Any, scratch: Path) -> tuple[list[str], bool]:
        """Returns the filters up to the rotation, and whether this swaps width and height."""
        chain = []
        if self._interlaced:
            chain.append("bwdif=mode=send_frame:deint=interlaced")
        if frame.color_trc in (_PQ, _HLG):
            transfer = Transfer.PQ if frame.color_trc == _PQ else Transfer.HLG
            cube = scratch / f"{transfer}.cube"
            cube.write_text(table(transfer))
            chain += ["scale=in_color_matrix=bt2020:in_range=" + ("full" if frame.color_range == _FULL else "limited")]
            chain += ["format=gbrp12le", f"lut3d=file={_quoted(str(cube))}:interp=tetrahedral"]
            chain += ["scale=out_color_matrix=bt709:out_range=limited"]
            chain += [
                "format=yuv420p",
                "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=limited",
            ]
        elif frame.color_range == _FULL or frame.format.name.startswith("yuvj"):
            chain.append("scale=out_range=limited")
        elif not frame.format.name.startswith("yuv"):
            chain.append("scale=out_color_matrix=bt709:out_range=limited")
        turn, turned = _turn(frame)
        return chain + turn, turned


def _looks(frame: Any) -> tuple[Any, ...]:
    return frame.width, frame.height, frame.format.name, frame.color_trc, frame.color_range, _matrix(frame)


def _quoted(text: str) -> str:
    """Quotes a text for a filter's argument list. There is no second quoting level of a graph description."""
    return "".join(f"\\{c}" if c in "\\':,;[]" else c for c in text)


def _matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """Returns the signs of a, b, c, d of the display matrix (ISO/IEC 14496-12 §6.2.2); None if there is none."""
    for side in frame.side_data:
        if side.type.name == "DISPLAYMATRIX" and len(bytes(side)) >= 36:
            a, b, _, c, d = struct.unpack_from("=5i", bytes(side))
            return _sign(a), _sign(b), _sign(c), _sign(d)
    return None


# The filters that apply a display matrix to the picture; x' = ax + cy, y' = bx + dy.
_TURNS: Final[dict[tuple[int, int, int, int], list[str]]] = {
    (1, 0, 0, 1): [],
    (0, 1, -1, 0): ["transpose=clock"],
    (-1, 0, 0, -1): ["hflip", "vflip"],
    (0, -1, 1, 0): ["transpose=cclock"],
    (-1, 0, 0, 1): ["hflip"],
    (1, 0, 0, -1): ["vflip"],
    (0, 1, 1, 0): ["transpose=cclock_flip"],
    (0, -1, -1, 0): ["transpose=clock_flip"],
}


def _turn(frame: Any) -> tuple[list[str], bool]:
    matrix = _matrix(frame)
    turn = _TURNS.get(matrix, []) if matrix is not None else []
    return turn, any(step.startswith("transpose") for step in turn)


def _ticks(frame: Any) -> int:
    at = ticks(frame.pts, frame.time_base)
    assert at is not None  # filters keep times
    return at


def _sign(fixed: int) -> int:
    """Returns the sign of a 16.16 number, 0 below one half. Only rotations by multiples of 90° are supported."""
    return (fixed > 0x8000) - (fixed < -0x8000)
