"""STUN messages and ICE-TCP frames: understood, or RemoteProtocolError; none is authentic without the password."""

from __future__ import annotations

from contextlib import suppress

from gateway.listeners.framing import MAX_FRAME, FrameReader, framed
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.stun.message import (
    HEADER_SIZE,
    MAX_ATTRIBUTES,
    Attribute,
    StunKind,
    error_value,
    parse,
    write,
    xor_address,
)

_ID = bytes(range(12))
_SECRET = "a password that no input has"  # the seeds are signed with another one
_ADDRESSES = [(Attribute.XOR_MAPPED_ADDRESS, xor_address(host, 9, _ID)) for host in ("192.0.2.1", "2001:db8::1")]
_CHECK = [
    (Attribute.USERNAME, b"a:b"), (Attribute.PRIORITY, bytes(4)), (Attribute.USE_CANDIDATE, b""),
    (Attribute.ICE_CONTROLLING, bytes(8)), (0xC057, b"\0\1"),
]  # fmt: skip
SEEDS = [
    write(StunKind.REQUEST, _ID, _CHECK, "p"),
    write(StunKind.SUCCESS, _ID, _ADDRESSES[:1], "p"),
    write(StunKind.SUCCESS, _ID, _ADDRESSES[1:], "p"),
    write(StunKind.ERROR, _ID, [(Attribute.ERROR_CODE, error_value(487, "Role Conflict"))], "p"),
    write(StunKind.INDICATION, _ID, [], "p"),
    framed([write(StunKind.REQUEST, _ID, [(Attribute.USERNAME, b"a:b")], "p"), b"\x80abc", b""]),
]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: only the documented errors; what is kept lay in the input; cut input gives the same frames."""
    with suppress(RemoteProtocolError):
        message = parse(data)
        assert len(message.transaction) == 12 and len(message.attributes) <= MAX_ATTRIBUTES
        assert sum(4 + len(value) for value in message.attributes.values()) <= len(data) - HEADER_SIZE
        assert all(part.isascii() for part in message.username)
        assert not message.is_signed_by(_SECRET)
        assert 0 <= message.error_code < 1000 and set(message.unknown) <= message.attributes.keys()
    with suppress(RemoteProtocolError):
        whole = FrameReader().receive(data)
        assert all(0 < len(packet) <= MAX_FRAME for packet in whole)
        reader, half = FrameReader(), len(data) // 2
        assert reader.receive(data[:half]) + reader.receive(data[half:]) == whole
