"""Simple readers of RTP payloads of VP8, VP9 and AV1, written from the specifications, to check our packetizers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Vp8Payload:
    """A VP8 payload. start: S of the descriptor. picture: the picture id of 15 bits."""

    start: bool
    picture: int
    data: bytes


def read_vp8(payload: bytes) -> Vp8Payload:
    """Reads a payload with extended descriptor and long picture id (RFC 7741 §4.2); asserts reserved bits."""
    assert payload[0] & 0xE8 == 0x80, "X without R, N and a third R"
    assert payload[0] & 7 == 0
    assert payload[1] == 0x80, "only I"
    assert payload[2] & 0x80, "M"
    return Vp8Payload(bool(payload[0] & 0x10), int.from_bytes(payload[2:4], "big") & 0x7FFF, payload[4:])


@dataclass(frozen=True)
class Vp9Payload:
    """A VP9 payload. predicted, begin, end: P, B and E. size: of the scalability structure."""

    predicted: bool
    begin: bool
    end: bool
    picture: int
    size: tuple[int, int] | None
    data: bytes


def read_vp9(payload: bytes) -> Vp9Payload:
    """Reads a payload of one layer in non-flexible mode with long picture id (RFC 9628 §4.2)."""
    flags = payload[0]
    assert flags & 0xB1 == 0x80, "I without L, F and Z"
    assert payload[1] & 0x80, "M"
    picture, at, size = int.from_bytes(payload[1:3], "big") & 0x7FFF, 3, None
    if flags & 2:
        assert payload[at] == 0b000_1_1_000, "one spatial layer, with size and picture group"
        size = int.from_bytes(payload[at + 1 : at + 3], "big"), int.from_bytes(payload[at + 3 : at + 5], "big")
        assert payload[at + 5] == 1, "a group of one picture"
        assert payload[at + 6] == 0b000_0_01_00, "temporal layer 0 with one reference"
        assert payload[at + 7] == 1, "the previous picture"
        at += 8
    return Vp9Payload(bool(flags & 0x40), bool(flags & 8), bool(flags & 4), picture, size, payload[at:])


def read_av1(payloads: Sequence[bytes]) -> list[bytes]:
    """Returns the OBUs of one temporal unit, from its payloads (RTP Payload Format for AV1 §4.4)."""
    obus: list[bytes] = []
    open_element = False
    for payload in payloads:
        header = payload[0]
        assert header & 7 == 0, "reserved bits"
        assert bool(header & 0x80) == open_element, "Z tells what Y of the previous packet told"
        count, at, number = header >> 4 & 3, 1, 0
        while at < len(payload):
            number += 1
            if number == count:
                size = len(payload) - at
            else:
                size, shift = 0, 0
                while True:
                    byte = payload[at]
                    at += 1
                    size |= (byte & 0x7F) << shift
                    shift += 7
                    if not byte & 0x80:
                        break
            piece = payload[at : at + size]
            assert len(piece) == size > 0
            at += size
            if open_element:
                obus[-1] += piece
            else:
                obus.append(piece)
            open_element = False
        assert count in (0, number), f"W is {count}, and there are {number} elements"
        open_element = bool(header & 0x40)
    assert not open_element
    return obus
