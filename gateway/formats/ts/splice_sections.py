"""Reads and moves the time of a splice in a `splice_info_section`.

The § numbers refer to ANSI/SCTE 35.
"""

from typing import Final

from gateway.formats.splices import read_splice
from gateway.formats.ts import psi
from gateway.media.errors import InvalidData

_TABLE: Final = 0xFC
_LEAST: Final = 20  # bytes of a section with the shortest command
_MOST: Final = 4096
_ADJUSTMENT: Final = slice(4, 9)  # encryption flags and 33 bits of `pts_adjustment`
_MASK: Final = (1 << 33) - 1


def is_section(data: bytes) -> bool:
    """Whether `data` is one whole section with a correct checksum (§9.6)."""
    if not _LEAST <= len(data) <= _MOST or data[0] != _TABLE:
        return False
    return len(data) == 3 + (int.from_bytes(data[1:3], "big") & 0xFFF) and not psi.crc32(data)


def splice_time(section: bytes) -> int | None:
    """Returns the adjusted time of a splice, 33 bits of 90 kHz; None if the section has none, or it is encrypted."""
    try:
        splice = read_splice(section)
    except InvalidData:
        return None
    return splice.pts if splice is not None else None


def retimed(section: bytes, shift: int) -> bytes:
    """Returns a section whose times are `shift` ticks of 90 kHz later: only its `pts_adjustment` changes.

    That field is never encrypted (§9.6.1), so this works for encrypted sections too.
    """
    adjustment = _adjustment(section) + shift & _MASK
    flags = section[4] & 0xFE
    head = section[:4] + (flags << 32 | adjustment).to_bytes(5, "big") + section[9:-4]
    return head + psi.crc32(head).to_bytes(4, "big")


def at_time(section: bytes, time: int, delay: int) -> bytes:
    """Returns a section for an output whose clock is `delay` ticks ahead of the stream's. time: of the splice, ticks.

    A section without a readable time is already on the stream's clock.
    """
    known = splice_time(section)
    return retimed(section, delay if known is None else time + delay - known)


def _adjustment(section: bytes) -> int:
    return int.from_bytes(section[_ADJUSTMENT], "big") & _MASK
