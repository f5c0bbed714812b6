"""How many clips of a channel are made in a minute, and how many seconds of them in an hour."""

from __future__ import annotations

from gateway.outputs.clips.clip_service import ClipQuota
from gateway.ports.errors import TooManyRequests


def refused(quota: ClipQuota, now: float, seconds: float = 1.0, channel: str = "c1") -> int:
    """The seconds to wait; 0: the clip was counted."""
    try:
        quota.take(channel, seconds, now)
    except TooManyRequests as error:
        return error.retry_after
    return 0


def test_the_clips_of_a_channel_per_minute_are_limited() -> None:
    quota = ClipQuota(3, 0)
    assert [refused(quota, now) for now in (0.0, 10.0, 20.0, 20.5, 59.9, 60.0, 61.0)] == [0, 0, 0, 40, 1, 0, 9]
    assert refused(quota, 20.5, channel="c2") == 0, "another channel"


def test_the_clip_seconds_of_a_channel_per_hour_are_limited() -> None:
    quota = ClipQuota(0, 100.0)
    assert [refused(quota, now, 40.0) for now in (0.0, 60.0, 120.0, 3599.0, 3600.0)] == [0, 0, 3480, 1, 0]


def test_a_single_clip_above_the_hourly_limit_is_possible() -> None:
    quota = ClipQuota(6, 100.0)
    assert [refused(quota, now, 600.0) for now in (0.0, 1.0, 3600.0)] == [0, 3599, 0]


def test_a_clip_that_was_not_made_does_not_count() -> None:
    quota = ClipQuota(1, 0)
    entry = quota.take("c1", 1.0, 0.0)
    quota.give_back("c1", entry)
    quota.give_back("c1", entry)
    assert refused(quota, 0.0) == 0
    assert refused(quota, 0.0) == 60


def test_the_channels_are_bounded() -> None:
    quota = ClipQuota(1, 0)
    for number in range(10_001):
        assert refused(quota, 0.0, channel=str(number)) == 0
    assert len(quota._clips) == 10_000
