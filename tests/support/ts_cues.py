"""Transport streams with ad cues: a stream of ffmpeg whose program map gets a PID with sections of SCTE 35."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.formats.ts import psi

CUE_PID = 0x1F0
_PACKET = 188
_PMT_PID = 0x1000  # of ffmpeg
_CUE_STREAM = bytes((0x86, 0xE0 | CUE_PID >> 8, CUE_PID & 0xFF, 0xF0, 0))
_MAX_SECTION = 183


def with_cues(stream: bytes, cues: Mapping[float, bytes]) -> bytes:
    """Returns a stream of ffmpeg with sections, each at its part of the stream, from 0 to 1."""
    count = len(stream) // _PACKET
    places = {int(at * count): section for at, section in cues.items()}
    packets: list[bytes] = []
    for number in range(count):
        packet = stream[number * _PACKET : (number + 1) * _PACKET]
        packets.append(_announced(packet) if _pid(packet) == _PMT_PID else packet)
        if number in places:
            packets.append(section_packet(places[number], list(places).index(number)))
    return b"".join(packets)


def first_time(stream: bytes) -> int:
    """Returns the first presentation time in a stream, ticks of 90 kHz."""
    at = stream.index(b"\x00\x00\x01\xe0")
    data = stream[at + 9 : at + 14]
    return (data[0] >> 1 & 7) << 30 | data[1] << 22 | (data[2] >> 1) << 15 | data[3] << 7 | data[4] >> 1


def section_packet(section: bytes, counter: int = 0) -> bytes:
    """Returns a packet with a whole section."""
    assert len(section) <= _MAX_SECTION
    head = bytes((0x47, 0x40 | CUE_PID >> 8, CUE_PID & 0xFF, 0x10 | counter & 15))
    return (head + b"\0" + section).ljust(_PACKET, b"\xff")


def _pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


def _announced(packet: bytes) -> bytes:
    """Returns a packet of the program map with the stream of cues."""
    assert packet[3] & 0x30 == 0x10, "ffmpeg writes the map without an adaptation field"
    begin = 5 + packet[4]
    size = int.from_bytes(packet[begin + 1 : begin + 3], "big") & 0xFFF
    section = packet[begin : begin + 3 + size - 4] + _CUE_STREAM
    length = size + len(_CUE_STREAM)
    section = section[:1] + (0xB000 | length).to_bytes(2, "big") + section[3:]
    return (packet[:begin] + section + psi.crc32(section).to_bytes(4, "big")).ljust(_PACKET, b"\xff")
