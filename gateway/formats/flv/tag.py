"""The constants of FLV (tag types, codec numbers, packet types), and the values that demuxing returns.

Sources: "Adobe Flash Video File Format Specification" 10.1, Annex E; "Enhanced RTMP (V2)" (Veovera, 2024) for the names
with Ex below. Codec ids 12 and 13 are those of Chinese CDNs for HEVC and AV1 ("FLV_Codec", tencentyun/flv), and sound
format 13 is theirs for Opus.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from gateway.media.track import AccessUnit, AmfValue, Codec, Kind, MediaTrack

AUDIO, VIDEO, SCRIPT = 8, 9, 18  # tag types, the same numbers as RTMP message types

MAX_BODY = 0xFFFFFF  # a tag's size is 24 bits


class FrameType(IntEnum):
    """The high nibble of a video body (E.4.3.1). With the Ex bit (0x80), only three bits of it remain."""

    KEY = 1
    INTER = 2
    DISPOSABLE = 3
    GENERATED_KEY = 4
    COMMAND = 5


class VideoPacket(IntEnum):
    """VideoPacketType of Ex video."""

    SEQUENCE_START = 0
    CODED_FRAMES = 1
    SEQUENCE_END = 2
    CODED_FRAMES_X = 3
    METADATA = 4
    MPEG2TS_SEQUENCE_START = 5
    MULTITRACK = 6
    MOD_EX = 7


class AudioPacket(IntEnum):
    """AudioPacketType of Ex audio (sound format 9)."""

    SEQUENCE_START = 0
    CODED_FRAMES = 1
    SEQUENCE_END = 2
    MULTICHANNEL_CONFIG = 4
    MULTITRACK = 5
    MOD_EX = 7


class Multitrack(IntEnum):
    """AvMultitrackType: how many tracks a body has, and whether each one has its own FourCC."""

    ONE_TRACK = 0
    MANY_TRACKS = 1
    MANY_TRACKS_MANY_CODECS = 2


# Tracks of each kind that one publisher may send, including the default track. More tracks are refused.
MAX_TRACKS = 8

AVC, HEVC, AV1 = 7, 12, 13  # supported legacy video codec ids
EX_AUDIO, AAC, MP3, MP3_8K, OPUS = 9, 10, 2, 14, 13  # sound formats

LEGACY_VIDEO = {AVC: Codec.H264, HEVC: Codec.H265, AV1: Codec.AV1}
VIDEO_CODEC_NAMES = {
    1: "JPEG", 2: "Sorenson H.263", 3: "Screen Video", 4: "VP6", 5: "VP6 with alpha", 6: "Screen Video 2",
    8: "H.263", 9: "MPEG-4 part 2",
}  # fmt: skip
SOUND_FORMAT_NAMES = {
    0: "PCM", 1: "ADPCM", 3: "PCM", 4: "Nellymoser", 5: "Nellymoser", 6: "Nellymoser", 7: "G.711", 8: "G.711",
    11: "Speex", 15: "device-specific sound",
}  # fmt: skip
# libav's decoders of the sound formats that no track has, for 8 and for 16 bits a sample.
SOUND_DECODERS = {
    0: ("pcm_u8", "pcm_s16le"), 1: ("adpcm_swf",) * 2, 3: ("pcm_u8", "pcm_s16le"), 4: ("nellymoser",) * 2,
    5: ("nellymoser",) * 2, 6: ("nellymoser",) * 2, 7: ("pcm_alaw",) * 2, 8: ("pcm_mulaw",) * 2, 11: ("speex",) * 2,
}  # fmt: skip
# The rates of E.4.2.1, and those of the formats that have a rate of their own.
SOUND_RATES = (5_512, 11_025, 22_050, 44_100)
FIXED_RATES = {4: 16_000, 5: 8_000, 7: 8_000, 8: 8_000, 11: 16_000}

VIDEO_FOURCC = {b"avc1": Codec.H264, b"hvc1": Codec.H265, b"av01": Codec.AV1, b"vp09": Codec.VP9, b"vp08": Codec.VP8}
AUDIO_FOURCC = {
    b"mp4a": Codec.AAC, b".mp3": Codec.MP3, b"Opus": Codec.OPUS, b"fLaC": Codec.FLAC, b"ac-3": Codec.AC3,
    b"ec-3": Codec.EAC3,
}  # fmt: skip
FOURCC = {codec: fourcc for fourcc, codec in (VIDEO_FOURCC | AUDIO_FOURCC).items()}


@dataclass(frozen=True, slots=True)
class TrackStart:
    """The first frame of a codec without sequence header (MP3, AC-3, VP8 …), and its new track."""

    track: MediaTrack
    unit: AccessUnit


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Unsupported media from the peer. It is reported once for each case; the frames are dropped."""

    kind: Kind
    what: str


@dataclass(frozen=True, slots=True)
class ScriptTag:
    """Script data.

    timestamp: milliseconds.
    amf: the AMF0 encoding of `values`: all bytes after the name, unchanged.
    """

    timestamp: int
    name: str
    values: tuple[AmfValue, ...]
    amf: bytes


# What one track of a body contains.
TrackMedia: TypeAlias = "AccessUnit | MediaTrack | TrackStart | Unsupported"
# What a body contains; a list of track ids and media for a multitrack body. None: neither a picture nor sound.
Demuxed: TypeAlias = "TrackMedia | list[tuple[int, TrackMedia]] | None"
