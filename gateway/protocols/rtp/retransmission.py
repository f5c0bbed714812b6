"""Retransmitted RTP packets in a stream of their own: RTX (RFC 4588 §4)."""

import struct
from typing import Final

_HEADER: Final = struct.Struct(">BBHII")


def wrap(packet: bytes, payload_type: int, ssrc: int, sequence: int) -> bytes:
    """Returns a sent packet as one of the retransmission stream.

    payload_type, ssrc, sequence: of that stream.

    The packet becomes two bytes longer: its original sequence number is written before the payload.
    """
    begin = _payload_begin(packet)
    assert begin, "the packet is one of ours"
    first, second, original, timestamp, _ = _HEADER.unpack_from(packet)
    head = _HEADER.pack(first, second & 0x80 | payload_type, sequence, timestamp, ssrc)
    return b"%b%b%b%b" % (head, packet[12:begin], original.to_bytes(2, "big"), packet[begin:])


def unwrap(packet: bytes, payload_type: int, ssrc: int) -> bytes | None:
    """Returns the packet that was sent again.

    payload_type, ssrc: of the original stream.

    Returns None if there is none: senders probe the network with packets of padding in this stream.
    """
    begin = _payload_begin(packet)
    padding = packet[-1] if begin and packet[0] & 0x20 else 0
    if not begin or len(packet) - padding <= begin + 2:
        return None
    first, second, _, timestamp, _ = _HEADER.unpack_from(packet)
    original = packet[begin] << 8 | packet[begin + 1]
    head = _HEADER.pack(first, second & 0x80 | payload_type, original, timestamp, ssrc)
    return b"%b%b%b" % (head, packet[12:begin], packet[begin + 2 :])


def _payload_begin(packet: bytes) -> int:
    """Returns where the payload begins, after sources and extension; 0 if this is no RTP packet."""
    size = len(packet)
    if size < 12 or packet[0] >> 6 != 2:
        return 0
    begin = 12 + 4 * (packet[0] & 15)
    if packet[0] & 0x10:
        if size < begin + 4:
            return 0
        begin += 4 + 4 * (packet[begin + 2] << 8 | packet[begin + 3])
    return begin if begin <= size else 0
