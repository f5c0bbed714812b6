"""Findings of one judge: rules that are broken, each with its first examples, and notes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

MAX_EXAMPLES = 4


@dataclass
class Findings:
    """Collects from several threads. broken: examples by rule; counts: how often each rule was broken."""

    broken: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def breaks(self, rule: str, example: object = "") -> None:
        """Records that a rule is broken; keeps the first examples only."""
        with self._lock:
            self.counts[rule] = self.counts.get(rule, 0) + 1
            examples = self.broken.setdefault(rule, [])
            if len(examples) < MAX_EXAMPLES:
                examples.append(str(example))

    def require(self, condition: object, rule: str, example: object = "") -> None:
        """Records that a rule is broken unless the condition is true."""
        if not condition:
            self.breaks(rule, example)

    def note(self, name: str, value: object) -> None:
        """Records a figure that is worth reading but breaks no rule; the last value of a name stays."""
        with self._lock:
            self.notes[name] = str(value)

    def lines(self) -> list[str]:
        """One line for each broken rule."""
        return [
            f"{rule} ({self.counts[rule]}x): {'; '.join(filter(None, examples))}"
            for rule, examples in self.broken.items()
        ]
