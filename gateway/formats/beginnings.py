"""Names what data are by their first bytes, for data that are not what their protocol carries."""

from typing import Final

_BEGINNINGS: Final = (
    (b"FLV", "FLV"), (b"\x1aE\xdf\xa3", "Matroska or WebM"), (b"\0\0\1\xba", "an MPEG program stream"),
    (b"\0\0\0\1", "bare H.264 or HEVC"), (b"\0\0\1", "bare video"), (b"\xff\xf1", "bare AAC"), (b"\x80\x21", "RTP"),
    (b"\x80\xa1", "RTP"), (b"\3\0\0\0\0", "RTMP"), (b"GET ", "HTTP"), (b"POST ", "HTTP"),
)  # fmt: skip
_BOXES: Final = (b"ftyp", b"styp", b"moov", b"moof", b"sidx")


def kind_of(head: bytes) -> str:
    """Returns what data with these first bytes are; at least eight bytes are needed for MP4."""
    if head[4:8] in _BOXES:
        return "MP4"
    return next((name for beginning, name in _BEGINNINGS if head.startswith(beginning)), "of an unknown kind")
