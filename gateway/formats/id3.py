"""Writes and reads timed metadata as an ID3 tag."""

from typing import Final

_UTF_8: Final = b"\x03"
_ENCODINGS: Final = ("latin-1", "utf-16", "utf-16-be", "utf-8")
_BITS: Final = {3: 8, 4: 7}  # of each byte of a frame's size, by version
_HEAD: Final = 10  # bytes before a tag's frames, and before a frame's body
_OTHER_LAYOUT: Final = 0xC0  # flags of a tag: unsynchronisation, extended header


def text_tag(text: str) -> bytes:
    """Returns an ID3v2.4 tag with one TXXX frame: an empty description and `text`, as Amazon IVS writes it.

    Sizes have four times 7 bits (ID3v2.4 §6.2), so the text has at most 256 MB.
    """
    body = _UTF_8 + b"\0" + text.encode("utf-8", "replace") + b"\0"
    frame = b"TXXX" + _size(len(body)) + b"\0\0" + body
    return b"ID3\x04\0\0" + _size(len(frame)) + frame


def read_text(tag: bytes) -> str | None:
    """Returns the text of the first TXXX frame, if the tag is ID3v2.3 or ID3v2.4; None if it has none.

    Tags with unsynchronisation or an extended header are not read. Bytes after the tag are left out.
    """
    bits = _BITS.get(tag[3]) if tag.startswith(b"ID3") and len(tag) > _HEAD else None
    if bits is None or tag[5] & _OTHER_LAYOUT:
        return None
    at, end = _HEAD, min(_HEAD + _number(tag[6:10], 7), len(tag))
    while at + _HEAD < end and tag[at]:  # 0: padding
        name, flags, begin = tag[at : at + 4], tag[at + 9], at + _HEAD
        at = begin + _number(tag[at + 4 : at + 8], bits)
        if name == b"TXXX" and not flags and begin < at <= end and tag[begin] < len(_ENCODINGS):
            values = tag[begin + 1 : at].decode(_ENCODINGS[tag[begin]], "replace").split("\0")
            return values[1].removeprefix("\ufeff") or None if len(values) > 1 else None
    return None


def _number(data: bytes, bits: int) -> int:
    value = 0
    for byte in data:
        value = value << bits | byte & (1 << bits) - 1
    return value


def _size(value: int) -> bytes:
    return bytes(value >> shift & 0x7F for shift in (21, 14, 7, 0))
