"""Log lines that strangers can cause: so many a second, and what was left out is told."""

from gateway.lib.log_rate_limiter import LogRateLimiter


def test_lines_beyond_the_rate_are_left_out_and_told_with_the_next():
    now = [0.0]
    rate = LogRateLimiter(2, lambda: now[0])
    assert [rate.due() for _ in range(5)] == [{}, {}, None, None, None]
    now[0] = 0.9
    assert rate.due() is None
    now[0] = 1.0
    assert [rate.due() for _ in range(3)] == [{"left_out": 4}, {}, None]
