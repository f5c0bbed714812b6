"""Refused attempts by client address."""

from gateway.lib.refusals import Refusals


def test_an_address_waits_until_its_oldest_attempt_is_a_minute_old():
    refusals = Refusals(3)
    for at in (0, 10, 20):
        assert refusals.wait("192.0.2.1", at) == 0
        refusals.add("192.0.2.1", at)
    assert refusals.wait("192.0.2.1", 30) == 30
    assert refusals.wait("192.0.2.2", 30) == 0
    assert refusals.wait("192.0.2.1", 60) == 0


def test_an_address_without_attempts_for_a_minute_is_forgotten():
    refusals = Refusals(1)
    refusals.add("192.0.2.1", 0)
    assert refusals.wait("192.0.2.1", 59.5) == 1
    assert refusals.wait("192.0.2.1", 60) == 0
    assert len(refusals) == 0


def test_ipv6_addresses_count_by_network_and_mapped_ipv4_as_ipv4():
    refusals = Refusals(1)
    refusals.add("2001:db8::1", 0)
    assert refusals.wait("2001:db8::ffff", 1) > 0
    assert refusals.wait("2001:db8:0:1::1", 1) == 0
    refusals.add("::ffff:192.0.2.1", 0)
    assert refusals.wait("192.0.2.1", 1) > 0
    refusals.add("fe80::1%eth0", 0)
    assert refusals.wait("fe80::1", 1) > 0


def test_zero_means_no_limit():
    refusals = Refusals(0)
    for _ in range(100):
        refusals.add("192.0.2.1", 0)
    assert refusals.wait("192.0.2.1", 0) == 0


def test_the_number_of_remembered_addresses_is_bounded():
    refusals = Refusals(5, max_addresses=100)
    for n in range(10_000):
        refusals.add(f"10.0.{n // 256}.{n % 256}", 0)
    refusals.add("not an address", 0)
    assert len(refusals) == 100


def test_attempts_during_the_wait_do_not_extend_it():
    refusals = Refusals(2)
    assert [refusals.add("192.0.2.1", at) for at in range(0, 60, 10)] == [0, 0, 40, 30, 20, 10]
    assert refusals.add("192.0.2.1", 60) == 0


def test_attempts_of_the_last_minute_are_counted():
    refusals = Refusals(5)
    for at in (0, 10, 20):
        refusals.add("192.0.2.1", at)
    assert refusals.count("192.0.2.1", 20) == 3
    assert refusals.count("192.0.2.1", 60) == 2
    assert refusals.count("192.0.2.1", 80) == 0
    assert refusals.count("192.0.2.2", 0) == 0
