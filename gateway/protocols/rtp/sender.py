"""Outgoing RTP packets: their headers, and their runs of equal length."""

import struct
from collections.abc import Sequence
from typing import Final

SRTP_BYTES: Final = 16  # the longest tag that SRTP adds to a packet

_MAX_SEGMENTS: Final = 64  # Linux: UDP_MAX_SEGMENTS
_MAX_RUN: Final = 65_000  # bytes. A UDP datagram of IPv4 carries 65,507 before it is segmented.

_HEADER: Final = struct.Struct(">BBHII")


def rtp_packet(
    payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int, payload: bytes | memoryview
) -> bytes:
    """Returns an RTP packet without extension and padding (RFC 3550 §5.1)."""
    return _HEADER.pack(0x80, marker << 7 | payload_type, sequence, timestamp, ssrc) + payload


def group_runs(packets: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """Groups packets, in order, into runs that one `sendmsg` with UDP_SEGMENT sends.

    All packets of a run have the length of its first; the last may be shorter. SRTP adds the same to each packet, so
    the runs remain valid. A run has at most 64 packets and 65,000 bytes with SRTP.
    """
    runs: list[tuple[bytes, ...]] = []
    begin, end = 0, len(packets)
    while begin < end:
        size = len(packets[begin])
        most = min(end, begin + min(_MAX_SEGMENTS, _MAX_RUN // (size + SRTP_BYTES)))
        at = begin + 1
        while at < most and len(packets[at]) == size:
            at += 1
        if at < most and len(packets[at]) < size:
            at += 1
        runs.append(tuple(packets[begin:at]))
        begin = at
    return runs
