"""The agenda of a simulation: what happens when, in order; time passes only from one entry to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Act = Callable[[], None]


class Agenda:
    """`now`: seconds since the simulation's beginning. Entries of one moment happen in the order they were made."""

    def __init__(self) -> None:
        self.now = 0.0
        self._entries: list[tuple[float, int, Act]] = []
        self._made = 0

    def at(self, when: float, act: Act) -> None:
        """Has `act` called at `when`, at the earliest now."""
        self._made += 1
        heapq.heappush(self._entries, (max(when, self.now), self._made, act))

    def after(self, seconds: float, act: Act) -> None:
        self.at(self.now + seconds, act)

    def every(self, seconds: float, act: Callable[[], bool | None], first: float | None = None) -> None:
        """Has `act` called again and again until it returns False; first: seconds until the first time."""

        def again() -> None:
            if act() is not False:
                self.after(seconds, again)

        self.after(seconds if first is None else first, again)

    def run(self, until: float) -> None:
        """Lets time pass up to `until`; what stands later stays."""
        entries = self._entries
        while entries and entries[0][0] <= until:
            self.now, _, act = heapq.heappop(entries)
            act()
        self.now = until
