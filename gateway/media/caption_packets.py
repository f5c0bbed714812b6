"""CaptionPackets: joins the packets of CEA-708, which pictures carry in pairs of bytes (CTA-708-E §5, §6)."""

from collections.abc import Iterator
from typing import Final

PACKET_START: Final = 3  # cc_type of the pair that starts a packet; 2: of those that continue it
_EXTENDED: Final = 7  # service number: it is in the next byte


class CaptionPackets:
    """The packet that is being received, at most 128 bytes. One that the next packet interrupts is dropped."""

    __slots__ = ("_packet", "_wanted")

    def __init__(self) -> None:
        self._packet = bytearray()  # the bytes that came
        self._wanted = 0  # its size; 0: its start is unknown

    def take(self, kind: int, pair: bytes) -> bytes | None:
        """Returns the packet that this pair completes, with its header of one byte. kind: `cc_type`, 2 or 3."""
        if kind == PACKET_START:
            self._packet.clear()
            self._wanted = 2 * (pair[0] & 0x3F) or 128
        if not self._wanted:
            return None
        self._packet += pair
        if len(self._packet) < self._wanted:
            return None
        packet = bytes(self._packet[: self._wanted])
        self._wanted = 0
        return packet


def service_blocks(packet: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the numbers of services, 1 to 63, and their data of 1 to 31 bytes. What is cut off is left out."""
    at = 1
    while at < len(packet):
        number, size = packet[at] >> 5, packet[at] & 0x1F
        at += 1
        if number == _EXTENDED and at < len(packet):
            number = packet[at] & 0x3F
            at += 1
        if not number:
            return  # the rest is padding
        if size and at + size <= len(packet):
            yield number, packet[at : at + size]
        at += size
