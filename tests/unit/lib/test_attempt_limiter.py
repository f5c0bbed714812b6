"""The order of attempts at expensive work, and pauses after failures."""

import asyncio
import itertools

import pytest

from gateway.lib.attempt_limiter import (
    MAX_PER_ADDRESS,
    MAX_PER_FAILED_ADDRESS,
    MAX_WAITING,
    Attempt,
    AttemptLimiter,
    TooManyAttempts,
    attempt_pause,
)
from tests.support.clock import Clock


class Time(Clock):
    """A clock with timers. `pass_by` advances it and runs the due timers."""

    def __init__(self):
        super().__init__(1000.0)
        self.timers = []

    def time(self):
        return self.now

    def call_later(self, seconds, call):
        timer = _Timer(self.now + seconds, call)
        self.timers.append(timer)
        return timer

    async def pass_by(self, seconds):
        self.now += seconds
        for timer in [t for t in self.timers if t.at <= self.now and not t.cancelled]:
            timer.cancelled = True
            timer.call()
        await settle()


class _Timer:
    def __init__(self, at, call):
        self.at, self.call, self.cancelled = at, call, False

    def cancel(self):
        self.cancelled = True


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


class Lab:
    def __init__(self, at_once=1):
        self.time = Time()
        self.turns = AttemptLimiter(at_once, self.time)
        self.began, self.sent_away = [], []
        self.ends = {}

    async def _one(self, label, who):
        try:
            async with self.turns.turn(who):
                self.began.append(label)
                await self.ends[label].wait()
        except TooManyAttempts as no:
            self.sent_away.append((label, no.own_limit))

    async def ask(self, label, address="", failures=0, **pauses):
        self.ends[label] = asyncio.Event()
        task = asyncio.ensure_future(self._one(label, Attempt(address, failures, pauses)))
        await settle()
        return task

    async def end(self, label):
        self.ends[label].set()
        await settle()


async def test_the_number_of_concurrent_attempts_is_limited():
    lab = Lab(at_once=2)
    for label in "abc":
        await lab.ask(label)
    assert lab.began == ["a", "b"]
    await lab.end("a")
    assert lab.began == ["a", "b", "c"]


async def test_attempts_with_fewer_failures_run_first_then_the_newest():
    lab = Lab()
    await lab.ask("working")
    for label, failures in (("worse", 9), ("old", 1), ("new", 1), ("clean", 0)):
        await lab.ask(label, f"192.0.2.{failures}{len(label)}", failures)
    for _ in range(5):
        await lab.end(lab.began[-1])
    assert lab.began == ["working", "clean", "new", "old", "worse"]


async def test_too_many_attempts_of_an_address_displace_its_oldest():
    lab = Lab()
    await lab.ask("working")
    await lab.ask("other", "192.0.2.9", 1)
    for n in range(MAX_PER_FAILED_ADDRESS + 2):
        await lab.ask(n, f"2001:db8::{n}", 1)
    assert lab.sent_away == [(0, True), (1, True)]
    for n in range(MAX_PER_ADDRESS + 1):
        await lab.ask(f"clean {n}", "192.0.2.1")
    assert lab.sent_away[2:] == [("clean 0", True)]
    await lab.end("working")
    assert lab.began[-1] == f"clean {MAX_PER_ADDRESS}"


async def test_a_full_queue_drops_the_attempt_with_the_most_failures():
    lab = Lab()
    await lab.ask("working")
    for n in range(MAX_WAITING):
        await lab.ask(n, f"192.0.2.{n}", 1 + (n == 7))
    await lab.ask("worst", "198.51.100.1", 5)
    assert lab.sent_away == [("worst", False)]
    await lab.ask("clean", "198.51.100.2", 0)
    assert lab.sent_away[1:] == [(7, False)]
    await lab.end("working")
    assert lab.began[-1] == "clean"


async def test_a_pause_delays_only_attempts_with_the_same_key():
    lab = Lab()
    await lab.ask("first", eva=2.0)
    await lab.end("first")
    await lab.ask("second", eva=2.0)
    await lab.ask("another name", bob=0.0)
    assert lab.began == ["first", "another name"]
    await lab.end("another name")
    await lab.time.pass_by(1.0)
    assert lab.began[2:] == []
    await lab.time.pass_by(1.0)
    assert lab.began[2:] == ["second"]


async def test_a_cancelled_attempt_frees_its_place():
    lab = Lab()
    holding = await lab.ask("holding")
    waiting = await lab.ask("waiting")
    await lab.ask("last")
    waiting.cancel()
    holding.cancel()
    await settle()
    assert lab.began == ["holding", "last"]


async def test_an_attempt_cancelled_when_its_turn_starts_passes_the_turn_on():
    turns = AttemptLimiter()
    async with turns.turn(Attempt()):
        leaving = asyncio.ensure_future(turns._wait(Attempt()))
        await settle()
    leaving.cancel()  # its future has a result, its task has not run
    with pytest.raises(asyncio.CancelledError):
        await leaving
    async with turns.turn(Attempt()):
        pass


def test_the_pause_grows_with_failures_and_is_bounded():
    grown = [attempt_pause(n, 30) for n in range(13)]
    assert grown[0] == 0
    assert all(a < b for a, b in itertools.pairwise(grown[:11]))
    assert grown[10:] == [2.0] * 3
    assert attempt_pause(1, 1) == 5.0
    assert attempt_pause(99, 0) == 0
