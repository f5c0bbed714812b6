"""The packets of SRT: heads, handshakes with their extensions, acknowledgements and loss lists.

The § numbers refer to draft-sharabayko-srt-01.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final

from gateway.protocols.errors import RemoteProtocolError

HEAD_SIZE: Final = 16  # bytes, §3
HEAD: Final = struct.Struct(">IIII")  # number or type, flags or information, time stamp, socket id of the receiver
CONTROL: Final = 0x8000_0000  # the first bit of a control packet
MASK31: Final = 0x7FFF_FFFF
MASK32: Final = 0xFFFF_FFFF
PAYLOAD: Final = 1316  # bytes of a data packet in live mode: 7 packets of a transport stream
MAX_PAYLOAD: Final = 1456  # of 1,500 bytes minus the heads of IP, UDP and SRT
MTU: Final = 1500
MAX_STREAM_ID: Final = 512  # bytes, §3.2.1.3
MAGIC: Final = 0x4A17  # §4.3.1.1.2
VERSION: Final = 0x01_05_03  # the version of libsrt whose behaviour we have
# Flags of a data packet, §3.1.
WHOLE: Final = 0xC000_0000  # the packet is a whole message
KEY_SHIFT: Final = 27
RETRANSMITTED: Final = 0x0400_0000
MESSAGE_MASK: Final = 0x03FF_FFFF

_HANDSHAKE: Final = struct.Struct(">IHHIIIIII16s")
_EXTENSION: Final = struct.Struct(">HH")
_PARAMETERS: Final = struct.Struct(">IIHH")
_WORD: Final = struct.Struct(">I")
_MAX_EXTENSIONS: Final = 16
_MAX_LOSS_WORDS: Final = MAX_PAYLOAD // 4
_HALF31: Final = 1 << 30
_HALF32: Final = 1 << 31


class ControlType(IntEnum):
    """§3.2, Table 1."""

    HANDSHAKE = 0
    KEEPALIVE = 1
    ACK = 2
    NAK = 3
    CONGESTION = 4
    SHUTDOWN = 5
    ACKACK = 6
    DROP = 7
    PEER_ERROR = 8
    EXTENDED = 0x7FFF  # the subtype is an extension: new key material


class HandshakeType(IntEnum):
    """§3.2.1, Table 4. Any other value from 1000 is a refusal."""

    INDUCTION = 1
    CONCLUSION = 0xFFFF_FFFF


class HandshakeExtension(IntEnum):
    """§3.2.1, Table 5."""

    PARAMETERS_REQUEST = 1
    PARAMETERS = 2
    KEYS_REQUEST = 3
    KEYS = 4
    STREAM_ID = 5
    CONGESTION = 6
    FILTER = 7
    GROUP = 8


class SrtFlag(IntFlag):
    """§3.2.1.1.1."""

    TIMED_SENDER = 1
    TIMED_RECEIVER = 2
    CRYPT = 4
    DROPS_LATE = 8
    PERIODIC_NAK = 16
    MARKS_RETRANSMITTED = 32
    STREAM = 64
    FILTER = 128


class Reject(IntEnum):
    """Reasons of a refusal, §4.3; from 1400 those of access control, after the status codes of HTTP.

    libsrt subtracts 1000 from the number in a packet. So `BAD_SECRET` is 10 in its API, and 1400 is
    2400 in a packet (`refusal_type`).
    """

    UNKNOWN = 1000
    PEER = 1002
    RESOURCE = 1003
    ROGUE = 1004
    BACKLOG = 1005
    CLOSE = 1007
    VERSION = 1008
    BAD_SECRET = 1010
    UNSECURE = 1011
    MESSAGE_MODE = 1012
    CONGESTION = 1013
    FILTER = 1014
    GROUP = 1015
    TIMEOUT = 1016
    CRYPTO = 1017
    BAD_REQUEST = 1400
    UNAUTHORIZED = 1401
    OVERLOADED = 1402
    FORBIDDEN = 1403
    NOT_FOUND = 1404
    CONFLICT = 1409
    NOT_SUPPORTED = 1415


@dataclass(frozen=True, slots=True)
class Parameters:
    """A handshake extension message, §3.2.1.1. Latencies in milliseconds: what this side wants of each direction."""

    version: int
    flags: int
    receiver_latency: int
    sender_latency: int

    def encode(self) -> bytes:
        return _PARAMETERS.pack(self.version, self.flags, self.receiver_latency, self.sender_latency)

    @classmethod
    def decode(cls, data: bytes) -> "Parameters":
        """Raises RemoteProtocolError."""
        if len(data) < _PARAMETERS.size:
            raise RemoteProtocolError("SRT: a handshake extension that is cut short")
        return cls(*_PARAMETERS.unpack_from(data))


@dataclass(frozen=True, slots=True)
class SrtHandshake:
    """A handshake, §3.2.1.

    encryption: the length of the keys in units of 8 bytes; 0: not said. sequence: number of the first data packet.
    window: the most packets in flight. socket: id of the sender's socket. address: 16 bytes; only peers read it.
    extensions: type and content.
    """

    version: int
    encryption: int
    extension: int
    sequence: int
    mtu: int
    window: int
    type: int
    socket: int
    cookie: int
    address: bytes = bytes(16)
    extensions: Sequence[tuple[int, bytes]] = field(default=())

    def encode(self) -> bytes:
        parts = [
            _HANDSHAKE.pack(
                self.version, self.encryption, self.extension, self.sequence, self.mtu, self.window, self.type,
                self.socket, self.cookie, self.address,
            )
        ]  # fmt: skip
        for kind, content in self.extensions:
            parts += _EXTENSION.pack(kind, len(content) // 4), content
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> "SrtHandshake":
        """Reads the content of a handshake packet. Raises RemoteProtocolError."""
        if len(data) < _HANDSHAKE.size:
            raise RemoteProtocolError("SRT: a handshake that is cut short")
        fields = _HANDSHAKE.unpack_from(data)
        extensions: list[tuple[int, bytes]] = []
        at = _HANDSHAKE.size
        # Only a conclusion of version 5 has extensions.
        while fields[0] == 5 and fields[6] == HandshakeType.CONCLUSION and at + _EXTENSION.size <= len(data):
            kind, words = _EXTENSION.unpack_from(data, at)
            at += _EXTENSION.size
            content = data[at : at + 4 * words]
            at += 4 * words
            if at > len(data) or len(extensions) == _MAX_EXTENSIONS:
                raise RemoteProtocolError("SRT: handshake extensions that exceed their packet or their number")
            extensions.append((kind, content))
        version, encryption, extension, sequence, mtu, window, kind, socket, cookie, address = fields
        return cls(version, encryption, extension, sequence, mtu, window, kind, socket, cookie, address, extensions)

    def find(self, kind: int) -> bytes | None:
        """Returns the content of the first extension of a type."""
        return next((content for found, content in self.extensions if found == kind), None)

    @property
    def refusal(self) -> int:
        """The reason if this answer is a refusal; otherwise 0. gosrt sends a reason of access control as it is."""
        if not 1000 <= self.type < HandshakeType.CONCLUSION - 2:
            return 0
        return self.type - 1000 if self.type >= refusal_type(Reject.BAD_REQUEST) else self.type


def refusal_type(code: int) -> int:
    """Returns the type of the handshake packet that refuses with a code."""
    return code + 1000 if code >= Reject.BAD_REQUEST else code


def control(kind: int, socket: int, stamp: int, content: bytes = b"", information: int = 0, subtype: int = 0) -> bytes:
    """Returns a control packet. stamp: microseconds, 32 bits. socket: id of the receiver's socket."""
    return HEAD.pack(CONTROL | kind << 16 | subtype, information, stamp & MASK32, socket) + content


def restamped(datagram: bytes, stamp: int) -> bytes:
    """Returns a packet with another time stamp. That of an answer is the time base of the peer."""
    return datagram[:8] + (stamp & MASK32).to_bytes(4, "big") + datagram[12:]


def handshake_of(datagram: bytes) -> SrtHandshake | None:
    """Returns the handshake in a datagram; None if it is another packet or damaged."""
    if len(datagram) < HEAD_SIZE + _HANDSHAKE.size or datagram[:4] != b"\x80\x00\x00\x00":
        return None
    try:
        return SrtHandshake.decode(datagram[HEAD_SIZE:])
    except RemoteProtocolError:
        return None


def encode_text(text: str) -> bytes:
    """Returns the content of a text extension: words of 4 bytes, each in reverse order (§3.2.1.3)."""
    data = text.encode()
    return _swap_words(data + bytes(-len(data) % 4))


def decode_text(content: bytes) -> str:
    """Returns the text of an extension. Raises RemoteProtocolError if it is too long or not UTF-8."""
    if len(content) > MAX_STREAM_ID:
        raise RemoteProtocolError("SRT: a stream id of more than 512 bytes")
    try:
        return _swap_words(content).rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("SRT: a stream id that is not UTF-8") from None


def _swap_words(data: bytes) -> bytes:
    out = bytearray(len(data))
    for at in range(4):
        out[at::4] = data[3 - at :: 4]
    return bytes(out)


# ---- numbers ----


def random_socket() -> int:
    """Returns a new id of a socket. It is not 0, to which handshakes go."""
    return (int.from_bytes(os.urandom(4)) & (MASK31 >> 1)) + 2


def unwrap_sequence(value: int, near: int) -> int:
    """Returns the number whose lower 31 bits are `value`, nearest to `near`."""
    return near + ((value - near + _HALF31) & MASK31) - _HALF31


def unwrap_stamp(value: int, near: int) -> int:
    """Returns the time stamp whose lower 32 bits are `value`, nearest to `near`. Microseconds."""
    return near + ((value - near + _HALF32) & MASK32) - _HALF32


def encode_ranges(numbers: Iterable[int]) -> bytes:
    """Returns a loss list of growing numbers (Appendix A), as many as fit one packet."""
    words: list[int] = []
    first = last = -2
    for number in numbers:
        if number == last + 1:
            last = number
            continue
        _add_range(words, first, last)
        if len(words) >= _MAX_LOSS_WORDS - 1:
            first = -2
            break
        first = last = number
    _add_range(words, first, last)
    return struct.pack(f">{len(words)}I", *words)


def _add_range(words: list[int], first: int, last: int) -> None:
    if first < 0:
        return
    if last > first:
        words.append(CONTROL | first & MASK31)
    words.append(last & MASK31)


def decode_ranges(content: bytes, near: int) -> Iterator[tuple[int, int]]:
    """Yields first and last number of each range in a loss list. A range that goes backwards is left out.

    near: a number near these, without wrap.
    """
    start = -1
    for (word,) in _WORD.iter_unpack(content[: len(content) & ~3]):
        number = unwrap_sequence(word & MASK31, near)
        if word & CONTROL:
            start = number
        else:
            first = number if start < 0 else start
            if first <= number:
                yield first, number
            start = -1
