"""Recognizes media in private data without a name: so ffmpeg writes codecs that have no stream type."""

from typing import Final

from gateway.formats.ts.program_tables import StreamUse
from gateway.formats.ts.sound_frames import read_frame
from gateway.media.errors import InvalidData
from gateway.media.track import Codec

_PICTURES, _SOUND = StreamUse.LOST_VIDEO, StreamUse.LOST_AUDIO
# The begin of a key frame, as its position and bytes.
_BEGINS: Final = (
    (0, b"\xff\xd8\xff", (_PICTURES, "Motion JPEG")),
    (0, b"\xff\x4f\xff\x51", (_PICTURES, "JPEG 2000")),
    (0, b"\0\0\0\x0cjP  ", (_PICTURES, "JPEG 2000")),
    (0, b"\x12\0\x0a", (_PICTURES, "AV1")),  # a temporal delimiter and a sequence header, AV1 §5.3
    (1, b"\x49\x83\x42", (_PICTURES, "VP9")),  # frame_sync_code, VP9 §6.2
    (3, b"\x9d\x01\x2a", (_PICTURES, "VP8")),  # start code, RFC 6386 §9.1
    (4, b"icpf", (_PICTURES, "ProRes")),
    (0, b"\xff\xf8", (_SOUND, "FLAC")),  # RFC 9639 §9.1
)  # fmt: skip


def recognize(payload: bytes) -> tuple[StreamUse, str] | None:
    """Returns the use and the codec of a PES packet's payload; None: it is no key frame, or of no known codec."""
    if payload.startswith((b"\xff\xf0", b"\xff\xf1", b"\xff\xf8", b"\xff\xf9")) and _is_adts(payload):
        return StreamUse.AUDIO, Codec.AAC
    return next((found for at, begin, found in _BEGINS if payload.startswith(begin, at)), None)


def _is_adts(payload: bytes) -> bool:
    """Whether frames fill the payload exactly."""
    at = 0
    try:
        while at < len(payload):
            at = read_frame(Codec.AAC, payload, at).end
    except InvalidData:
        return False
    return at == len(payload)
