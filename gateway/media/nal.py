"""NAL units: the length-prefixed form of ISO-BMFF, the start codes of Annex B, and emulation prevention."""

from collections.abc import Iterable

from gateway.media.errors import InvalidData

START_CODE = b"\x00\x00\x00\x01"
SHORT_START = START_CODE[1:]

# A picture at level 6.2 has at most 600 slices. The bound protects against payloads with millions of one-byte units.
MAX_UNITS = 4096


def split(payload: bytes, length_size: int = 4) -> list[bytes]:
    """Returns the NAL units of one length-prefixed sample (ISO/IEC 14496-15 §5.3.3).

    length_size: bytes of each length, 1 to 4. The specification reserves 3, but its meaning is clear.

    Empty units are left out, but count. Raises InvalidData if a length exceeds the sample, or if there are more than
    MAX_UNITS units.
    """
    return [bytes(unit) for unit in views(payload, length_size)]


def views(payload: bytes, length_size: int = 4) -> list[memoryview]:
    """Returns the units of `split` without copying them. The memory views keep the whole sample alive."""
    view = memoryview(payload)
    units: list[memoryview] = []
    at = 0
    end = len(payload)
    from_bytes = int.from_bytes
    for number in range(MAX_UNITS):
        if at >= end:
            return units
        start = at + length_size
        at = start + from_bytes(payload[at:start], "big")
        if at > end or start > end:
            raise InvalidData(f"NAL unit {number} of a sample of {end} bytes ends at {at}")
        if at > start:
            units.append(view[start:at])
    if at < end:
        raise InvalidData(f"a sample of more than {MAX_UNITS} NAL units")
    return units


def split_annexb(data: bytes) -> list[bytes]:
    """Returns the NAL units of an Annex B byte stream (ITU-T H.264 §B.1), without zero padding.

    Bytes before the first start code are left out. Raises InvalidData if there are more than MAX_UNITS units.
    """
    _, *units = data.split(SHORT_START, MAX_UNITS + 1)
    if len(units) > MAX_UNITS:
        raise InvalidData(f"an access unit of more than {MAX_UNITS} NAL units")
    return [u for unit in units if (u := unit.rstrip(b"\x00"))]


def join(units: Iterable[bytes], length_size: int = 4) -> bytes:
    """Returns one length-prefixed sample of these NAL units.

    Raises InvalidData if a unit is too long for its length field.
    """
    limit = 1 << (8 * length_size)
    pieces: list[bytes] = []
    for unit in units:
        if len(unit) >= limit:
            raise InvalidData(f"a NAL unit of {len(unit)} bytes does not fit a length of {length_size} bytes")
        pieces.append(len(unit).to_bytes(length_size, "big"))
        pieces.append(unit)
    return b"".join(pieces)


def join_annexb(units: Iterable[bytes | memoryview]) -> bytes:
    """Returns one Annex B access unit, with a four-byte start code before each NAL unit."""
    return b"".join([piece for unit in units for piece in (START_CODE, unit)])


def from_annexb(data: bytes, length_size: int = 4) -> bytes:
    """Converts an Annex B access unit to a length-prefixed sample. Raises InvalidData."""
    return join(split_annexb(data), length_size)


def unescape(unit: bytes) -> bytes:
    """Returns the RBSP of a NAL unit: without `emulation_prevention_three_byte` (H.264 §7.4.1.1, H.265 §7.4.2)."""
    return unit.replace(b"\x00\x00\x03", b"\x00\x00")
