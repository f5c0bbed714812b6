"""LateUnits: late units of a new worker are left out, but never all sound."""

from __future__ import annotations

from gateway.outputs.browser.opus_sound import LATE_MS, LONGEST, LateUnits


def test_a_new_worker_begins_with_a_current_unit() -> None:
    late = LateUnits()
    backlog = [800 - 20 * n for n in range(41)]  # it makes them within a moment
    kept = [behind for n, behind in enumerate(backlog) if not late.is_late(1, behind, 5 + n / 1000)]
    assert kept == [behind for behind in backlog if behind <= LATE_MS]


def test_a_running_worker_loses_no_units() -> None:
    late = LateUnits()
    assert not late.is_late(1, 20, 5.0)
    assert not any(late.is_late(1, behind, 6.0) for behind in (20, 500, 5_000))


def test_each_later_worker_is_judged_separately() -> None:
    late = LateUnits()
    assert not late.is_late(1, 20, 5.0)
    assert late.is_late(2, 700, 6.0)
    assert not late.is_late(2, 30, 6.1)
    assert late.is_late(3, 700, 9.0)


def test_units_of_a_slow_worker_are_accepted_after_some_seconds() -> None:
    late = LateUnits()
    assert late.is_late(1, 3_000, 5.0)
    assert late.is_late(1, 3_000, 5.0 + LONGEST - 0.01)
    assert not late.is_late(1, 3_000, 5.0 + LONGEST)
    assert not late.is_late(1, 3_000, 5.1 + LONGEST)
