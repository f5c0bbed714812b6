"""Decides what the master does when a worker is ready or has ended, and at a reload or stop. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

FIRST_PAUSE: Final = 0.1  # seconds before a dead worker is replaced …
LAST_PAUSE: Final = 10.0  # … doubled up to this after each early death in a row
_STEADY: Final = 10.0  # seconds; a death after a longer life is not an early death


class MasterState(StrEnum):
    STARTING = "starting"  # the first worker alone, then the others
    RUNNING = "running"
    ROLLING = "rolling"  # one slot after the other gets a new worker
    STOPPING = "stopping"
    OVER = "over"


class WorkerState(StrEnum):
    STARTING = "starting"
    SERVING = "serving"
    RETIRING = "retiring"


@dataclass(slots=True)
class WorkerInstance:
    """A worker process. number: of its slot. start: index of the start in this slot, from 1. since: start time."""

    number: int
    start: int
    since: float
    life: WorkerState = WorkerState.STARTING


@dataclass(slots=True)
class _Slot:
    serving: WorkerInstance | None = None
    coming: WorkerInstance | None = None
    starts: int = 0
    quick: int = 0  # early deaths in a row
    pausing: bool = False
    crashed: WorkerInstance | None = None  # the last worker that died and left registry rows and files behind


# ---- what is to be done ----


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a process for this worker. succeeds: the worker that crashed in its slot before."""

    worker: WorkerInstance
    succeeds: WorkerInstance | None


@dataclass(frozen=True, slots=True)
class RestartLater:
    """Call `RollingRestart.due(number)` after so many seconds."""

    number: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RetireWorker:
    """Tell the worker to accept no new connections and to end when its publishers have ended."""

    worker: WorkerInstance


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Tell the worker to drain and end."""

    worker: WorkerInstance


@dataclass(frozen=True, slots=True)
class AllServing:
    """All workers serve for the first time."""


@dataclass(frozen=True, slots=True)
class RestartDone:
    """A reload is over. failed: 0, or the slot whose new worker did not start; remaining old workers then go on."""

    failed: int = 0


@dataclass(frozen=True, slots=True)
class ExitMaster:
    """End the master with this exit code."""

    code: int


Action: TypeAlias = StartWorker | RestartLater | RetireWorker | StopWorker | AllServing | RestartDone | ExitMaster


@dataclass(slots=True)
class RollingRestart:
    """Manages `count` slots with one serving worker each. Every method returns the actions to do now, in order.

    The first worker starts alone: it creates the files of the data folder, and a configuration error is printed once.
    A worker that dies is replaced after a pause. A reload replaces the worker of one slot after the other.
    An old worker retires when the new one serves. A new worker that ends before it serves ends the reload.
    """

    count: int
    state: MasterState = MasterState.STARTING
    workers: list[WorkerInstance] = field(default_factory=list)  # all living workers, also retiring ones
    _slots: dict[int, _Slot] = field(default_factory=dict)
    _rolling: int = 0
    _asked: float = 0.0  # when the current reload began
    _again: bool = False  # another reload was requested meanwhile
    _code: int = 0

    def begin(self, now: float) -> list[Action]:
        self._slots = {number: _Slot() for number in range(1, self.count + 1)}
        return [self._start(1, now)]

    def ready(self, worker: WorkerInstance, now: float) -> list[Action]:
        """Call when a worker serves."""
        if worker not in self.workers or worker.life is not WorkerState.STARTING:
            return []
        slot = self._slots[worker.number]
        if self.state is MasterState.STOPPING:
            return []  # it already got STOP
        before, slot.serving, slot.coming = slot.serving, worker, None
        worker.life = WorkerState.SERVING
        actions: list[Action] = []
        if before is not None:
            before.life = WorkerState.RETIRING
            actions.append(RetireWorker(before))
        if self.state is MasterState.STARTING:
            if worker.number == 1:
                actions += [self._start(number, now) for number in range(2, self.count + 1)]
            if all(slot.serving is not None for slot in self._slots.values()):
                self.state = MasterState.RUNNING
                actions.append(AllServing())
                actions += self._reload_again(now)
        elif self.state is MasterState.ROLLING and worker.number == self._rolling:
            # A worker that replaced a dead one may have started before the reload, with the old configuration.
            fresh = worker.since >= self._asked
            actions += self._next(now) if fresh else [self._start(worker.number, now)]
        return actions

    def gone(self, worker: WorkerInstance, status: int, now: float) -> list[Action]:
        """Call when a process has ended. status: its exit code; -n if signal n ended it."""
        if worker not in self.workers:
            return []
        self.workers.remove(worker)
        slot, life = self._slots[worker.number], worker.life
        if slot.serving is worker:
            slot.serving = None
        if slot.coming is worker:
            slot.coming = None
        if self.state is MasterState.STOPPING:
            if status and not self._code:
                self._code = 1
            return self._over()
        if self.state is MasterState.STARTING:
            self._code = status if status in (1, 2) else 1
            return self._stop()
        if life is WorkerState.RETIRING:
            return []
        slot.crashed = worker
        if self.state is MasterState.ROLLING and worker.number == self._rolling and life is WorkerState.STARTING:
            self.state, self._rolling, self._again = MasterState.RUNNING, 0, False
            return [RestartDone(failed=worker.number), *self._replace(worker.number, worker, now)]
        return self._replace(worker.number, worker, now)

    def due(self, number: int, now: float) -> list[Action]:
        """Call when the pause of RestartLater is over."""
        slot = self._slots[number]
        if not slot.pausing or self.state in (MasterState.STOPPING, MasterState.OVER):
            return []
        slot.pausing = False
        return [self._start(number, now)]

    def reload(self, now: float) -> list[Action]:
        """Replaces all workers, one at a time. A request during a reload causes one more reload after it."""
        if self.state in (MasterState.STARTING, MasterState.ROLLING):
            self._again = True
            return []
        if self.state is not MasterState.RUNNING:
            return []
        self.state, self._rolling, self._asked = MasterState.ROLLING, 0, now
        return self._next(now)

    def stop(self) -> list[Action]:
        """Lets all workers drain and end. A second call returns nothing; the caller then kills them."""
        if self.state in (MasterState.STOPPING, MasterState.OVER):
            return []
        return self._stop()

    # ---- details ----

    def _start(self, number: int, now: float) -> StartWorker:
        slot = self._slots[number]
        slot.starts += 1
        slot.pausing = False
        slot.coming = worker = WorkerInstance(number, slot.starts, now)
        succeeds, slot.crashed = slot.crashed, None
        self.workers.append(worker)
        return StartWorker(worker, succeeds)

    def _replace(self, number: int, worker: WorkerInstance, now: float) -> list[Action]:
        slot = self._slots[number]
        if slot.serving is not None or slot.coming is not None or slot.pausing:
            return []
        slot.quick = slot.quick + 1 if now - worker.since < _STEADY else 0
        slot.pausing = True
        return [RestartLater(number, min(LAST_PAUSE, FIRST_PAUSE * 2.0 ** min(slot.quick, 30)))]

    def _next(self, now: float) -> list[Action]:
        """Continues the reload with the next slot, or ends it."""
        self._rolling += 1
        if self._rolling > self.count:
            self.state, self._rolling = MasterState.RUNNING, 0
            return [RestartDone(), *self._reload_again(now)]
        slot = self._slots[self._rolling]
        if slot.coming is not None:
            return []  # its worker just died: wait for the replacement first
        return [self._start(self._rolling, now)]

    def _reload_again(self, now: float) -> list[Action]:
        again, self._again = self._again, False
        return self.reload(now) if again else []

    def _stop(self) -> list[Action]:
        self.state = MasterState.STOPPING
        return [StopWorker(worker) for worker in self.workers] or self._over()

    def _over(self) -> list[Action]:
        if self.workers:
            return []
        self.state = MasterState.OVER
        return [ExitMaster(self._code)]
