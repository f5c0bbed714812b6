"""Reads and moves the time of a splice in a `splice_info_section`.

The § numbers refer to ANSI/SCTE 35.
"""

from typing import Final

from gateway.formats.ts import psi

_TABLE: Final = 0xFC
_LEAST: Final = 20  # bytes of a section with the shortest command
_MOST: Final = 4096
_ADJUSTMENT: Final = slice(4, 9)  # encryption flags and 33 bits of `pts_adjustment`
_COMMAND: Final = 14
_SPLICE_INSERT, _TIME_SIGNAL = 5, 6
_MASK: Final = (1 << 33) - 1


def is_section(data: bytes) -> bool:
    """Whether `data` is one whole section with a correct checksum (§9.6)."""
    if not _LEAST <= len(data) <= _MOST or data[0] != _TABLE:
        return False
    return len(data) == 3 + (int.from_bytes(data[1:3], "big") & 0xFFF) and not psi.crc32(data)


def splice_time(section: bytes) -> int | None:
    """Returns the adjusted time of a splice, 33 bits of 90 kHz; None if the section has none, or it is encrypted.

    If components have times of their own, it is that of the first one.
    """
    at = None if section[4] & 0x80 else _time_position(section)
    if at is None or at + 5 > len(section) - 4 or not section[at] & 0x80:
        return None
    own = int.from_bytes(section[at : at + 5], "big") & _MASK
    return own + _adjustment(section) & _MASK


def _time_position(section: bytes) -> int | None:
    """Returns where the `splice_time` of a command begins (§9.7.3, §9.7.4)."""
    if section[13] == _TIME_SIGNAL:
        return _COMMAND
    if section[13] != _SPLICE_INSERT or section[_COMMAND + 4] & 0x80:  # cancelled
        return None
    flags = section[_COMMAND + 5]
    is_immediate, is_program = flags & 0x10, flags & 0x40
    return None if is_immediate else _COMMAND + 6 if is_program else _COMMAND + 8


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
