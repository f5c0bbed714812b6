"""STUN messages (RFC 8489): reading, writing, and the check of their short-term credentials."""

import hmac
import ipaddress
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gateway.protocols.errors import RemoteProtocolError

HEADER_SIZE: Final = 20  # bytes
MAX_ATTRIBUTES: Final = 32  # of one message; ICE uses about ten
_COOKIE: Final = 0x2112A442
_COOKIE_BYTES: Final = _COOKIE.to_bytes(4, "big")
_HEADER: Final = struct.Struct(">HHI12s")
_ATTRIBUTE: Final = struct.Struct(">HH")
_INTEGRITY_SIZE: Final = 24  # the attribute with its header
_FINGERPRINT_SIZE: Final = 8
_FINGERPRINT_XOR: Final = 0x5354554E  # RFC 8489 §14.7
_FIRST_OPTIONAL: Final = 0x8000  # RFC 8489 §14: types from here on may be ignored


class StunKind(IntEnum):
    """Message types of the method Binding, the only method of ICE."""

    REQUEST = 0x0001
    INDICATION = 0x0011
    SUCCESS = 0x0101
    ERROR = 0x0111


class Attribute(IntEnum):
    """Attribute types that we know. RFC 8489 §18.3, RFC 8445 §16.1."""

    MAPPED_ADDRESS = 0x0001
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    XOR_MAPPED_ADDRESS = 0x0020
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    FINGERPRINT = 0x8028
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A


_KNOWN: Final = frozenset(int(attribute) for attribute in Attribute)


@dataclass(frozen=True, slots=True)
class StunMessage:
    """A STUN message (RFC 8489 §5).

    attributes: values by type; the first of several. integrity_at: offset of MESSAGE-INTEGRITY in `data`, or 0.
    """

    kind: int
    transaction: bytes
    attributes: dict[int, bytes]
    data: bytes
    integrity_at: int

    @property
    def username(self) -> tuple[str, str]:
        """The ufrags of receiver and sender (RFC 8445 §7.2.2); ("", "") for any other user name."""
        value = self.attributes.get(Attribute.USERNAME, b"")
        receiver, colon, sender = value.partition(b":")
        if not colon or not value.isascii():
            return "", ""
        return receiver.decode("ascii"), sender.decode("ascii")

    @property
    def unknown(self) -> list[int]:
        """Attribute types that the sender requires us to understand, and that we do not know."""
        return [kind for kind in self.attributes if kind < _FIRST_OPTIONAL and kind not in _KNOWN]

    def is_signed_by(self, password: str) -> bool:
        """Whether MESSAGE-INTEGRITY exists and was made with this short-term password (RFC 8489 §9.1)."""
        at = self.integrity_at
        if not at:
            return False
        expected = _integrity(self.data[:at], password)
        return hmac.compare_digest(expected, self.data[at + 4 : at + _INTEGRITY_SIZE])

    @property
    def error_code(self) -> int:
        """The number of ERROR-CODE, such as 487; 0 without it."""
        value = self.attributes.get(Attribute.ERROR_CODE, b"")
        return (value[2] & 7) * 100 + value[3] if len(value) >= 4 else 0


def parse(data: bytes) -> StunMessage:
    """Reads one message. Raises RemoteProtocolError if it is not valid, or if its FINGERPRINT is wrong."""
    if len(data) < HEADER_SIZE:
        raise RemoteProtocolError("STUN message shorter than its header")
    kind, length, cookie, transaction = _HEADER.unpack_from(data)
    # RFC 8489 §5: "The most significant 2 bits of every STUN message MUST be zeroes."
    if kind >> 14 or cookie != _COOKIE or length % 4 or length != len(data) - HEADER_SIZE:
        raise RemoteProtocolError("no STUN message")
    attributes: dict[int, bytes] = {}
    integrity_at = 0
    at, end, count = HEADER_SIZE, len(data), 0
    while at < end:
        if end - at < 4:
            raise RemoteProtocolError("STUN attribute is cut")
        attribute, size = _ATTRIBUTE.unpack_from(data, at)
        after = at + 4 + (size + 3 & ~3)
        count += 1
        if after > end or count > MAX_ATTRIBUTES:
            raise RemoteProtocolError("STUN attribute is cut, or too many of them")
        if attribute == Attribute.FINGERPRINT:
            if after != end or size != 4:
                raise RemoteProtocolError("STUN FINGERPRINT is not at the end")
            if int.from_bytes(data[at + 4 : after], "big") != _fingerprint(data[:at]):
                raise RemoteProtocolError("STUN FINGERPRINT is wrong")
        elif integrity_at:
            # RFC 8489 §14.5: agents "MUST ignore all other attributes that follow MESSAGE-INTEGRITY".
            at = after
            continue
        elif attribute == Attribute.MESSAGE_INTEGRITY:
            if size != 20:
                raise RemoteProtocolError("STUN MESSAGE-INTEGRITY has no 20 bytes")
            integrity_at = at
        attributes.setdefault(attribute, data[at + 4 : at + 4 + size])
        at = after
    return StunMessage(kind, transaction, attributes, data, integrity_at)


def write(kind: StunKind, transaction: bytes, attributes: Iterable[tuple[int, bytes]], password: str) -> bytes:
    """Returns a message with MESSAGE-INTEGRITY and FINGERPRINT. transaction: 12 bytes."""
    body = b"".join(
        _ATTRIBUTE.pack(attribute, len(value)) + value + bytes(-len(value) % 4) for attribute, value in attributes
    )
    message = _HEADER.pack(kind, len(body), _COOKIE, transaction) + body
    message += _ATTRIBUTE.pack(Attribute.MESSAGE_INTEGRITY, 20) + _integrity(message, password)
    # RFC 8489 §14.7: the length includes FINGERPRINT when its value is computed.
    message = _with_length(message, len(message) - HEADER_SIZE + _FINGERPRINT_SIZE)
    return message + _ATTRIBUTE.pack(Attribute.FINGERPRINT, 4) + _fingerprint(message).to_bytes(4, "big")


def xor_address(address: str, port: int, transaction: bytes) -> bytes:
    """Returns the value of XOR-MAPPED-ADDRESS (RFC 8489 §14.2). address: IPv4 or IPv6, without a zone."""
    packed = ipaddress.ip_address(address).packed
    mask = _COOKIE_BYTES if len(packed) == 4 else _COOKIE_BYTES + transaction
    family = 1 if len(packed) == 4 else 2
    masked = bytes(a ^ b for a, b in zip(packed, mask, strict=True))
    return struct.pack(">BBH", 0, family, port ^ _COOKIE >> 16) + masked


def error_value(code: int, reason: str) -> bytes:
    """Returns the value of ERROR-CODE (RFC 8489 §14.8). code: 300 to 699."""
    return struct.pack(">HBB", 0, code // 100, code % 100) + reason.encode()


def _integrity(signed: bytes, password: str) -> bytes:
    # RFC 8489 §14.5: the length is that of a message which ends with MESSAGE-INTEGRITY.
    signed = _with_length(signed, len(signed) - HEADER_SIZE + _INTEGRITY_SIZE)
    return hmac.digest(password.encode(), signed, "sha1")


def _fingerprint(before: bytes) -> int:
    return zlib.crc32(before) ^ _FINGERPRINT_XOR


def _with_length(message: bytes, length: int) -> bytes:
    return message[:2] + length.to_bytes(2, "big") + message[4:]
