"""Pending connections: limits by address and in total, and the memory that they hold."""

from __future__ import annotations

import pytest

from gateway.listeners.pending_connections import PendingConnection, PendingConnections


class _Peer:
    """A connection that can be dropped."""

    def __init__(self, pending: PendingConnections, address: str, cost: int = 10, *, exempt: bool = False) -> None:
        self.dropped = False
        entered = pending.enter(address, cost, self.drop, exempt=exempt)
        self.let_in = entered is not None
        self.entry: PendingConnection = entered  # type: ignore[assignment]

    def drop(self) -> None:
        self.dropped = True
        self.entry.leave()  # as a connection that is lost


def test_an_address_with_too_many_active_connections_is_refused() -> None:
    pending = PendingConnections(per_address=2)
    peers = [_Peer(pending, "192.0.2.1") for _ in range(2)]
    for peer in peers:
        peer.entry.hold(0)
    assert not _Peer(pending, "192.0.2.1").let_in
    assert _Peer(pending, "192.0.2.2").let_in
    assert pending.refused == {"address": 1}
    peers[0].entry.leave()
    peers[0].entry.leave()
    assert _Peer(pending, "192.0.2.1").let_in


def test_the_oldest_silent_connection_of_the_address_is_closed_for_a_new_one() -> None:
    pending = PendingConnections(per_address=3)
    elsewhere = _Peer(pending, "192.0.2.9")
    spoke, oldest, silent = (_Peer(pending, "192.0.2.1") for _ in range(3))
    spoke.entry.hold(0)
    assert _Peer(pending, "192.0.2.1").let_in
    assert [p.dropped for p in (elsewhere, spoke, oldest, silent)] == [False, False, True, False]
    assert len(pending) == 4


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_ipv6_addresses_count_by_their_64_bit_network(one: str, other: str, same: bool) -> None:
    pending = PendingConnections(per_address=1)
    _Peer(pending, one).entry.hold(0)
    assert _Peer(pending, other).let_in is not same


def test_a_trusted_proxy_has_no_limit_but_its_clients_have() -> None:
    pending = PendingConnections(per_address=1)
    peers = [_Peer(pending, "10.0.0.1", exempt=True) for _ in range(3)]
    assert all(peer.let_in for peer in peers)
    assert peers[0].entry.move("192.0.2.1")
    assert not peers[1].entry.move("192.0.2.1")
    assert peers[2].entry.move("192.0.2.2")
    peers[0].entry.leave()
    assert peers[1].entry.move("192.0.2.1")
    for peer in peers:
        peer.entry.leave()
    assert len(pending) == 0 and pending.bytes == 0


def test_silent_connections_of_a_proxy_are_not_closed_for_its_address() -> None:
    pending = PendingConnections(per_address=1)
    _Peer(pending, "10.0.0.1").entry.hold(0)
    proxy = [_Peer(pending, "10.0.0.1", exempt=True) for _ in range(3)]
    assert not _Peer(pending, "10.0.0.1").let_in
    assert not any(peer.dropped for peer in proxy)
    for peer in proxy:
        peer.entry.leave()
    assert len(pending) == 1


def test_the_oldest_connection_is_closed_when_the_memory_limit_is_reached() -> None:
    pending = PendingConnections(max_bytes=100)
    peers = [_Peer(pending, f"192.0.2.{n}", cost=30) for n in range(3)]
    peers[0].entry.hold(5)
    late = _Peer(pending, "192.0.2.9", cost=30)
    assert late.let_in
    assert [p.dropped for p in peers] == [True, False, False]
    assert pending.bytes == 90 and pending.refused == {"full": 1}


def test_the_largest_connection_is_closed_when_held_bytes_exceed_the_limit() -> None:
    pending = PendingConnections(max_bytes=100)
    large, small, asking = (_Peer(pending, f"192.0.2.{n}") for n in range(3))
    large.entry.hold(50)
    small.entry.hold(10)
    asking.entry.hold(20)
    assert [p.dropped for p in (large, small, asking)] == [True, False, False]
    assert pending.bytes == 50 and pending.refused == {"memory": 1}
    large.entry.hold(50)  # bytes that were on their way
    assert pending.bytes == 50


def test_a_connection_that_exceeds_the_memory_limit_alone_is_closed() -> None:
    pending = PendingConnections(max_bytes=100)
    peer = _Peer(pending, "192.0.2.1")
    peer.entry.hold(95)
    assert peer.dropped
    assert pending.bytes == 0


def test_pending_connections_have_metrics() -> None:
    pending = PendingConnections(per_address=1)
    _Peer(pending, "192.0.2.1", cost=30).entry.hold(7)
    _Peer(pending, "192.0.2.1")
    assert [(s.metric.name, s.value, s.labels) for s in pending.samples()] == [
        ("millrace_pending_connections", 1, ()),
        ("millrace_pending_bytes", 37, ()),
        ("millrace_pending_refused_total", 1, ("address",)),
    ]
