"""Client addresses that count as one in limits."""

import pytest

from gateway.lib.network import client_network
from gateway.lib.quota import Quota


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:0db8:0:0:ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
        ("", ""),
    ],
)
def test_ipv6_addresses_count_by_network_and_ipv4_addresses_individually(address, counted):
    assert client_network(address) == counted


def test_addresses_of_one_ipv6_network_share_a_quota():
    quota = Quota(2)
    assert sum(quota.take(f"2001:db8::{n:x}") for n in range(1000)) == 2
    assert quota["2001:db8::ffff"] == 2
    assert quota.take("2001:db8:0:1::1")
    quota.give("2001:db8::77")
    assert quota.take("2001:db8::5")
    assert not quota.take("2001:db8::6")


def test_a_mapped_ipv4_address_shares_the_quota_of_the_ipv4_address():
    quota = Quota(1)
    assert quota.take("192.0.2.1")
    assert not quota.take("::ffff:192.0.2.1")
    quota.give("::ffff:192.0.2.1")
    assert quota["192.0.2.1"] == 0
