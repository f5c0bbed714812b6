"""A rate limit with an average and a burst."""

from gateway.lib.token_bucket import TokenBucket


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


def test_given_tokens_never_exceed_the_burst() -> None:
    rate = TokenBucket(per_second=1, burst=3)
    assert rate.take(3, 0.0)
    rate.give(2)
    assert rate.take(2, 0.0)
    rate.give(9)
    assert not rate.take(4, 0.0)
    assert rate.take(3, 0.0)
