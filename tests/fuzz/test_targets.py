"""Every target over its seeds, damaged seeds and random bytes: FUZZ_EXAMPLES of each (default 500)."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutator import mutated
from tests.fuzz.oracles import TooManySteps, peak_memory, steps
from tests.fuzz.targets import NAMES, Target
from tests.fuzz.targets import target as load

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "500"))

# Whatever is declared, a run takes no more than this and so many bytes for each of its input.
MEMORY, MEMORY_PER_BYTE = 6_000_000, 64
# Nor does it execute more lines than these. Targets that feed the same bytes in several ways count each of them.
STEPS, STEPS_PER_BYTE = 80_000, 600

target = cache(load)
each_target = pytest.mark.parametrize("name", NAMES)


@contextmanager
def shown(name: str, data: bytes) -> Iterator[None]:
    """Adds the bytes to a failure, in the form of test_regressions.py."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{name}: bytes.fromhex({data.hex()!r})")
        raise


def attempts(found: Target, count: int) -> Iterator[bytes]:
    """Yields the seeds, then damaged ones."""
    yield from found.seeds
    for number in range(count):
        yield mutated(found.seeds, found.name, number)


@each_target
def test_damaged_seeds_give_documented_results(name: str) -> None:
    found = target(name)
    for data in attempts(found, EXAMPLES):
        with shown(name, data):
            found.fuzz(data)


@each_target
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.binary(max_size=400))
def test_random_bytes_give_documented_results(name: str, data: bytes) -> None:
    with shown(name, data):
        target(name).fuzz(data)


@each_target
def test_memory_depends_on_received_bytes_and_not_on_declared_sizes(name: str) -> None:
    found = target(name)
    found.fuzz(found.seeds[0])  # what is cached for good
    tracemalloc.start()
    try:
        for data in attempts(found, EXAMPLES // 10):
            with shown(name, data):
                assert peak_memory(found.fuzz, data) <= MEMORY + MEMORY_PER_BYTE * len(data)
    finally:
        tracemalloc.stop()


@each_target
def test_work_grows_no_faster_than_the_input(name: str) -> None:
    found = target(name)
    for data in (*_long(found), *attempts(found, EXAMPLES // 20)):
        with shown(name, data):
            steps(found.fuzz, data, STEPS + STEPS_PER_BYTE * len(data))


def _long(found: Target) -> Iterator[bytes]:
    """Yields the longest seed and a short one, repeated to 6 kB, which shows quadratic work."""
    by_size = sorted(found.seeds, key=len)
    for seed in (by_size[-1], by_size[len(by_size) // 2]):
        if seed:
            yield (seed * (6000 // len(seed) + 1))[:6000]


def test_one_attempt_always_makes_the_same_bytes() -> None:
    found = target(NAMES[0])
    assert list(attempts(found, 50)) == list(attempts(found, 50))
    assert len(set(attempts(found, 50))) > 50


def test_a_run_with_too_many_steps_is_stopped() -> None:
    with pytest.raises(TooManySteps):
        steps(target("amf0").fuzz, b"\x05" * 5000, 1000)
