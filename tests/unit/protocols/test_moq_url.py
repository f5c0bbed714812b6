"""Addresses of relays of Media over QUIC."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.moq_url import is_moq, parse_url


@pytest.mark.parametrize(
    ("text", "address", "broadcast"),
    [
        ("moq://relay.example", "moqt://relay.example", ""),
        ("moqt://[::1]:4443/anon?jwt=a.b#show/one", "moqt://[::1]:4443/anon?jwt=a.b", "show/one"),
        ("https://relay.example/a/b#/my%20show/", "https://relay.example/a/b", "my show"),
    ],
)
def test_an_address_names_the_server_and_the_broadcast(text: str, address: str, broadcast: str) -> None:
    assert is_moq(text)
    url = parse_url(text)
    assert (url.address, url.broadcast) == (address, broadcast)


@pytest.mark.parametrize(
    "text", ["moq://", "moq://:443", "moq://h:0", "moq://h:99999", "moq://me:pw@h/a", "https:///a"]
)
def test_an_address_without_a_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)moq|port"):
        parse_url(text)


@given(st.text(max_size=60), st.sampled_from(("", "moq://", "moqt://", "https://", "https://h/")))
def test_any_text_is_an_address_or_is_refused(text: str, start: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_url(start + text).host


def test_a_password_in_an_address_is_not_in_its_texts() -> None:
    assert "s3cret" not in repr(parse_url("moq://relay.example/anon?jwt=s3cret"))
