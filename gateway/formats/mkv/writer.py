"""Writes live Matroska: EBML header, a Segment of unknown size, Info, Tracks, Clusters and SimpleBlocks."""

from collections.abc import Iterable
from typing import Final

from gateway.formats.mkv import ebml
from gateway.media import opus
from gateway.media.aac import parse_asc
from gateway.media.codecs import pixel_aspect, video_size
from gateway.media.errors import UnsupportedCodec
from gateway.media.track import Codec, Kind, MediaTrack

# Track numbers by kind, so that they do not depend on the existing tracks.
NUMBERS: Final = {Kind.VIDEO: 1, Kind.AUDIO: 2}
TIMESTAMP_SCALE: Final = 1_000_000  # nanoseconds: all times in the file are in milliseconds
MAX_PRIVATE: Final = 1 << 20  # maximum bytes of CodecPrivate that receivers accept

_CODEC_IDS: Final = {Codec.H264: "V_MPEG4/ISO/AVC", Codec.H265: "V_MPEGH/ISO/HEVC", Codec.AAC: "A_AAC"}
_TYPES: Final = {Kind.VIDEO: 1, Kind.AUDIO: 2}  # RFC 9559 §5.1.4.1.3
_KEY: Final = 0x80  # flag of a SimpleBlock


def can_carry(track: MediaTrack) -> bool:
    """Whether `header` supports the codec of this track. Its configuration may still be unusable."""
    return track.codec in _CODEC_IDS


def header(tracks: Iterable[MediaTrack], app: str = "Millrace") -> bytes:
    """Returns EBML header, a Segment of unknown size, Info and Tracks. Clusters must follow.

    Video is track 1, audio track 2. CodecPrivate is the track's configuration: avcC, hvcC or AudioSpecificConfig.
    Raises UnsupportedCodec for other codecs, InvalidData for a configuration that cannot be read.
    """
    return _header([_entry(t) for t in tracks], app)


def browser_header(size: tuple[int, int], opus_head: bytes, app: str = "Millrace") -> bytes:
    """Returns the header for VP8 and Opus. size: width and height of the pictures. opus_head: b"": no sound."""
    picture = ebml.element(ebml.VIDEO, ebml.uint(ebml.PIXEL_WIDTH, size[0]), ebml.uint(ebml.PIXEL_HEIGHT, size[1]))
    entries = [_track_entry(Kind.VIDEO, "V_VP8", picture)]
    if opus_head:
        rate = ebml.number(ebml.SAMPLING_FREQUENCY, opus.RATE)
        sound = ebml.element(ebml.AUDIO, rate, ebml.uint(ebml.CHANNELS, opus.parse_head(opus_head).channels))
        entries.append(_track_entry(Kind.AUDIO, "A_OPUS", ebml.element(ebml.CODEC_PRIVATE, opus_head), sound))
    return _header(entries, app)


def _header(entries: Iterable[bytes], app: str) -> bytes:
    head = ebml.element(
        ebml.EBML,
        ebml.uint(ebml.EBML_VERSION, 1),
        ebml.uint(ebml.EBML_READ_VERSION, 1),
        ebml.uint(ebml.EBML_MAX_ID_LENGTH, 4),
        ebml.uint(ebml.EBML_MAX_SIZE_LENGTH, 8),
        ebml.text(ebml.DOC_TYPE, "matroska"),
        # SimpleBlock needs version 2; nothing here is newer.
        ebml.uint(ebml.DOC_TYPE_VERSION, 2),
        ebml.uint(ebml.DOC_TYPE_READ_VERSION, 2),
    )
    info = ebml.element(
        ebml.INFO,
        ebml.uint(ebml.TIMESTAMP_SCALE, TIMESTAMP_SCALE),
        ebml.text(ebml.MUXING_APP, app),
        ebml.text(ebml.WRITING_APP, app),
    )
    return head + ebml.SEGMENT + ebml.UNKNOWN_SIZE + info + ebml.element(ebml.TRACKS, *entries)


def cluster(timestamp: int) -> bytes:
    """Returns the start of a cluster of unknown size at `timestamp` milliseconds. It ends with the next cluster."""
    # Always eight bytes, like other senders of absolute times.
    return ebml.CLUSTER + ebml.UNKNOWN_SIZE + ebml.TIMESTAMP + b"\x88" + timestamp.to_bytes(8, "big")


def simple_block(number: int, offset: int, key: bool, payload: bytes) -> bytes:
    """Returns one frame of track `number` (1 to 126). Hot path.

    offset: milliseconds after its cluster's time, -32768 to 32767 (RFC 9559 §10.2: a signed 16-bit integer).
    """
    head = number << 24 | (offset & 0xFFFF) << 8 | (_KEY if key else 0) | 0x80000000
    return b"".join((ebml.SIMPLE_BLOCK, ebml.size(len(payload) + 4), head.to_bytes(4, "big"), payload))


def _entry(track: MediaTrack) -> bytes:
    codec = _CODEC_IDS.get(track.codec)
    if codec is None:
        raise UnsupportedCodec(f"this Matroska carries H.264, H.265 and AAC, not {track.codec}")
    if not 0 < len(track.config) <= MAX_PRIVATE:
        raise UnsupportedCodec(f"{track.codec} with a configuration of {len(track.config)} bytes")
    private = ebml.element(ebml.CODEC_PRIVATE, track.config)
    return _track_entry(track.kind, codec, private, _picture(track) if track.kind is Kind.VIDEO else _sound(track))


def _track_entry(kind: Kind, codec: str, *fields: bytes) -> bytes:
    """Returns a TrackEntry. codec: its CodecID. fields: the elements that depend on the codec."""
    number = NUMBERS[kind]
    return ebml.element(
        ebml.TRACK_ENTRY,
        ebml.uint(ebml.TRACK_NUMBER, number),
        ebml.uint(ebml.TRACK_UID, number),
        ebml.uint(ebml.TRACK_TYPE, _TYPES[kind]),
        ebml.uint(ebml.FLAG_LACING, 0),
        ebml.text(ebml.LANGUAGE, "und"),
        ebml.text(ebml.CODEC_ID, codec),
        *fields,
    )


def _picture(track: MediaTrack) -> bytes:
    size = video_size(track)
    if size is None:
        raise UnsupportedCodec(f"{track.codec} with a configuration that does not contain the picture size")
    width, height = size
    fields = [ebml.uint(ebml.PIXEL_WIDTH, width), ebml.uint(ebml.PIXEL_HEIGHT, height)]
    pixel_width, pixel_height = pixel_aspect(track)
    if pixel_width != pixel_height:
        # RFC 9559 §5.1.4.1.28 (DisplayWidth): the size on a screen with square pixels.
        fields.append(ebml.uint(ebml.DISPLAY_WIDTH, max(1, round(width * pixel_width / pixel_height))))
        fields.append(ebml.uint(ebml.DISPLAY_HEIGHT, height))
    return ebml.element(ebml.VIDEO, *fields)


def _sound(track: MediaTrack) -> bytes:
    asc = parse_asc(track.config)
    fields = [ebml.number(ebml.SAMPLING_FREQUENCY, asc.core_rate)]
    if asc.rate != asc.core_rate:  # SBR doubles the core's rate
        fields.append(ebml.number(ebml.OUTPUT_SAMPLING_FREQUENCY, asc.rate))
    return ebml.element(ebml.AUDIO, *fields, ebml.uint(ebml.CHANNELS, asc.channels))
