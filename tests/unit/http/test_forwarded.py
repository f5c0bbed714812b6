"""The client address and scheme that a trusted proxy forwards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.forwarded import plain_address
from tests.support.http import trusting

PROXIES = trusting("10.0.0.0/8", "2001:db8:1::/48")


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1, 10.0.0.2, 10.0.0.3", "192.0.2.1"),
        ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
        ("192.0.2.1:1234", "192.0.2.1"),
        ("[2001:db8::1]:1234", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, nonsense", "10.0.0.1"),
        ("192.0.2.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("", "10.0.0.1"),
        ("192.0.2.1,", "10.0.0.1"),
        (", ".join(["6.6.6.6"] * 1000 + ["192.0.2.1"]), "192.0.2.1"),
    ],
)
def test_the_client_is_the_first_untrusted_address_from_the_right(chain, client):
    assert PROXIES.client("10.0.0.1", {"x-forwarded-for": chain}) == client


def test_forwarded_headers_of_an_untrusted_peer_are_ignored():
    assert PROXIES.client("192.0.2.9", {"x-forwarded-for": "1.1.1.1"}) == "192.0.2.9"
    assert PROXIES.scheme("192.0.2.9", {"x-forwarded-proto": "https"}, "http") == "http"


def test_a_proxy_without_forwarded_headers_counts_as_the_client():
    assert PROXIES.client("10.0.0.1", {}) == "10.0.0.1"
    assert PROXIES.scheme("10.0.0.1", {}, "http") == "http"


@pytest.mark.parametrize(
    ("said", "scheme"),
    [
        ("https", "https"),
        ("HTTP", "http"),
        ("http, https", "https"),
        ("gopher", "http"),
        ("", "http"),
        ("ws", "http"),
        ("wss", "https"),
    ],
)
def test_the_scheme_comes_from_the_nearest_proxy(said, scheme):
    assert PROXIES.scheme("2001:db8:1::5", {"x-forwarded-proto": said}, "http") == scheme


@pytest.mark.parametrize(
    ("peer", "said", "host"),
    [
        ("10.0.0.1", "a.example:8443", "a.example:8443"),
        ("10.0.0.1", "forged.example, a.example", "a.example"),
        ("10.0.0.1", "", "127.0.0.1:8000"),
        ("192.0.2.9", "a.example", "127.0.0.1:8000"),
    ],
)
def test_the_host_comes_from_the_nearest_listed_proxy(peer, said, host):
    assert PROXIES.host(peer, {"x-forwarded-host": said}, "127.0.0.1:8000") == host


def test_without_trusted_networks_no_peer_is_trusted():
    nobody = trusting()
    assert not nobody.networks
    assert not nobody.trusts("127.0.0.1")


def test_addresses_are_normalized():
    assert plain_address("::ffff:1.2.3.4") == "1.2.3.4"
    assert plain_address("fe80::1%eth0") == "fe80::1"
    assert plain_address("2001:DB8:0::1") == "2001:db8::1"
    assert plain_address("not:an:address") == "not:an:address"


@given(st.text(alphabet="0123456789abcdef.:,[]% x", max_size=80))
def test_any_forwarded_chain_gives_an_address(chain):
    assert PROXIES.client("10.0.0.1", {"x-forwarded-for": chain})
