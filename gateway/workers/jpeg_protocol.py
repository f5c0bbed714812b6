"""Requests to a JPEG worker and its replies, with their encoding on the link."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum
from typing import Final

from gateway.media.errors import InvalidData
from gateway.media.track import MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire

_LENGTH: Final = struct.Struct(">I")
_ANSWER: Final = struct.Struct(">IB")
_MAX_UNITS: Final = 20_000
_SAID: Final = ("number", "doing", "session", "fresh", "quality", "difference")  # fields of a request, as JSON
GRID: Final = 3  # pictures are compared in 3 x 3 regions, numbered from 1 at the top left, line by line


class JpegMessage(IntEnum):
    """Kinds of frames of the JPEG worker, beside those of `wire.StreamMessage`."""

    ASK = 16
    ANSWER = 17


class JpegAction(StrEnum):
    PICTURE = "picture"  # the last picture of these units as JPEG
    LOOK = "look"  # how much the last picture differs from the one of the session's last look
    SHOT = "shot"  # the picture of the session's last look as JPEG
    FORGET = "forget"  # the session is over


@dataclass(frozen=True, slots=True)
class JpegRequest:
    """A request to the JPEG worker.

    number: the reply carries it too.
    units: if `fresh`, they begin with a key frame; else they follow the last units of the session.
    quality: of JPEG, 1 to 95.
    difference: a pixel counts as changed if its brightness differs by more than this.
    """

    number: int
    doing: JpegAction
    session: int = 0
    fresh: bool = True
    quality: int = 85
    difference: int = 30
    track: MediaTrack | None = None
    units: Sequence[AccessUnit] = ()

    def encode(self) -> bytes:
        """Returns the body of an ASK frame."""
        said = wire.write_json({name: getattr(self, name) for name in _SAID})
        pieces = [said, wire.encode_tracks(Tracks(self.track, None)), *(wire.encode_unit(u) for u in self.units)]
        return b"".join(part for piece in pieces for part in (_LENGTH.pack(len(piece)), piece))

    @classmethod
    def decode(cls, body: bytes) -> JpegRequest:
        """Reads the body of an ASK frame. Raises InvalidData."""
        pieces: list[bytes] = []
        at = 0
        while at < len(body):
            start = at + _LENGTH.size
            if start > len(body) or len(pieces) > _MAX_UNITS:
                raise InvalidData("a request that is cut")
            at = start + _LENGTH.unpack_from(body, start - _LENGTH.size)[0]
            if at > len(body):
                raise InvalidData("a request that is cut")
            pieces.append(body[start:at])
        if len(pieces) < 2:
            raise InvalidData("a request without tracks")
        said, tracks = wire.read_json(pieces[0]), wire.decode_tracks(pieces[1])
        numbers = [said.get(name) for name in ("number", "session", "quality", "difference")]
        if not all(type(n) is int and 0 <= n < 1 << 32 for n in numbers):
            raise InvalidData("a request without numbers")
        try:
            doing = JpegAction(str(said.get("doing")))
        except ValueError:
            raise InvalidData("a request for nothing that is known") from None
        number, session, quality, difference = (int(n or 0) for n in numbers)
        units = [wire.decode_unit(piece, tracks) for piece in pieces[2:]]
        return cls(number, doing, session, bool(said.get("fresh")), quality, difference, tracks.video, units)


@dataclass(frozen=True, slots=True)
class JpegReply:
    """The reply to the request of this number.

    good: True if `body` is the result (JPEG, or JSON of a PictureDifference). Else `body` is the reason, as text.
    """

    number: int
    good: bool
    body: bytes

    def encode(self) -> bytes:
        """Returns the body of an ANSWER frame."""
        return _ANSWER.pack(self.number, self.good) + self.body

    @classmethod
    def decode(cls, body: bytes) -> JpegReply:
        """Reads the body of an ANSWER frame. Raises InvalidData."""
        if len(body) < _ANSWER.size:
            raise InvalidData("an answer that is cut")
        number, good = _ANSWER.unpack_from(body)
        return cls(number, bool(good), body[_ANSWER.size :])


@dataclass(frozen=True, slots=True)
class PictureDifference:
    """The result of a LOOK request.

    changed: per cent of the pixels that changed since the last look.
    region: the region with most of these pixels, 1 to 9.
    lost: the worker does not know the session (any more); the next look has to be fresh.
    first: there was no earlier picture to compare with.
    """

    changed: float = 0.0
    region: int = 1
    lost: bool = False
    first: bool = False

    def encode(self) -> bytes:
        return wire.write_json(asdict(self))

    @classmethod
    def decode(cls, body: bytes) -> PictureDifference:
        """Raises InvalidData."""
        said = wire.read_json(body)
        changed, region = said.get("changed"), said.get("region")
        if not isinstance(changed, int | float) or type(region) is not int:
            raise InvalidData("a look without result")
        return cls(float(changed), region, said.get("lost") is True, said.get("first") is True)
