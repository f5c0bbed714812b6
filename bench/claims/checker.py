"""Judges a history of claims: did every stream have at most one holder, and was no promise broken?

The register. The registry has for each stream a register with compare-and-set. Its value is nothing, the claim of a
node, or a claim that was *left* for the next node. Two operations change it:

    claim(c, replaces=r)   stores c if the value is nothing, left, c itself, or r. Otherwise it is refused: "held".
    release(c)             stores nothing (or c, left) if the value is c. Otherwise it does nothing.

Linearizability (Herlihy and Wing, 1990) demands one order of all operations, which explains every answer and in which
an operation lies between its call and its answer. To find such an order is hard in general. Here, the database tells
it: a trigger writes each change of a row in the transaction of the change. The row is locked until the commit. So the
changes of one stream are numbered in the order in which the register took them, and the search is not needed. What
remains is to check this one order against the rules above, and against what the processes asked and were told.

When a change took effect. The trigger runs before the commit. The commit of change n lies between the time of the
trigger and the answer to its caller, and before the trigger of change n+1, which waits for the lock. An answer without
a result (an error, a killed process) says nothing: the operation may have happened, may happen later, or never.

Who holds a stream. A process holds a stream from the commit of its acknowledged claim until the first of: another claim
replaces this one by name; its own release is called, because then it has ended its stream; it is killed. It is not the
end of a holding that the row is gone: a row that a fail-over lost is still a holding of the process that was told "ok".
No two holdings of one stream by two claims may overlap. So a lost claim that another node takes again is found.

What may overlap. A process that stood still, or could not reach the database, does not know yet that its claim was
replaced. It serves its stream until its next verification. This is double *service* under one holder. It is not a
violation, but it should be short: `double_services` has its times. Time in which one of both stood still does not
count, because it served nobody then.

Violations:

    broken order            the value before a change is not the value after the change before it
    unasked change          no process called the operation that this change is
    stranger's release      a process released the claim of another process
    wrong replacement       a claim replaced a claim that it did not name
    refused but stored      a claim was refused, but changed the row
    lost claim              a claim was acknowledged, but is not among the changes in its time
    lost release            a release was acknowledged, but the claim stayed
    wrong refusal           a claim was refused by a claim that was not stored in that time
    stale read              a consistent read returned a claim that was not stored in that time
    two holders             see above
    service without claim   a process began a stream without a claim of its own
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from math import inf

from bench.claims.history import Call, Change, History, Read, Result, Row, Service, Stop

TOLERANCE = 0.05  # seconds between the clock of the database and that of the processes, which are on one machine


@dataclass(frozen=True, slots=True)
class Violation:
    kind: str
    stream: str
    time: float
    text: str

    def __str__(self) -> str:
        return f"{self.time:.3f} {self.stream}: {self.kind}: {self.text}"


@dataclass(frozen=True, slots=True)
class Takeover:
    """A claim that replaced the live claim of another process. holder: what that process did then."""

    stream: str
    time: float
    process: str
    of: str
    holder: str  # "killed", "stopped", "without the stream" or "alive"


@dataclass(frozen=True)
class Verdict:
    """What a history shows. double_services: seconds for which two processes served a stream."""

    violations: Sequence[Violation]
    takeovers: Sequence[Takeover]
    double_services: Sequence[tuple[str, float, float]]  # stream, begin, seconds
    changes: int
    calls: int


def check(history: History) -> Verdict:
    """Returns the verdict on all streams of a history. It depends on nothing else."""
    registers = [_Register(stream, history) for stream in _streams(history)]
    violations = [violation for register in registers for violation in register.violations()]
    return Verdict(
        sorted(violations, key=lambda one: one.time),
        [takeover for register in registers for takeover in register.takeovers()],
        [double for register in registers for double in register.double_services()],
        len(history.changes),
        len(history.calls),
    )


def _streams(history: History) -> list[str]:
    events = (*history.changes, *history.calls, *history.reads, *history.services)
    return sorted({event.stream for event in events})


@dataclass(slots=True)
class _Holding:
    """A time in which a process holds the stream by a claim."""

    claim: str
    process: str
    began: float
    ended: float = inf


@dataclass
class _Register:
    """The history of one stream."""

    stream: str
    history: History
    changes: list[Change] = field(init=False)
    calls: list[Call] = field(init=False)
    reads: list[Read] = field(init=False)
    services: list[Service] = field(init=False)

    def __post_init__(self) -> None:
        self.changes = sorted(self._own(self.history.changes), key=lambda change: change.number)
        self.calls = sorted(self._own(self.history.calls), key=lambda call: call.began)
        self.reads = self._own(self.history.reads)
        self.services = sorted(self._own(self.history.services), key=lambda service: service.began)
        self._by_claim: dict[str, list[Call]] = {}
        for call in self.calls:
            self._by_claim.setdefault(call.claim, []).append(call)
        self._owner = {call.claim: call.process for call in self.calls if call.kind == "claim"}
        self._latest = [self._latest_commit(index) for index in range(len(self.changes))]
        # Latest commits rise with the numbers, because a change waits for the commit of the one before it.
        self._windows = [*self._value_windows()]

    def _own(self, events: Sequence[object]) -> list:  # type: ignore[type-arg]
        return [event for event in events if event.stream == self.stream]  # type: ignore[attr-defined]

    def violations(self) -> Iterator[Violation]:
        yield from self._broken_order()
        for change in self.changes:
            yield from self._judge_change(change)
        for call in self.calls:
            yield from self._judge_call(call)
        for read in self.reads:
            if not self._was_stored(read.claim, read.began, read.ended):
                text = f"{read.process} read {read.claim or 'nothing'}"
                yield Violation("stale read", self.stream, read.ended, text)
        yield from self._two_holders()
        yield from self._services_without_claim()

    # ---- the order of the changes ----

    def _broken_order(self) -> Iterator[Violation]:
        first = self.changes[:1]
        if first and first[0].before is not None:
            yield Violation("broken order", self.stream, first[0].time, f"it began with {first[0].before}")
        for earlier, later in pairwise(self.changes):
            if later.before != earlier.after:
                text = f"change {later.number} found {later.before}, but {earlier.number} left {earlier.after}"
                yield Violation("broken order", self.stream, later.time, text)

    def _judge_change(self, change: Change) -> Iterator[Violation]:
        before, after = change.before, change.after
        if before is not None and before.left and after is None:
            return  # a row that was left has expired: any process deletes it
        if after is None or (after.left and before is not None):
            yield from self._judge_release(change, before)
        else:
            yield from self._judge_claim(change, before, after)

    def _judge_release(self, change: Change, before: Row | None) -> Iterator[Violation]:
        claim = before.claim if before is not None else ""
        asked = self._asked(change, "release", claim)
        if change.after is not None and change.after.claim != claim:
            yield self._of(change, "wrong replacement", f"a release of {claim} stored {change.after.claim}")
        if change.process and change.process != self._owner.get(claim, change.process):
            yield self._of(change, "stranger's release", f"{change.process} released {claim} of {self._owner[claim]}")
        elif not any(call.process == change.process or not change.process for call in asked):
            yield self._of(change, "unasked change", f"nobody asked to release {claim}")

    def _judge_claim(self, change: Change, before: Row | None, after: Row) -> Iterator[Violation]:
        asked = [call for call in self._asked(change, "claim", after.claim) if call.node == after.node]
        if not asked:
            yield self._of(change, "unasked change", f"{after.node} did not ask for {after.claim}")
            return
        if all(call.result is Result.HELD for call in asked):
            yield self._of(change, "refused but stored", f"{after.claim} was refused to {after.node}")
        if before is None or before.left or before.claim == after.claim:
            return
        if all(call.replaces != before.claim for call in asked):
            yield self._of(change, "wrong replacement", f"{after.claim} replaced {before.claim} without its name")

    def _asked(self, change: Change, kind: str, claim: str) -> list[Call]:
        """Returns the calls that can have made a change."""
        return [
            call
            for call in self._by_claim.get(claim, ())
            if call.kind == kind
            and call.began <= change.time + TOLERANCE
            and (call.result is Result.UNKNOWN or change.time <= call.ended + TOLERANCE)
        ]

    def _of(self, change: Change, kind: str, text: str) -> Violation:
        return Violation(kind, self.stream, change.time, text)

    # ---- the answers ----

    def _judge_call(self, call: Call) -> Iterator[Violation]:
        at = (self.stream, call.ended)
        if call.result is Result.HELD and not self._was_stored(call.found, call.began, call.ended):
            yield Violation(
                "wrong refusal", *at, f"{call.process} was refused {call.claim} by {call.found or 'nothing'}"
            )
        if call.result is not Result.OK:
            return
        if call.kind == "claim" and self._stored_by(call) is None:
            yield Violation("lost claim", *at, f"{call.process} was told that it has {call.claim}")
        if call.kind == "release" and not self._was_free_of(call.claim, call.began, call.ended):
            yield Violation("lost release", *at, f"{call.process} was told that {call.claim} is released")

    def _stored_by(self, call: Call) -> Change | None:
        """Returns the change that an acknowledged claim made."""
        for change in self.changes:
            if (
                change.after is not None
                and change.after.claim == call.claim
                and not change.after.left
                and change.process in ("", call.process)
                and call.began - TOLERANCE <= change.time <= call.ended + TOLERANCE
            ):
                return change
        return None

    def _latest_commit(self, index: int) -> float:
        """Returns the latest time at which a change was committed."""
        change = self.changes[index]
        is_claim = change.after is not None and not change.after.left
        claim = change.after.claim if is_claim and change.after else change.before.claim if change.before else ""
        asked = self._asked(change, "claim" if is_claim else "release", claim)
        told = [call.ended for call in asked if call.result is Result.OK]
        following = self.changes[index + 1].time if index + 1 < len(self.changes) else inf
        return min([following, max(told)] if told else [following])

    def _value_windows(self) -> Iterator[tuple[float, float, Row | None]]:
        """Yields each value of the register, with the earliest and the latest time at which it can have been read."""
        value: Row | None = None
        begin = -inf
        for change, latest in zip(self.changes, self._latest, strict=True):
            yield begin - TOLERANCE, latest + TOLERANCE, value
            begin, value = change.time, change.after
        yield begin - TOLERANCE, inf, value

    def _values(self, began: float, ended: float) -> Iterator[Row | None]:
        """Yields the values that the register can have had in a time."""
        first = bisect.bisect_left(self._windows, began, key=lambda window: window[1])
        for begin, end, value in self._windows[max(0, first - 1) :]:
            if begin > ended:
                return
            if end >= began:
                yield value

    def _was_stored(self, claim: str, began: float, ended: float) -> bool:
        return any((value.claim if value is not None else "") == claim for value in self._values(began, ended))

    def _was_free_of(self, claim: str, began: float, ended: float) -> bool:
        values = self._values(began, ended)
        return any(value is None or value.left or value.claim != claim for value in values)

    # ---- holders ----

    def _holdings(self) -> list[_Holding]:
        """Returns the holdings by acknowledged claims."""
        found: list[_Holding] = []
        for call in self.calls:
            if call.kind == "claim" and call.result is Result.OK:
                stored = self._stored_by(call)
                began = stored.time if stored is not None else call.ended
                found.append(_Holding(call.claim, call.process, began, self._end_of(call, stored, began)))
        return found

    def _end_of(self, call: Call, stored: Change | None, began: float) -> float:
        ends = [stop.began for stop in self._stops(call.process) if stop.killed]
        ends += [one.began for one in self._by_claim[call.claim] if one.kind == "release" and one.began >= call.began]
        number = stored.number if stored is not None else -1
        for change in self.changes:
            is_later = change.number > number if stored is not None else change.time >= began
            if is_later and change.before is not None and change.before.claim == call.claim and _replaces(change):
                ends.append(change.time)
                break
        return min(ends, default=inf)

    def _two_holders(self) -> Iterator[Violation]:
        holdings = sorted(self._holdings(), key=lambda one: one.began)
        for index, holding in enumerate(holdings):
            for other in holdings[:index]:
                if other.claim != holding.claim and other.ended > holding.began + TOLERANCE:
                    text = f"{other.process} by {other.claim}, and {holding.process} by {holding.claim}"
                    yield Violation("two holders", self.stream, holding.began, text)

    def _services_without_claim(self) -> Iterator[Violation]:
        for service in self.services:
            if not any(self._allows(call, service) for call in self.calls):
                text = f"{service.process} began the stream"
                yield Violation("service without claim", self.stream, service.began, text)

    def _allows(self, call: Call, service: Service) -> bool:
        if (call.kind, call.result, call.process) != ("claim", Result.OK, service.process):
            return False
        released = [one.began for one in self._by_claim[call.claim] if one.kind == "release"]
        return call.ended <= service.began + TOLERANCE and min(released, default=inf) >= service.began

    # ---- figures ----

    def takeovers(self) -> Iterator[Takeover]:
        for change in self.changes:
            before, after = change.before, change.after
            if before is None or after is None or before.left or before.claim == after.claim:
                continue
            of, process = self._owner.get(before.claim, ""), self._owner.get(after.claim, "")
            if of != process:
                yield Takeover(self.stream, change.time, process, of, self._state_of(of, change.time))

    def _state_of(self, process: str, time: float) -> str:
        for stop in self._stops(process):
            if stop.killed and stop.began <= time + TOLERANCE:
                return "killed"
            if stop.began <= time <= stop.ended + 1:
                return "stopped"
        has_stream = any(one.process == process and one.began <= time <= one.ended for one in self.services)
        return "alive" if has_stream else "without the stream"

    def double_services(self) -> Iterator[tuple[str, float, float]]:
        for one, other in combinations(self.services, 2):
            if one.process == other.process:
                continue
            began, ended = max(one.began, other.began), min(one.ended, other.ended)
            if began < ended:
                stops = [*self._stops(one.process), *self._stops(other.process)]
                seconds = ended - began - _covered(began, ended, stops)
                if seconds > TOLERANCE:
                    yield self.stream, began, seconds

    def _stops(self, process: str) -> list[Stop]:
        return [stop for stop in self.history.stops if stop.process == process]


def _replaces(change: Change) -> bool:
    """Whether a change stored another claim in place of the one before."""
    before, after = change.before, change.after
    return before is not None and after is not None and not after.left and before.claim != after.claim


def _covered(began: float, ended: float, stops: Sequence[Stop]) -> float:
    """Returns the seconds of a time in which a process stood still."""
    covered, at = 0.0, began
    for stop in sorted(stops, key=lambda one: one.began):
        begin, end = max(at, stop.began), min(ended, stop.ended)
        if begin < end:
            covered, at = covered + end - begin, end
    return covered
