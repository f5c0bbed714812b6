"""AMF0 and AMF3: any bytes are read or refused with InvalidData, and what is read stays near its own size."""

from __future__ import annotations

from gateway.formats import amf0
from gateway.media.errors import InvalidData
from tests.fuzz import captures

# A text of up to 255 bytes or a tiny value per item; long text counts as more items. Names and markers on top.
_LARGEST = amf0.MAX_ITEMS * 512


def seeds() -> list[bytes]:
    """Real commands and metadata, one of each AMF3 form behind its marker, and references that would grow to a tree."""
    numbers = b"\x0a\0\0\0\x64" + b"\x05" * 100
    bomb = numbers + b"".join(b"\x0a\0\0\0\x64" + (b"\x07" + bytes((0, level))) * 100 for level in range(3))
    amf3 = bytes.fromhex("0a0b01036104010362060561620803000000000000000001 09030106016104020a13010361".replace(" ", ""))
    vectors = b"\x09\x07\x01\x0d\x03\0\0\0\0\1\x10\x03\0\x01\x06\x03a\x11\x03\0\x06\x03a\x0d\x02"
    nothing = b"\x03\0\x01a\x04\0\x01b\x0d\0\x01c\x0e\0\0\x09"
    return [*captures.values(), bomb, amf3, b"\x09" + amf3, b"\x03\0\x01a\x07\0\0\0\0\x09", vectors, nothing]


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData or values; what was read can be written, is bounded, and reads the same again."""
    for form in (data, b"\x11" + data, b"\x08\0\0\0\0" + data):
        try:
            values = amf0.decode(form)
        except InvalidData:
            continue
        try:
            written = amf0.encode(*values)
        except TypeError:
            continue  # AMF0 inside AMF3 inside AMF0 may nest deeper than is written
        assert len(written) <= max(_LARGEST, 4 * len(form))
        try:
            again = amf0.decode(written)
        except InvalidData as error:
            # AMF3 is denser: its integers and references take fewer bytes and items than what they become.
            assert form[:1] != b"\x08" or "too many" in str(error) or "claims" in str(error)
            continue
        assert amf0.encode(*again) == written
