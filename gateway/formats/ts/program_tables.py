"""Reads the tables of a transport stream: its programs (PAT), and the streams of a program (PMT, §2.4.4)."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.formats.ts import psi
from gateway.media import opus
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind

PAT_TABLE: Final = 0x00
PMT_TABLE: Final = 0x02
MAX_STREAMS: Final = 32  # of a program; the others are left out
_FIRST_PID: Final = 0x10  # lower ones are reserved for tables
NULL_PID: Final = 0x1FFF


class StreamUse(StrEnum):
    """The use of an elementary stream. The last four become data units.

    LOST_VIDEO, LOST_AUDIO: of codecs that cannot be used. IGNORED: everything else, such as subtitles as pictures.
    """

    VIDEO = "video"
    AUDIO = "audio"
    LOST_VIDEO = "lost video"
    LOST_AUDIO = "lost audio"
    IGNORED = "ignored"
    SCTE35 = "scte35"
    KLV = "klv"
    TELETEXT = "teletext"
    PRIVATE = "private"


DATA_USES: Final = (StreamUse.KLV, StreamUse.TELETEXT, StreamUse.PRIVATE)  # of PES packets


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """An elementary stream of a program.

    codec: the name of a `Codec`, or of something else; for users. language: ISO 639-2, or empty.
    config: an OpusHead for Opus, otherwise empty. descriptors: of KLV and private data.
    is_unnamed: whether it is private data whose descriptors do not name a format. They may be media.
    """

    pid: int
    stream_type: int
    use: StreamUse
    codec: str
    language: str = ""
    config: bytes = b""
    descriptors: bytes = b""
    is_unnamed: bool = False

    @property
    def is_unknown(self) -> bool:
        """Whether the stream type is unknown: it may be media."""
        return self.codec.startswith(UNKNOWN)

    @property
    def lost(self) -> Kind | None:
        """The kind of the track that cannot be used; None: nothing is lost."""
        if self.use in (StreamUse.VIDEO, StreamUse.AUDIO) and (self.codec == SCRAMBLED or ": " in self.codec):
            return Kind(self.use)  # ": ": the reason that `SoundTrack` adds to its name
        return _LOST.get(self.use)


@dataclass(frozen=True, slots=True)
class ProgramMap:
    """One program. pcr_pid: the PID of its clock."""

    number: int
    pcr_pid: int
    streams: tuple[StreamEntry, ...]

    @property
    def has_pictures(self) -> bool:
        """Whether it has pictures of a codec that can be used."""
        return any(entry.use is StreamUse.VIDEO for entry in self.streams)

    @property
    def has_media(self) -> bool:
        """Whether it has streams of codecs that can be used."""
        return any(entry.use in (StreamUse.VIDEO, StreamUse.AUDIO) for entry in self.streams)


# The kind of track of a stream whose codec cannot be used.
_LOST: Final = {StreamUse.LOST_VIDEO: Kind.VIDEO, StreamUse.LOST_AUDIO: Kind.AUDIO}

MPEG_AUDIO: Final = "mpeg audio"  # the layer is in the frames only
S302M: Final = "s302m"  # PCM of SMPTE 302M; the name of its decoder in libav
G711: Final = {0x90: "pcm_alaw", 0x91: "pcm_mulaw"}  # the same by stream type, which cameras use
UNKNOWN: Final = "unknown stream type"  # before its number, in place of the codec
SCRAMBLED: Final = "scrambled"  # in place of the codec
UNNAMED: Final = "private data without the name of a codec"  # in place of the codec, for data that are no known media
ENCRYPTED: Final = "encrypted"  # before it: SAMPLE-AES of HLS, "MPEG-2 Stream Encryption Format", §2.2

_LOST_VIDEO: Final = {
    0x01: "MPEG-1 video", 0x02: "MPEG-2 video", 0x10: "MPEG-4 part 2", 0x21: "JPEG 2000", 0x32: "JPEG XS",
    0x33: "H.266", 0x35: "EVC", 0x42: "AVS", 0xD1: "Dirac", 0xD2: "AVS2", 0xD4: "AVS3", 0xDB: f"{ENCRYPTED} H.264",
    0xEA: "VC-1",
}  # fmt: skip
_LOST_AUDIO: Final = {
    0x1C: "AAC without ADTS", 0x2D: "MPEG-H", 0x2E: "MPEG-H", 0x80: "PCM", 0x82: "DTS", 0x83: "TrueHD", 0x85: "DTS-HD",
    0x8A: "DTS", 0xC1: f"{ENCRYPTED} AC-3", 0xCF: f"{ENCRYPTED} AAC",
}  # fmt: skip
# stream_type, Table 2-34, and those of ATSC A/53 and SCTE 35.
_TYPES: Final = {
    **{kind: (StreamUse.LOST_VIDEO, name) for kind, name in _LOST_VIDEO.items()},
    **{kind: (StreamUse.LOST_AUDIO, name) for kind, name in _LOST_AUDIO.items()},
    **{kind: (StreamUse.AUDIO, name) for kind, name in G711.items()},
    0x03: (StreamUse.AUDIO, MPEG_AUDIO),
    0x04: (StreamUse.AUDIO, MPEG_AUDIO),
    0x05: (StreamUse.IGNORED, "private sections"),
    0x0F: (StreamUse.AUDIO, Codec.AAC),
    0x11: (StreamUse.AUDIO, Codec.AAC),
    0x1B: (StreamUse.VIDEO, Codec.H264),
    0x24: (StreamUse.VIDEO, Codec.H265),
    0x81: (StreamUse.AUDIO, Codec.AC3),
    0x86: (StreamUse.SCTE35, "scte35"),
    0x87: (StreamUse.AUDIO, Codec.EAC3),
}
_PRIVATE_TYPE: Final = 0x06
_PRIVATE_TYPES: Final = {_PRIVATE_TYPE: "private", 0x15: "metadata"}  # private data and metadata in PES packets

# format_identifier of registration descriptors (§2.6.8), for private types.
_FORMATS: Final = {
    b"Opus": (StreamUse.AUDIO, Codec.OPUS),
    b"AC-3": (StreamUse.AUDIO, Codec.AC3),
    b"EAC3": (StreamUse.AUDIO, Codec.EAC3),
    b"HEVC": (StreamUse.VIDEO, Codec.H265),
    b"KLVA": (StreamUse.KLV, "klv"),
    b"BSSD": (StreamUse.AUDIO, S302M),
    b"AV01": (StreamUse.LOST_VIDEO, "AV1"),
    b"VC-1": (StreamUse.LOST_VIDEO, "VC-1"),
    b"AC-4": (StreamUse.LOST_AUDIO, "AC-4"),
    **dict.fromkeys((b"DTS1", b"DTS2", b"DTS3"), (StreamUse.LOST_AUDIO, "DTS")),
}
# Descriptor tags of ETSI EN 300 468 Table 12, for private types.
_TELETEXT, _SUBTITLING = 0x56, 0x59
_DVB: Final = {
    _TELETEXT: (StreamUse.TELETEXT, "teletext"),
    _SUBTITLING: (StreamUse.IGNORED, "dvb subtitles"),
    0x6A: (StreamUse.AUDIO, Codec.AC3),
    0x7A: (StreamUse.AUDIO, Codec.EAC3),
    0x7B: (StreamUse.LOST_AUDIO, "DTS"),
}
_REGISTRATION, _LANGUAGE, _METADATA, _EXTENSION = 0x05, 0x0A, 0x26, 0x7F
_OPUS_EXTENSION: Final = 0x80
_AC4_EXTENSION: Final = 0x15  # ETSI EN 300 468 Table 109

# Opus in MPEG-2 TS: streams, coupled streams and the mapping of RFC 7845 §5.1.1.2, by channel_config_code from 1.
_OPUS_MAPPINGS: Final = tuple(
    bytes.fromhex(mapping)
    for mapping in ("010000", "01010001", "0201000201", "020200010203", "03020004010203", "0402000401020305",
                    "040300040102030506", "05030006010203040507")
)  # fmt: skip


def check_section(section: bytes, table: int) -> None:
    """Raises InvalidData if a table's section is damaged, not yet valid, or of another table (§2.4.4.1)."""
    if section[0] != table or len(section) < 12 or not section[5] & 1:
        raise InvalidData("MPEG-TS: another table")
    if psi.crc32(section):
        raise InvalidData("MPEG-TS: a table with a wrong checksum")


def parse_pat(section: bytes) -> dict[int, int]:
    """Returns the PIDs of the program maps by program number, in the order of the section (§2.4.4.3)."""
    pairs = [(section[at : at + 2], section[at + 2 : at + 4]) for at in range(8, len(section) - 7, 4)]
    programs = {int.from_bytes(n, "big"): int.from_bytes(pid, "big") & 0x1FFF for n, pid in pairs}
    programs.pop(0, None)  # the network information
    return {number: pid for number, pid in programs.items() if _FIRST_PID <= pid < NULL_PID}


def parse_pmt(section: bytes) -> ProgramMap:
    """Reads a program map (§2.4.4.8). Of two streams with one PID, the first one counts. Never raises."""
    pcr_pid = int.from_bytes(section[8:10], "big") & 0x1FFF
    streams: dict[int, StreamEntry] = {}
    at, end = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF), len(section) - 4
    is_blu_ray = b"HDMV" in section[12:at]  # then these types are subtitles and menus
    while at + 5 <= end and len(streams) < MAX_STREAMS:
        kind, pid = section[at], int.from_bytes(section[at + 1 : at + 3], "big") & 0x1FFF
        begin = at + 5
        at = begin + (int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF)
        if not _FIRST_PID <= pid < NULL_PID or pid in streams or (is_blu_ray and kind in G711):
            continue
        streams[pid] = _entry(pid, kind, section[begin : min(at, end)])
    return ProgramMap(int.from_bytes(section[3:5], "big"), pcr_pid, tuple(streams.values()))


def _entry(pid: int, stream_type: int, descriptors: bytes) -> StreamEntry:
    found = list(_descriptors(descriptors))
    use, codec = _identify(stream_type, found)
    config = b""
    if codec is Codec.OPUS:
        config = _opus_head(found)
        if not config:
            use, codec = StreamUse.LOST_AUDIO, "Opus with unknown channels"
    code = next((body[:3] for tag, body in found if tag in (_LANGUAGE, _TELETEXT, _SUBTITLING)), b"")
    text = code.decode("ascii", "ignore").lower()
    language = text if len(text) == 3 and text.isalpha() else ""
    passed_on = descriptors if use in (StreamUse.KLV, StreamUse.PRIVATE) else b""
    is_private = use is StreamUse.PRIVATE and stream_type == _PRIVATE_TYPE
    is_unnamed = is_private and all(tag != _REGISTRATION for tag, _ in found)
    return StreamEntry(pid, stream_type, use, codec, language, config, passed_on, is_unnamed)


def _identify(stream_type: int, descriptors: list[tuple[int, bytes]]) -> tuple[StreamUse, str]:
    if stream_type in _TYPES:
        return _TYPES[stream_type]
    if stream_type not in _PRIVATE_TYPES:
        return StreamUse.IGNORED, f"{UNKNOWN} 0x{stream_type:02x}"
    for tag, body in descriptors:
        if tag == _REGISTRATION and body[:4] in _FORMATS:
            return _FORMATS[body[:4]]
        if tag == _METADATA and b"KLVA" in body:
            return _FORMATS[b"KLVA"]
        if tag in _DVB:
            return _DVB[tag]
        if tag == _EXTENSION and body[:1] == bytes((_AC4_EXTENSION,)):
            return _FORMATS[b"AC-4"]
    return StreamUse.PRIVATE, _PRIVATE_TYPES[stream_type]


def _descriptors(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields tag and body of each descriptor (§2.6)."""
    at = 0
    while at + 2 <= len(data):
        begin = at + 2
        at = begin + data[at + 1]
        yield data[begin - 2], data[begin:at]


def _opus_head(descriptors: list[tuple[int, bytes]]) -> bytes:
    """Returns the OpusHead of a `channel_config_code`; b"" if it is unknown. 0 (dual mono) is read as stereo."""
    code = next((d[1] for tag, d in descriptors if tag == _EXTENSION and len(d) > 1 and d[0] == _OPUS_EXTENSION), -1)
    if not 0 <= code <= len(_OPUS_MAPPINGS):
        return b""
    channels = code or 2
    family = int(channels > 2)
    mapping = _OPUS_MAPPINGS[channels - 1] if family else b""
    return opus.head_bytes(opus.OpusHead(channels, 0, opus.RATE, 0, family, mapping))
