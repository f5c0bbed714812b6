"""VP8 in RTP (RFC 7741), with picture ids of 15 bits."""

from __future__ import annotations

from typing import Final

from gateway.protocols.rtp.packetizers.pieces import pieces

_HEADER: Final = 4  # two bytes of flags, two of the picture id


class Vp8Packetizer:
    """All packets have partition index 0, which RFC 7741 §4.2 allows: no receiver needs the borders of partitions.

    picture: id of the first frame.
    """

    __slots__ = ("_picture",)

    def __init__(self, picture: int = 0) -> None:
        self._picture = picture & 0x7FFF

    def for_burst(self, pictures: int) -> Vp8Packetizer:
        return Vp8Packetizer(self._picture - pictures)

    def split(self, unit_payload: bytes, limit: int, key: bool) -> list[bytes]:
        # §4.2: X (an extension follows), I (with picture id), M (of 15 bits); S marks the begin of the frame.
        head = b"\x80\x80" + (0x8000 | self._picture).to_bytes(2, "big")
        payloads = [head + piece for piece in pieces(unit_payload, limit, _HEADER, _HEADER)]
        if payloads:
            payloads[0] = b"\x90" + payloads[0][1:]
            self._picture = (self._picture + 1) & 0x7FFF
        return payloads
