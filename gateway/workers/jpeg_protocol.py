"""Requests to a JPEG worker and its replies, with their encoding on the link."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from gateway.media.errors import InvalidData
from gateway.media.track import MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire

_LENGTH: Final = struct.Struct(">I")
_REPLY: Final = struct.Struct(">IBH")
_MAX_UNITS: Final = 20_000
_JSON_FIELDS: Final = ("number", "action", "session", "fresh", "quality", "difference", "longest")  # of a request
GRID: Final = 3  # pictures are compared in 3 x 3 regions, numbered from 1 at the top left, line by line


class JpegMessage(IntEnum):
    """Kinds of frames of the JPEG worker, in addition to `wire.StreamMessage`."""

    REQUEST = 16
    REPLY = 17


class JpegAction(StrEnum):
    PICTURE = "picture"  # return the last picture of these units as JPEG
    COMPARE = "compare"  # compare the last picture of these units with that of the session's previous comparison
    LAST_PICTURE = "last_picture"  # return the picture of the session's last comparison as JPEG
    CLOSE = "close"  # the session has ended; no reply


@dataclass(frozen=True, slots=True)
class JpegRequest:
    """A request to the JPEG worker.

    number: the reply has the number of its request.
    units: if `fresh`, the first unit is a key frame; else the units follow those of the session's last request.
    quality: of the JPEG, 1 to 95.
    difference: a pixel counts as changed if its brightness differs by more than this, 0 to 255.
    longest: maximum pixels of the longer side; a larger picture is scaled down. 0: no maximum.
    """

    number: int
    action: JpegAction
    session: int = 0
    fresh: bool = True
    quality: int = 85
    difference: int = 30
    track: MediaTrack | None = None
    units: Sequence[AccessUnit] = ()
    longest: int = 0

    def encode(self) -> bytes:
        """Returns the body of a REQUEST frame."""
        fields = wire.write_json({name: getattr(self, name) for name in _JSON_FIELDS})
        pieces = [fields, wire.encode_tracks(Tracks(self.track, None)), *(wire.encode_unit(u) for u in self.units)]
        return b"".join(part for piece in pieces for part in (_LENGTH.pack(len(piece)), piece))

    @classmethod
    def decode(cls, body: bytes) -> JpegRequest:
        """Reads the body of a REQUEST frame. Raises InvalidData."""
        pieces: list[bytes] = []
        at = 0
        while at < len(body):
            start = at + _LENGTH.size
            if start > len(body) or len(pieces) > _MAX_UNITS:
                raise InvalidData("the request is truncated or too long")
            at = start + _LENGTH.unpack_from(body, start - _LENGTH.size)[0]
            if at > len(body):
                raise InvalidData("the request is truncated")
            pieces.append(body[start:at])
        if len(pieces) < 2:
            raise InvalidData("a request without tracks")
        fields, tracks = wire.read_json(pieces[0]), wire.decode_tracks(pieces[1])
        numbers = [fields.get(name) for name in ("number", "session", "quality", "difference", "longest")]
        if not all(type(n) is int and 0 <= n < 1 << 32 for n in numbers):
            raise InvalidData("a number of the request is missing or invalid")
        try:
            action = JpegAction(str(fields.get("action")))
        except ValueError:
            raise InvalidData("a request with an unknown action") from None
        number, session, quality, difference, longest = (int(n or 0) for n in numbers)
        units = [wire.decode_unit(piece, tracks) for piece in pieces[2:]]
        fresh = bool(fields.get("fresh"))
        return cls(number, action, session, fresh, quality, difference, tracks.video, units, longest)


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
