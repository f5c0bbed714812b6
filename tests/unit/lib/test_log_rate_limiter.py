"""Log lines that unknown clients can cause have a rate limit and a count of omitted lines."""

from gateway.lib.log_rate_limiter import LogRateLimiter


def test_lines_above_the_rate_are_omitted_and_counted_in_the_next_line():
    now = [0.0]
    rate = LogRateLimiter(2, lambda: now[0])
    assert [rate.admit() for _ in range(5)] == [{}, {}, None, None, None]
    now[0] = 0.9
    assert rate.admit() is None
    now[0] = 1.0
    assert [rate.admit() for _ in range(3)] == [{"left_out": 4}, {}, None]
