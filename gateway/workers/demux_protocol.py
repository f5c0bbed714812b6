"""Messages between the gateway and a demux worker. The gateway reads all bytes; the worker opens no file or socket."""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gateway.media.errors import InvalidData
from gateway.protocols import wire

CREDIT: Final = 2_000_000  # bytes of units of one source that the worker sends before the gateway allows more
_READ: Final = struct.Struct(">HQI")
_DATA: Final = struct.Struct(">H")
_CREDIT: Final = struct.Struct(">HI")


class DemuxMessage(IntEnum):
    """Kinds of frames of a demux worker, in addition to `wire.StreamMessage`, whose `to` is the source's number."""

    OPEN = 32  # to the worker: a DemuxRequest
    DATA = 33  # to the worker: source, bytes; no bytes: the end of the source
    MORE = 34  # to the worker: source, number of additional bytes of units that the worker may send
    CLOSE = 35  # to the worker: source
    READ = 36  # from the worker: source, offset, maximum number of bytes
    FAILED = 37  # from the worker: {"source", "reason"}
    # from the worker: {"source", "what", "name"}: the sound, by its codec, or the rotation of pictures is not carried
    LEFT_OUT = 38


@dataclass(frozen=True, slots=True)
class DemuxRequest:
    """Opens one source.

    source: its number on the link. size: bytes of a file that can be read at any offset; 0: a stream, read in order.
    format: libav's name of the container of a stream; "": found from the bytes.
    probe_seconds: maximum seconds of media that are read to find the tracks.
    start: seconds of a file to skip; reading begins at the key frame before. A shorter file ends at once.
    for_fragments: whether sound that browsers do not play in fragments of MP4 becomes AAC.
    """

    source: int
    size: int = 0
    format: str = ""
    probe_seconds: float = 5.0
    start: float = 0.0
    for_fragments: bool = False


def encode_read(source: int, offset: int, size: int) -> bytes:
    """Returns the body of a READ message."""
    return _READ.pack(source, offset, size)


def decode_read(body: bytes) -> tuple[int, int, int]:
    """Returns source, offset and size of a READ message. Raises InvalidData."""
    if len(body) != _READ.size:
        raise InvalidData(f"a read request of {len(body)} bytes")
    source, offset, size = _READ.unpack(body)
    return source, offset, size


def encode_data(source: int, data: bytes) -> bytes:
    """Returns the body of a DATA or CLOSE message."""
    return _DATA.pack(source) + data


def decode_data(body: bytes) -> tuple[int, bytes]:
    """Returns source and bytes of a DATA message. Raises InvalidData."""
    return wire.destination(body), body[_DATA.size :]


def encode_more(source: int, size: int) -> bytes:
    """Returns the body of a MORE message."""
    return _CREDIT.pack(source, size)


def decode_more(body: bytes) -> tuple[int, int]:
    """Returns source and number of bytes of a MORE message. Raises InvalidData."""
    if len(body) != _CREDIT.size:
        raise InvalidData(f"a MORE message of {len(body)} bytes")
    source, size = _CREDIT.unpack(body)
    return source, size
