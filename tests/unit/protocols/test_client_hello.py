"""The first record of a TLS connection."""

import ssl

import pytest

from gateway.protocols.client_hello import HEADER_BYTES, ClientHello, read_hello, record_bytes
from gateway.protocols.errors import RemoteProtocolError


def hello(server: str | None = "Live.example.com", *protocols: str) -> bytes:
    """The bytes that OpenSSL sends first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    out = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=server)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return out.read()


def test_a_real_hello_names_server_and_protocols():
    record = hello("Live.example.com", "acme-tls/1")
    assert record_bytes(record[:HEADER_BYTES]) == len(record)
    assert read_hello(record) == ClientHello("live.example.com", (b"acme-tls/1",))
    assert read_hello(hello(None, "h2", "http/1.1")) == ClientHello("", (b"h2", b"http/1.1"))
    assert read_hello(hello()).protocols == ()


@pytest.mark.parametrize("start", [b"", b"\x16\x03", b"GET /", b"\x17\x03\x03\x00\x10"])
def test_other_starts_are_no_handshake(start: bytes):
    assert record_bytes(start) == 0


def test_a_cut_or_changed_hello_is_read_or_refused():
    record = hello("live.example.com", "acme-tls/1")
    for size in range(len(record)):
        with pytest.raises(RemoteProtocolError):
            read_hello(record[:size])
    with pytest.raises(RemoteProtocolError):
        read_hello(record[:HEADER_BYTES] + b"\x02" + record[HEADER_BYTES + 1 :])
