"""The first record of a TLS connection: a hello, or RemoteProtocolError."""

from __future__ import annotations

from contextlib import suppress

from gateway.protocols.client_hello import HEADER_BYTES, MAX_RECORD, read_hello, record_bytes
from gateway.protocols.errors import RemoteProtocolError
from tests.unit.protocols.test_client_hello import hello

SEEDS = [hello("live.example.com", "acme-tls/1"), hello(None, "h2", "http/1.1"), hello()]


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module; what is read was in the bytes."""
    assert 0 <= record_bytes(data[:HEADER_BYTES]) <= MAX_RECORD
    with suppress(RemoteProtocolError):
        found = read_hello(data)
        assert all(protocol in data for protocol in found.protocols)
        assert len(found.server) <= len(data)
