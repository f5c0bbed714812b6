"""A limit of actions in a minute by address."""

from gateway.lib.address_counts import AddressCounts


def test_an_address_has_so_many_actions_in_a_minute() -> None:
    counts = AddressCounts(3)
    assert [counts.take("192.0.2.1", float(second)) for second in range(0, 60, 10)] == [True] * 3 + [False] * 3
    assert [counts.take("192.0.2.1", 60.0) for _ in range(4)] == [True] * 3 + [False]


def test_each_network_has_its_own_count_in_bounded_memory() -> None:
    counts = AddressCounts(2, max_addresses=2)
    addresses = ("192.0.2.1", "2001:db8::1", "192.0.2.1", "2001:db8::ffff", "192.0.2.1", "2001:db8::2")
    assert [counts.take(address, 0.0) for address in addresses] == [True, True, True, True, False, False]
    assert counts.take("192.0.2.2", 0.0)  # pushes out the network that asked least recently
    assert not counts.take("2001:db8::1", 0.0)
    assert counts.take("192.0.2.1", 0.0)
