"""Recognizes media without a name, as ffmpeg writes codecs that have no stream type, and sound with a wrong one."""

from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.formats.ts.program_tables import MPEG_AUDIO, StreamEntry, StreamUse
from gateway.formats.ts.sound_frames import SoundFrame, read_frame, read_mpeg_frame
from gateway.media import flac
from gateway.media.errors import InvalidData
from gateway.media.nal import START_CODE, split_annexb
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.track import Codec

_MOST_FRAMES: Final = 8  # of sound that are checked
_SETS_WITHIN: Final = 4_096  # bytes of a key frame, in which its parameter sets are
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


# Some encoders write AAC with the stream types of MPEG audio, and reversed. ffmpeg reads both.
_OTHER_SOUND: Final = {0x03: Codec.AAC, 0x04: Codec.AAC, 0x0F: MPEG_AUDIO}
_TRIES: Final = 1_000  # PES packets of a stream without a name that may be key frames
_SOUND_TRIES: Final = 8  # PES packets of sound that may begin with a frame
_read_adts: Final = partial(read_frame, Codec.AAC)


def tries_of(entry: StreamEntry) -> int:
    """Returns how many of a stream's first PES packets may be given to `recognize`."""
    if entry.is_unnamed:
        return _TRIES
    return _SOUND_TRIES if _OTHER_SOUND.get(entry.stream_type, entry.codec) != entry.codec else 0


def recognize(entry: StreamEntry, payload: bytes) -> tuple[StreamUse, str] | None:
    """Returns the use and the codec of a PES packet's payload.

    None: it is what the program's map says, no key frame, or of no known codec.
    """
    other = _OTHER_SOUND.get(entry.stream_type)
    if other is not None:
        read = read_mpeg_frame if other == MPEG_AUDIO else _read_adts
        return (StreamUse.AUDIO, other) if _is_filled(read, payload) else None
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
    if not payload.startswith((START_CODE, START_CODE[1:])):
        return False
    form = NAL_CODECS[codec]
    try:
        units = {form.type_of(unit): unit for unit in split_annexb(payload[:_SETS_WITHIN])}
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
