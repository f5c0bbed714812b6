"""Names what data are by their first bytes, for data that are not what their protocol carries."""

from typing import Final

_BEGINNINGS: Final = (
    (b"FLV", "FLV"), (b"\x1aE\xdf\xa3", "Matroska or WebM"), (b"RIFF", "AVI or WAV"), (b"#EXTM3U", "a playlist"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"), (b"\x00\x00\x01\xb3", "bare MPEG video"),
    (b"\x00\x00\x00\x01", "bare H.264 or HEVC"), (b"\x00\x00\x01", "bare H.264 or HEVC"),
    (b"\xff\xf1", "bare AAC"), (b"\xff\xf9", "bare AAC"), (b"\x80\x21", "RTP"), (b"\x80\xa1", "RTP"),
    (b"\x03\x00\x00\x00\x00", "RTMP"), (b"GET ", "HTTP"), (b"POST ", "HTTP"),
)  # fmt: skip
_BOXES: Final = (b"ftyp", b"styp", b"moov", b"moof", b"sidx")


def kind_of(head: bytes) -> str:
    """Returns what data with these first bytes are; at least eight bytes are needed for MP4."""
    if head[4:8] in _BOXES:
        return "MP4"
    return next((name for beginning, name in _BEGINNINGS if head.startswith(beginning)), "of an unknown kind")
