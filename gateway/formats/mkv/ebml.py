"""Writes EBML elements: an id, a size and a body (RFC 8794)."""

import struct
from typing import Final

# RFC 8794 §6.2: "all VINT_DATA bits set to 1" means an unknown size; one byte is enough.
UNKNOWN_SIZE: Final = b"\xff"

# Ids of RFC 8794 §11.2 and RFC 9559 §5.1, as in the file.
EBML: Final = b"\x1a\x45\xdf\xa3"
EBML_VERSION: Final = b"\x42\x86"
EBML_READ_VERSION: Final = b"\x42\xf7"
EBML_MAX_ID_LENGTH: Final = b"\x42\xf2"
EBML_MAX_SIZE_LENGTH: Final = b"\x42\xf3"
DOC_TYPE: Final = b"\x42\x82"
DOC_TYPE_VERSION: Final = b"\x42\x87"
DOC_TYPE_READ_VERSION: Final = b"\x42\x85"
SEGMENT: Final = b"\x18\x53\x80\x67"
INFO: Final = b"\x15\x49\xa9\x66"
TIMESTAMP_SCALE: Final = b"\x2a\xd7\xb1"
MUXING_APP: Final = b"\x4d\x80"
WRITING_APP: Final = b"\x57\x41"
TRACKS: Final = b"\x16\x54\xae\x6b"
TRACK_ENTRY: Final = b"\xae"
TRACK_NUMBER: Final = b"\xd7"
TRACK_UID: Final = b"\x73\xc5"
TRACK_TYPE: Final = b"\x83"
FLAG_LACING: Final = b"\x9c"
LANGUAGE: Final = b"\x22\xb5\x9c"
CODEC_ID: Final = b"\x86"
CODEC_PRIVATE: Final = b"\x63\xa2"
VIDEO: Final = b"\xe0"
PIXEL_WIDTH: Final = b"\xb0"
PIXEL_HEIGHT: Final = b"\xba"
DISPLAY_WIDTH: Final = b"\x54\xb0"
DISPLAY_HEIGHT: Final = b"\x54\xba"
AUDIO: Final = b"\xe1"
SAMPLING_FREQUENCY: Final = b"\xb5"
OUTPUT_SAMPLING_FREQUENCY: Final = b"\x78\xb5"
CHANNELS: Final = b"\x9f"
CLUSTER: Final = b"\x1f\x43\xb6\x75"
TIMESTAMP: Final = b"\xe7"
SIMPLE_BLOCK: Final = b"\xa3"


def size(length: int) -> bytes:
    """Returns the shortest variable size integer for `length` (RFC 8794 §4)."""
    width = 1
    # Data bits that are all ones mean "unknown", so they cannot encode a length.
    while length >= (1 << 7 * width) - 1:
        width += 1
    if width > 8:
        raise ValueError(f"an element of {length} bytes")
    return (length | 1 << 7 * width).to_bytes(width, "big")


def element(id: bytes, *bodies: bytes) -> bytes:
    """Returns an element of known size; for a master element, `bodies` are its children."""
    body = b"".join(bodies)
    return id + size(len(body)) + body


def uint(id: bytes, value: int) -> bytes:
    """Returns an unsigned integer element with the fewest possible bytes, at least one."""
    return element(id, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def number(id: bytes, value: float) -> bytes:
    """Returns a float element of eight bytes."""
    return element(id, struct.pack(">d", value))


def text(id: bytes, value: str) -> bytes:
    """Returns a string element in UTF-8."""
    return element(id, value.encode())
