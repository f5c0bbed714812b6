"""Clusters: an absolute time, then frames as SimpleBlocks at 16-bit distances from it (RFC 9559 §5.1.3)."""

from __future__ import annotations

from typing import Final

from gateway.formats.mkv import ebml

MOST_OFFSET: Final = 0x7FFF  # milliseconds; RFC 9559 §10.2: the block's time is a signed 16-bit integer
_KEY: Final = 0x80
_OPEN: Final = ebml.CLUSTER + ebml.UNKNOWN_SIZE


def cluster(timestamp: int) -> bytes:
    """Opens a cluster of unknown size at `timestamp` milliseconds; the next one, or the end, closes it."""
    # Eight bytes whatever the value, as other senders of absolute times write it.
    return _OPEN + ebml.TIMESTAMP + b"\x88" + timestamp.to_bytes(8, "big")


def simple_block(number: int, offset: int, key: bool, payload: bytes) -> bytes:
    """Hot: one frame of track `number` (1 to 126), `offset` milliseconds (-32768 to 32767) after its cluster's time."""
    head = number << 24 | (offset & 0xFFFF) << 8 | (_KEY if key else 0) | 0x80000000
    return b"".join((ebml.SIMPLE_BLOCK, ebml.size(len(payload) + 4), head.to_bytes(4, "big"), payload))
