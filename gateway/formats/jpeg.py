"""Reads as much of a JPEG as is needed to check a file before it is decoded (ITU-T T.81, Annex B)."""

from __future__ import annotations

import re
from typing import Final

# A marker: a byte 0xFF, then neither a stuffed zero nor a restart marker nor a fill byte (B.1.1).
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01


def scans(data: bytes, most: int) -> int:
    """Returns the number of scans in the file, counted up to `most` + 1. For data that is no JPEG the number means
    nothing.

    A scan can be a dozen bytes, but a decoder visits every block of the picture in each scan of a progressive file.
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
            if found > most:
                break
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return found
