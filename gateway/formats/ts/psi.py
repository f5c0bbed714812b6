"""Writes the two tables of a transport stream: its program (PAT) and the program's streams (PMT)."""

import struct
import zlib

PAT_PID = 0x0000
PMT_PID = 0x1000
_PROGRAM = 1
_TRANSPORT_STREAM_ID = 1


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc32(data: bytes) -> int:
    """Returns the CRC of a section (ISO/IEC 13818-1 Annex A): polynomial 04C11DB7, not reflected, not inverted.

    It is that of zlib with all bits in the other order.
    """
    reflected = zlib.crc32(data.translate(_REVERSED)) ^ 0xFFFF_FFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


def pat() -> bytes:
    """Returns the packet body (184 bytes) of the program association table (§2.4.4.3)."""
    return _body(0x00, _TRANSPORT_STREAM_ID, struct.pack(">HH", _PROGRAM, 0xE000 | PMT_PID))


def pmt(pcr_pid: int, streams: list[tuple[int, int, bytes]], version: int = 0, program: bytes = b"") -> bytes:
    """Returns the packet body (184 bytes) of the program map table (§2.4.4.8).

    streams: `stream_type`, PID and descriptors of each. version: 0 to 31; changes with the streams.
    program: descriptors of the program. All must fit into one packet.
    """
    packed = [struct.pack(">BHH", kind, 0xE000 | pid, 0xF000 | len(extra)) + extra for kind, pid, extra in streams]
    head = struct.pack(">HH", 0xE000 | pcr_pid, 0xF000 | len(program)) + program
    return _body(0x02, _PROGRAM, head + b"".join(packed), version)


def registration(name: bytes) -> bytes:
    """Returns a `registration_descriptor` (§2.6.8) of a four-letter format identifier."""
    return b"\x05\x04" + name


def _body(table_id: int, number: int, payload: bytes, version: int = 0) -> bytes:
    # pointer_field 0; section_syntax_indicator 1; version, current; section 0 of 0.
    head = struct.pack(">BHHBH", table_id, 0xB000 | len(payload) + 9, number, 0xC1 | version << 1, 0)
    section = head + payload
    return (b"\x00" + section + crc32(section).to_bytes(4, "big")).ljust(184, b"\xff")
