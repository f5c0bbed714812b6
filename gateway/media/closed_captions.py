"""Finds the closed captions that pictures carry: CEA-608 and CEA-708 in user data (ATSC A/53 part 4, §6.2.3).

H.264 and H.265 have this user data in SEI messages, AV1 has it in a metadata OBU. All three begin it with the same
bytes. A picture carries up to 31 pairs of bytes: of field 1 and of field 2 (CEA-608), or of packets (CEA-708).
"""

from typing import Final

from gateway.media import nal
from gateway.media.caption_packets import CaptionPackets, service_blocks
from gateway.media.nal_codec import NAL_CODECS, NalCodec
from gateway.media.track import AccessUnit

# itu_t_t35_country_code, itu_t_t35_provider_code, user_identifier, user_data_type_code
_HEAD: Final = b"\xb5\x00\x31GA94\x03"
_WITHIN: Final = 4_096  # bytes at the start of a NAL unit, or of a picture that has no NAL units
_AT_END: Final = 512  # bytes at the end of a picture that has no NAL units
_MAX_SIZE: Final = 2 + 3 * 31  # bytes of all pairs, after the head
_MAX_MESSAGES: Final = 2  # of a picture that are read: one of each field
_FIELD_1, _FIELD_2 = range(2)  # cc_type
# The second byte of the control codes that begin captions: RCL, RU2, RU3, RU4, RDC, EOC (CEA-608 §F.1.1).
_CAPTION_CODES: Final = frozenset({0x20, 0x25, 0x26, 0x27, 0x29, 0x2F})


class ClosedCaptions:
    """The captions that the pictures of one stream have carried so far.

    `look` takes the pictures in decode order. `find` takes what it returned, in presentation order: packets of CEA-708
    may continue in the picture that is shown next.
    has_room: whether pictures have user data for captions. It may be empty.
    """

    __slots__ = ("_found", "_packets", "has_room")

    def __init__(self) -> None:
        self.has_room = False
        self._found: set[tuple[str, int]] = set()  # prefix and number of the name
        self._packets = CaptionPackets()

    @property
    def names(self) -> tuple[str, ...]:
        """CC1 to CC4 and SERVICE1 to SERVICE63, as HLS names them (RFC 8216bis §4.4.6.1)."""
        return tuple(f"{prefix}{number}" for prefix, number in sorted(self._found))

    @property
    def listed(self) -> tuple[str, ...] | None:
        """The names for a playlist; empty: there are no captions; None: pictures have room, and no captions yet."""
        return self.names or (None if self.has_room else ())

    def look(self, unit: AccessUnit) -> bytes:
        """Returns the pairs that the picture carries, each after its byte with `cc_valid` and `cc_type`. Hot path."""
        payload, codec = unit.payload, NAL_CODECS.get(unit.track.codec)
        pairs, left = b"", _MAX_MESSAGES
        for begin, end in _places(payload, codec):
            while left and (at := payload.find(_HEAD, begin, end)) >= 0:
                begin, left = at + len(_HEAD), left - 1
                data = payload[begin : begin + 2 * _MAX_SIZE]
                pairs += self.read(data if codec is None else nal.unescape(data))
        return pairs

    def read(self, data: bytes) -> bytes:
        """Returns the pairs of `cc_data`, perhaps with other bytes after it. Damaged data have none."""
        if len(data) < 2:
            return b""
        self.has_room = True
        if not data[0] & 0x40:  # process_cc_data_flag
            return b""
        return data[2 : 2 + 3 * min(data[0] & 0x1F, (len(data) - 2) // 3)]

    def find(self, pairs: bytes) -> None:
        """Finds the names of captions in the pairs of the picture that is shown next. Hot path."""
        for at in range(0, len(pairs), 3):
            if not pairs[at] & 0x04:  # cc_valid
                continue
            kind = pairs[at] & 0x03
            if kind in (_FIELD_1, _FIELD_2):
                self._read_pair(kind, pairs[at + 1] & 0x7F, pairs[at + 2] & 0x7F)
            elif packet := self._packets.take(kind, pairs[at + 1 : at + 3]):
                self._found.update(("SERVICE", number) for number, _ in service_blocks(packet))

    def _read_pair(self, field: int, first: int, second: int) -> None:
        # Bit 3 of the first byte is the channel. Encoders also send the codes of field 1 in field 2.
        if first & 0x76 == 0x14 and second in _CAPTION_CODES:
            self._found.add(("CC", 1 + 2 * field + (first >> 3 & 1)))


def _places(payload: bytes, codec: NalCodec | None) -> list[tuple[int, int]]:
    """Returns where user data may be in a picture: in front of its slices, between and after them. Hot path.

    To search the slices, too, would be a sixth of the CPU of a push. A list of all units first took a third longer.
    """
    if codec is not None:
        places = []
        at, size, from_bytes = 0, len(payload), int.from_bytes
        for _ in range(nal.MAX_UNITS):
            start = at + 4
            at = start + from_bytes(payload[at:start], "big")
            if at > size:
                break  # damaged
            if at - start > len(_HEAD) and payload[start] >> codec.shift & codec.mask not in codec.slices:
                places.append((start, min(at, start + _WITHIN)))
            if at == size:
                return places
    return [(0, _WITHIN), (max(len(payload) - _AT_END, _WITHIN), len(payload))]
