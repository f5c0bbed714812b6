"""A node's look-ups: the policy of the gateway's Locator, for the simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tools.capacity.agenda import Agenda
from tools.capacity.policy import Policy
from tools.capacity.registry import Held, Registry


class Trouble(Enum):
    AWAY = "the registry does not answer"
    TOO_MANY = "too many streams are looked for"


Answer = Held | Trouble | None
Told = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class _Known:
    held: Held | None
    at: float


@dataclass(slots=True)
class _Doubt:
    times: int
    at: float


class Reader:
    """Look-ups of one moment are one request, answers are kept; a holder that failed twice is left alone for a pause.

    others: names a second that are looked up besides, which take their share of the bound.
    """

    def __init__(self, agenda: Agenda, registry: Registry, policy: Policy, latency: float) -> None:
        self._agenda = agenda
        self._registry = registry
        self._policy = policy
        self._latency = latency
        self._known: dict[int, _Known] = {}
        self._asking: dict[int, list[Told]] = {}
        self._doubts: dict[int, _Doubt] = {}
        self._busy = False
        self._allowance = policy.names_per_second
        self._allowed_at = agenda.now
        self.others = 0.0

    def find(self, stream: int, told: Told) -> None:
        """Calls `told` with the answer, at once where it is known."""
        known = self._known.get(stream)
        if known is not None and self._fresh(known):
            told(self._trusted(known.held))
            return
        waiting = self._asking.get(stream)
        if waiting is None:
            if not self._spend():
                told(Trouble.TOO_MANY)
                return
            waiting = self._asking[stream] = []
            if not self._busy:
                self._busy = True
                self._agenda.after(self._policy.gather, self._ask)
        waiting.append(told)

    def lost(self, stream: int, held: Held) -> None:
        """It was not there, or did not answer."""
        known = self._known.get(stream)
        if known is not None and known.held == held:
            del self._known[stream]
        now = self._agenda.now
        doubt = self._doubts.get(held.claim)
        if doubt is None or now - doubt.at > 2 * self._policy.doubt:
            doubt = self._doubts[held.claim] = _Doubt(0, now)
        doubt.times += 1
        doubt.at = now

    def _fresh(self, known: _Known) -> bool:
        return self._agenda.now - known.at < (self._policy.absent if known.held is None else self._policy.keep)

    def _trusted(self, held: Held | None) -> Held | None:
        if held is None:
            return None
        doubt = self._doubts.get(held.claim)
        if doubt is not None and doubt.times > 1 and self._agenda.now - doubt.at < self._policy.doubt:
            return None
        return held

    def _spend(self) -> bool:
        bound = self._policy.names_per_second
        since = self._agenda.now - self._allowed_at
        self._allowance = min(bound, self._allowance + since * max(0.0, bound - self.others))
        self._allowed_at = self._agenda.now
        if self._allowance < 1 or len(self._asking) >= self._policy.most_waiting:
            return False
        self._allowance -= 1
        return True

    def _ask(self) -> None:
        names = list(self._asking)[: self._policy.batch]
        asked = {name: self._asking.pop(name) for name in names}
        found = None if self._registry.away else self._registry.find(names)
        self._agenda.after(self._latency, lambda: self._answered(asked, found))

    def _answered(self, asked: dict[int, list[Told]], found: dict[int, Held] | None) -> None:
        for name, waiting in asked.items():
            answer: Answer
            if found is None:
                old = self._known.get(name)
                answer = Trouble.AWAY if old is None or old.held is None else self._trusted(old.held)
            else:
                held = found.get(name)
                self._known[name] = _Known(held, self._agenda.now)
                answer = self._trusted(held)
            for told in waiting:
                told(answer)
        self._busy = bool(self._asking)
        if self._busy:
            self._agenda.after(self._policy.gather, self._ask)
