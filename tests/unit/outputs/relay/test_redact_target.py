"""Keys of relay targets are hidden in all texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels import relay_urls
from gateway.outputs.relay.redact_target import redact_text, target_secrets
from gateway.protocols.rtmp.url import parse_url

KEYED = "rtmps://me:hunter22@a.example:443/app/live-9f8e7d6c5b4a?token=s3cr3t-token&x=1"


def secrets(target: str) -> tuple[str, ...]:
    url = parse_url(target)
    return target_secrets(target, url.name, url.app)


@pytest.mark.parametrize(
    "said",
    [
        "publish live-9f8e7d6c5b4a?token=s3cr3t-token&x=1 denied",
        "publish live-9f8e7d6c5b4a denied",
        "bad token s3cr3t-token",
        "user me, password hunter22",
        "unknown key live-9f8e7d6c...",
        "unknown key 'live-9f8e7d6c'",
        "unknown key (9f8e7d6c5b4a)",
        "see rtmps://a.example/app/live-9f8e7d6c5b4a",
        "live%2D9f8e7d6c5b4a",
    ],
)
def test_no_part_of_a_key_is_shown(said: str) -> None:
    hidden = redact_text(said, secrets(KEYED.replace("live-", "live-")) + secrets("rtmp://h/a/live%2D9f8e7d6c5b4a"))
    for part in ("9f8e7d6c", "s3cr3t", "hunter22"):
        assert part not in hidden, hidden
    assert "***" in hidden


def test_messages_of_the_server_stay_readable() -> None:
    text = "NetStream.Publish.BadName: the stream is already being published"
    assert redact_text(text, secrets(KEYED)) == text


def test_a_redacted_text_is_one_line_of_bounded_length() -> None:
    told = redact_text("a\r\nb\x1b[31m\u2028" + "c " * 5000, ())
    assert told.isprintable() and len(told) <= 200


@given(st.text(alphabet="abcdef0123456789-_", min_size=8, max_size=64), st.text(max_size=100), st.text(max_size=100))
def test_a_key_in_any_text_is_hidden(key: str, before: str, behind: str) -> None:
    target = f"rtmp://a.example/app/{key}"
    assert key not in redact_text(f"{before}{key}{behind}", secrets(target))
    assert key not in relay_urls.masked([target])[0]


@given(st.text(alphabet="abcdef0123456789-_", min_size=12, max_size=64), st.integers(8, 63))
def test_a_truncated_key_is_hidden_too(key: str, length: int) -> None:
    piece = key[:length]
    assert piece not in redact_text(f"no stream {piece} here", secrets(f"rtmp://a.example/app/{key}"))
