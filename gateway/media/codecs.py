"""Values of a track of any codec: codecs parameter, picture size, frame rate, sample rate, channels."""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.media import aac, ac3, av1, flac, h264, h265, mp3, opus, vp9
from gateway.media.errors import InvalidData
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.pixel_aspect import SQUARE, PixelAspect, displayed
from gateway.media.track import AmfValue, Codec, Kind, MediaTrack

_PARSERS: dict[Codec, Callable[[bytes], object]] = {
    Codec.H264: h264.parse_avcc, Codec.H265: h265.parse_hvcc, Codec.AV1: av1.parse_av1c, Codec.AAC: aac.parse_asc
}  # fmt: skip
_STRINGS = {
    Codec.H264: h264.codec_string, Codec.H265: h265.codec_string, Codec.AV1: av1.codec_string,
    Codec.AAC: aac.codec_string,
}  # fmt: skip
_PROFILES = {
    Codec.H264: {66: "Baseline", 77: "Main", 88: "Extended", 100: "High", 110: "High 10", 122: "High 4:2:2",
                 244: "High 4:4:4"},
    Codec.H265: {1: "Main", 2: "Main 10", 3: "Main Still Picture", 4: "Range Extensions"},
    Codec.AV1: {0: "Main", 1: "High", 2: "Professional"},
    Codec.AAC: {1: "Main", 2: "LC", 3: "SSR", 4: "LTP", 23: "LD", 39: "ELD", 42: "xHE-AAC"},
}  # fmt: skip

# Sound that Chromium does not play in fragments of MP4.
SILENT_IN_FRAGMENTS = frozenset((Codec.MP3, Codec.AC3, Codec.EAC3))

_CHROMA = ("4:0:0", "4:2:0", "4:2:2", "4:4:4")  # by chroma_format_idc

# Codecs without parameters. MP3: Apple's authoring rules use this value, and hls.js maps it to "mp3". RFC 6381 would
# require mp4a.6B.
_CODEC_STRINGS = {
    Codec.MP3: "mp4a.40.34", Codec.OPUS: "opus", Codec.FLAC: "fLaC", Codec.AC3: "ac-3", Codec.EAC3: "ec-3",
}  # fmt: skip


def codec_string(track: MediaTrack, first_payload: bytes | None = None) -> str:
    """Returns the RFC 6381 codecs parameter: "avc1.64001F", "mp4a.40.2", "opus" … Raises InvalidData.

    first_payload: a key frame, needed for VP9 without a configuration record.
    """
    match track.codec:
        case Codec.H264 | Codec.H265 | Codec.AV1 | Codec.AAC:
            return _STRINGS[track.codec](track.config)
        case Codec.VP9:
            return vp9.codec_string(vpcc(track, first_payload))
        case Codec.VP8:
            return vp9.codec_string(vpcc(track), vp8=True)
    return _CODEC_STRINGS[track.codec]


def video_size(track: MediaTrack, payload: bytes | None = None) -> tuple[int, int] | None:
    """Returns width and height in pixels; None if neither the configuration nor key frame `payload` contains them.

    VP8 and VP9 have the size only in their key frames. Raises InvalidData.
    """
    match track.codec:
        case Codec.H264 | Codec.H265:
            sps = sps_of(track)
            return (sps.width, sps.height) if sps is not None else None
        case Codec.AV1:
            header = av1.sequence_header(av1.parse_av1c(track.config).obus)
            if header is None and payload is not None:
                header = av1.sequence_header(payload)
            if header is not None:
                return header.width, header.height
        case Codec.VP9:
            return None if payload is None else vp9.frame_size(payload)
        case Codec.VP8:
            return None if payload is None else vp9.vp8_frame_size(payload)
    return None


def display_size(track: MediaTrack) -> tuple[int, int] | None:
    """Returns the size of the pictures in square pixels; None if the configuration does not have it.

    Raises InvalidData.
    """
    size = video_size(track)
    return size and displayed(size, pixel_aspect(track))


def pixel_aspect(track: MediaTrack, payload: bytes | None = None) -> PixelAspect:
    """Returns the width and height of a pixel; square if neither the configuration nor key frame `payload` has them.

    VP9 has them in its key frames, as the render size. AV1 pixels are assumed to be square. Raises InvalidData.
    """
    match track.codec:
        case Codec.H264 | Codec.H265:
            sps = sps_of(track)
            return sps.aspect if sps is not None else SQUARE
        case Codec.VP9:
            return SQUARE if payload is None else vp9.pixel_aspect(payload)
    return SQUARE


def sps_of(track: MediaTrack) -> h264.H264Sps | h265.H265Sps | None:
    """Returns the first sequence parameter set of H.264 or H.265; None if the record has none."""
    codec = NAL_CODECS[track.codec]
    sets = codec.parse_record(track.config).sps
    return codec.parse_sps(sets[0]) if sets else None


def unusual_pixels(track: MediaTrack) -> str:
    """Returns chroma and depth of pictures that few browsers decode, such as "4:2:2 and 10 bits"; "" for others.

    HEVC with 10 bits is as common as with 8.
    """
    sps = _or_none(sps_of, track) if track.codec in NAL_CODECS else None
    coding = sps.coding if isinstance(sps, h264.H264Sps) else sps
    most = 8 if track.codec is Codec.H264 else 10
    if coding is None or (coding.chroma_format <= 1 and coding.luma_bits <= most):
        return ""
    return f"{_CHROMA[coding.chroma_format]} and {coding.luma_bits} bits"


def frame_rate(track: MediaTrack) -> float | None:
    """Returns the frames a second from the configuration; None if it does not contain them. Raises InvalidData."""
    match track.codec:
        case Codec.H264 | Codec.H265:
            sps = sps_of(track)
            rate = sps.frame_rate if sps is not None else None
            return rate or (h265.parse_hvcc(track.config).frame_rate if track.codec is Codec.H265 else None)
        case Codec.AV1:
            header = av1.sequence_header(av1.parse_av1c(track.config).obus)
            return header.frame_rate if header is not None else None
    return None


def declared_frame_rate(track: MediaTrack, metadata: Mapping[str, AmfValue]) -> float | None:
    """Returns the frames a second from the configuration, else those that onMetaData announces. Raises InvalidData."""
    announced = metadata.get("framerate")
    return frame_rate(track) or (float(announced) if isinstance(announced, int | float) else None)


def audio_rate(track: MediaTrack, payload: bytes | None = None) -> int:
    """Returns the samples a second after decoding.

    MP3 and AC-3 have the rate only in their frames: raises InvalidData without `payload`.
    """
    return opus.RATE if track.codec is Codec.OPUS else _audio_values(track, payload, "sample rate").rate


def audio_channels(track: MediaTrack, payload: bytes | None = None) -> int:
    """Returns the number of channels after decoding.

    MP3 and AC-3 have it only in their frames: raises InvalidData without `payload`.
    """
    if track.codec is Codec.OPUS:
        return opus.parse_head(track.config).channels if track.config else 2
    return _audio_values(track, payload, "channels").channels


def _audio_values(
    track: MediaTrack, payload: bytes | None, wanted: str
) -> aac.Asc | flac.StreamInfo | mp3.Mp3Header | ac3.Syncframe:
    """Returns the configuration or frame header with sample rate and channels. wanted: the value, for the error."""
    match track.codec:
        case Codec.AAC:
            return aac.parse_asc(track.config)
        case Codec.FLAC:
            return flac.parse_config(track.config)
        case Codec.MP3:
            return mp3.parse_header(_payload(track, payload))
        case Codec.AC3 | Codec.EAC3:
            return ac3.parse_frame(_payload(track, payload))
    raise InvalidData(f"{track.codec} has no {wanted}")


def samples_per_frame(track: MediaTrack, payload: bytes) -> int:
    """Returns the samples at `audio_rate` in this frame. Raises InvalidData."""
    match track.codec:
        case Codec.AAC:
            return aac.parse_asc(track.config).samples_per_frame
        case Codec.OPUS:
            return opus.packet_samples(payload)
        case Codec.MP3:
            return mp3.parse_header(payload).samples
        case Codec.FLAC:
            return flac.frame_samples(payload)
        case Codec.AC3 | Codec.EAC3:
            return ac3.parse_frame(payload).samples
    raise InvalidData(f"{track.codec} has no samples")


def frame_seconds(track: MediaTrack, payload: bytes) -> float:
    """Returns the duration of a frame of sound. Raises InvalidData."""
    return samples_per_frame(track, payload) / audio_rate(track, payload)


def checked_config(codec: Codec, config: bytes) -> bytes:
    """Checks a container's decoder configuration and returns it in the form of `MediaTrack`. Raises InvalidData."""
    if codec is Codec.OPUS:
        return opus.without_pre_skip(config)
    if codec is Codec.FLAC:
        return flac.parse_config(config).blocks
    if codec in _PARSERS:
        _PARSERS[codec](config)
    return config


def vpcc(track: MediaTrack, payload: bytes | None = None) -> vp9.Vpcc:
    """Returns the vpcC record of a VP8 or VP9 track, from its configuration or from a key frame. Raises InvalidData."""
    if track.config:
        return vp9.parse_vpcc(track.config)
    if track.codec is Codec.VP8:
        # VP8 has only profile 0, 8 bits, 4:2:0; the level is undefined.
        return vp9.parse_vpcc(b"\x00\x00\x82\x02\x02\x02\x00\x00")
    return vp9.vpcc_of(_payload(track, payload))


def describe(track: MediaTrack, payload: bytes | None = None) -> dict[str, Any]:
    """Returns the track's values as the API shows them.

    Always: kind, codec, profile. Video: width, height, frameRate. Audio: sampleRate, channels.
    Never raises: a value that the configuration lacks, or that is invalid, is None.
    """
    out: dict[str, Any] = {"kind": str(track.kind), "codec": str(track.codec)}
    out["profile"] = _or_none(_profile, track, payload)
    if track.kind is Kind.VIDEO:
        size = _or_none(video_size, track, payload)
        rate = _or_none(frame_rate, track)
        out["width"], out["height"] = size or (None, None)
        out["frameRate"] = round(rate, 3) if rate else None
    else:
        out["sampleRate"] = _or_none(audio_rate, track, payload)
        out["channels"] = _or_none(audio_channels, track, payload)
    return out


def _or_none(read: Any, *args: Any) -> Any:
    try:
        return read(*args)
    except InvalidData:
        return None


def _profile(track: MediaTrack, payload: bytes | None) -> str | None:
    match track.codec:
        case Codec.H264 | Codec.H265:
            number = NAL_CODECS[track.codec].parse_record(track.config).profile
        case Codec.AV1:
            number = av1.parse_av1c(track.config).profile
        case Codec.VP9:
            return f"Profile {vpcc(track, payload).profile}"
        case Codec.AAC:
            asc = aac.parse_asc(track.config)
            if asc.sbr:
                return "HE-AACv2" if asc.ps else "HE-AAC"
            number = asc.object_type
        case _:
            return None
    return _PROFILES[track.codec].get(number, str(number))


def _payload(track: MediaTrack, payload: bytes | None) -> bytes:
    if payload is None:
        raise InvalidData(f"{track.codec} has this value only in its frames, and no frame has arrived yet")
    return payload
