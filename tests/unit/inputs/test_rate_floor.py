"""When an input counts as thin, and when no longer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.channels.inputs import Below
from gateway.inputs.rate_floor import RateFloor

TICK = 0.5


class Run:
    """A simulated input. rate: kbit/s at a time."""

    def __init__(self, kbps: int = 1_000, seconds: int = 5) -> None:
        self.floor = RateFloor(Below(kbps, seconds))
        self.now, self.bytes = 100.0, 0.0

    def send(self, seconds: float, rate: float | Callable[[float], float]) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.bytes += (rate(self.now) if callable(rate) else rate) * 125 * TICK
            self.floor.sample(self.now, round(self.bytes))

    def until(self, thin: bool, rate: float | Callable[[float], float]) -> float:
        """Sends until it is thin, or no longer. Returns the seconds."""
        began = self.now
        while (self.floor.thin_since is not None) != thin:
            self.send(TICK, rate)
            assert self.now - began < 60
        return self.now - began


@pytest.mark.parametrize("seconds", [1, 5, 20])
def test_it_is_thin_within_the_seconds_of_the_rule_and_returns_a_second_after_them(seconds: int) -> None:
    run = Run(seconds=seconds)
    run.send(60, 2_000)
    assert run.floor.thin_since is None
    assert run.until(True, 100) <= seconds + 0.5
    run.send(30, 100)
    assert run.floor.kbps == pytest.approx(100, rel=0.01)
    assert seconds <= run.until(False, 2_000) <= seconds + 1


def test_nothing_is_judged_before_the_seconds_of_the_rule() -> None:
    run = Run()
    run.send(5, 10)
    assert run.floor.thin_since is None
    run.send(1, 10)
    assert run.floor.thin_since is not None
    run.floor.begin()
    assert run.floor.thin_since is None


def test_a_burst_does_not_end_it() -> None:
    run = Run()
    run.send(20, 100)
    run.send(0.5, 20_000)
    run.send(12, 500)
    assert run.floor.thin_since is not None


def test_a_steady_rate_with_large_key_frames_ends_it_and_does_not_begin_it() -> None:
    def pictures(now: float) -> float:
        return 3_600 if now % 2 < TICK else 400  # 1,200 kbit/s with a key frame each two seconds

    run = Run()
    run.send(60, pictures)
    assert run.floor.thin_since is None
    run.send(10, 300)
    assert run.floor.thin_since is not None
    assert run.until(False, pictures) <= 5 + 2.5


def test_a_rate_around_the_limit_does_not_flap() -> None:
    run, changes = Run(), 0
    before = run.floor.thin_since
    for n in range(60):
        run.send(3, 1_100 if n % 2 else 850)
        changes += (run.floor.thin_since is None) != (before is None)
        before = run.floor.thin_since
    assert changes <= 1


def test_the_samples_are_bounded() -> None:
    run = Run(seconds=60)
    run.send(600, 500)
    assert len(run.floor._samples) <= 60 / TICK + 2
