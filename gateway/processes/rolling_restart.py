"""Decides the master's actions when a worker is ready or has ended, and at a reload or stop. No I/O, no clock."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

FIRST_PAUSE: Final = 0.1  # seconds before a dead worker is replaced; doubled after each early death in a row
LAST_PAUSE: Final = 10.0  # the longest pause
_EARLY_SECONDS: Final = 10.0  # a death within this time after the start is an early death


class MasterState(StrEnum):
    STARTING = "starting"  # first worker 1 only, then the others
    RUNNING = "running"
    ROLLING = "rolling"  # the slots get new workers, one after the other
    STOPPING = "stopping"
    OVER = "over"


class WorkerState(StrEnum):
    STARTING = "starting"
    SERVING = "serving"
    RETIRING = "retiring"


@dataclass(slots=True, eq=False)
class WorkerInstance:
    """A worker process. number: of its slot. start: index of the start in this slot, from 1."""

    number: int
    start: int
    started_at: float
    state: WorkerState = WorkerState.STARTING


@dataclass(slots=True)
class _SlotState:
    serving: WorkerInstance | None = None
    starting: WorkerInstance | None = None
    starts: int = 0
    early_deaths: int = 0  # in a row
    pausing: bool = False
    crashed: WorkerInstance | None = None  # the last worker that died without removing its registry rows and files


# ---- actions ----


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a process for this worker. succeeds: the previous worker of its slot, if it crashed."""

    worker: WorkerInstance
    succeeds: WorkerInstance | None


@dataclass(frozen=True, slots=True)
class StopListening:
    """Let the kernel give new connections to the other slots until this one has a worker again."""

    number: int


@dataclass(frozen=True, slots=True)
class RestartLater:
    """Call `RollingRestart.on_pause_over(number)` after these seconds."""

    number: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RetireWorker:
    """Send the worker RETIRE: it accepts no new connections, and ends when its publishers have ended."""

    worker: WorkerInstance


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Send the worker STOP: it drains and ends."""

    worker: WorkerInstance


@dataclass(frozen=True, slots=True)
class AllServing:
    """All workers are ready for the first time."""


@dataclass(frozen=True, slots=True)
class RestartDone:
    """A reload has ended. failed: the slot whose new worker did not start, else 0.

    After a failure, the remaining old workers continue to run.
    """

    failed: int = 0


@dataclass(frozen=True, slots=True)
class ExitMaster:
    """End the master with this exit code."""

    code: int


Action: TypeAlias = (
    StartWorker | StopListening | RestartLater | RetireWorker | StopWorker | AllServing | RestartDone | ExitMaster
)


@dataclass(slots=True)
class RollingRestart:
    """Manages `count` slots with one serving worker each. Every method returns the actions to do now, in order.

    Worker 1 starts before the others: it creates the files of the data folder, and prints a configuration error once.
    A worker that dies is replaced after a pause. A reload replaces the workers, one slot after the other.
    An old worker retires when the new one is ready. If a new worker ends before it is ready, the reload ends.
    """

    count: int
    state: MasterState = MasterState.STARTING
    workers: list[WorkerInstance] = field(default_factory=list)  # all living workers, including retiring ones
    _slots: dict[int, _SlotState] = field(default_factory=dict)
    _rolling: int = 0  # the slot that the reload replaces now
    _reload_began: float = 0.0
    _reload_requested: bool = False  # another reload was requested during a start or reload
    _exit_code: int = 0

    def begin(self, now: float) -> list[Action]:
        self._slots = {number: _SlotState() for number in range(1, self.count + 1)}
        return [self._start(1, now)]

    def on_ready(self, worker: WorkerInstance, now: float) -> list[Action]:
        """Call when a worker is ready."""
        if worker not in self.workers or worker.state is not WorkerState.STARTING:
            return []
        slot = self._slots[worker.number]
        if self.state is MasterState.STOPPING:
            return []  # it already got STOP
        before, slot.serving, slot.starting = slot.serving, worker, None
        worker.state = WorkerState.SERVING
        actions: list[Action] = []
        if before is not None:
            before.state = WorkerState.RETIRING
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
            has_new_settings = worker.started_at >= self._reload_began
            actions += self._next(now) if has_new_settings else [self._start(worker.number, now)]
        return actions

    def on_ended(self, worker: WorkerInstance, status: int, now: float) -> list[Action]:
        """Call when a process has ended. status: its exit code; -n if signal n ended it."""
        if worker not in self.workers:
            return []
        self.workers.remove(worker)
        slot, state = self._slots[worker.number], worker.state
        if slot.serving is worker:
            slot.serving = None
        if slot.starting is worker:
            slot.starting = None
        if self.state is MasterState.STOPPING:
            if status and not self._exit_code:
                self._exit_code = 1
            return self._over()
        if self.state is MasterState.STARTING:
            self._exit_code = status if status in (0, 1, 2) else 1  # 0: a signal to all processes
            return self._stop()
        if state is WorkerState.RETIRING:
            return []
        slot.crashed = worker
        if self.state is MasterState.ROLLING and worker.number == self._rolling and state is WorkerState.STARTING:
            self.state, self._rolling, self._reload_requested = MasterState.RUNNING, 0, False
            return [RestartDone(failed=worker.number), *self._replace(worker, now)]
        return self._replace(worker, now)

    def on_pause_over(self, number: int, now: float) -> list[Action]:
        """Call when the pause of RestartLater has ended."""
        slot = self._slots[number]
        if not slot.pausing or self.state in (MasterState.STOPPING, MasterState.OVER):
            return []
        slot.pausing = False
        return [self._start(number, now)]

    def reload(self, now: float) -> list[Action]:
        """Replaces all workers, one at a time. If a reload is running, another one follows it."""
        if self.state in (MasterState.STARTING, MasterState.ROLLING):
            self._reload_requested = True
            return []
        if self.state is not MasterState.RUNNING:
            return []
        self.state, self._rolling, self._reload_began = MasterState.ROLLING, 0, now
        return self._next(now)

    def stop(self) -> list[Action]:
        """Stops all workers, after a drain. A second call returns no actions; the caller then kills the workers."""
        if self.state in (MasterState.STOPPING, MasterState.OVER):
            return []
        return self._stop()

    # ---- details ----

    def _start(self, number: int, now: float) -> StartWorker:
        slot = self._slots[number]
        slot.starts += 1
        slot.pausing = False
        slot.starting = worker = WorkerInstance(number, slot.starts, now)
        succeeds, slot.crashed = slot.crashed, None
        self.workers.append(worker)
        return StartWorker(worker, succeeds)

    def _replace(self, worker: WorkerInstance, now: float) -> list[Action]:
        slot = self._slots[worker.number]
        if slot.serving is not None or slot.starting is not None or slot.pausing:
            return []
        slot.early_deaths = slot.early_deaths + 1 if now - worker.started_at < _EARLY_SECONDS else 0
        slot.pausing = True
        others = [StopListening(worker.number)] if any(s.serving is not None for s in self._slots.values()) else []
        return [*others, RestartLater(worker.number, min(LAST_PAUSE, FIRST_PAUSE * 2.0 ** min(slot.early_deaths, 30)))]

    def _next(self, now: float) -> list[Action]:
        """Continues the reload with the next slot, or ends it."""
        self._rolling += 1
        if self._rolling > self.count:
            self.state, self._rolling = MasterState.RUNNING, 0
            return [RestartDone(), *self._reload_again(now)]
        slot = self._slots[self._rolling]
        if slot.starting is not None:
            return []  # its worker has just died: wait until the replacement is ready
        return [self._start(self._rolling, now)]

    def _reload_again(self, now: float) -> list[Action]:
        again, self._reload_requested = self._reload_requested, False
        return self.reload(now) if again else []

    def _stop(self) -> list[Action]:
        self.state = MasterState.STOPPING
        return [StopWorker(worker) for worker in self.workers] or self._over()

    def _over(self) -> list[Action]:
        """Ends the master if no worker is left."""
        if self.workers:
            return []
        self.state = MasterState.OVER
        return [ExitMaster(self._exit_code)]
