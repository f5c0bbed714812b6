"""The master process: opens the ports, runs a worker in each slot, replaces all workers on SIGHUP, and ends last.

In this folder, a worker is one of the processes of a node (`serve.workers`). All of them accept pushes and players.
It is not a child process that decodes or encodes. A process of its own forks the workers (`worker_parent.py`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from gateway.adapters.local.data_folder import GATEWAY_RUN, LOCK, data_folder, folder_lock
from gateway.adapters.local.host import write_ports
from gateway.channels.addresses import OpenPorts
from gateway.cluster.members.worker_slot import SOCKET, WorkerSlot
from gateway.lib import held_signals
from gateway.lib import log as logs
from gateway.lib.process import describe_exit
from gateway.lib.sockets import ListenError, listen, listen_shared, port_of
from gateway.lib.tasks import Tasks
from gateway.lib.terminal import Terminal
from gateway.lib.tuning import make_files_private
from gateway.processes import rolling_restart
from gateway.processes.child import Child
from gateway.processes.link_protocol import ALIVE_SECONDS, Begin, ProcessMessage
from gateway.processes.rolling_restart import MasterState, RollingRestart, WorkerInstance, WorkerState
from gateway.processes.worker_parent import WorkerParent
from gateway.processes.worker_settings import worker_count
from gateway.settings import Settings, SettingsError
from gateway.settings.models import ListenAddress, PortSharing
from gateway.webrtc.sockets import WebRtcSockets, open_port

log = structlog.get_logger(__name__)

START_SECONDS: Final = 60.0  # a worker that is not ready after this time is killed
SILENT_MESSAGES: Final = 5  # a worker that misses this number of ALIVE messages is killed
LATE_SECONDS: Final = 10.0  # after serve.drain, until workers that have not ended are killed
_MAX_PATH_BYTES: Final = 103  # of a Unix socket; with the final NUL the limit is 104 on BSD and 108 on Linux
_LONGEST_NAME: Final = f"01234567.999-99999{SOCKET}"
_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Service:
    """Describes the program that the workers run.

    command: module and arguments. endpoints: returns the ports.
    load: reads the configuration again; raises SettingsError.
    folder: name of a folder in the data folder, for files of running workers.
    stale: files in the data folder from an earlier start, to be deleted.
    """

    command: Sequence[str]
    endpoints: Callable[[Settings], list[ListenAddress]]
    load: Callable[[], Settings]
    folder: str = GATEWAY_RUN
    stale: Sequence[str] = ()


def run(service: Service, settings: Settings) -> int:
    """Runs the service with several workers until SIGTERM or Ctrl-C. Returns the exit code.

    Raises GatewayError, ListenError, OSError if it cannot start.
    """
    make_files_private()
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
            async with Tasks("master") as tasks:
                return await Master(service, settings, opened, folder, tasks).run()
        finally:
            opened.close()


@contextmanager
def run_folder(folder: Path) -> Iterator[Path]:
    """Locks the folder for this master, and yields an empty folder for the workers' sockets.

    This is `folder`, created if missing. If its path is too long for a socket's address, it is a temporary folder.
    Only this user can access it.
    Raises StoreUnusable if another master uses `folder`, or if it cannot be used.
    """
    temporary: Path | None = None
    with folder_lock(folder):
        try:
            sockets = folder.absolute()
            if len(os.fsencode(sockets / _LONGEST_NAME)) > _MAX_PATH_BYTES:
                sockets = temporary = Path(tempfile.mkdtemp(prefix="millrace-"))
            _clear(folder)
            yield sockets
            _clear(sockets)
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Removes the files of ended workers."""
    for path in folder.iterdir():
        if path.name != LOCK:
            with suppress(OSError):
                path.unlink()


class Master:
    """Executes the decisions of RollingRestart: starts, signals and kills processes.

    folder: contains the workers' Unix sockets.
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
        self._parent: WorkerParent | None = None  # that forks the next worker
        self._children: dict[WorkerInstance, Child] = {}
        self._started_at = time.monotonic()
        self._signalled_once = False
        self._terminal = Terminal()
        self._exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self) -> int:
        """Runs until all workers have ended. Returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_stop_signal, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._on_stop_signal, signal.SIGINT)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        held_signals.deliver()
        self._tasks.keep(self._watch, "silent workers")
        self._execute(self._restart.begin(time.monotonic()))
        return await self._exit_code

    # ---- signals ----

    def _on_stop_signal(self, number: signal.Signals) -> None:
        if not self._signalled_once:
            self._signalled_once = True
            drain = self._settings.serve.drain
            log.info("shutting down", drain=drain)
            if drain:
                asyncio.get_running_loop().call_later(drain + LATE_SECONDS, self._kill_late)
            self._execute(self._restart.stop())
            return
        self._kill_all()
        if not self._exit_code.done():
            self._exit_code.set_result(128 + number)

    def _reload(self) -> None:
        """Starts a rolling restart with the new configuration. An unusable configuration changes nothing.

        SIGHUP of a closed terminal ends the master. The shell sends a second one.
        """
        if self._terminal.is_closed:
            if not self._signalled_once:
                self._on_stop_signal(signal.SIGHUP)
            return
        try:
            settings = self._service.load()
        except SettingsError as error:
            log.error("reload cancelled: the configuration cannot be used", reason=str(error))
            return
        if options := needs_restart(self._settings, settings, self._service.endpoints):
            log.error("reload cancelled: this can only be changed by a restart", options=options)
            return
        self._settings = settings
        logs.configure(settings.log.level, settings.log.format, fields={"process": "master"})
        log.info("reloading", processes=self._restart.count)
        if self._parent is not None:
            self._parent.retire()  # new workers need the code and the settings of now
        self._execute(self._restart.reload(time.monotonic()))

    # ---- actions ----

    def _execute(self, actions: list[rolling_restart.Action]) -> None:
        for action in actions:
            match action:
                case rolling_restart.StartWorker(worker, succeeds):
                    self._start(worker, succeeds)
                case rolling_restart.StopListening(number):
                    self._opened.stop_listening(number)
                case rolling_restart.RestartLater(number, seconds):
                    asyncio.get_running_loop().call_later(seconds, self._end_pause, number)
                case rolling_restart.RetireWorker(worker):
                    log.info("worker retires", worker=self._slot(worker).name)
                    self._children[worker].send(ProcessMessage.RETIRE)
                case rolling_restart.StopWorker(worker):
                    self._children[worker].send(ProcessMessage.STOP)
                case rolling_restart.AllServing():
                    self._on_all_serving()
                case rolling_restart.RestartDone(failed=0):
                    log.info("reloaded", processes=self._restart.count)
                case rolling_restart.RestartDone(failed):
                    log.error("reload cancelled: a new worker did not start", slot=failed)
                case rolling_restart.ExitMaster(code):
                    if not self._exit_code.done():
                        self._exit_code.set_result(code)

    def _start(self, worker: WorkerInstance, succeeds: WorkerInstance | None) -> None:
        slot = self._slot(worker, self._slot(succeeds).id if succeeds is not None else "")
        begin = Begin(slot, self._opened.ports, self._opened.of(worker.number))
        child = Child(self._usable_parent(), begin, partial(self._on_ready, worker))
        self._children[worker] = child
        self._tasks.start(self._run_worker(worker, child, slot), f"worker {slot.name}")

    def _usable_parent(self) -> WorkerParent:
        if self._parent is None or not self._parent.usable:
            self._parent = WorkerParent(self._service.command)
            self._tasks.start(self._parent.run(), "the parent of the workers")
        return self._parent

    async def _run_worker(self, worker: WorkerInstance, child: Child, slot: WorkerSlot) -> None:
        timer = asyncio.get_running_loop().call_later(START_SECONDS, self._kill_unready, worker, child)
        try:
            status = await child.run()
        except Exception as error:  # the slot gets another worker in any case
            log.error("a worker is ended after an error of its master", worker=slot.name, exc_info=error)
            status = 1
        finally:
            timer.cancel()
            child.kill()
            del self._children[worker]
        for path in (slot.socket, slot.handover):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        printed_reason = self._restart.state is MasterState.STARTING and status in (1, 2)
        if worker.state is WorkerState.RETIRING or self._restart.state is MasterState.STOPPING:
            log.info("worker ended", worker=slot.name, reason=describe_exit(status))
        elif not printed_reason:
            log.error("worker died", worker=slot.name, reason=describe_exit(status))
        self._execute(self._restart.on_ended(worker, status, time.monotonic()))

    def _on_all_serving(self) -> None:
        write_ports(self._settings.data, self._opened.ports)
        self._opened.warn()
        seconds = round(time.monotonic() - self._started_at, 2)
        log.info("all serve", seconds=seconds, processes=self._restart.count, **self._opened.ports.opened())
        for worker, child in self._children.items():
            if worker.number == 1:
                child.send(ProcessMessage.OPENED)

    def _on_ready(self, worker: WorkerInstance) -> None:
        self._execute(self._restart.on_ready(worker, time.monotonic()))

    def _end_pause(self, number: int) -> None:
        self._execute(self._restart.on_pause_over(number, time.monotonic()))

    def _slot(self, worker: WorkerInstance, succeeds: str = "") -> WorkerSlot:
        number, start, count = worker.number, worker.start, self._restart.count
        return WorkerSlot(self._host, number, start, count, self._folder, self._secret, succeeds)

    # ---- time-outs ----

    def _kill_unready(self, worker: WorkerInstance, child: Child) -> None:
        if worker.state is WorkerState.STARTING:
            log.error("a worker does not get ready and is ended", worker=self._slot(worker).name)
            child.kill()

    async def _watch(self) -> None:
        """Kills workers that hang. They are replaced like those that die."""
        while True:
            await asyncio.sleep(ALIVE_SECONDS)
            for worker, child in self._children.items():
                if child.count_silence() == SILENT_MESSAGES:
                    log.error("a worker hangs and is ended", worker=self._slot(worker).name)
                    child.kill()

    def _kill_late(self) -> None:
        if self._children:
            log.error("workers did not end in time and are ended", processes=len(self._children))
            self._kill_all()

    def _kill_all(self) -> None:
        for child in self._children.values():
            child.kill()


def needs_restart(old: Settings, new: Settings, endpoints: Callable[[Settings], list[ListenAddress]]) -> list[str]:
    """Returns the changed options that a reload cannot apply: data folder, number of workers, ports."""
    fixed = (("data", old.data, new.data), ("serve.workers", worker_count(old), worker_count(new)))
    changed = [name for name, before, after in fixed if before != after]
    ports_before, ports_after = ({port.name: port for port in endpoints(settings)} for settings in (old, new))
    names = sorted(ports_before.keys() | ports_after.keys())
    return [*changed, *(name for name in names if ports_before.get(name) != ports_after.get(name))]


def edge_endpoints(settings: Settings) -> list[ListenAddress]:
    """Returns the listeners of an edge: those of a gateway except listeners that only accept pushes."""
    return [address for address in settings.listeners() if address.is_for_edges]


@dataclass(slots=True)
class OpenSockets:
    """The listening sockets of all slots. Each slot has one process of the node.

    The sockets stay open while the processes are replaced.
    """

    ports: OpenPorts
    _sockets: Mapping[str, list[list[socket.socket]]] = field(repr=False)
    _webrtc: list[WebRtcSockets] = field(default_factory=list, repr=False)
    _shared: set[socket.socket] = field(default_factory=set, repr=False)  # the sockets on ports that all slots share

    @classmethod
    def open(cls, addresses: Sequence[ListenAddress], workers: int) -> OpenSockets:
        """Opens all listeners. Raises ListenError if one cannot be opened; then closes the others."""
        sockets: dict[str, list[list[socket.socket]]] = {}
        fixed: dict[str, int] = {}  # the ports without sockets
        opened = cls(OpenPorts(), sockets)
        try:
            for address in addresses:
                name, host, port = address.name, address.host, address.port
                match address.sharing:
                    case PortSharing.OWN_PORTS:
                        if port + workers - 1 > _MAX_PORT:
                            raise ListenError(f"{name}: {name}.port + serve.workers - 1 is above {_MAX_PORT}")
                        sockets[name] = []
                        for number in range(workers):
                            bound = open_port(host, port, number)
                            opened._webrtc.append(bound)
                            sockets[name].append(bound.all)
                    case PortSharing.FIRST:
                        sockets[name] = [listen(name, host, port, address.transports[0])]
                    case PortSharing.LIBRARY:
                        if not port:
                            raise ListenError(f"{name}: {name}.port must be a number if several processes serve")
                        sockets[name], fixed[name] = [[]], port
                    case PortSharing.ONE_PORT:
                        sockets[name] = listen_shared(name, host, port, workers, address.transports[0])
                        opened._shared.update(sock for slot in sockets[name] for sock in slot)
        except BaseException:
            opened.close()
            raise
        opened.ports = OpenPorts(**{name: fixed.get(name) or port_of(slots[0]) for name, slots in sockets.items()})
        return opened

    def warn(self) -> None:
        """Logs which ports are not the default ones, see WebRtcSockets."""
        for bound in self._webrtc:
            bound.warn()

    def of(self, number: int) -> dict[str, tuple[int, ...]]:
        """Returns the descriptors of the sockets of one slot, by listener. number: of the slot, from 1."""
        return {
            name: tuple(sock.fileno() for sock in slots[number - 1])
            for name, slots in self._sockets.items()
            if number <= len(slots)
        }

    def stop_listening(self, number: int) -> None:
        """Takes the TCP sockets of a slot out of their SO_REUSEPORT groups. The slot's next process listens again.

        The kernel then gives new connections to the other slots. Connections that wait in these sockets are reset.
        UDP sockets stay in their groups. Otherwise the clients of the other slots would change their processes too.
        """
        for slots in self._sockets.values():
            for sock in slots[number - 1] if len(slots) > 1 else ():
                if sock in self._shared and sock.type == socket.SOCK_STREAM:
                    with suppress(OSError):  # the socket does not listen
                        sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        for slots in self._sockets.values():
            for sockets in slots:
                for sock in sockets:
                    sock.close()
