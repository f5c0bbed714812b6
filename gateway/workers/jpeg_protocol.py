"""Requests to a JPEG worker and its replies.

A request with pictures follows its track (TRACKS) and its units (UNIT) on the link.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from gateway.media.errors import InvalidData

_REPLY: Final = struct.Struct(">IBH")
GRID: Final = 3  # pictures are compared in 3 x 3 regions, numbered from 1 at the top left, line by line


class JpegMessage(IntEnum):
    """Kinds of frames of the JPEG worker, in addition to `wire.StreamMessage`."""

    REQUEST = 32  # JSON of a JpegRequest
    REPLY = 33  # a JpegReply
    FILE = 34  # the bytes of a picture file, before its request


class JpegAction(StrEnum):
    PICTURE = "picture"  # return the last picture of these units as JPEG
    COMPARE = "compare"  # compare the last picture of these units with that of the session's previous comparison
    LAST_PICTURE = "last_picture"  # return the picture of the session's last comparison as JPEG
    CONVERT = "convert"  # return the picture file as JPEG, with alpha as WebP, without its metadata
    CLOSE = "close"  # the session has ended; no reply


@dataclass(frozen=True, slots=True)
class JpegRequest:
    """A request to the JPEG worker.

    session: number of a JpegSession; 0: none.
    number: the reply has the number of its request; the queue of the worker sets it.
    fresh: whether the first unit is a key frame; else the units follow those of the session's last request.
    quality: of the JPEG, 1 to 95.
    difference: a pixel counts as changed if its brightness differs by more than this, 0 to 255.
    longest: maximum pixels of the longer side; a larger picture is scaled down. 0: no maximum.
    alpha: whether the converted picture keeps its transparency.
    """

    action: JpegAction
    session: int = 0
    number: int = 0
    fresh: bool = True
    quality: int = 85
    difference: int = 30
    longest: int = 0
    alpha: bool = False


@dataclass(frozen=True, slots=True)
class JpegReply:
    """The reply to the request of this number.

    ok: True if `body` is the result (JPEG, or JSON of a PictureDifference). Else `body` is the error text.
    overview: the pixels of a PictureOverview of the decoded picture; empty if none was decoded.
    """

    number: int
    ok: bool
    body: bytes
    overview: bytes = b""

    def encode(self) -> bytes:
        """Returns the body of a REPLY frame."""
        return _REPLY.pack(self.number, self.ok, len(self.overview)) + self.overview + self.body

    @classmethod
    def decode(cls, body: bytes) -> JpegReply:
        """Reads the body of a REPLY frame. Raises InvalidData."""
        if len(body) < _REPLY.size:
            raise InvalidData("the reply is truncated")
        number, ok, size = _REPLY.unpack_from(body)
        end = _REPLY.size + size
        if end > len(body):
            raise InvalidData("the reply is truncated")
        return cls(number, bool(ok), body[end:], body[_REPLY.size : end])


@dataclass(frozen=True, slots=True)
class PictureDifference:
    """The result of a COMPARE request.

    changed: percentage of the pixels that have changed since the previous comparison.
    region: the region with the most changed pixels, 1 to 9.
    lost: the worker does not have the session; the next request must be `fresh`.
    first: there is no previous picture of this size.
    """

    changed: float = 0.0
    region: int = 1
    lost: bool = False
    first: bool = False
