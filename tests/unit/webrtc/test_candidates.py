"""Candidate lines: form, priorities and bounds."""

from __future__ import annotations

import pytest

from gateway.webrtc.candidates import MAX_ADDRESSES, candidate_lines, usable_address


def test_each_address_has_a_udp_and_a_passive_tcp_candidate() -> None:
    assert candidate_lines(["192.0.2.1", "2001:db8::1"], 8189) == [
        "u0 1 udp 2130706431 192.0.2.1 8189 typ host",
        "u1 1 udp 2130706175 2001:db8::1 8189 typ host",
        "t0 1 tcp 1520435199 192.0.2.1 8189 typ host tcptype passive",
        "t1 1 tcp 1520434943 2001:db8::1 8189 typ host tcptype passive",
    ]


def test_priorities_fall_and_udp_is_before_tcp() -> None:
    lines = candidate_lines([f"192.0.2.{n}" for n in range(40)], 1)
    priorities = [int(line.split()[3]) for line in lines]
    assert len(lines) == 2 * MAX_ADDRESSES
    assert priorities == sorted(set(priorities), reverse=True)
    assert max(priorities) < 1 << 31


def test_equal_addresses_are_named_once() -> None:
    assert len(candidate_lines(["192.0.2.1", "192.0.2.1"], 1)) == 2


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"), ("[2001:db8::1]", "2001:db8::1"), ("::ffff:192.0.2.1", "192.0.2.1"),
        ("example.com", None), ("0.0.0.0", None), ("::", None), ("fe80::1", None), ("224.0.0.1", None), ("", None),
        ("192.0.2.1\r\na=x", None), ("127.0.0.1", "127.0.0.1"), ("2001:db8::1%eth0", "2001:db8::1"),
    ],
)  # fmt: skip
def test_only_addresses_that_clients_can_send_to_are_usable(text: str, address: str | None) -> None:
    assert usable_address(text) == address
