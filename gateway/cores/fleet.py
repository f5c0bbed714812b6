"""Fleet: what the master does when a worker is ready or gone, and when it is to reload or stop; no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

FIRST_PAUSE: Final = 0.1  # seconds before a worker that died is replaced …
LAST_PAUSE: Final = 10.0  # … doubled each time, up to this, while they die soon
_STEADY: Final = 10.0  # seconds after which a death is no sequel of the one before


class State(StrEnum):
    STARTING = "starting"  # the first worker alone, then the others
    RUNNING = "running"
    ROLLING = "rolling"  # one slot after the other gets a new worker
    STOPPING = "stopping"
    OVER = "over"


class Life(StrEnum):
    STARTING = "starting"
    SERVING = "serving"
    RETIRING = "retiring"


@dataclass(slots=True)
class Worker:
    """A process. number: of its slot; start: the how-manieth there; since: when it began, on the master's clock."""

    number: int
    start: int
    since: float
    life: Life = Life.STARTING


@dataclass(slots=True)
class _Slot:
    serving: Worker | None = None
    coming: Worker | None = None
    starts: int = 0
    quick: int = 0  # deaths in a row that came soon
    pausing: bool = False
    crashed: Worker | None = None  # the last that left rows and files behind


# ---- what is to be done ----


@dataclass(frozen=True, slots=True)
class Start:
    """A process for this worker. succeeds: that crashed in its slot."""

    worker: Worker
    succeeds: Worker | None


@dataclass(frozen=True, slots=True)
class Pause:
    """`Fleet.due(number)` after so many seconds."""

    number: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Retire:
    """The worker accepts no more and ends when its publishers have."""

    worker: Worker


@dataclass(frozen=True, slots=True)
class Stop:
    """The worker drains."""

    worker: Worker


@dataclass(frozen=True, slots=True)
class Opened:
    """All workers serve for the first time."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """Every slot has a new worker (`failed`: that slot's did not start, and the old ones go on)."""

    failed: int = 0


@dataclass(frozen=True, slots=True)
class Over:
    """The master ends with this exit code."""

    code: int


Action: TypeAlias = Start | Pause | Retire | Stop | Opened | Rolled | Over


@dataclass(slots=True)
class Fleet:
    """`count` slots, each with a worker that serves. Every method returns what is to be done now, in order.

    The first worker starts alone: what is made once in a data folder is made by it, and what is wrong with the
    configuration is said once. A worker that dies is replaced after a pause. A reload replaces one slot's worker after
    the other, each new one serving before the old one retires; a new one that does not get so far ends the reload.
    """

    count: int
    state: State = State.STARTING
    workers: list[Worker] = field(default_factory=list)  # all that live, also those that retire
    _slots: dict[int, _Slot] = field(default_factory=dict)
    _rolling: int = 0
    _asked: float = 0.0  # when the reload began that is under way
    _again: bool = False  # asked to reload while it was at it
    _code: int = 0

    def begin(self, now: float) -> list[Action]:
        self._slots = {number: _Slot() for number in range(1, self.count + 1)}
        return [self._start(1, now)]

    def ready(self, worker: Worker, now: float) -> list[Action]:
        """The worker serves."""
        if worker not in self.workers or worker.life is not Life.STARTING:
            return []
        slot = self._slots[worker.number]
        if self.state is State.STOPPING:
            return []  # it was told already
        before, slot.serving, slot.coming = slot.serving, worker, None
        worker.life = Life.SERVING
        actions: list[Action] = []
        if before is not None:
            before.life = Life.RETIRING
            actions.append(Retire(before))
        if self.state is State.STARTING:
            if worker.number == 1:
                actions += [self._start(number, now) for number in range(2, self.count + 1)]
            if all(slot.serving is not None for slot in self._slots.values()):
                self.state = State.RUNNING
                actions.append(Opened())
                actions += self._reload_again(now)
        elif self.state is State.ROLLING and worker.number == self._rolling:
            # One that replaces a dead one may have read the configuration as it was before.
            fresh = worker.since >= self._asked
            actions += self._next(now) if fresh else [self._start(worker.number, now)]
        return actions

    def gone(self, worker: Worker, status: int, now: float) -> list[Action]:
        """The process is over. status: its exit code, -n where signal n ended it."""
        if worker not in self.workers:
            return []
        self.workers.remove(worker)
        slot, life = self._slots[worker.number], worker.life
        if slot.serving is worker:
            slot.serving = None
        if slot.coming is worker:
            slot.coming = None
        if self.state is State.STOPPING:
            if status and not self._code:
                self._code = 1
            return self._over()
        if self.state is State.STARTING:
            self._code = status if status in (1, 2) else 1
            return self._stop()
        if life is Life.RETIRING:
            return []
        slot.crashed = worker
        if self.state is State.ROLLING and worker.number == self._rolling and life is Life.STARTING:
            self.state, self._rolling, self._again = State.RUNNING, 0, False
            return [Rolled(failed=worker.number), *self._replace(worker.number, worker, now)]
        return self._replace(worker.number, worker, now)

    def due(self, number: int, now: float) -> list[Action]:
        """A pause is over."""
        slot = self._slots[number]
        if not slot.pausing or self.state in (State.STOPPING, State.OVER):
            return []
        slot.pausing = False
        return [self._start(number, now)]

    def reload(self, now: float) -> list[Action]:
        """New workers everywhere. One at a time; asked once more meanwhile, it is done once more."""
        if self.state in (State.STARTING, State.ROLLING):
            self._again = True
            return []
        if self.state is not State.RUNNING:
            return []
        self.state, self._rolling, self._asked = State.ROLLING, 0, now
        return self._next(now)

    def stop(self) -> list[Action]:
        """All drain. Asked a second time, who calls ends them."""
        if self.state in (State.STOPPING, State.OVER):
            return []
        return self._stop()

    # ---- details ----

    def _start(self, number: int, now: float) -> Start:
        slot = self._slots[number]
        slot.starts += 1
        slot.pausing = False
        slot.coming = worker = Worker(number, slot.starts, now)
        succeeds, slot.crashed = slot.crashed, None
        self.workers.append(worker)
        return Start(worker, succeeds)

    def _replace(self, number: int, worker: Worker, now: float) -> list[Action]:
        slot = self._slots[number]
        if slot.serving is not None or slot.coming is not None or slot.pausing:
            return []
        slot.quick = slot.quick + 1 if now - worker.since < _STEADY else 0
        slot.pausing = True
        return [Pause(number, min(LAST_PAUSE, FIRST_PAUSE * 2.0 ** min(slot.quick, 30)))]

    def _next(self, now: float) -> list[Action]:
        """The reload goes on to the next slot."""
        self._rolling += 1
        if self._rolling > self.count:
            self.state, self._rolling = State.RUNNING, 0
            return [Rolled(), *self._reload_again(now)]
        slot = self._slots[self._rolling]
        if slot.coming is not None:
            return []  # its worker died a moment ago: first the one that replaces it
        return [self._start(self._rolling, now)]

    def _reload_again(self, now: float) -> list[Action]:
        again, self._again = self._again, False
        return self.reload(now) if again else []

    def _stop(self) -> list[Action]:
        self.state = State.STOPPING
        return [Stop(worker) for worker in self.workers] or self._over()

    def _over(self) -> list[Action]:
        if self.workers:
            return []
        self.state = State.OVER
        return [Over(self._code)]
