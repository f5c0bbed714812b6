"""Joins the payloads of RTP packets to AV1 temporal units ("RTP Payload Format for AV1" v1.0)."""

from typing import Final

from gateway.media import av1
from gateway.media.errors import InvalidData
from gateway.protocols.rtp.depacketizers import AssembledFrame, PictureDepacketizer

# §4.4: Z (the first element continues from the previous packet), Y (the last continues in the next), N (new sequence).
_CONTINUES, _CONTINUED, _NEW_SEQUENCE = 0x80, 0x40, 0x08

_LEFT_OUT: Final = frozenset((av1.TEMPORAL_DELIMITER, av1.TILE_LIST, av1.PADDING))  # AV1-ISOBMFF §2.4
_FRAME_HEADER, _FRAME = 3, 6  # AV1 §6.2.2


class Av1Depacketizer(PictureDepacketizer):
    """A temporal unit ends at the packet with the marker. Its OBUs get size fields, because packets have none."""

    def lost(self) -> None:
        self._obus: list[bytes] = []  # complete OBUs of the temporal unit
        self._open: list[bytes] = []  # pieces of an element that continues in the next packet
        self._size = 0

    def begins_key(self, payload: bytes) -> bool:
        """N marks the first packet of a coded video sequence, which begins with a key frame."""
        return payload[0] & (_CONTINUES | _NEW_SEQUENCE) == _NEW_SEQUENCE

    def _add(self, payload: bytes) -> None:
        header, at, end = payload[0], 1, len(payload)
        if bool(header & _CONTINUES) != bool(self._open):
            raise InvalidData("an AV1 OBU without its begin or its end")
        count = header >> 4 & 3  # W: number of elements, the last without a length; 0: all have a length
        if end == 1:
            raise InvalidData("an AV1 packet without elements")
        number = 0
        while at < end:
            number += 1
            if number == count:
                size = end - at
            else:
                size, at = av1.read_leb128(payload, at)
            piece = payload[at : at + size]
            at += size
            if at > end or (number == count and not piece):
                raise InvalidData("an AV1 packet that is cut short")
            self._open.append(piece)
            if at < end or not header & _CONTINUED:
                self._close()
        if count and number != count:
            raise InvalidData(f"an AV1 packet of {number} elements instead of {count}")

    def _close(self) -> None:
        """Ends the open element. Empty elements are allowed, and are dropped."""
        element = self._open[0] if len(self._open) == 1 else b"".join(self._open)
        self._open = []
        if not element or element[0] >> 3 & 0xF in _LEFT_OUT:
            return
        if len(self._obus) == av1.MAX_OBUS:
            raise InvalidData(f"a temporal unit of more than {av1.MAX_OBUS} OBUs")
        self._obus.append(_with_size(element))

    def _finish(self) -> list[AssembledFrame]:
        obus, open_element = self._obus, self._open
        self.lost()
        if open_element:
            raise InvalidData("an AV1 temporal unit that ends inside an OBU")
        if not obus:
            return []
        frame = b"".join(obus)
        return [AssembledFrame(self._timestamp, frame, 0, _is_key(frame))]


def _with_size(element: bytes) -> bytes:
    """Returns an OBU with a size field. Raises InvalidData."""
    header = 2 if element[0] & 4 else 1
    if element[0] & 0x80 or len(element) < header:
        raise InvalidData("an OBU without a header")
    if element[0] & 2:  # §5: "obu_has_size_field SHOULD be 0"
        size, at = av1.read_leb128(element, header)
        if at + size != len(element):
            raise InvalidData(f"an OBU of {len(element)} bytes declares {size}")
        return element
    return b"%c%b%b%b" % (element[0] | 2, element[1:header], av1.leb128(len(element) - header), element[header:])


def _is_key(unit: bytes) -> bool:
    """Whether a temporal unit has a sequence header and begins with a shown key frame (AV1 §5.9.2)."""
    sequence = False
    for kind, _, begin, end in av1.obus(unit):
        if kind == av1.SEQUENCE_HEADER:
            sequence = True
        elif kind in (_FRAME_HEADER, _FRAME):
            # show_existing_frame 0, frame_type KEY_FRAME, show_frame 1
            return sequence and begin < end and unit[begin] & 0xF0 == 0x10
    return False
