"""Master: opens the ports, keeps a worker process in every slot, replaces all on SIGHUP, and ends after them."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.adapters.local.data_folder import data_folder
from gateway.adapters.local.host import write_ports
from gateway.channels.addresses import OpenPorts
from gateway.cluster.worker_slot import WorkerSlot
from gateway.lib import log as logs
from gateway.lib.tasks import Tasks
from gateway.lib.tuning import private_files
from gateway.processes.child import Child, describe_exit
from gateway.processes.endpoints import Endpoint, OpenSockets
from gateway.processes.link_protocol import Begin, WorkerCommand
from gateway.processes.rolling_restart import (
    Action,
    ExitMaster,
    MasterState,
    RestartDone,
    RestartLater,
    RetireWorker,
    RollingRestart,
    StartWorker,
    StopWorker,
    WorkerInstance,
    WorkerState,
)
from gateway.processes.rolling_restart import AllServing as AllServe
from gateway.processes.run_folder import run_folder
from gateway.processes.worker_settings import worker_count
from gateway.settings import Settings, SettingsError

log = structlog.get_logger(__name__)

START_SECONDS: Final = 60.0  # a worker that does not serve after this time is killed
LATE_SECONDS: Final = 10.0  # after serve.drain; then workers that have not ended are killed


@dataclass(frozen=True, slots=True)
class Service:
    """Describes the program that the workers run.

    command: module and arguments. endpoints: returns the ports. load: reads the configuration again; raises
    SettingsError. folder: name of a folder in the data folder, for files of running workers.
    stale: files in the data folder from an earlier start, to be deleted. opened: called once all workers serve.
    """

    command: Sequence[str]
    endpoints: Callable[[Settings], list[Endpoint]]
    load: Callable[[], Settings]
    folder: str = "run"
    stale: Sequence[str] = ()
    opened: Callable[[Path, OpenPorts], None] = write_ports


def run(service: Service, settings: Settings) -> int:
    """Serves with several workers until SIGTERM or Ctrl-C. Returns the exit code.

    Raises GatewayError, ListenError, OSError if it cannot begin.
    """
    private_files()
    logs.configure(settings.log.level, settings.log.format, fields={"process": "master"})
    return asyncio.run(_serve(service, settings))


async def _serve(service: Service, settings: Settings) -> int:
    if settings.registry and not settings.cluster.secret.get_secret_value():
        log.warning("other nodes cannot play what is pushed here: cluster.secret is not set")
    data = data_folder(settings.data)
    with run_folder(data / service.folder) as folder:
        for name in service.stale:
            (data / name).unlink(missing_ok=True)
        opened = OpenSockets.open(service.endpoints(settings), worker_count(settings))
        try:
            async with Tasks("master", _crashed) as tasks:
                return await Master(service, settings, opened, folder, tasks).run()
        finally:
            opened.close()


class Master:
    """Executes the decisions of RollingRestart: starts, signals and kills processes.

    folder: of the workers' Unix sockets.
    """

    def __init__(self, service: Service, settings: Settings, opened: OpenSockets, folder: Path, tasks: Tasks) -> None:
        self._service = service
        self._settings = settings
        self._opened = opened
        self._folder = folder
        self._tasks = tasks
        self._host = secrets.token_hex(4)
        self._secret = secrets.token_urlsafe(32)
        self._restart = RollingRestart(worker_count(settings))
        self._children: dict[int, tuple[WorkerInstance, Child]] = {}  # by id() of the WorkerInstance
        self._began = time.monotonic()
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self) -> int:
        """Runs until all workers have ended. Returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_stop_signal, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._on_stop_signal, signal.SIGINT)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._do(self._restart.begin(time.monotonic()))
        return await self._over

    # ---- signals ----

    def _on_stop_signal(self, number: signal.Signals) -> None:
        if self._restart.state is not MasterState.STOPPING:
            drain = self._settings.serve.drain
            log.info("shutting down", drain=drain)
            if drain:
                asyncio.get_running_loop().call_later(drain + LATE_SECONDS, self._kill_late)
            self._do(self._restart.stop())
            return
        self._kill_all()
        if not self._over.done():
            self._over.set_result(128 + number)

    def _reload(self) -> None:
        """Starts a rolling restart with the new configuration. An unusable configuration changes nothing."""
        try:
            settings = self._service.load()
        except SettingsError as error:
            log.error("reload cancelled: the configuration cannot be used", reason=str(error))
            return
        if fixed := needs_restart(self._settings, settings, self._service.endpoints):
            log.error("reload cancelled: this can only be changed by a restart", options=fixed)
            return
        self._settings = settings
        logs.configure(settings.log.level, settings.log.format, fields={"process": "master"})
        log.info("reloading", processes=self._restart.count)
        self._do(self._restart.reload(time.monotonic()))

    # ---- what the fleet decides ----

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartWorker(worker, succeeds):
                    self._start(worker, succeeds)
                case RestartLater(number, seconds):
                    asyncio.get_running_loop().call_later(seconds, self._due, number)
                case RetireWorker(worker):
                    log.info("worker retires", worker=self._slot(worker).name)
                    self._child(worker).tell(WorkerCommand.RETIRE)
                case StopWorker(worker):
                    self._child(worker).tell(WorkerCommand.STOP)
                case AllServe():
                    self._all_serve()
                case RestartDone(failed=0):
                    log.info("reloaded", processes=self._restart.count)
                case RestartDone(failed):
                    log.error("reload cancelled: a new worker did not start", slot=failed)
                case ExitMaster(code):
                    if not self._over.done():
                        self._over.set_result(code)

    def _start(self, worker: WorkerInstance, succeeds: WorkerInstance | None) -> None:
        slot = self._slot(worker, self._slot(succeeds).id if succeeds is not None else "")
        begin = Begin(slot, self._opened.ports, self._opened.of(worker.number))
        child = Child(self._service.command, begin, lambda: self._do(self._restart.ready(worker, time.monotonic())))
        self._children[id(worker)] = (worker, child)
        self._tasks.start(self._live(worker, child, slot), f"worker {slot.name}")

    async def _live(self, worker: WorkerInstance, child: Child, slot: WorkerSlot) -> None:
        late = asyncio.get_running_loop().call_later(START_SECONDS, self._kill_unready, worker, child)
        try:
            status = await child.run()
        finally:
            late.cancel()
            child.kill()
            del self._children[id(worker)]
        with suppress(OSError):
            slot.socket.unlink(missing_ok=True)
        if worker.life is WorkerState.RETIRING or self._restart.state is MasterState.STOPPING:
            log.info("worker ended", worker=slot.name, reason=describe_exit(status))
        elif self._restart.state is not MasterState.STARTING or status not in (
            1,
            2,
        ):  # with 1 or 2 it printed the reason
            log.error("worker died", worker=slot.name, reason=describe_exit(status))
        self._do(self._restart.gone(worker, status, time.monotonic()))

    def _all_serve(self) -> None:
        self._service.opened(self._settings.data, self._opened.ports)
        seconds = round(time.monotonic() - self._began, 2)
        log.info("all serve", seconds=seconds, processes=self._restart.count, **self._opened.ports.opened())
        for worker, child in self._children.values():
            if worker.number == 1:
                child.tell(WorkerCommand.OPENED)

    def _due(self, number: int) -> None:
        self._do(self._restart.due(number, time.monotonic()))

    def _slot(self, worker: WorkerInstance, succeeds: str = "") -> WorkerSlot:
        return WorkerSlot(
            host=self._host,
            number=worker.number,
            start=worker.start,
            count=self._restart.count,
            folder=self._folder,
            secret=self._secret,
            succeeds=succeeds,
        )

    def _child(self, worker: WorkerInstance) -> Child:
        return self._children[id(worker)][1]

    # ---- those that do not end ----

    def _kill_unready(self, worker: WorkerInstance, child: Child) -> None:
        if worker.life is WorkerState.STARTING:
            log.error("a worker does not get ready and is ended", worker=self._slot(worker).name)
            child.kill()

    def _kill_late(self) -> None:
        if self._children:
            log.error("workers did not end in time and are ended", processes=len(self._children))
            self._kill_all()

    def _kill_all(self) -> None:
        for _, child in self._children.values():
            child.kill()


def needs_restart(old: Settings, new: Settings, endpoints: Callable[[Settings], list[Endpoint]]) -> list[str]:
    """Returns the changed options that a reload cannot apply: data folder, number of workers, ports."""
    once = (("data", old.data, new.data), ("serve.workers", worker_count(old), worker_count(new)))
    found = [name for name, a, b in once if a != b]
    before, after = ({one.name: one for one in endpoints(settings)} for settings in (old, new))
    return [*found, *sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))]


def _crashed(name: str, error: BaseException) -> None:
    log.error("a task failed", task=name, exc_info=error)
