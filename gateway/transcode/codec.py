"""Decoding one track and encoding pictures: access units in, pictures out, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from gateway.media import codecs, flac, h264, h265, nal, opus
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, Track
from gateway.media.unit import AccessUnit

DECODERS: Final = {
    Codec.H264: "h264",
    Codec.H265: "hevc",
    Codec.AV1: "libdav1d",
    Codec.VP8: "vp8",
    Codec.VP9: "vp9",
    Codec.AAC: "aac",
    Codec.MP3: "mp3float",
    Codec.OPUS: "opus",
    Codec.FLAC: "flac",
    Codec.AC3: "ac3",
    Codec.EAC3: "eac3",
}

# A decoder gives a picture back within 16 others (H.264 §A.3.1 and H.265 §A.4.2 bound the buffer).
_MOST_STAMPS: Final = 64

# H.264 level 6.2 has 139264 macroblocks: what claims to be larger wants our memory.
_MOST_PIXELS: Final = 139_264 * 256

_RATES: Final = tuple(
    Fraction(rate)
    for rate in ("10", "12", "15", "20", "24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60")
)


class CodecFailed(Exception):
    """A codec cannot be opened for this; the message is one line."""


@dataclass(slots=True)
class Picture:
    """A decoded picture.

    pts: ticks of its track's timescale; key: its unit was a key frame; lead: presentation less decode time of its unit,
    in ticks; wall: when its unit arrived; aspect: width of a sample by its height.
    """

    frame: av.VideoFrame
    pts: int
    key: bool
    lead: int
    wall: float
    aspect: Fraction = Fraction(1)


def decoder(track: Track, threads: int) -> av.CodecContext:
    """An open decoder for a track's units, packet times in ticks of its timescale. Raises CodecFailed.

    threads: of slices only; threads of frames would hold as many pictures back.
    """
    try:
        context = av.CodecContext.create(DECODERS[track.codec], "r")
        if (extra := _extradata(track)) is not None:
            context.extradata = extra
        if track.kind is Kind.VIDEO:
            options = {"max_pixels": str(_MOST_PIXELS)}
            if track.codec is Codec.AV1:
                # dav1d counts otherwise: this is how many frames it may hold to work on them side by side.
                options["max_frame_delay"] = "1"
            context.options = options
        context.thread_count = threads
        context.thread_type = "SLICE"
        context.open()
    except (av.FFmpegError, InvalidData, ValueError) as error:
        raise CodecFailed(f"{track.codec} cannot be decoded: {error}") from error
    return context


def packet(unit: AccessUnit) -> av.Packet[Any]:
    """A unit as its decoder takes it."""
    made: av.Packet[Any] = av.Packet(unit.payload)
    made.time_base = Fraction(1, unit.track.timescale)
    made.pts = unit.dts + unit.cts
    made.dts = unit.dts
    made.is_keyframe = unit.key
    return made


class VideoDecoder:
    """The pictures of one video track, in the order in which they are shown.

    Begins at a key frame. What is damaged is counted and left out; nothing that a unit holds makes it raise.
    """

    def __init__(self, track: Track, threads: int = 1) -> None:
        assert track.kind is Kind.VIDEO
        self.track = track
        self.damaged = 0
        self.sample_aspect = Fraction(1)  # width of a sample by its height, of the last picture
        self._threads = threads
        self._context = self._open()
        self._stamps: dict[int, tuple[bool, int, float]] = {}
        self._last: int | None = None
        self._begun = False

    def decode(self, unit: AccessUnit) -> list[Picture]:
        """The pictures that this unit completes."""
        if not self._begun:
            if not unit.key:
                return []
            self._begun = True
        if not unit.payload:
            return []
        pts = unit.dts + unit.cts
        self._stamps[pts] = (unit.key, unit.cts, unit.wall)
        if len(self._stamps) > _MOST_STAMPS:
            del self._stamps[next(iter(self._stamps))]
        try:
            frames = self._context.decode(packet(unit))
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            frames = []
        return self._pictures(frames)

    def flush(self) -> list[Picture]:
        """The pictures that were held back to be put in order; the decoder then begins anew."""
        try:
            frames = self._context.decode(None)
        except (av.FFmpegError, ValueError):
            frames = []
        pictures = self._pictures(frames)
        self._context = self._open()
        self._begun = False
        self._stamps.clear()
        self._last = None
        return pictures

    @property
    def claimed_rate(self) -> float | None:
        """Frames a second that the stream's configuration promises."""
        try:
            return codecs.frame_rate(self.track)
        except InvalidData:
            return None

    def _open(self) -> VideoCodecContext:
        context = decoder(self.track, self._threads)
        assert isinstance(context, VideoCodecContext)
        return context

    def _pictures(self, frames: Iterable[av.VideoFrame]) -> list[Picture]:
        pictures = []
        aspect = self.sample_aspect = self._context.sample_aspect_ratio or self.sample_aspect
        for frame in frames:
            stamp = None if frame.pts is None else self._stamps.pop(frame.pts, None)
            if stamp is None or frame.pts is None or frame.is_corrupt or not frame.width or not frame.height:
                self.damaged += 1
                continue
            if self._last is not None and frame.pts <= self._last:
                self.damaged += 1  # two units of one time: the second cannot be placed
                continue
            self._last = frame.pts
            key, lead, wall = stamp
            pictures.append(Picture(frame, frame.pts, key, lead, wall, aspect))
        return pictures


@dataclass(frozen=True, slots=True)
class VideoRecipe:
    """How pictures are encoded.

    encoder: libx264 or libx265. bitrate, maxrate, bufsize: bits a second, bits; bitrate 0: constant quality `crf`,
    which maxrate and bufsize still bound where they are not 0. rate: frames a second expected. preset, profile: the
    encoder's own names, "" for its choice. timescale: of the units. threads: of this encoder.
    sample_aspect: width of a sample by its height. level: of H.264, such as "3.1"; "": the least that suffices.
    instant: libx264 gives each picture back at once, not with the next one; bits are then counted by frames of the
    expected rate and not by time.
    """

    encoder: str
    width: int
    height: int
    bitrate: int
    maxrate: int
    bufsize: int
    rate: Fraction
    timescale: int
    preset: str = "veryfast"
    profile: str = ""
    crf: float = 23.0
    threads: int = 1
    sample_aspect: Fraction = Fraction(1)
    level: str = ""
    instant: bool = False


class VideoEncoder:
    """Pictures into units that hold no B-frames, with key frames where the pictures are keys and nowhere else.

    The decode times are those of the source: presentation time less the lead of the last key picture, so that a key
    frame has the very times of the source's. Raises CodecFailed where the encoder does not open.
    """

    def __init__(self, recipe: VideoRecipe, like: av.VideoFrame | None = None) -> None:
        """like: a picture whose colors (matrix, primaries, transfer, range) those to come have."""
        self.recipe = recipe
        try:
            self._context = _open_encoder(recipe, like)
            config = _config(recipe.encoder, self._context.extradata or b"")
        except (av.FFmpegError, InvalidData, ValueError) as error:
            raise CodecFailed(
                f"{recipe.encoder} cannot encode {recipe.width}x{recipe.height} pictures: {error}"
            ) from error
        codec = Codec.H265 if recipe.encoder == "libx265" else Codec.H264
        self.track = Track(Kind.VIDEO, codec, recipe.timescale, config)
        self._time_base = 1 / recipe.rate
        self._grid = recipe.rate / recipe.timescale
        self._first: int | None = None
        self._number = -1
        self._ahead = 0
        self._pending: dict[int, tuple[int, int, float]] = {}
        self._lead = 0
        self._last_dts: int | None = None

    @property
    def outrun(self) -> bool:
        """Pictures come so much faster than the recipe's rate that bits are counted wrongly: make another encoder."""
        return self._ahead > 2 * self.recipe.rate

    def retarget(self, bitrate: int) -> None:
        """From the next picture on so many bits a second: at most the recipe's, whose maxrate must be its bitrate."""
        self._context.bit_rate = bitrate

    def encode(self, frame: av.VideoFrame, picture: Picture) -> list[AccessUnit]:
        """The units that are ready. frame: `picture` in the recipe's size, as yuv420p; it is stamped anew."""
        if self._first is None:
            self._first = picture.pts
        # The encoder counts frames of the expected rate, which is what its rate control and the stream's timing
        # information go by; frames that did not come leave numbers out.
        due = round((picture.pts - self._first) * self._grid)
        self._number = max(self._number + 1, due)
        self._ahead = self._number - due
        self._pending[self._number] = (picture.pts, picture.lead if picture.key else -1, picture.wall)
        frame.pts = self._number
        frame.time_base = self._time_base
        frame.pict_type = PictureType.I if picture.key else PictureType.NONE
        return self._units(frame)

    def flush(self) -> list[AccessUnit]:
        """The last units; the encoder cannot be used after."""
        return self._units(None)

    def _units(self, frame: av.VideoFrame | None) -> list[AccessUnit]:
        units = []
        for coded in self._context.encode(frame):
            assert coded.pts is not None, "the encoder stamps what it makes"
            pts, lead, wall = self._pending.pop(coded.pts)
            if lead >= 0 or self._last_dts is None:
                self._lead = max(0, lead)
            dts = pts - self._lead
            if self._last_dts is not None and dts <= self._last_dts:
                dts = self._last_dts + 1  # at most pts: presentation times grow by at least 1
            self._last_dts = dts
            payload = nal.from_annexb(bytes(coded))
            units.append(AccessUnit(self.track, dts, pts - dts, coded.is_keyframe, wall, payload))
        return units


def frame_rate(times: list[int], timescale: int, claimed: float | None) -> Fraction:
    """Frames a second of pictures at these growing times; what the stream claims counts where it fits them."""
    if len(times) < 2:
        measured = Fraction(claimed).limit_denominator(1001) if claimed else Fraction(30)
    else:
        measured = Fraction((len(times) - 1) * timescale, times[-1] - times[0])
    if claimed and abs(claimed / measured - 1) < 0.03:
        return Fraction(claimed).limit_denominator(1001)
    nearest = min(_RATES, key=lambda rate: abs(rate / measured - 1))
    if abs(nearest / measured - 1) < 0.01:  # milliseconds blur the time between a few pictures by less
        return nearest
    return max(Fraction(1), min(Fraction(240), measured.limit_denominator(1001)))


def _open_encoder(recipe: VideoRecipe, like: av.VideoFrame | None) -> VideoCodecContext:
    context = av.CodecContext.create(recipe.encoder, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = recipe.width, recipe.height, "yuv420p"
    context.time_base = 1 / recipe.rate
    context.framerate = recipe.rate
    context.sample_aspect_ratio = recipe.sample_aspect
    context.max_b_frames = 0
    context.gop_size = 1 << 20  # key frames come where they are asked for
    context.thread_count = recipe.threads
    context.flags |= Flags.global_header
    if like is not None:
        context.colorspace = like.colorspace
        context.color_primaries = like.color_primaries
        context.color_trc = like.color_trc
        context.color_range = like.color_range
    options = {"preset": recipe.preset, "tune": "zerolatency", "forced-idr": "1", "sc_threshold": "0"}
    if recipe.profile:
        options["profile"] = recipe.profile
    if recipe.level:
        options["level"] = recipe.level
    if recipe.bitrate:
        context.bit_rate = recipe.bitrate
    else:
        options["crf"] = f"{recipe.crf:g}"
    if recipe.maxrate:
        options |= {"maxrate": str(recipe.maxrate), "bufsize": str(recipe.bufsize)}
    if recipe.encoder == "libx265":
        pool = "none" if recipe.threads == 1 else str(recipe.threads)
        options["x265-params"] = f"log-level=none:scenecut=0:frame-threads=1:pools={pool}:repeat-headers=0"
    else:
        # Frames of differing length cost one frame of delay; a source that slows down would else lose its bits. The
        # narrow tolerance holds the rate within a few per cent even over single groups of pictures.
        options["x264-params"] = "ratetol=0.1" if recipe.instant else "force-cfr=0:ratetol=0.1"
    context.options = options
    context.open()
    return context


def _config(encoder: str, headers: bytes) -> bytes:
    """avcC or hvcC of the parameter sets that an encoder writes ahead of its pictures. Raises InvalidData."""
    units = nal.split_annexb(headers)
    if encoder == "libx265":
        sets = ([u for u in units if h265.nal_type(u) == kind] for kind in (h265.VPS, h265.SPS, h265.PPS))
        return h265.build_hvcc(*sets)
    return h264.build_avcc([u for u in units if u[0] & 0x1F == h264.SPS], [u for u in units if u[0] & 0x1F == h264.PPS])


def _extradata(track: Track) -> bytes | None:
    """A track's configuration as FFmpeg's decoder wants it."""
    match track.codec:
        case Codec.OPUS:
            return opus.head_bytes(opus.parse_head(track.config)) if track.config else None
        case Codec.FLAC:
            return flac.parse_config(track.config).blocks[4:]  # STREAMINFO without its block header
    return track.config or None
