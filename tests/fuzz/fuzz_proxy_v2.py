"""PROXY v2 headers: an address that is one, or RemoteProtocolError."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.proxy_v2 import MAX_HEADER, PREFIX_BYTES, SIGNATURE, parse, remaining

SEEDS = [
    SIGNATURE + b"\x21\x11\x00\x0c" + bytes((192, 0, 2, 1, 198, 51, 100, 1)) + b"\x30\x39\x07\x8f",
    SIGNATURE + b"\x21\x21\x00\x24" + bytes(10) + b"\xff\xff\xc0\x00\x02\x01" + b"\x20\x01\x0d\xb8" + bytes(16),
    SIGNATURE + b"\x21\x11\x00\x13" + bytes(12) + b"\x04\x00\x04abcd",
    SIGNATURE + b"\x20\x00\x00\x00",
    b"\x21\x11" + bytes(12), b"\x21\x21" + bytes(40), b"\x21\x11ab", b"\x21\x21" + bytes(35), b"\x21\x12" + bytes(12),
]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module, for the bytes alone, after the signature, and with a correct length."""
    _read(data)
    _read(SIGNATURE + data)
    if len(data) >= 2:
        rest = data[2 : 2 + MAX_HEADER]
        _read(SIGNATURE + data[:2] + len(rest).to_bytes(2, "big") + rest)


def _read(header: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert 0 <= remaining(header[:PREFIX_BYTES].ljust(PREFIX_BYTES, b"\0")) <= MAX_HEADER
    try:
        found = parse(header)
    except RemoteProtocolError:
        return
    assert len(header) <= PREFIX_BYTES + MAX_HEADER
    assert not (found.local and found.client)
    if found.client is not None:
        address = ipaddress.ip_address(found.client)
        assert str(address) == found.client
        assert getattr(address, "ipv4_mapped", None) is None, "an IPv4 client counts as one, however it was written"
