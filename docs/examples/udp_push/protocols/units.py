"""An example protocol: H.264 and AAC in datagrams, without repair. Bytes in, events out.

Client: `OPEN <id>?sign=…`; `TRACK` and kind, then the codec configuration; `PART` and the head of `Part`, then a piece
of a unit. Server: `DONE` after a valid key, otherwise `SORRY <reason>`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.media import aac, h264
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.protocols.errors import RemoteProtocolError

OPEN: Final = b"OPEN "
TRACK: Final = b"TRACK"
PART: Final = b"PART "
ACCEPTED: Final = b"DONE"
REFUSED: Final = b"SORRY "

MAX_PARTS: Final = 2_000  # of a unit
_KINDS: Final = {0: (Kind.VIDEO, Codec.H264), 1: (Kind.AUDIO, Codec.AAC)}
_HEAD: Final = struct.Struct(">BBIhHH")  # kind, key, dts and cts in milliseconds, number of the part, count of parts


@dataclass(frozen=True, slots=True)
class Open:
    """A client shows its key."""

    id: str
    key: str


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a unit."""

    kind: int
    key: bool
    dts: int
    cts: int
    number: int
    count: int
    data: bytes


Message: TypeAlias = "Open | MediaTrack | Part"


def is_open(datagram: bytes) -> bool:
    """Whether a datagram opens a session."""
    return datagram.startswith(OPEN)


def parse(datagram: bytes) -> Message:
    """Returns the message of a datagram. Raises RemoteProtocolError."""
    name, body = datagram[:5], datagram[5:]
    if name == OPEN:
        id, _, query = body.decode("ascii", "replace").partition("?")
        return Open(id, query.removeprefix("sign="))
    if name == TRACK and body[:1] in (b"\0", b"\1"):
        return _track(*_KINDS[body[0]], body[1:])
    if name == PART and len(body) >= _HEAD.size:
        kind, key, dts, cts, number, count = _HEAD.unpack_from(body)
        if kind in _KINDS and number < count <= MAX_PARTS:
            return Part(kind, bool(key), dts, cts, number, count, body[_HEAD.size :])
    raise RemoteProtocolError("an unknown message")


def _track(kind: Kind, codec: Codec, config: bytes) -> MediaTrack:
    try:
        if codec is Codec.H264:
            h264.parse_avcc(config)
        else:
            aac.parse_asc(config)
    except InvalidData as error:
        raise RemoteProtocolError(str(error)) from None
    return MediaTrack(kind, codec, 1000, config)


class UnitJoiner:
    """Joins parts to units. A unit with a lost part is dropped, and pictures up to the next key frame with it."""

    def __init__(self) -> None:
        self._tracks: dict[int, MediaTrack] = {}
        self._parts: dict[int, list[Part]] = {}
        self._is_lost = {0: True, 1: False}  # by kind

    def set_track(self, track: MediaTrack) -> None:
        self._tracks[0 if track.kind is Kind.VIDEO else 1] = track

    def add(self, part: Part, wall: float) -> AccessUnit | None:
        """Returns the unit that a part completes. wall: seconds since the epoch."""
        parts, track = self._parts.setdefault(part.kind, []), self._tracks.get(part.kind)
        if part.number != len(parts) or (parts and parts[0].dts != part.dts):
            parts.clear()
            self._is_lost[part.kind] = part.kind == 0
        if part.number == len(parts):
            parts.append(part)
        if not parts or len(parts) < part.count:
            return None
        data = b"".join(one.data for one in parts)
        parts.clear()
        if track is None or (self._is_lost[part.kind] and not part.key):
            return None
        self._is_lost[part.kind] = False
        return AccessUnit(track, part.dts, part.cts, part.key, wall, data)


def write_unit(unit: AccessUnit, size: int = 1_200) -> list[bytes]:
    """Returns the datagrams of a unit, for clients and tests."""
    kind = 0 if unit.track.kind is Kind.VIDEO else 1
    pieces = [unit.payload[at : at + size] for at in range(0, len(unit.payload), size)]
    return [
        PART + _HEAD.pack(kind, unit.key, unit.dts & 0xFFFFFFFF, unit.cts, number, len(pieces)) + piece
        for number, piece in enumerate(pieces)
    ]
