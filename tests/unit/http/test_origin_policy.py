"""Origins of web pages that may push."""

from __future__ import annotations

import pytest

from gateway.http.origin_policy import OriginPolicy


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://live.example.com", "live.example.com:8081", True),
        ("https://LIVE.example.com:8443", "live.example.com:8444", True),
        ("http://live.example.com.", "live.example.com", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8081", True),
        ("http://[::1]:8000", "[::1]:8081", True),
        ("http://evil.example", "live.example.com:8081", False),
        ("http://live.example.com.evil.example", "live.example.com:8081", False),
        ("http://example.com", "live.example.com:8081", False),
        ("http://localhost:8000", "127.0.0.1:8081", False),
        ("null", "live.example.com:8081", False),
        ("", "live.example.com:8081", False),
        ("file://", "", False),
        ("http://[", "[", False),
        ("http://live.example.com", "", False),
    ],
)
def test_pages_of_the_same_host_may_push_from_any_port(origin: str, host: str, allowed: bool) -> None:
    assert OriginPolicy().allows([origin], [host]) is allowed


@pytest.mark.parametrize("policy", [OriginPolicy(), OriginPolicy(["https://a.example"]), OriginPolicy(["*"])])
def test_clients_without_an_origin_header_are_allowed(policy: OriginPolicy) -> None:
    assert policy.allows([], ["live.example.com"])
    assert policy.allows([], [])


@pytest.mark.parametrize("policy", [OriginPolicy(), OriginPolicy(["https://a.example"]), OriginPolicy(["*"])])
def test_requests_with_two_origins_or_hosts_are_refused(policy: OriginPolicy) -> None:
    assert not policy.allows(["https://a.example", "https://a.example"], ["a.example"])
    assert not policy.allows(["https://a.example"], ["a.example", "b.example"])


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://studio.example.com", True),
        ("HTTPS://Studio.example.com:443", True),
        ("http://lab.example:3000", True),
        ("http://studio.example.com", False),
        ("https://studio.example.com:444", False),
        ("http://lab.example", False),
        ("http://asked.example", False),
        ("null", False),
    ],
)
def test_listed_origins_must_match_exactly(origin: str, allowed: bool) -> None:
    policy = OriginPolicy(["https://studio.example.com", "http://lab.example:3000"])
    assert policy.allows([origin], ["asked.example"]) is allowed


def test_a_star_allows_every_page() -> None:
    assert OriginPolicy(["*"]).allows(["null"], ["a.example"])
    assert OriginPolicy(["https://a.example", "*"]).allows(["http://evil.example"], [])


def test_the_origin_null_may_be_listed() -> None:
    assert OriginPolicy(["null"]).allows(["null"], ["a.example"])
