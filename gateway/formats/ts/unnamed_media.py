"""Recognizes media in private data without a name: so ffmpeg writes codecs that have no stream type."""

from typing import Final

from gateway.formats.ts.program_tables import StreamUse
from gateway.formats.ts.sound_frames import read_frame
from gateway.media import flac
from gateway.media.errors import InvalidData
from gateway.media.track import Codec

_MOST_FRAMES: Final = 8  # of sound that are checked
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


def recognize(payload: bytes) -> tuple[StreamUse, str] | None:
    """Returns the use and the codec of a PES packet's payload; None: it is no key frame, or of no known codec."""
    if _is_adts(payload):
        return StreamUse.AUDIO, Codec.AAC
    if flac.begins_frame(payload):
        return StreamUse.LOST_AUDIO, "FLAC"
    codec = next((codec for at, begin, codec in _BEGINS if payload.startswith(begin, at)), None)
    return None if codec is None else (StreamUse.LOST_VIDEO, codec)


def _is_adts(payload: bytes) -> bool:
    """Whether frames fill the payload exactly, as far as they are checked."""
    at = 0
    try:
        for _ in range(_MOST_FRAMES):
            at = read_frame(Codec.AAC, payload, at).end
            if at >= len(payload):
                return at == len(payload)
    except InvalidData:
        return False
    return True
