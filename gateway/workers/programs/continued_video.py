"""Encodes pictures in the form of another encoder's stream, so that players of that stream can continue.

H.264 is written with the parameter sets of the other stream (`gateway.media.h264_slices`). Then both streams have
the same configuration. Where that is impossible, only size, rate, profile, level and colors are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final, TypeAlias

import av

from gateway.media import h264, h265
from gateway.media.colors import VideoSignal
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.h264_slices import CodingParameters, SliceRewriter, coding_parameters
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, VideoEncoder, VideoRecipe
from gateway.workers.programs.filters import FULL_RANGE, MATRICES, Chain, shown_matrix
from gateway.workers.programs.hdr import to_sdr

# By chroma_format_idc and bits of a sample.
_PIXELS: Final = {
    (1, 8): "yuv420p", (2, 8): "yuv422p", (3, 8): "yuv444p",
    (1, 10): "yuv420p10le", (2, 10): "yuv422p10le", (3, 10): "yuv444p10le",
}  # fmt: skip
_PROFILES: Final = {66: "baseline", 77: "main", 100: "high", 110: "high10", 122: "high422", 244: "high444"}
_LIMITED_RANGE: Final = 1  # of FFmpeg
_MAX_COPY_BYTES: Final = 1_000  # with headers; a picture of level 6.2 needs about 400
_BASIC_TOOLS: Final = "ref=1:bframes=0:weightp=0:psy=0:deblock=0,0:cqm=flat"

Box: TypeAlias = tuple[int, int, int, int]  # left, top, width, height


@dataclass(frozen=True, slots=True)
class ContinuedForm:
    """The form of pictures that continue a stream.

    aspect: width of a pixel divided by its height. coding: the parameter sets to write with; None: the encoder's.
    config: the stream's configuration if `coding` is set.
    """

    encoder: str
    width: int
    height: int
    aspect: Fraction
    rate: Fraction
    pixels: str
    signal: VideoSignal
    profile: str = ""
    level: str = ""
    coding: CodingParameters | None = None
    config: bytes = b""

    @classmethod
    def of(cls, track: MediaTrack | None, size: tuple[int, int], rate: Fraction) -> ContinuedForm:
        """Returns the form that continues this track. size: pixels, for tracks without a readable size."""
        try:
            match track:
                case MediaTrack(codec=Codec.H264):
                    return cls._of_h264(track.config, rate)
                case MediaTrack(codec=Codec.H265):
                    return cls._of_h265(track.config, rate)
        except InvalidData:
            pass  # a configuration that decoders cannot read either
        return cls("libx264", *size, Fraction(1), rate, "yuv420p", VideoSignal(False, 1, 1, 1), "high")

    @classmethod
    def _of_h264(cls, config: bytes, rate: Fraction) -> ContinuedForm:
        avcc = h264.parse_avcc(config)
        if not avcc.sps:
            raise InvalidData("avcC without SPS")
        sps = h264.parse_sps(avcc.sps[0])
        assert sps.coding is not None, "parse_sps sets it"
        pixels = _PIXELS.get((sps.coding.chroma_format, sps.coding.luma_bits), "yuv420p")
        form = cls(
            "libx264", sps.width & ~1, sps.height & ~1, Fraction(*sps.aspect), rate, pixels, sps.signal,
            _PROFILES.get(sps.profile, ""), f"{sps.level // 10}.{sps.level % 10}",
        )  # fmt: skip
        try:
            return replace(form, coding=coding_parameters(config), config=config)
        except (InvalidData, UnsupportedCodec):
            return form  # with parameter sets of its own

    @classmethod
    def _of_h265(cls, config: bytes, rate: Fraction) -> ContinuedForm:
        hvcc = h265.parse_hvcc(config)
        if not hvcc.sps:
            raise InvalidData("hvcC without SPS")
        sps = h265.parse_sps(hvcc.sps[0])
        pixels = "yuv420p10le" if sps.profile == 2 else "yuv420p"
        return cls("libx265", sps.width & ~1, sps.height & ~1, Fraction(*sps.aspect), rate, pixels, sps.signal)

    @property
    def display_size(self) -> tuple[int, int]:
        """The size in square pixels."""
        return max(2, round(self.width * self.aspect)), self.height

    @property
    def matrix(self) -> int:
        """The matrix that players use for these pictures."""
        return shown_matrix(self.signal.matrix, self.height)

    def fit(self, width: int, height: int) -> Box:
        """Returns the box that shows a picture of this size (square pixels). All its numbers are even."""
        display_width, display_height = self.display_size
        scale = min(Fraction(display_width, width), Fraction(display_height, height))
        inner_width = min(self.width, max(2, round(width * scale / self.aspect / 2) * 2))
        inner_height = min(self.height, max(2, round(height * scale / 2) * 2))
        left, top = (self.width - inner_width) // 4 * 2, (self.height - inner_height) // 4 * 2
        return left, top, inner_width, inner_height

    def scaling(self, width: int, height: int) -> tuple[str, ...]:
        """Returns the filters that scale a picture to this size, and convert its colors and its pixel format."""
        colors = f"out_color_matrix={MATRICES[self.matrix]}:out_range={'pc' if self.signal.full_range else 'tv'}"
        return f"scale={width}:{height}:flags=bicubic:{colors}", f"format={self.pixels}"

    def letterbox(self, box: Box) -> tuple[str, ...]:
        """Returns the filters that scale a picture into a box. Outside the box, pictures are black."""
        left, top, width, height = box
        steps = self.scaling(width, height)
        if (width, height) == (self.width, self.height):
            return steps
        return *steps, f"pad={self.width}:{self.height}:{left}:{top}:black"

    def set_colors(self, frame: Any) -> None:
        """Sets the colors of a converted frame, as the stream declares them."""
        frame.colorspace = self.signal.matrix
        frame.color_primaries = self.signal.primaries
        frame.color_trc = self.signal.transfer
        frame.color_range = FULL_RANGE if self.signal.full_range else _LIMITED_RANGE


class Letterbox:
    """Converts pictures of any size and format into a form, with black bars where their shape differs.

    Pictures in HDR become SDR in a form of SDR.
    """

    def __init__(self, form: ContinuedForm) -> None:
        self._form = form
        self._input: tuple[object, ...] | None = None
        self._chain: Chain | None = None

    def convert(self, frame: av.VideoFrame, aspect: Fraction = Fraction(1)) -> av.VideoFrame:
        """Returns a new picture. aspect: width of a pixel of `frame` divided by its height. Raises av.FFmpegError."""
        transfer, full_range = int(frame.color_trc), frame.color_range == FULL_RANGE
        given = frame.width, frame.height, aspect, transfer, full_range
        if self._chain is None or given != self._input:
            self._input = given
            box = self._form.fit(max(1, round(frame.width * aspect)), frame.height)
            is_sdr = self._form.signal.range == "SDR"
            steps, table = to_sdr(transfer, full_range) if is_sdr else ((), None)
            smaller = (f"scale={box[2]}:{box[3]}:flags=bicubic",) if steps else ()  # because SDR costs time by pixels
            self._chain = Chain((*smaller, *steps, *self._form.letterbox(box)), table=table)
        converted: av.VideoFrame = self._chain.push(frame)[0]
        self._form.set_colors(converted)
        return converted


class ContinuedEncoder:
    """Encodes pictures of a form. `track` has the configuration of the continued track if this is possible.

    Each GOP is closed. There are no B-frames. Each unit is returned at once, except with H.265.

    like: the first picture. bitrate: bits per second. crf: constant quality, with at most `bitrate`; 0: the encoder
    aims at `bitrate`.

    Raises CodecFailed.
    """

    def __init__(self, form: ContinuedForm, like: av.VideoFrame, bitrate: int, preset: str, crf: float = 0) -> None:
        recipe = VideoRecipe(
            form.encoder, form.width, form.height,
            bitrate=0 if crf else bitrate, maxrate=bitrate, rate=form.rate, timescale=1_000,
            preset=preset, crf=crf, sample_aspect=form.aspect, pixels=form.pixels, instant=True,
        )  # fmt: skip
        self._encoder, self._rewriter = _open(recipe, form, like)
        self.track = self._encoder.track
        if self._rewriter is not None and self._rewriter.target is form.coding:
            self.track = MediaTrack(Kind.VIDEO, Codec.H264, recipe.timescale, form.config)
        self._last: tuple[av.VideoFrame, DecodedPicture] | None = None
        self._copy: bytes | None = None  # an access unit that repeats the previous picture

    @property
    def outrun(self) -> bool:
        """See VideoEncoder.outrun."""
        return self._encoder.outrun

    def encode(self, frame: av.VideoFrame, picture: DecodedPicture) -> list[AccessUnit]:
        """Returns the units that are ready. See `VideoEncoder.encode`."""
        self._last = frame, picture
        return self._rewrite(self._encoder.encode(frame, picture))

    def repeat(self, pts: int) -> list[AccessUnit]:
        """Repeats the previous picture at another time, in milliseconds. It costs almost no time and no bits."""
        assert self._last is not None, "a picture was encoded"
        frame, picture = self._last
        if self._rewriter is None:
            return self.encode(frame, replace(picture, pts=pts, key=False))
        if self._copy is None:
            self._copy = _copying_unit(self._encoder.recipe, frame)
        return [AccessUnit(self.track, pts, 0, False, picture.wall, self._rewriter.rewrite(self._copy))]

    def flush(self) -> list[AccessUnit]:
        """Returns the last units. The encoder cannot be used afterwards."""
        return self._rewrite(self._encoder.flush())

    def _rewrite(self, units: list[AccessUnit]) -> list[AccessUnit]:
        if self._rewriter is None:
            return units
        return [replace(unit, track=self.track, payload=self._rewriter.rewrite(unit.payload)) for unit in units]


def _open(recipe: VideoRecipe, form: ContinuedForm, like: av.VideoFrame) -> tuple[VideoEncoder, SliceRewriter | None]:
    """Opens an encoder, and the rewriter of its slices.

    Slices are written for the form's parameter sets if possible, else for the encoder's own.
    """
    if form.coding is not None:
        try:
            encoder = VideoEncoder(replace(recipe, tools=_tools(form.coding)), like)
            return encoder, SliceRewriter(coding_parameters(encoder.track.config), form.coding)
        except (CodecFailed, InvalidData, UnsupportedCodec):
            pass  # the configuration will differ
    encoder = _open_similar(replace(recipe, tools=_BASIC_TOOLS), form, like)
    if form.encoder != "libx264":
        return encoder, None
    own = coding_parameters(encoder.track.config)
    return encoder, SliceRewriter(own, own)


def _copying_unit(recipe: VideoRecipe, like: av.VideoFrame) -> bytes:
    """Returns an access unit of skipped macroblocks. Decoders show the previous picture again, exactly.

    The encoder makes it from two gray pictures that are the same: the second one has nothing to code.
    """
    gray = av.VideoFrame(recipe.width, recipe.height, recipe.pixels)
    middle = 1 << (gray.format.components[0].bits - 1)
    for plane in gray.planes:
        plane.update(
            middle.to_bytes(2, "little") * (plane.buffer_size // 2) if middle > 128 else b"\x80" * plane.buffer_size
        )
    encoder = VideoEncoder(recipe, like)
    for number in range(2):
        units = encoder.encode(gray, DecodedPicture(gray, number * 40, number == 0, 0, 0.0))
    payload = units[0].payload
    if units[0].key or len(payload) > _MAX_COPY_BYTES:
        raise CodecFailed(f"a repeated picture needs {len(payload)} bytes")
    return payload


def _tools(coding: CodingParameters) -> str:
    """Returns the parameters of x264 that code macroblocks like these parameter sets."""
    pps = coding.pps
    return (
        f"{_BASIC_TOOLS}:cabac={int(pps.cabac)}:8x8dct={int(pps.transform_8x8)}"
        f":chroma-qp-offset={pps.chroma_offsets[0]}:constrained-intra={int(pps.constrained_intra)}"
    )


def _open_similar(recipe: VideoRecipe, form: ContinuedForm, like: av.VideoFrame) -> VideoEncoder:
    """Opens an encoder with its own parameter sets. If it refuses a profile or level, it chooses one itself."""
    for profile, level in ((form.profile, form.level), (form.profile, ""), ("", "")):
        try:
            return VideoEncoder(replace(recipe, profile=profile, level=level), like)
        except CodecFailed as error:
            failure = error
    raise failure
