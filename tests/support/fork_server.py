"""Starts the program by forking a process that has already imported it, because imports need most CPU time.

A forked start runs the same code from the command line on. Tests of the command line and of the installed wheel start
the program as users do; a master also starts its workers so.
"""

import atexit
import contextlib
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

from tests.support.time_outs import at_most

ROOT = Path(__file__).resolve().parents[2]
_MAX_REQUEST = 1 << 18
# Other variables may change what an import does, or where it finds modules.
_PREFIXES = ("MILLRACE_", "AWS_")
WARNINGS = "default::ResourceWarning"  # for the log, where `gateway.faults` finds them
# What a gateway, an edge and a master import up to "ready".
_MODULES = (
    *(
        "gateway.__main__",
        "gateway.program",
        "gateway.app.gateway",
        "gateway.outputs.registry",
        "proxy.edge.app",
        "uvloop",
    ),
    *("gateway.processes.master", "gateway.processes.worker_link"),
    "gateway.adapters.local.objects",
    "gateway.adapters.local.stores",
    *("gateway.ingest.websocket.listener", "gateway.ingest.webrtc.whip"),
    *("gateway.inputs.playlist", "gateway.inputs.pull", "gateway.inputs.slate"),
    *("gateway.outputs.kinesis.kvs_output", "gateway.outputs.ladder.remote_ladder"),
    *("gateway.outputs.motion.motion_output", "gateway.outputs.snapshot.snapshot_output"),
    "gateway.outputs.watermark.watermark_output",
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

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_PROGRAMS = ("gateway", "proxy")  # that a child of the fork server can become


def start(program: Sequence[str], env: Mapping[str, str], log: IO[bytes]) -> "ForkedProcess | subprocess.Popen[bytes]":
    """Starts `python -m <program>` in a new session. Both outputs go to `log`."""
    is_usual = all(os.environ.get(name) == value or name.startswith(_PREFIXES) for name, value in env.items())
    if is_usual and program[0] in _PROGRAMS:
        return _server().start(program, env, log)
    return subprocess.Popen(
        [sys.executable, "-m", *program],
        env={**env, "PYTHONWARNINGS": WARNINGS},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        start_new_session=True,
    )


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
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAX_REQUEST)
        self._socket = ours
        atexit.register(self.close)

    def start(self, program: Sequence[str], env: Mapping[str, str], log: IO[bytes]) -> ForkedProcess:
        request = json.dumps({"program": list(program), "env": dict(env)}).encode()
        status, theirs = os.pipe()
        try:
            socket.send_fds(self._socket, [request], [log.fileno(), theirs])
        finally:
            os.close(theirs)
        answer = self._socket.recv(16)
        assert answer, "the fork server has ended"
        return ForkedProcess(int(answer), status)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(at_most(10))


@functools.cache
def _server() -> _Client:
    return _Client()


# ---- the server ----


def serve(connection: socket.socket) -> None:
    """Answers each request with the pid of a new child, until the tests close the connection."""
    for name in _MODULES:  # importing them starts no thread and keeps no file open
        importlib.import_module(name)
    # A child collects garbage at its start. Without this, it would examine and so copy the objects of the imports.
    gc.collect()
    gc.freeze()
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
                request, fds, _, _ = socket.recv_fds(connection, _MAX_REQUEST, 2)
                if not request:
                    return
                log, status = fds
                pid = os.fork()
                if pid == 0:
                    _run(json.loads(request), log)
                os.close(log)
                statuses[pid] = status
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


def _run(request: dict[str, Any], log: int) -> None:
    """Turns the child into the program. Does not return."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 1024)
        os.environ.clear()
        os.environ.update(request["env"], PYTHONWARNINGS=WARNINGS)  # its children read it
        warnings.simplefilter("default", ResourceWarning)
        module, *arguments = request["program"]
        main = sys.modules["gateway.__main__"].main
        code = main(["edge", *arguments] if module == "proxy" else arguments)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        serve(parent)
