"""Writes ftyp and moov for fragments: the initialization segment of a CMAF track, or the header of a movie."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.formats.mp4.box import box, full_box
from gateway.media import ac3, codecs, flac, mp3, opus
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.colors import UNSPECIFIED_SIGNAL, Colors
from gateway.media.errors import UnsupportedCodec
from gateway.media.picture_colors import colors_of
from gateway.media.pixel_aspect import SQUARE, PixelAspect
from gateway.media.track import Codec, Kind, MediaTrack

# ISO/IEC 23000-19 §7.2: 'cmfc' is the structural brand; iso6 allows tfdt and default-base-is-moof.
FTYP = box(b"ftyp", b"iso6", (0).to_bytes(4, "big"), b"iso6cmfcmp41")

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNKNOWN_LANGUAGE = "und"
# ISO 639-2 codes of languages that publishers write with two letters. Other tracks have only the `elng` box.
_LANGUAGES = {
    "ar": "ara", "bg": "bul", "ca": "cat", "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "en": "eng", "es": "spa",
    "et": "est", "fa": "fas", "fi": "fin", "fr": "fra", "he": "heb", "hi": "hin", "hr": "hrv", "hu": "hun", "id": "ind",
    "it": "ita", "ja": "jpn", "ko": "kor", "lt": "lit", "lv": "lav", "ms": "msa", "nl": "nld", "no": "nor", "pl": "pol",
    "pt": "por", "ro": "ron", "ru": "rus", "sk": "slk", "sl": "slv", "sr": "srp", "sv": "swe", "ta": "tam", "th": "tha",
    "tr": "tur", "uk": "ukr", "ur": "urd", "vi": "vie", "zh": "zho",
}  # fmt: skip
# ISO 639-2 has second codes for some languages, which Matroska uses.
_BIBLIOGRAPHIC = {
    "chi": "zh", "cze": "cs", "dut": "nl", "fre": "fr", "ger": "de", "gre": "el", "may": "ms", "per": "fa", "rum": "ro",
    "slo": "sk",
}  # fmt: skip
# The sample entry and its configuration box.
_VIDEO_BOXES = {Codec.H264: (b"avc1", b"avcC"), Codec.H265: (b"hvc1", b"hvcC"), Codec.AV1: (b"av01", b"av1C")}
_AUDIO_ENTRIES = {
    Codec.AAC: b"mp4a", Codec.MP3: b"mp4a", Codec.OPUS: b"Opus", Codec.FLAC: b"fLaC", Codec.AC3: b"ac-3",
    Codec.EAC3: b"ec-3",
}  # fmt: skip
_MAX_WIDTH = 0xFFFF_FFFF  # maximum of a 16.16 number
_TKHD_FLAGS = 0x7  # enabled, in movie, in preview


def init_segment(
    track: MediaTrack, *, timescale: int = 0, size: tuple[int, int] | None = None, payload: bytes | None = None
) -> bytes:
    """Returns ftyp + moov for one track with fragments.

    timescale: ticks a second of the fragments; 0: the timescale of the track.
    size: width and height, for tracks without them in their configuration (VP8, VP9).
    payload: the first frame, for codecs whose frames contain their values (MP3, AC-3, E-AC-3, VP8, VP9).

    Raises InvalidData for a broken configuration, UnsupportedCodec for codecs without an ISO-BMFF sample entry.
    """
    scale = timescale or track.timescale
    return movie_init([TrackInit(track, 1, scale, size, payload)], timescale=scale)


@dataclass(frozen=True, slots=True)
class TrackInit:
    """One track of a fragmented movie.

    timescale: ticks a second of its fragments.
    size, payload: see `init_segment`.
    language: BCP 47; "" if unknown. name: for players; "" if it has none.
    group: players play one track of each group at a time; 0: no group.
    """

    track: MediaTrack
    track_id: int
    timescale: int
    size: tuple[int, int] | None = None
    payload: bytes | None = None
    language: str = ""
    name: str = ""
    group: int = 0


def movie_init(tracks: Sequence[TrackInit], *, timescale: int = VIDEO_CLOCK) -> bytes:
    """Returns ftyp + moov of a movie with the fragments of several tracks. Raises like `init_segment`."""
    traks = [_trak(t) for t in tracks]
    # The duration is unknown: 0 and no mehd box mean "a live presentation" (§8.8.2).
    head = movie_header(timescale, 0, max((t.track_id for t in tracks), default=0) + 1)
    return FTYP + box(b"moov", head, *traks, box(b"mvex", *[track_extends(t.track_id) for t in tracks]))


def movie_header(timescale: int, duration: int, next_track_id: int, created: int = 0) -> bytes:
    """Returns mvhd (§8.2.2), with version 1 if 32 bits are not enough.

    duration: ticks.
    created: seconds since 1904.
    """
    rest = (struct.pack(">IH10x", 0x10000, 0x0100), _MATRIX, bytes(24), next_track_id.to_bytes(4, "big"))
    return _timed_box(b"mvhd", 0, created, struct.pack(">I", timescale), duration, *rest)


def track_header(
    track_id: int, duration: int, volume: int, width: int, height: int, created: int = 0, group: int = 0
) -> bytes:
    """Returns tkhd (§8.3.2).

    duration: ticks of the movie.
    width, height: of the displayed picture, in 65,536ths of a pixel.
    group: the `alternate_group`: players play one of its tracks at a time; 0: none.
    """
    rest = (struct.pack(">8x4H", 0, group, volume, 0), _MATRIX, struct.pack(">II", width, height))
    return _timed_box(b"tkhd", _TKHD_FLAGS, created, struct.pack(">II", track_id, 0), duration, *rest)


def media_header(timescale: int, duration: int, created: int = 0, language: int | None = None) -> bytes:
    """Returns mdhd (§8.4.2). duration: ticks of the track. language: packed, see `packed_language`; None: unknown."""
    rest = struct.pack(">HH", packed_language("") if language is None else language, 0)
    return _timed_box(b"mdhd", 0, created, struct.pack(">I", timescale), duration, rest)


def packed_language(language: str) -> int:
    """Returns the ISO 639-2 code of a BCP 47 language as three letters of five bits; "und" if it has none."""
    main = language.partition("-")[0].lower()
    code = _LANGUAGES.get(main, main if len(main) == 3 and main.isalpha() else _UNKNOWN_LANGUAGE)
    return (ord(code[0]) - 0x60) << 10 | (ord(code[1]) - 0x60) << 5 | (ord(code[2]) - 0x60)


def short_language(code: str) -> str:
    """Returns the BCP 47 language of an ISO 639-2 code, with two letters if it has some; "" if it is unknown."""
    code = code.lower()
    if code in _LANGUAGES:
        return code
    found = _BIBLIOGRAPHIC.get(code) or next((short for short, long in _LANGUAGES.items() if long == code), code)
    return found if len(found) in (2, 3) and found.isascii() and found.isalpha() and found != _UNKNOWN_LANGUAGE else ""


def _timed_box(kind: bytes, flags: int, created: int, middle: bytes, duration: int, *rest: bytes) -> bytes:
    """Returns one of the three headers: two times, 32-bit fields, a duration. Version 1 has 64 bits."""
    long = max(created, duration) >= 1 << 32
    form = ">Q" if long else ">I"
    time = struct.pack(form, created)  # also of the last change
    return full_box(kind, int(long), flags, time, time, middle, struct.pack(form, duration), *rest)


def track_extends(track_id: int) -> bytes:
    """Returns trex (§8.8.3): samples use the first sample description, fragments say the rest."""
    return full_box(b"trex", 0, 0, struct.pack(">5I", track_id, 1, 0, 0, 0))


def _trak(of: TrackInit) -> bytes:
    track, scale, payload = of.track, of.timescale, of.payload
    if not 0 < scale < 1 << 32:
        raise ValueError(f"a timescale of {scale}")
    if track.kind is Kind.VIDEO:
        width, height = of.size or codecs.video_size(track, payload) or (0, 0)
        aspect = codecs.pixel_aspect(track, payload)
        entry = _video_entry(track, width, height, aspect, payload)
        width, height = min((width << 16) * aspect[0] // aspect[1], _MAX_WIDTH), height << 16
        handler, name, header = b"vide", b"VideoHandler\x00", full_box(b"vmhd", 0, 1, bytes(8))
        volume = 0
    else:
        width = height = 0
        entry = _audio_entry(track, payload)
        handler, name, header = b"soun", b"SoundHandler\x00", full_box(b"smhd", 0, 0, bytes(4))
        volume = 0x0100
    name = of.name.encode() + b"\x00" if of.name else name
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), handler, bytes(12), name)
    mdia = media_box(scale, of.language, hdlr, header, entry)
    return box(b"trak", track_header(of.track_id, 0, volume, width, height, group=of.group), mdia)


def media_box(timescale: int, language: str, hdlr: bytes, header: bytes, entry: bytes) -> bytes:
    """Returns the mdia (§8.4) of a track without samples. header: the media header of its kind, for example vmhd."""
    dinf = box(b"dinf", full_box(b"dref", 0, 0, (1).to_bytes(4, "big"), full_box(b"url ", 0, 1)))
    tables = ((b"stts", 4), (b"stsc", 4), (b"stsz", 8), (b"stco", 4))  # without samples
    stsd = full_box(b"stsd", 0, 0, (1).to_bytes(4, "big"), entry)
    stbl = box(b"stbl", stsd, *[full_box(kind, 0, 0, bytes(size)) for kind, size in tables])
    # §8.4.6: the extended language tag has the whole BCP 47 language.
    elng = full_box(b"elng", 0, 0, language.encode() + b"\x00") if language else b""
    head = media_header(timescale, 0, language=packed_language(language))
    return box(b"mdia", head, elng, hdlr, box(b"minf", header, dinf, stbl))


def _video_entry(track: MediaTrack, width: int, height: int, aspect: PixelAspect, payload: bytes | None) -> bytes:
    if track.codec in _VIDEO_BOXES:
        kind, configuration = _VIDEO_BOXES[track.codec]
        specific = box(configuration, codecs.checked_config(track.codec, track.config))
    elif track.codec in (Codec.VP9, Codec.VP8):
        kind = b"vp09" if track.codec is Codec.VP9 else b"vp08"
        specific = full_box(b"vpcC", 1, 0, codecs.vpcc(track, payload).record)
    else:
        raise UnsupportedCodec(f"MP4 has no video entry for {track.codec}")
    # VisualSampleEntry, §12.1.3: 72 dpi, one frame a sample, no compressor name, depth 24.
    visual = struct.pack(">6xH16xHHIIIH32xHh", 1, width & 0xFFFF, height & 0xFFFF, 0x480000, 0x480000, 0, 1, 0x18, -1)
    # §12.1.4: PixelAspectRatioBox; without it pixels are square.
    shape = box(b"pasp", struct.pack(">II", *aspect)) if aspect != SQUARE else b""
    return box(kind, visual, specific, shape, *_color_boxes(colors_of(track, payload)))


def _color_boxes(colors: Colors) -> list[bytes]:
    """Returns the boxes of the colors that are known: `colr` (§12.1.5), `mdcv` and `clli` (§12.1.8, §12.1.9)."""
    s = colors.signal
    nclx = struct.pack(">4s3HB", b"nclx", s.primaries, s.transfer, s.matrix, s.full_range << 7)
    known = (b"colr", nclx if s != UNSPECIFIED_SIGNAL else b""), (b"mdcv", colors.mastering), (b"clli", colors.light)
    return [box(kind, content) for kind, content in known if content]


def _audio_entry(track: MediaTrack, payload: bytes | None) -> bytes:
    config, kind = track.config, _AUDIO_ENTRIES.get(track.codec)
    if kind is None:
        raise UnsupportedCodec(f"MP4 has no audio entry for {track.codec}")
    rate, channels = codecs.audio_rate(track, payload), codecs.audio_channels(track, payload)
    match track.codec:
        case Codec.AAC:
            specific = _esds(0x40, config)
        case Codec.MP3:
            # Registered object types: 0x6B is ISO/IEC 11172-3, 0x69 is 13818-3 with its lower rates.
            specific = _esds(0x6B if rate >= mp3.MPEG1_MIN_RATE else 0x69, b"")
        case Codec.OPUS:
            head = opus.parse_head(config) if config else opus.OpusHead(2, 312, opus.RATE, 0, 0, b"")
            specific = box(b"dOps", opus.dops(head))
        case Codec.FLAC:
            specific = full_box(b"dfLa", 0, 0, flac.parse_config(config).blocks)
        case _:
            specific = box(b"dac3" if track.codec is Codec.AC3 else b"dec3", ac3.parse_frame(payload or b"").specific)
    # AudioSampleEntry, §12.2.3: samplerate is 16.16; 0 if it does not fit.
    sound = struct.pack(">6xH8xHHHHI", 1, channels, 16, 0, 0, rate << 16 if rate < 1 << 16 else 0)
    return box(kind, sound, specific)


def _esds(object_type: int, specific: bytes) -> bytes:
    """Returns an ES_Descriptor (ISO/IEC 14496-1 §7.2.6.5); stream type 5 is audio."""
    decoder = struct.pack(">BB3xII", object_type, 5 << 2 | 1, 0, 0)
    if specific:
        decoder += _descriptor(5, specific)
    return full_box(b"esds", 0, 0, _descriptor(3, b"\x00\x00\x00", _descriptor(4, decoder), _descriptor(6, b"\x02")))


def _descriptor(tag: int, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    # Four length bytes, like most writers, because some readers require them.
    sizes = [len(payload) >> shift & 0x7F | (0x80 if shift else 0) for shift in (21, 14, 7, 0)]
    return bytes((tag, *sizes)) + payload
