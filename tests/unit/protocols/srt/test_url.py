"""Addresses of peers."""

import pytest

from gateway.protocols.srt.url import SrtUrl, parse_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("srt://host:8890", SrtUrl("host", 8890)),
        ("srt://host:8890?streamid=publish:a?sign=1-b&latency=300", SrtUrl("host", 8890, "publish:a?sign=1-b", 300)),
        ("srt://h:1?streamid=#!::r=a,m=publish", SrtUrl("h", 1, "#!::r=a,m=publish")),
        ("srt://h:1?passphrase=0123456789&pbkeylen=32", SrtUrl("h", 1, passphrase="0123456789", key_size=32)),
        ("srt://[::1]:9/?mode=caller", SrtUrl("::1", 9)),
        ("srt://h:1?pkt_size=1316&transtype=live&streamid=a&timeout=5000000&tlpktdrop=1", SrtUrl("h", 1, "a")),
        ("srt://h:1?passphrase=0123456789&pbkeylen=0", SrtUrl("h", 1, passphrase="0123456789")),  # ffmpeg's default
    ],
)
def test_the_parts(text: str, expected: SrtUrl) -> None:
    assert parse_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "srt://host", "srt://host:1/path", "rtmp://host:1", "srt://host:1?x=1", "srt://host:1?latency=-1",
        "srt://host:1?latency=99999999", "srt://host:1?passphrase=short", "srt://host:1?pbkeylen=20",
        "srt://host:1?mode=listener", "srt://host:1?transtype=file", "srt://host:1?streamid=" + "x" * 513,
    ],
)  # fmt: skip
def test_other_addresses_are_refused_without_their_secrets(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        parse_url(text)
    assert "short" not in str(error.value)


def test_a_latency_in_the_microseconds_of_obs_is_refused_with_our_unit() -> None:
    with pytest.raises(ValueError, match="milliseconds"):
        parse_url("srt://host:1?latency=200000")
