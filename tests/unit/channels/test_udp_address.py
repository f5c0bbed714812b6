"""Addresses of pulls over UDP and RTP."""

from __future__ import annotations

import pytest

from gateway.channels.udp_address import UdpAddress, parse_udp_address


def parsed(url: str) -> tuple[bool, str, int, str | None]:
    found: UdpAddress = parse_udp_address(url)
    return found.is_rtp, str(found.address), found.port, None if found.source is None else str(found.source)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("udp://239.1.2.3:5000", (False, "239.1.2.3", 5000, None)),
        ("udp://@239.1.2.3:5000", (False, "239.1.2.3", 5000, None)),
        ("RTP://10.0.0.1:1024/", (True, "10.0.0.1", 1024, None)),
        ("udp://10.0.0.9@232.1.2.3:5000", (False, "232.1.2.3", 5000, "10.0.0.9")),
        ("rtp://[fd00::9]@[ff3e::1]:5004", (True, "ff3e::1", 5004, "fd00::9")),
        ("udp://@[::1]:65535", (False, "::1", 65535, None)),
    ],
)
def test_addresses_are_read(url: str, parts: tuple[bool, str, int, str | None]) -> None:
    assert parsed(url) == parts


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("udp://239.1.2.3", "port"),
        ("udp://239.1.2.3:53", "port"),
        ("udp://239.1.2.3:70000", "out of range"),
        ("udp://@:5000", "IP address"),
        ("udp://localhost:5000", "IP address"),
        ("udp://studio@239.1.2.3:5000", "IP address"),
        ("udp://239.9.9.9@239.1.2.3:5000", "sender"),
        ("udp://fd00::1@239.1.2.3:5000", "sender"),
        ("udp://239.1.2.3:5000?pkt_size=1316", "parameters"),
        ("udp://239.1.2.3:5000/live", "parameters"),
        ("http://239.1.2.3:5000", "expected"),
    ],
)
def test_other_addresses_are_refused_with_a_reason(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_udp_address(url)
