"""Finds the closed captions that pictures carry: CEA-608 and CEA-708 in user data (ATSC A/53 part 4, §6.2.3).

H.264 and H.265 have this user data in SEI messages, AV1 has it in a metadata OBU. All three begin it with the same
bytes. A picture carries up to 31 pairs of bytes: of field 1 and of field 2 (CEA-608), or of packets (CEA-708).
"""

from typing import Final

from gateway.media import nal
from gateway.media.track import AccessUnit, Codec

# itu_t_t35_country_code, itu_t_t35_provider_code, user_identifier, user_data_type_code
_HEAD: Final = b"\xb5\x00\x31GA94\x03"
_WITHIN: Final = 4_096  # bytes at the start of a picture: encoders write user data before its slices
_MAX_SIZE: Final = 2 + 3 * 31  # bytes of all pairs, after the head
_MAX_MESSAGES: Final = 2  # of a picture that are read: one of each field
_NAL: Final = frozenset({Codec.H264, Codec.H265})
_FIELD_1, _FIELD_2, _PACKET, _PACKET_START = range(4)  # cc_type
# The second byte of the control codes that begin captions: RCL, RU2, RU3, RU4, RDC, EOC (CEA-608 §F.1.1).
_CAPTION_CODES: Final = frozenset({0x20, 0x25, 0x26, 0x27, 0x29, 0x2F})
_EXTENDED: Final = 7  # service number: it is in the next byte


class ClosedCaptions:
    """The captions that the pictures of one stream have carried so far.

    has_room: whether pictures have user data for captions. It may be empty.
    """

    __slots__ = ("_found", "_packet", "_wanted", "has_room")

    def __init__(self) -> None:
        self.has_room = False
        self._found: set[tuple[str, int]] = set()  # prefix and number of the name
        self._packet = bytearray()  # of CEA-708, the bytes that came
        self._wanted = 0  # its size; 0: its start is unknown

    @property
    def names(self) -> tuple[str, ...]:
        """CC1 to CC4 and SERVICE1 to SERVICE63, as HLS names them (RFC 8216bis §4.4.6.1)."""
        return tuple(f"{prefix}{number}" for prefix, number in sorted(self._found))

    @property
    def listed(self) -> tuple[str, ...] | None:
        """The names for a playlist; empty: there are no captions; None: pictures have room, and no captions yet."""
        return self.names or (None if self.has_room else ())

    def look(self, unit: AccessUnit) -> None:
        """Looks at one picture. Hot path."""
        payload = unit.payload
        at = 0
        for _ in range(_MAX_MESSAGES):
            at = payload.find(_HEAD, at, at + _WITHIN)
            if at < 0:
                return
            at += len(_HEAD)
            data = payload[at : at + 2 * _MAX_SIZE]
            self._read(nal.unescape(data) if unit.track.codec in _NAL else data)

    def _read(self, data: bytes) -> None:
        """Reads `cc_data`, perhaps with other bytes after it. Damaged data find nothing."""
        if len(data) < 2:
            return
        self.has_room = True
        if not data[0] & 0x40:  # process_cc_data_flag
            return
        for at in range(2, min(2 + 3 * (data[0] & 0x1F), len(data) - 2), 3):
            if not data[at] & 0x04:  # cc_valid
                continue
            kind, first, second = data[at] & 0x03, data[at + 1], data[at + 2]
            if kind in (_FIELD_1, _FIELD_2):
                self._read_pair(kind, first & 0x7F, second & 0x7F)
            else:
                self._read_packet(kind, data[at + 1 : at + 3])

    def _read_pair(self, field: int, first: int, second: int) -> None:
        # Bit 3 of the first byte is the channel. Encoders also send the codes of field 1 in field 2.
        if first & 0x76 == 0x14 and second in _CAPTION_CODES:
            self._found.add(("CC", 1 + 2 * field + (first >> 3 & 1)))

    def _read_packet(self, kind: int, pair: bytes) -> None:
        if kind == _PACKET_START:
            self._packet.clear()
            self._wanted = 2 * (pair[0] & 0x3F) or 128  # CEA-708 §5
        if self._wanted:
            self._packet += pair
            if len(self._packet) >= self._wanted:
                self._read_services(bytes(self._packet[1 : self._wanted]))
                self._wanted = 0

    def _read_services(self, blocks: bytes) -> None:
        """Reads the service blocks of a packet (CEA-708 §6.2)."""
        at = 0
        while at < len(blocks):
            number, size = blocks[at] >> 5, blocks[at] & 0x1F
            at += 1
            if number == _EXTENDED and at < len(blocks):
                number = blocks[at] & 0x3F
                at += 1
            if not number:
                return  # the rest is padding
            if size and at + size <= len(blocks):
                self._found.add(("SERVICE", number))
            at += size
