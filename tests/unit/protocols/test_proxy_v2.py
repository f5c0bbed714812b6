"""PROXY protocol v2 headers."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols import proxy_v2
from gateway.protocols.errors import RemoteProtocolError


def header(command: int = 0x21, family: int = 0x11, body: bytes | None = None, tlvs: bytes = b"") -> bytes:
    if body is None:
        body = (
            ipaddress.ip_address("203.0.113.7").packed + ipaddress.ip_address("10.0.0.1").packed + b"\x12\x34\x07\x8f"
        )
    body += tlvs
    return proxy_v2.SIGNATURE + bytes((command, family)) + len(body).to_bytes(2, "big") + body


def test_the_client_of_a_tcp4_header_is_its_source():
    assert proxy_v2.parse(header()) == proxy_v2.ProxyHeader(local=False, client="203.0.113.7")


def test_tlvs_behind_the_addresses_are_skipped():
    assert proxy_v2.parse(header(tlvs=b"\x05\x00\x04abcd")).client == "203.0.113.7"


def test_ipv6_clients_are_read_and_mapped_ipv4_addresses_are_unwrapped():
    for source, shown in (("2001:db8::9", "2001:db8::9"), ("::ffff:198.51.100.4", "198.51.100.4")):
        body = ipaddress.ip_address(source).packed + ipaddress.ip_address("::1").packed + b"\0\1\0\2"
        assert proxy_v2.parse(header(family=0x21, body=body)).client == shown


def test_local_connections_have_no_client():
    assert proxy_v2.parse(header(command=0x20, family=0, body=b"")) == proxy_v2.ProxyHeader(local=True, client=None)


def test_unspecified_families_pass_without_an_address():
    assert proxy_v2.parse(header(family=0, body=b"")) == proxy_v2.ProxyHeader(local=False, client=None)


@pytest.mark.parametrize(
    "bad",
    [
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"[:16],
        b"\x03" * 16,
        header(command=0x11)[:16],
        header(command=0x22)[:16],
        header()[:14] + b"\xff\xff",
    ],
    ids=["version 1", "RTMP", "version", "command", "length over the bound"],
)
def test_an_invalid_header_is_refused_at_its_prefix(bad: bytes):
    with pytest.raises(RemoteProtocolError):
        proxy_v2.remaining(bad)


def test_addresses_that_do_not_fit_are_refused():
    with pytest.raises(RemoteProtocolError):
        proxy_v2.parse(header(body=b"\1\2\3"))


@given(st.binary(max_size=300), st.integers(0, 255), st.integers(0, 255))
def test_any_header_is_parsed_or_refused(body: bytes, command: int, family: int):
    with contextlib.suppress(RemoteProtocolError):
        proxy_v2.parse(header(command=command, family=family, body=body))
