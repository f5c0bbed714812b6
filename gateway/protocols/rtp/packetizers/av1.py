"""AV1 in RTP ("RTP Payload Format for AV1" v1.0): OBUs without size fields, in packets of equal length."""

from __future__ import annotations

from typing import Final

from gateway.media import av1

# §4.4: Z (the first element continues from the previous packet), Y (the last continues in the next packet),
# W (number of elements), N (first packet of a coded video sequence).
_CONTINUES: Final = 0x80
_CONTINUED: Final = 0x40
_NEW_SEQUENCE: Final = 0x08
_MAX_ELEMENTS: Final = 3  # W has two bits. The last of W elements has no length, so it fills the packet exactly.

# §5: temporal delimiters and tile lists are not sent. Padding is left out too, because it has no media.
_NOT_SENT: Final = frozenset((av1.TEMPORAL_DELIMITER, av1.TILE_LIST, av1.PADDING))


class Av1Packetizer:
    """Splits AV1 pictures. Implements RtpPacketizer.

    It puts the sequence header of the configuration before key frames that have none.

    config: the av1C record; empty if the key frames have sequence headers. Raises InvalidData.
    """

    __slots__ = ("_sequence_header",)

    def __init__(self, config: bytes) -> None:
        found = _elements(av1.parse_av1c(config).obus) if config else []
        self._sequence_header = [element for kind, element in found if kind == av1.SEQUENCE_HEADER]

    def for_burst(self, pictures: int) -> Av1Packetizer:
        return self  # a burst of old pictures needs no other packetizer, because AV1 packets have no picture ids

    def split(self, unit_payload: bytes, limit: int, key: bool) -> list[bytes]:
        found = _elements(unit_payload)
        elements = [element for _, element in found]
        if key and elements and all(kind != av1.SEQUENCE_HEADER for kind, _ in found):
            elements = self._sequence_header + elements
        payloads = _fill(elements, limit)
        if key and payloads:
            payloads[0] = b"%c%b" % (payloads[0][0] | _NEW_SEQUENCE, payloads[0][1:])
        return payloads


def _elements(obus: bytes) -> list[tuple[int, bytes]]:
    """Returns the type and the bytes of each OBU that is sent, without its size field. Raises InvalidData."""
    elements = []
    for kind, start, begin, end in av1.obus(obus):
        if kind in _NOT_SENT:
            continue
        header = obus[start : start + (2 if obus[start] & 4 else 1)]
        elements.append((kind, b"%c%b%b" % (header[0] & 0xFD, header[1:], obus[begin:end])))
    return elements


def _fill(elements: list[bytes], limit: int) -> list[bytes]:
    """Returns the payloads of these elements. A packet that would need more than three elements ends early.

    room: bytes that are free in the open packet. left: bytes of the element that are in no packet yet.
    """
    if not elements:
        return []
    # Each element but the last may need two bytes of length beside the aggregation header of its packet.
    total = sum(map(len, elements)) + 2 * (len(elements) - 1)
    count = -(-total // (limit - 1))
    size = -(-total // count)
    payloads: list[bytes] = []
    parts: list[bytes | memoryview] = []
    room, in_packet, flags = size, 0, 0
    last = len(elements) - 1
    for n, element in enumerate(elements):
        view = memoryview(element)
        while True:
            left = len(view)
            length = av1.leb128(left)
            more = n < last and in_packet + 1 < _MAX_ELEMENTS and left + len(length) < room
            if more:
                parts += (length, view)
                room -= left + len(length)
                in_packet += 1
                break
            taken = view[:room]
            view = view[room:]
            flags |= (in_packet + 1) << 4 | (_CONTINUED if view else 0)
            payloads.append(b"".join((bytes((flags,)), *parts, taken)))
            parts, room, in_packet, flags = [], size, 0, _CONTINUES if view else 0
            if not view:
                break
    return payloads
