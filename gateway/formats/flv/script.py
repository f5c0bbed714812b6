"""Reads script data: the metadata and other named values of a publisher."""

from __future__ import annotations

from gateway.formats import amf0
from gateway.formats.flv.tag import Script
from gateway.media.errors import InvalidData


def parse_script(timestamp: int, body: bytes) -> Script:
    """Reads the body of a script tag or an RTMP data message; unwraps `@setDataFrame`. Raises InvalidData."""
    name, position = amf0.read(body)
    if name == "@setDataFrame":
        name, position = amf0.read(body, position)
    if not isinstance(name, str):
        raise InvalidData("script data without a name")
    rest = body[position:]
    return Script(timestamp, name, tuple(amf0.decode(rest)), rest)
