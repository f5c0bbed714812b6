"""Starts the program by forking a process that has already imported it, because imports need most CPU time.

A forked start runs the same code from the command line on. The workers of a forked master are forked too. Tests of the
command line and of the installed wheel start the program as users do, and so do tests of a master's start and end.
"""

import asyncio
import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.support.forked_workers import MAX_REQUEST, ask, fork_workers
from tests.support.time_outs import at_most

ROOT = Path(__file__).resolve().parents[2]
_MAX_FILES = 200  # in one request; the system allows 253
_FIRST_COPY = 512  # descriptors from here on are not used by the program when it begins
# Other variables may change what an import does, or where it finds modules.
_PREFIXES = ("MILLRACE_", "AWS_")
WARNINGS = "default::ResourceWarning"  # for the log, where `gateway.faults` finds them
# What a gateway, an edge, a master and a worker import up to "ready", and for the first request to the admin API.
_MODULES = (
    *("gateway.__main__", "gateway.program", "gateway.app.gateway", "gateway.outputs.registry", "proxy.edge.app"),
    *("gateway.processes.master", "gateway.processes.worker_link", "gateway.processes.forking"),
    *("gateway.adapters.aws.session", "gateway.adapters.postgres.connections"),
)


class ForkedProcess:
    """A child of the fork server with the interface of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status  # a pipe: its return code, at its end

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._status, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired("gateway", timeout or 0)
            code = os.read(self._status, 16)
            os.close(self._status)
            assert code, "the fork server has ended"
            self.returncode = int(code)
        return self.returncode

    async def end(self) -> int:
        """Waits for its end on the event loop."""
        if self.returncode is None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            own = os.dup(self._status)  # another waiter may close the other one first
            loop.add_reader(own, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(own)
                os.close(own)
        return self.wait()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_CHANGED = "tests.support.idle_machine"  # a module that changes the program whose arguments follow
_PROGRAMS = ("gateway", "proxy", _CHANGED)  # that a child of the fork server can become


def start(
    program: Sequence[str], env: Mapping[str, str], log: IO[bytes], *, forks_workers: bool = True
) -> "ForkedProcess | subprocess.Popen[bytes]":
    """Starts `python -m <program>` in a new session. Both outputs go to `log`.

    forks_workers: whether a master forks its workers. Otherwise it starts them as in production.
    """
    if is_usual(env) and program[0] in _PROGRAMS:
        forks_workers &= env.get("MILLRACE_SERVE__WORKERS", "1") != "1"
        files = {1: log.fileno(), 2: log.fileno()}
        return _server().start(files, program=program, env=dict(env), forks_workers=forks_workers)
    return subprocess.Popen(
        [sys.executable, "-m", *program],
        env={**env, "PYTHONWARNINGS": WARNINGS},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        start_new_session=True,
    )


def is_usual(env: Mapping[str, str]) -> bool:
    """Whether a fork behaves as a new process with these variables."""
    return all(os.environ.get(name) == value or name.startswith(_PREFIXES) for name, value in env.items())


def start_command(
    arguments: Sequence[str], env: Mapping[str, str], files: Mapping[int, int], folder: Path
) -> ForkedProcess:
    """Starts `millrace <arguments>` in the folder. files: ours by the numbers that they have in the command."""
    return _server().start(files, program=["gateway", *arguments], env=dict(env), folder=str(folder))


class _Client:
    """The connection of a test process to its fork server."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
                start_new_session=True,
            )
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_REQUEST)
        self._socket = ours
        atexit.register(self.close)

    def start(self, files: Mapping[int, int], **request: Any) -> ForkedProcess:
        request |= {"leads": True, "files": list(files)}
        return ForkedProcess(*ask(self._socket, request, list(files.values())))

    def close(self) -> None:
        self._socket.close()
        self._process.wait(at_most(10))


@functools.cache
def _server() -> _Client:
    return _Client()


# ---- the server ----


def serve(connection: socket.socket) -> None:
    """Imports the program and answers requests, until the tests close the connection."""
    for name in _MODULES:  # importing them starts no thread and keeps no file open
        importlib.import_module(name)
    for name in sys.modules["gateway.program"].NODE_MODULES:
        importlib.import_module(name)
    # A child collects garbage at its start. Without this, it would examine and so copy the objects of the imports.
    gc.collect()
    gc.freeze()
    _answer(connection)


def _answer(connection: socket.socket) -> None:
    """Answers each request with the pid of a new child, until the other end closes the connection."""
    statuses: dict[int, int] = {}
    wakeup, notify = os.pipe()
    os.set_blocking(notify, False)
    signal.set_wakeup_fd(notify)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == wakeup:
                    os.read(wakeup, 4096)
                    _report_ended(statuses)
                    continue
                request, files, _, _ = socket.recv_fds(connection, MAX_REQUEST, _MAX_FILES)
                if not request:
                    return
                pid = os.fork()
                if pid == 0:
                    _run(json.loads(request), files[1:])
                statuses[pid] = files[0]
                for file in files[1:]:
                    os.close(file)
                connection.send(str(pid).encode())


def _report_ended(statuses: dict[int, int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, code = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            status = statuses.pop(pid)
            with contextlib.suppress(BrokenPipeError):  # the reader has ended
                os.write(status, str(os.waitstatus_to_exitcode(code)).encode())
            os.close(status)


def _run(request: dict[str, Any], files: Sequence[int]) -> None:
    """Turns the child into the program. Does not return.

    files: what its descriptors `request["files"]` will be.
    """
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if request["leads"]:
            os.setsid()
        copies = [fcntl.fcntl(file, fcntl.F_DUPFD, _FIRST_COPY) for file in files]
        os.closerange(3, _FIRST_COPY)
        for number, copy in zip(request["files"], copies, strict=True):
            os.dup2(copy, number)
        os.closerange(_FIRST_COPY, 2 * _FIRST_COPY)
        os.environ.clear()
        os.environ.update(request["env"], PYTHONWARNINGS=WARNINGS)  # its children read it
        warnings.simplefilter("default", ResourceWarning)
        if folder := request.get("folder"):
            os.chdir(folder)
        end_workers = fork_workers(_answer) if request.get("forks_workers") else lambda: None
        module, *arguments = request["program"]
        if module == _CHANGED:
            importlib.import_module(module).change_program()
            module, *arguments = arguments
        main = sys.modules["gateway.__main__"].main
        code = main(["edge", *arguments] if module == "proxy" else arguments)
        end_workers()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        serve(parent)
