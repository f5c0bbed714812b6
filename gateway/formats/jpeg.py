"""Reads the markers of a JPEG, to check a file before it is decoded (ITU-T T.81, Annex B)."""

import re
from typing import Final

# A marker: a byte 0xFF, then a byte that is not a stuffed zero, a restart marker or a fill byte (B.1.1).
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01


def count_scans(data: bytes, limit: int) -> int:
    """Returns the number of scans in the file, at most `limit` + 1. The data must be a JPEG.

    A scan can have only a dozen bytes, but in each scan of a progressive file a decoder visits every block.
    """
    at = found = 0
    while (marker := _MARKER.search(data, at)) is not None:
        at = marker.end()
        kind = data[at - 1]
        if kind == _EOI:
            break
        if kind in (_SOI, _TEM):
            continue
        if kind == _SOS:
            found += 1
            if found > limit:
                break
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return found
