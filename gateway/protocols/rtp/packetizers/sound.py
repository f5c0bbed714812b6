"""AAC (RFC 3640, AAC-hbr), MP3 (RFC 2250 §3.5) and AC-3 (RFC 4184) in RTP: a packet has a frame or a part of one."""

from __future__ import annotations


class AacPacketizer:
    """Each packet has the header of one frame: 13 bits of its whole size, and 3 bits of an index, which is 0."""

    def for_burst(self, pictures: int) -> AacPacketizer:
        return self

    def split(self, unit_payload: bytes, limit: int, key: bool) -> list[bytes]:
        # §3.2.1: the length of the headers in bits. §3.2.3: all parts of a frame have the size of the frame.
        head = b"\x00\x10" + (len(unit_payload) << 3 & 0xFFFF).to_bytes(2, "big")
        return [head + part for part in _parts(unit_payload, limit - len(head))]


class Mp3Packetizer:
    """Each packet has the place of its bytes in the frame."""

    def for_burst(self, pictures: int) -> Mp3Packetizer:
        return self

    def split(self, unit_payload: bytes, limit: int, key: bool) -> list[bytes]:
        step = limit - 4
        parts = _parts(unit_payload, step)
        return [b"\x00\x00" + (number * step).to_bytes(2, "big") + part for number, part in enumerate(parts)]


class Ac3Packetizer:
    """Each packet has a whole frame, or one of its parts with their number."""

    def for_burst(self, pictures: int) -> Ac3Packetizer:
        return self

    def split(self, unit_payload: bytes, limit: int, key: bool) -> list[bytes]:
        parts = _parts(unit_payload, limit - 2)
        if len(parts) == 1:
            return [b"\x00\x01" + parts[0]]
        # §4.1.1: 1 is a first part with at least five eighths of the frame, 2 a smaller one, 3 any later part.
        first = 1 if parts and 8 * len(parts[0]) >= 5 * len(unit_payload) else 2
        return [bytes((3 if number else first, len(parts))) + part for number, part in enumerate(parts)]


def _parts(frame: bytes, step: int) -> list[bytes]:
    return [frame[at : at + step] for at in range(0, len(frame), step)]
