"""Recognizes media without a name, as ffmpeg writes codecs that have no stream type, and media with a wrong one."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from gateway.formats.ts.program_tables import MPEG_AUDIO, StreamEntry, StreamUse
from gateway.formats.ts.sound_frames import SoundFrame, read_frame, read_loas_frame, read_mpeg_frame
from gateway.media import flac
from gateway.media.errors import InvalidData
from gateway.media.nal import SHORT_START, START_CODE, split_annexb
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.track import Codec

_MOST_FRAMES: Final = 8  # of sound that are checked
_SETS_WITHIN: Final = 4_096  # bytes of a key frame, in which its parameter sets are
_SPS: Final = {Codec.H264: (b"\x67", b"\x47", b"\x27"), Codec.H265: (b"\x42\x01",)}  # the begin of one
# The begin of a key frame: its position and bytes. Three bytes are the least, because other data may contain fewer by
# chance.
_BEGINS: Final = (
    (0, b"\xff\xd8\xff", "Motion JPEG"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\x12\0\x0a", "AV1"),  # a temporal delimiter and a sequence header, AV1 §5.3
    (1, b"\x49\x83\x42", "VP9"),  # frame_sync_code, VP9 §6.2
    (3, b"\x9d\x01\x2a", "VP8"),  # start code, RFC 6386 §9.1
    (4, b"icpf", "ProRes"),
)  # fmt: skip


_TRIES: Final = 1_000  # PES packets of a stream without a name that may be key frames
_PICTURE_TRIES: Final = 300  # PES packets of pictures, until one is read
_SOUND_TRIES: Final = 8  # PES packets of sound that may begin with a frame
_read_adts: Final = partial(read_frame, Codec.AAC)
_MPEG_AUDIO_TYPES: Final = (0x03, 0x04)
_ADTS_TYPE, _LATM_TYPE = 0x0F, 0x11
# Some encoders write sound with the stream type of other sound, and H.265 with that of H.264. ffmpeg reads all.
_SOUND: Final = (
    (_ADTS_TYPE, Codec.AAC, _read_adts), (_LATM_TYPE, Codec.AAC, read_loas_frame),
    (_MPEG_AUDIO_TYPES[0], MPEG_AUDIO, read_mpeg_frame),
)  # fmt: skip
_SOUND_TYPES: Final = (*_MPEG_AUDIO_TYPES, _ADTS_TYPE, _LATM_TYPE)
_PICTURES: Final = {0x1B: (0x24, Codec.H265), 0x24: (0x1B, Codec.H264)}


def tries_of(entry: StreamEntry) -> int:
    """Returns how many of a stream's first PES packets may be given to `recognize`."""
    if entry.is_unnamed:
        return _TRIES
    return _SOUND_TRIES if entry.stream_type in _SOUND_TYPES else _PICTURE_TRIES * (entry.stream_type in _PICTURES)


def recognize(entry: StreamEntry, payload: bytes) -> StreamEntry | None:
    """Returns the stream as a PES packet's payload shows it.

    None: it is what the program's map says, no key frame, or of no known codec.
    """
    if entry.stream_type in _SOUND_TYPES:
        kind, codec, _ = next((sound for sound in _SOUND if _is_filled(sound[2], payload)), (0, "", None))
        usual = _MPEG_AUDIO_TYPES[0] if entry.stream_type in _MPEG_AUDIO_TYPES else entry.stream_type
        return replace(entry, stream_type=kind, codec=codec) if kind not in (0, usual) else None
    if entry.stream_type in _PICTURES:
        kind, codec = _PICTURES[entry.stream_type]
        return replace(entry, stream_type=kind, codec=codec) if _has_parameter_sets(codec, payload) else None
    found = _named(payload)
    use, codec = found or (entry.use, entry.codec)
    return None if found is None else replace(entry, use=use, codec=codec, descriptors=b"", is_unnamed=False)


def _named(payload: bytes) -> tuple[StreamUse, str] | None:
    """Returns the use and the codec of data without a name."""
    if _is_filled(_read_adts, payload):
        return StreamUse.AUDIO, Codec.AAC
    if flac.begins_frame(payload):
        return StreamUse.LOST_AUDIO, "FLAC"
    codec = next((codec for at, begin, codec in _BEGINS if payload.startswith(begin, at)), None)
    if codec is not None:
        return StreamUse.LOST_VIDEO, codec
    nal_codec = next((codec for codec in NAL_CODECS if _has_parameter_sets(codec, payload)), None)
    return None if nal_codec is None else (StreamUse.VIDEO, nal_codec)


def _has_parameter_sets(codec: Codec, payload: bytes) -> bool:
    """Whether a payload, an Annex B byte stream, begins with all parameter sets of a codec, which can be read."""
    begin = payload[:_SETS_WITHIN]
    if not begin.startswith((START_CODE, SHORT_START)) or not any(SHORT_START + sps in begin for sps in _SPS[codec]):
        return False
    form = NAL_CODECS[codec]
    try:
        units = {form.type_of(unit): unit for unit in split_annexb(begin)}
        return all(kind in units for kind in form.sets) and bool(form.parse_sps(units[form.sps]))
    except InvalidData:
        return False


def _is_filled(read: Callable[[bytes, int], SoundFrame], payload: bytes) -> bool:
    """Whether frames fill the payload exactly, as far as they are checked."""
    at = 0
    try:
        for _ in range(_MOST_FRAMES):
            at = read(payload, at).end
            if at >= len(payload):
                return at == len(payload)
    except InvalidData:
        return False
    return True
