"""Time-outs of tests are longer on slow machines."""

import os
import subprocess
import sys

import pytest

from tests.support import time_outs


def test_a_machine_that_needs_twice_as_long_gets_twice_the_time() -> None:
    usual = time_outs.factor(0.1)
    assert usual > 1 and time_outs.factor(0.2) == pytest.approx(2 * usual)


def test_a_fast_machine_shortens_no_time_out() -> None:
    assert time_outs.factor(0.0001) == 1


def test_no_machine_is_so_slow_that_a_fault_is_found_hours_later() -> None:
    assert time_outs.factor(1_000_000) == time_outs.factor(2_000_000) < 10


def test_the_processes_of_a_run_use_the_factor_of_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTS_SLOWNESS", "2.5")
    time_outs.measure()
    program = "from tests.support.time_outs import at_most; print(at_most(20))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=True)
    assert float(done.stdout) == 50


def test_a_run_measures_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESTS_SLOWNESS")
    assert time_outs.at_most(20) == 20
    time_outs.measure()
    assert time_outs.at_most(20) >= 20 and "TESTS_SLOWNESS" in os.environ
