"""The data streams of a program that we write: their entries in the tables, and their packets.

The § numbers refer to ISO/IEC 13818-1.
"""

from dataclasses import dataclass
from typing import Final

from gateway.formats.ts import psi

ID3_PID: Final = 0x0102
SCTE35_PID: Final = 0x0103
FIRST_PRIVATE_PID: Final = 0x0110
MAX_PRIVATE: Final = 4  # data streams of other kinds; with the others they fit into one packet of the program map
MAX_DESCRIPTORS: Final = 16  # bytes of each of these
MAX_PAYLOAD: Final = 0xFFFF - 8  # bytes of a PES packet of data: its length has 16 bits
_BODY: Final = 184


@dataclass(frozen=True, slots=True)
class DataStream:
    """An elementary stream of data. descriptors: its own. program: what it adds to those of the program."""

    pid: int
    stream_type: int
    descriptors: bytes = b""
    program: bytes = b""


# "Timed Metadata for HTTP Live Streaming" (Apple) §2: metadata_pointer_descriptor (§2.6.58) for the program, and
# metadata_descriptor (§2.6.60) for the stream; both name the format "ID3 ".
_FORMAT: Final = b"\xff\xffID3 \xffID3 \x00"
ID3: Final = DataStream(ID3_PID, 0x15, b"\x26\x0d" + _FORMAT + b"\x0f", b"\x25\x0f" + _FORMAT + b"\x1f\x00\x01")
# SCTE 35 §8: registration "CUEI" for the program, and a cue_identifier_descriptor: all commands.
SCTE35: Final = DataStream(SCTE35_PID, 0x86, b"\x8a\x01\x01", psi.registration(b"CUEI"))


class SectionPackets:
    """The packets of one section, the first with continuity counter `counter` (§2.4.4). size: bytes."""

    __slots__ = ("_counter", "_pid", "_section", "size")

    def __init__(self, pid: int, section: bytes, counter: int) -> None:
        self._pid, self._counter = pid, counter
        self._section = b"\0" + section  # pointer_field
        self.size = -(-len(self._section) // _BODY) * 188

    def render(self) -> bytes:
        """Returns the bytes."""
        packets = bytearray()
        for number, at in enumerate(range(0, len(self._section), _BODY)):
            start = 0x40 if not number else 0
            packets += bytes((0x47, start | self._pid >> 8, self._pid & 0xFF, 0x10 | self._counter + number & 15))
            packets += self._section[at : at + _BODY].ljust(_BODY, b"\xff")
        return bytes(packets)
