"""The decoders for the tracks of a stream, and the video encoder."""

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
from gateway.media.colors import UNSPECIFIED_SIGNAL
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack

DECODERS: Final = {
    Codec.H264: "h264", Codec.H265: "hevc", Codec.AV1: "libdav1d", Codec.VP8: "vp8", Codec.VP9: "vp9",
    Codec.AAC: "aac", Codec.MP3: "mp3float", Codec.OPUS: "opus", Codec.FLAC: "flac", Codec.AC3: "ac3",
    Codec.EAC3: "eac3",
}  # fmt: skip

# Attributes of frames and of encoders.
COLOR_PROPERTIES: Final = ("color_range", "color_primaries", "color_trc", "colorspace")

# A decoder returns a picture at most 16 pictures late (H.264 §A.3.1 and H.265 §A.4.2 bound the buffer).
_MAX_TIMESTAMPS: Final = 64

# H.264 level 6.2 has 139264 macroblocks. Larger pictures are refused, to limit memory.
_MAX_PIXELS: Final = 139_264 * 256

_USUAL_RATES: Final = tuple(
    Fraction(rate)
    for rate in ("10", "12", "15", "20", "24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60")
)


class CodecFailed(Exception):
    """A codec cannot be opened with these parameters. The message is one line."""


def cause(error: Exception) -> str:
    """Returns why a codec fails, for users. The texts of libraries are for programmers."""
    if isinstance(error, InvalidData):
        return str(error)
    return "not enough memory" if isinstance(error, MemoryError) else "the codec refuses these parameters"


@dataclass(slots=True)
class DecodedPicture:
    """A decoded picture.

    pts: ticks of its track's timescale. key: whether its unit was a key frame.
    lead: presentation time minus decode time of its unit, in ticks. wall: wall clock time of its unit's arrival.
    aspect: width of a sample divided by its height.
    """

    frame: av.VideoFrame
    pts: int
    key: bool
    lead: int
    wall: float
    aspect: Fraction = Fraction(1)


def open_decoder(track: MediaTrack, threads: int) -> av.CodecContext:
    """Returns an open decoder for a track. Packet times are in ticks of the track's timescale. Raises CodecFailed.

    threads: number of slice threads. Frame threads are not used, because each would delay the output by one picture.
    """
    try:
        context = av.CodecContext.create(DECODERS[track.codec], "r")
        if (extra := _extradata(track)) is not None:
            context.extradata = extra
        if track.kind is Kind.VIDEO:
            options = {"max_pixels": str(_MAX_PIXELS)}
            if track.codec is Codec.AV1:
                # The thread settings below do not limit dav1d's delay. This option limits it: frames in parallel.
                options["max_frame_delay"] = "1"
            context.options = options
        context.thread_count = threads
        context.thread_type = "SLICE"
        context.open()
    except (av.FFmpegError, InvalidData, ValueError) as error:
        raise CodecFailed(f"{track.codec} cannot be decoded: {cause(error)}") from error
    return context


def make_packet(unit: AccessUnit) -> av.Packet[Any]:
    """Returns a unit as a packet for its decoder."""
    result: av.Packet[Any] = av.Packet(unit.payload)
    result.time_base = Fraction(1, unit.track.timescale)
    result.pts = unit.dts + unit.cts
    result.dts = unit.dts
    result.is_keyframe = unit.key
    return result


class VideoDecoder:
    """Decodes the pictures of one video track, in presentation order.

    Begins at a key frame. Counts and drops damaged pictures. `decode` and `flush` raise no error for damaged data.
    """

    def __init__(self, track: MediaTrack, threads: int = 1) -> None:
        assert track.kind is Kind.VIDEO
        self.track = track
        self.damaged = 0
        self.sample_aspect = Fraction(1)  # of the last picture: width of a sample divided by its height
        self._threads = threads
        self._context = self._open()
        self._timestamps: dict[int, tuple[bool, int, float]] = {}  # by pts: key, lead and wall of its unit
        self._last: int | None = None  # pts of the last picture
        self._begun = False

    def decode(self, unit: AccessUnit) -> list[DecodedPicture]:
        """Returns the pictures that this unit completes."""
        if not self._begun:
            if not unit.key:
                return []
            self._begun = True
        if not unit.payload:
            return []
        pts = unit.dts + unit.cts
        self._timestamps[pts] = (unit.key, unit.cts, unit.wall)
        if len(self._timestamps) > _MAX_TIMESTAMPS:
            del self._timestamps[next(iter(self._timestamps))]
        try:
            frames = self._context.decode(make_packet(unit))
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            frames = []
        return self._pictures(frames)

    def flush(self) -> list[DecodedPicture]:
        """Returns the pictures that were delayed for reordering, and resets the decoder."""
        try:
            frames = self._context.decode(None)
        except (av.FFmpegError, ValueError):
            frames = []
        pictures = self._pictures(frames)
        self._context = self._open()
        self._begun = False
        self._timestamps.clear()
        self._last = None
        return pictures

    @property
    def declared_rate(self) -> float | None:
        """Frames per second in the stream's configuration; None if missing."""
        try:
            return codecs.frame_rate(self.track)
        except InvalidData:
            return None

    def _open(self) -> VideoCodecContext:
        context = open_decoder(self.track, self._threads)
        assert isinstance(context, VideoCodecContext)
        return context

    def _pictures(self, frames: Iterable[av.VideoFrame]) -> list[DecodedPicture]:
        pictures = []
        declared = self.track.colors.signal
        aspect = self.sample_aspect = self._context.sample_aspect_ratio or self.sample_aspect
        for frame in frames:
            timestamp = None if frame.pts is None else self._timestamps.pop(frame.pts, None)
            if timestamp is None or frame.pts is None or frame.is_corrupt or not frame.width or not frame.height:
                self.damaged += 1
                continue
            if self._last is not None and frame.pts <= self._last:
                self.damaged += 1  # a second picture with this time, or a picture in the wrong order
                continue
            self._last = frame.pts
            if int(frame.color_trc) == UNSPECIFIED_SIGNAL.transfer != declared.transfer:
                frame.color_trc, frame.color_primaries = declared.transfer, declared.primaries
                frame.colorspace = declared.matrix
            key, lead, wall = timestamp
            pictures.append(DecodedPicture(frame, frame.pts, key, lead, wall, aspect))
        return pictures


@dataclass(frozen=True, slots=True)
class VideoRecipe:
    """The settings of a video encoder.

    encoder: libx264 or libx265. bitrate: bits per second; 0: constant quality `crf`.
    maxrate: maximum bits per second, and the buffer size in bits; 0: no limit.
    rate: expected frames per second. preset, profile: names of the encoder; profile "": the default one.
    timescale: of the units. threads: of this encoder. sample_aspect: width of a sample divided by its height.
    level: of H.264, for example "3.1"; "": the lowest sufficient level.
    instant: libx264 returns each picture immediately, not with the next one. Its rate control then counts frames of the
    expected rate, not time.
    pixels: FFmpeg's name of the pixel format. tools: more parameters of libx264, "" or `name=value:…`.
    """

    encoder: str
    width: int
    height: int
    bitrate: int
    maxrate: int
    rate: Fraction
    timescale: int
    preset: str = "veryfast"
    profile: str = ""
    crf: float = 23.0
    threads: int = 1
    sample_aspect: Fraction = Fraction(1)
    level: str = ""
    instant: bool = False
    pixels: str = "yuv420p"
    tools: str = ""


class VideoEncoder:
    """Encodes pictures without B-frames, with key frames exactly at the pictures with `key`.

    A decode time is the presentation time minus the lead of the last key picture. So a key frame has exactly the times
    of the source's key frame.
    """

    def __init__(self, recipe: VideoRecipe, like: av.VideoFrame | None = None) -> None:
        """Raises CodecFailed if the encoder cannot be opened.

        like: a picture with the color properties (matrix, primaries, transfer, range) of all pictures.
        """
        self.recipe = recipe
        try:
            self._context = _open_encoder(recipe, like)
            config = encoder_config(recipe.encoder, self._context.extradata or b"")
        except (av.FFmpegError, InvalidData, ValueError) as error:
            raise CodecFailed(
                f"{recipe.encoder} cannot encode {recipe.width}x{recipe.height} pictures: {cause(error)}"
            ) from error
        codec = Codec.H265 if recipe.encoder == "libx265" else Codec.H264
        self.track = MediaTrack(Kind.VIDEO, codec, recipe.timescale, config)
        self._time_base = 1 / recipe.rate
        self._frames_per_tick = recipe.rate / recipe.timescale
        self._first: int | None = None  # pts of the first picture
        self._number = -1  # of the last picture, in frames at the recipe's rate
        self._ahead = 0  # frames by which `_number` is ahead of the picture's time
        self._pending: dict[int, tuple[int, int, float]] = {}  # by frame number: pts, lead (-1: no key picture), wall
        self._lead = 0  # of the last key picture
        self._last_dts: int | None = None

    @property
    def outrun(self) -> bool:
        """Whether pictures come much faster than the recipe's rate. Then the bitrate is wrong: open a new encoder."""
        return self._ahead > 2 * self.recipe.rate

    def set_bitrate(self, bitrate: int) -> None:
        """Changes the bitrate from the next picture on.

        bitrate: bits per second, at most the recipe's. The recipe's maxrate must equal its bitrate.
        """
        self._context.bit_rate = bitrate

    def encode(self, frame: av.VideoFrame, picture: DecodedPicture) -> list[AccessUnit]:
        """Returns the units that are ready.

        frame: `picture` in the recipe's size and pixel format; changes its times.
        """
        if self._first is None:
            self._first = picture.pts
        # The encoder's times are frame numbers at the expected rate, because its rate control and the stream's timing
        # information use that rate. Missing frames leave gaps in the numbers.
        due = round((picture.pts - self._first) * self._frames_per_tick)
        self._number = max(self._number + 1, due)
        self._ahead = self._number - due
        self._pending[self._number] = (picture.pts, picture.lead if picture.key else -1, picture.wall)
        frame.pts = self._number
        frame.time_base = self._time_base
        frame.pict_type = PictureType.I if picture.key else PictureType.NONE
        return self._units(frame)

    def flush(self) -> list[AccessUnit]:
        """Returns the last units. The encoder cannot be used afterwards."""
        return self._units(None)

    def _units(self, frame: av.VideoFrame | None) -> list[AccessUnit]:
        units = []
        for coded in self._context.encode(frame):
            assert coded.pts is not None, "encoders set the times of packets"
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


def estimate_frame_rate(times: list[int], timescale: int, declared: float | None) -> Fraction:
    """Returns the frames per second of pictures at these times.

    times: increasing, in ticks of `timescale`. declared: the rate in the stream's configuration; used if it fits.
    """
    if len(times) < 2:
        measured = Fraction(declared).limit_denominator(1001) if declared else Fraction(30)
    else:
        measured = Fraction((len(times) - 1) * timescale, times[-1] - times[0])
    if declared and abs(declared / measured - 1) < 0.03:
        return Fraction(declared).limit_denominator(1001)
    nearest = min(_USUAL_RATES, key=lambda rate: abs(rate / measured - 1))
    if abs(nearest / measured - 1) < 0.01:  # times rounded to milliseconds cause a smaller error than this
        return nearest
    return max(Fraction(1), min(Fraction(240), measured.limit_denominator(1001)))


def _open_encoder(recipe: VideoRecipe, like: av.VideoFrame | None) -> VideoCodecContext:
    context = av.CodecContext.create(recipe.encoder, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = recipe.width, recipe.height, recipe.pixels
    context.time_base = 1 / recipe.rate
    context.framerate = recipe.rate
    context.sample_aspect_ratio = recipe.sample_aspect
    context.max_b_frames = 0
    context.gop_size = 1 << 20  # key frames only on request
    context.thread_count = recipe.threads
    context.flags |= Flags.global_header
    if like is not None:
        for name in COLOR_PROPERTIES:
            setattr(context, name, getattr(like, name))
    options = {"preset": recipe.preset, "tune": "zerolatency", "forced-idr": "1", "sc_threshold": "0"}
    options |= {name: value for name, value in (("profile", recipe.profile), ("level", recipe.level)) if value}
    if recipe.bitrate:
        context.bit_rate = recipe.bitrate
    else:
        options["crf"] = f"{recipe.crf:g}"
    if recipe.maxrate:
        options |= {"maxrate": str(recipe.maxrate), "bufsize": str(recipe.maxrate)}
    if recipe.encoder == "libx265":
        pool = "none" if recipe.threads == 1 else str(recipe.threads)
        options["a53cc"] = "1"
        options["x265-params"] = f"log-level=none:scenecut=0:frame-threads=1:pools={pool}:repeat-headers=0"
    else:
        # With force-cfr=0, x264 uses the real frame durations, and delays the output by one frame. Without it, a source
        # that slows down would get too few bits. With ratetol=0.1, the bitrate of each group of pictures is exact to a
        # few per cent.
        options["x264-params"] = "ratetol=0.1" if recipe.instant else "force-cfr=0:ratetol=0.1"
        if recipe.tools:
            options["x264-params"] += f":{recipe.tools}"
    context.options = options
    context.open()
    return context


def encoder_config(encoder: str, headers: bytes) -> bytes:
    """Returns the avcC or hvcC with the parameter sets of an encoder's extradata. Raises InvalidData."""
    units = nal.split_annexb(headers)
    if encoder == "libx265":
        sets = ([u for u in units if h265.nal_type(u) == kind] for kind in (h265.VPS, h265.SPS, h265.PPS))
        return h265.build_hvcc(*sets)
    return h264.build_avcc([u for u in units if u[0] & 0x1F == h264.SPS], [u for u in units if u[0] & 0x1F == h264.PPS])


def _extradata(track: MediaTrack) -> bytes | None:
    """Returns a track's configuration in the form that FFmpeg's decoder expects."""
    match track.codec:
        case Codec.OPUS:
            return opus.head_bytes(opus.parse_head(track.config)) if track.config else None
        case Codec.FLAC:
            return flac.parse_config(track.config).blocks[4:]  # STREAMINFO without its block header
    return track.config or None
