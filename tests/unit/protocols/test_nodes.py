"""Messages between nodes: signatures and hellos."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.streams.pull import reason_of
from gateway.live.sink import EndReason
from gateway.media.errors import InvalidData
from gateway.protocols import nodes, wire
from gateway.protocols.nodes import Hello

NOW = 1_900_000_000.0
TARGET = "/_node/c1?original=1"


def test_a_signed_request_is_accepted() -> None:
    assert nodes.verify("s", "GET", TARGET, nodes.sign("s", "GET", TARGET, NOW), NOW) == ""


@pytest.mark.parametrize(
    ("secret", "method", "target"),
    [("other", "GET", TARGET), ("s", "POST", TARGET), ("s", "GET", "/_node/c2?original=1"), ("s", "GET", "/_node/c1")],
)
def test_a_signature_is_valid_for_its_own_request_only(secret: str, method: str, target: str) -> None:
    assert nodes.verify(secret, method, target, nodes.sign("s", "GET", TARGET, NOW), NOW) == "wrong"


@pytest.mark.parametrize("seconds", [-61, 61, 86_400])
def test_a_signature_more_than_a_minute_old_or_ahead_is_refused(seconds: float) -> None:
    assert nodes.verify("s", "GET", TARGET, nodes.sign("s", "GET", TARGET, NOW), NOW + seconds) == "skew"


@pytest.mark.parametrize("seconds", [-60, 0, 60])
def test_clocks_may_differ_by_a_minute(seconds: float) -> None:
    assert nodes.verify("s", "GET", TARGET, nodes.sign("s", "GET", TARGET, NOW), NOW + seconds) == ""


def test_the_time_of_a_signature_cannot_be_changed() -> None:
    stamp, _, digest = nodes.sign("s", "GET", TARGET, NOW).partition("-")
    assert nodes.verify("s", "GET", TARGET, f"{int(stamp) + 1}-{digest}", NOW) == "wrong"


def test_without_a_secret_every_signature_is_refused() -> None:
    assert nodes.verify("", "GET", TARGET, nodes.sign("", "GET", TARGET, NOW), NOW) == "wrong"


@given(st.text(max_size=100))
def test_an_invalid_signature_header_is_refused(value: str) -> None:
    assert nodes.verify("s", "GET", TARGET, value, NOW) == "wrong"


def test_a_hello_is_read_back() -> None:
    hello = Hello("claim/1", 12.5, {"isFlv": "true", "refererAllow": ["a.example"]})
    assert Hello.decode(hello.encode()) == hello


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"session":1,"started":1,"channel":{}}', b'{"session":"a","started":true,"channel":{}}',
     b'{"session":"a","started":1,"channel":[]}', b'{"session":"a","started":"1","channel":{}}',
     b'{"session":"a","started":-1,"channel":{}}', b'{"session":"a","started":1e999,"channel":{}}',
     b'{"session":"a","started":1' + b"0" * 400 + b',"channel":{}}'],
)  # fmt: skip
def test_an_invalid_hello_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidData):
        Hello.decode(body)


def test_an_end_reason_is_sent_by_its_name() -> None:
    assert reason_of(wire.write_json({"reason": str(EndReason.KICKED)})) is EndReason.KICKED


@pytest.mark.parametrize("said", [None, "of a later version", 5])
def test_an_unknown_end_reason_means_a_lost_publisher(said: object) -> None:
    assert reason_of(wire.write_json({"reason": said})) is EndReason.PUBLISHER_GONE
