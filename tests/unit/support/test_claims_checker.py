"""The checker of claims (`bench/claims/checker.py`): it accepts right histories, and finds each kind of wrong one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.claims.checker import check
from bench.claims.history import Call, Change, History, Read, Result, Row, Service, Stop, load, of_witness, save
from tests.support.examples import examples

STREAM = "foyer"


@dataclass
class Recorder:
    """Makes a history by hand. Each change takes effect at the next second."""

    now: float = 0.0
    row: Row | None = None
    changes: list[Change] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)

    def change(self, process: str, after: Row | None) -> None:
        """Stores a row. `process`: who did it."""
        self.now += 1
        self.changes.append(Change(len(self.changes) + 1, self.now, STREAM, self.row, after, process))
        self.row = after

    def call(self, process: str, kind: str, claim: str, result: Result = Result.OK, **more: Any) -> None:
        """Records a call around the present moment."""
        times = (self.now - 0.4, self.now + 0.4)
        self.calls.append(Call(process, node_of(process), kind, STREAM, claim, *times, result, **more))

    def claim(self, process: str, claim: str, replaces: str = "", result: Result = Result.OK) -> None:
        self.change(process, Row(claim, node_of(process)))
        self.call(process, "claim", claim, result, replaces=replaces)

    def release(self, process: str, claim: str, *, left: bool = False) -> None:
        row = self.row
        self.change(process, replace(row, left=True) if left and row is not None else None)
        self.call(process, "release", claim, left=left)

    def serve(self, process: str, began: float, ended: float) -> None:
        self.services.append(Service(process, STREAM, began, ended, "publisher_gone"))

    @property
    def history(self) -> History:
        return History(self.changes, self.calls, self.reads, self.services, self.stops, self.now + 1)


def node_of(process: str) -> str:
    return f"node of {process}"


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def kinds(recorder: Recorder) -> list[str]:
    return [violation.kind for violation in check(recorder.history).violations]


# ---- right histories ----


def test_claim_take_over_and_release_are_right(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.serve("a", 1.4, 2)
    recorder.claim("b", "2", replaces="1")
    recorder.serve("b", 2.4, 3)
    recorder.release("b", "2", left=True)
    recorder.claim("c", "3")
    assert kinds(recorder) == []


def test_a_claim_without_an_answer_may_have_happened(recorder: Recorder) -> None:
    recorder.claim("a", "1", result=Result.UNKNOWN)
    recorder.call("b", "claim", "2", Result.HELD, found="1")
    recorder.call("c", "claim", "3", Result.UNKNOWN)
    assert kinds(recorder) == []


def test_a_killed_holder_holds_nothing(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.stops.append(Stop("a", 1.5, float("inf"), killed=True))
    recorder.claim("b", "2", replaces="1")
    verdict = check(recorder.history)
    assert not verdict.violations
    assert [takeover.holder for takeover in verdict.takeovers] == ["killed"]


def test_a_row_that_was_left_may_be_deleted_by_any_process(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.release("a", "1", left=True)
    recorder.change("b", None)
    assert kinds(recorder) == []


def test_double_service_is_measured_without_the_time_in_which_one_stood_still(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.claim("b", "2", replaces="1")
    recorder.serve("a", 1.4, 9)
    recorder.serve("b", 2.4, 20)
    recorder.stops.append(Stop("a", 1.5, 6))
    verdict = check(recorder.history)
    assert not verdict.violations
    assert [(stream, began) for stream, began, _ in verdict.double_services] == [(STREAM, 2.4)]
    assert verdict.double_services[0][2] == pytest.approx(3.0)


# ---- wrong histories ----


def test_two_holders_after_a_lost_claim_are_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    del recorder.changes[:]  # a fail-over lost it
    recorder.row = None
    recorder.claim("b", "2")
    assert sorted(kinds(recorder)) == ["lost claim", "two holders"]


def test_two_holders_after_a_deleted_row_are_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.change("b", None)
    recorder.claim("b", "2")
    assert sorted(kinds(recorder)) == ["stranger's release", "two holders"]


def test_a_release_by_a_stranger_is_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.release("b", "1")
    assert kinds(recorder) == ["stranger's release"]


def test_a_release_that_nobody_asked_for_is_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.change("a", None)
    assert kinds(recorder) == ["unasked change"]


def test_a_claim_that_replaces_another_than_it_named_is_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.claim("b", "2", replaces="1")
    recorder.claim("c", "3", replaces="1")
    assert kinds(recorder) == ["wrong replacement"]


def test_a_lost_acknowledged_claim_is_found_also_if_it_is_written_again_later(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    del recorder.changes[:]
    recorder.row = None
    recorder.now = 30
    recorder.claim("a", "1", replaces="1")
    assert kinds(recorder) == ["lost claim"]


def test_a_claim_that_was_refused_and_stored_is_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.change("b", Row("2", node_of("b")))
    recorder.call("b", "claim", "2", Result.HELD, found="1", replaces="1")
    assert "refused but stored" in kinds(recorder)


def test_a_claim_of_another_node_is_not_the_one_that_was_asked(recorder: Recorder) -> None:
    recorder.change("a", Row("1", "node of somebody"))
    recorder.call("a", "claim", "1")
    assert kinds(recorder) == ["unasked change"]


def test_a_release_that_was_acknowledged_and_did_nothing_is_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.now = 5
    recorder.call("a", "release", "1")
    assert kinds(recorder) == ["lost release"]


def test_a_refusal_by_a_claim_that_is_not_stored_is_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.claim("b", "2", replaces="1")
    recorder.now = 9
    recorder.call("c", "claim", "3", Result.HELD, found="1")
    assert kinds(recorder) == ["wrong refusal"]


def test_a_stale_read_is_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.claim("b", "2", replaces="1")
    recorder.reads.append(Read("c", STREAM, "1", 1.8, 2.2))
    assert kinds(recorder) == []
    recorder.reads.append(Read("c", STREAM, "1", 5.0, 5.1))
    assert kinds(recorder) == ["stale read"]


def test_a_change_that_does_not_follow_from_the_one_before_is_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.row = None
    recorder.claim("b", "2")
    assert "broken order" in kinds(recorder)


def test_a_stream_without_a_claim_is_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.serve("b", 2, 3)
    assert kinds(recorder) == ["service without claim"]


def test_a_stream_that_begins_after_the_release_is_found(recorder: Recorder) -> None:
    recorder.claim("a", "1")
    recorder.release("a", "1")
    recorder.serve("a", 5, 6)
    assert kinds(recorder) == ["service without claim"]


# ---- generated histories ----


@dataclass
class Simulation:
    """A registry with compare-and-set, and nodes that use it by the rules; answers and processes get lost."""

    random: random.Random
    recorder: Recorder = field(default_factory=Recorder)
    held: dict[str, str] = field(default_factory=dict)  # the claim that each process was told that it has
    claims: int = 0
    started: int = 3
    running: list[str] = field(default_factory=lambda: ["p0", "p1", "p2"])

    def step(self) -> None:
        action = self.random.choice((self._claim, self._claim, self._release, self._kill, self._rewrite))
        self.recorder.now += self.random.uniform(1, 2)
        action(self.random.choice(self.running))

    def _claim(self, process: str) -> None:
        """With knowledge of the stored claim that may be old."""
        row, self.claims = self.recorder.row, self.claims + 1
        known = row.claim if row is not None and self.random.random() < 0.7 else self.random.choice(("", "old"))
        self._write(process, f"c{self.claims}", known)

    def _rewrite(self, process: str) -> None:
        if claim := self.held.get(process):
            self._write(process, claim, claim)

    def _write(self, process: str, claim: str, replaces: str) -> None:
        recorder, row = self.recorder, self.recorder.row
        if row is None or row.left or row.claim in (claim, replaces):
            is_answered = self.random.random() < 0.8
            recorder.claim(process, claim, replaces, Result.OK if is_answered else Result.UNKNOWN)
            if is_answered:
                self.held[process] = claim
        else:
            recorder.call(process, "claim", claim, Result.HELD, found=row.claim, replaces=replaces)
            if self.held.get(process) == claim:
                del self.held[process]

    def _release(self, process: str) -> None:
        claim, row = self.held.pop(process, ""), self.recorder.row
        if not claim:
            return
        if row is not None and row.claim == claim:
            self.recorder.release(process, claim, left=self.random.random() < 0.3)
        else:
            self.recorder.call(process, "release", claim)

    def _kill(self, process: str) -> None:
        self.held.pop(process, None)
        self.recorder.stops.append(Stop(process, self.recorder.now, float("inf"), killed=True))
        self.running.remove(process)
        self.running.append(f"p{self.started}")
        self.started += 1


def simulated(seed: int, steps: int) -> Simulation:
    simulation = Simulation(random.Random(seed))
    for _ in range(steps):
        simulation.step()
    return simulation


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
@settings(max_examples=examples(100, 300), deadline=None)
def test_histories_of_a_right_registry_are_right(seed: int, steps: int) -> None:
    recorder = simulated(seed, steps).recorder
    assert check(recorder.history).violations == []


@given(seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=examples(100, 300), deadline=None)
def test_a_change_that_is_missing_is_found_if_somebody_was_told_of_it(seed: int, data: st.DataObject) -> None:
    recorder = simulated(seed, 40).recorder
    told = {call.claim for call in recorder.calls if call.kind == "claim" and call.result is Result.OK}
    known = [index for index, one in enumerate(recorder.changes) if one.after is not None and one.after.claim in told]
    known = [index for index in known if recorder.changes[index].before != recorder.changes[index].after]
    if known:
        del recorder.changes[data.draw(st.sampled_from(known))]
        assert check(recorder.history).violations != []


# ---- files ----


def test_a_history_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    recorder = simulated(7, 50).recorder
    recorder.reads.append(Read("p1", STREAM, "", 1, 2))
    recorder.serve("p1", 1, 2)
    save(recorder.history, tmp_path / "history.jsonl")
    assert load(tmp_path / "history.jsonl") == recorder.history


def test_what_a_killed_process_had_asked_is_unknown_and_its_stream_ends_with_it() -> None:
    asked = {
        "what": "asked",
        "kind": "claim",
        "node": "n",
        "stream": STREAM,
        "claim": "1",
        "replaces": "",
        "left": False,
    }
    lines = [
        {"time": 1.0, "number": 1, **asked},
        {"time": 2.0, "what": "answered", "number": 1, "result": "ok", "found": ""},
        {"time": 2.1, "what": "began", "number": 2, "stream": STREAM},
        {"time": 3.0, "number": 3, **asked, "claim": "2"},
    ]
    calls, reads, services = of_witness("a.1", lines, 4.0)
    assert [(call.claim, call.result, call.ended) for call in calls] == [("1", "ok", 2.0), ("2", "unknown", 4.0)]
    assert (reads, services) == ([], [Service("a.1", STREAM, 2.1, 4.0)])
