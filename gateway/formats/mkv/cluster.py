"""Writes Clusters: an absolute time, then frames as SimpleBlocks with 16-bit time offsets (RFC 9559 §5.1.3)."""

from __future__ import annotations

from typing import Final

from gateway.formats.mkv import ebml

MAX_OFFSET: Final = 0x7FFF  # milliseconds; RFC 9559 §10.2: a block's time is a signed 16-bit integer
_KEY: Final = 0x80
_OPEN: Final = ebml.CLUSTER + ebml.UNKNOWN_SIZE


def cluster(timestamp: int) -> bytes:
    """Returns the start of a cluster of unknown size at `timestamp` milliseconds. The next cluster, or the end, closes
    it.
    """
    # Always eight bytes, as other senders of absolute times write it.
    return _OPEN + ebml.TIMESTAMP + b"\x88" + timestamp.to_bytes(8, "big")


def simple_block(number: int, offset: int, key: bool, payload: bytes) -> bytes:
    """Returns one frame of track `number` (1 to 126). Hot path.

    offset: milliseconds after its cluster's time, -32768 to 32767.
    """
    head = number << 24 | (offset & 0xFFFF) << 8 | (_KEY if key else 0) | 0x80000000
    return b"".join((ebml.SIMPLE_BLOCK, ebml.size(len(payload) + 4), head.to_bytes(4, "big"), payload))
