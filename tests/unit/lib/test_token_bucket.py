"""A rate limit with an average and a burst."""

from gateway.lib.token_bucket import AddressBuckets, TokenBucket


def test_after_a_burst_the_average_rate_is_allowed() -> None:
    rate = TokenBucket(per_second=10, burst=5)
    assert [rate.take(1, 100.0) for _ in range(6)] == [True] * 5 + [False]
    assert [rate.take(1, 100.25) for _ in range(3)] == [True, True, False]


def test_unused_tokens_never_exceed_the_burst() -> None:
    rate = TokenBucket(per_second=10, burst=5)
    assert rate.take(5, 0.0)
    assert not rate.take(6, 1000.0)
    assert rate.take(5, 1000.0)


def test_a_refused_request_takes_no_tokens() -> None:
    rate = TokenBucket(per_second=1, burst=3)
    assert not rate.take(4, 0.0)
    assert rate.take(3, 0.0)


def test_each_network_has_its_own_bucket_in_bounded_memory() -> None:
    rates = AddressBuckets(per_second=1, burst=2, max_addresses=2)
    addresses = ("192.0.2.1", "2001:db8::1", "192.0.2.1", "2001:db8::ffff", "192.0.2.1", "2001:db8::2")
    assert [rates.take(address, 0.0) for address in addresses] == [True, True, True, True, False, False]
    assert rates.take("192.0.2.2", 0.0)  # pushes out the network that asked least recently
    assert not rates.take("2001:db8::1", 0.0)
    assert rates.take("192.0.2.1", 0.0)
