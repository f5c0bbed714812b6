"""VP9 in RTP (RFC 9628): non-flexible mode, one layer, with picture ids of 15 bits."""

from __future__ import annotations

import struct
from typing import Final

from gateway.media import vp9
from gateway.protocols.rtp.packetizers.pieces import pieces

# §4.2: I (picture id follows), P (predicted from other pictures), B and E (begin and end of a frame), V (structure).
_PICTURE_ID: Final = 0x80
_PREDICTED: Final = 0x40
_BEGIN: Final = 0x08
_END: Final = 0x04
_STRUCTURE: Final = 0x02

# §4.2.1: one spatial layer with size and picture group; then width and height; then a group of one picture, which is
# predicted from the previous picture.
_SCALABILITY: Final = struct.Struct(">BHHBBB")
_HEADER: Final = 3


class Vp9Packetizer:
    """Key frames begin with a scalability structure, which tells receivers the size and that there is one layer.

    picture: id of the first frame.
    """

    __slots__ = ("_picture",)

    def __init__(self, picture: int = 0) -> None:
        self._picture = picture & 0x7FFF

    def for_burst(self, pictures: int) -> Vp9Packetizer:
        return Vp9Packetizer(self._picture - pictures)

    def split(self, unit_payload: bytes, limit: int, key: bool) -> list[bytes]:
        size = vp9.frame_size(unit_payload) if key else None
        structure = b"" if size is None else _SCALABILITY.pack(0x18, *(n & 0xFFFF for n in size), 1, 0x04, 1)
        flags = _PICTURE_ID | (0 if structure else _PREDICTED)
        picture = (0x8000 | self._picture).to_bytes(2, "big")
        parts = pieces(unit_payload, limit, _HEADER, _HEADER + len(structure))
        if not parts:
            return []
        heads = [bytes((flags,)) + picture] * len(parts)
        self._picture = (self._picture + 1) & 0x7FFF
        end = _END if len(parts) == 1 else 0
        heads[-1] = bytes((flags | _END,)) + picture
        heads[0] = bytes((flags | _BEGIN | end | (_STRUCTURE if structure else 0),)) + picture + structure
        return [head + piece for head, piece in zip(heads, parts, strict=True)]
