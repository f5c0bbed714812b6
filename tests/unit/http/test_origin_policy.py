"""Of which pages a browser may push."""

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
def test_pages_of_the_host_that_is_asked_may_push_whatever_their_port(origin: str, host: str, allowed: bool) -> None:
    assert OriginPolicy().allows([origin], [host]) is allowed


@pytest.mark.parametrize("policy", [OriginPolicy(), OriginPolicy(["https://a.example"]), OriginPolicy(["*"])])
def test_who_sends_no_origin_is_no_page(policy: OriginPolicy) -> None:
    assert policy.allows([], ["live.example.com"])
    assert policy.allows([], [])


@pytest.mark.parametrize("policy", [OriginPolicy(), OriginPolicy(["https://a.example"]), OriginPolicy(["*"])])
def test_two_origins_or_hosts_are_none(policy: OriginPolicy) -> None:
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
def test_a_list_says_which_origins_to_the_letter(origin: str, allowed: bool) -> None:
    policy = OriginPolicy(["https://studio.example.com", "http://lab.example:3000"])
    assert policy.allows([origin], ["asked.example"]) is allowed


def test_a_star_allows_every_page() -> None:
    assert OriginPolicy(["*"]).allows(["null"], ["a.example"])
    assert OriginPolicy(["https://a.example", "*"]).allows(["http://evil.example"], [])


def test_pages_without_a_place_may_be_listed() -> None:
    assert OriginPolicy(["null"]).allows(["null"], ["a.example"])
