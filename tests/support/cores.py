"""A gateway with several worker processes, and their state as the system reports it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from tests.support.clients import Program, pull, until
from tests.support.fork_server import ForkedProcess
from tests.support.gateway import Gateway, http
from tests.support.media import Film
from tests.support.time_outs import at_most

FILM = Film("cores-20", seconds=20)
SHORT = Film("cores-6", seconds=6)
LONG = Film("cores-30", seconds=30)  # outlasts a reload on a busy machine

ESTABLISHED = "01"


class Cores(Gateway):
    """Starts `workers` processes below a master, only on Linux. Settings are those of `Gateway`."""

    def __init__(self, folder: Path, workers: int = 2, **settings: str) -> None:
        self.count = workers
        super().__init__(folder, MILLRACE_SERVE__WORKERS=str(workers), **settings)

    def workers(self) -> dict[str, int]:
        """The serving processes by name, found by their named sockets."""
        named = {}
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
            words = line.split()
            if len(words) == 8 and words[7].endswith(".sock"):
                named[words[6]] = Path(words[7]).name.removesuffix(".sock").partition(".")[2]
        found = {}
        for pid in self.children():
            for inode in _sockets(pid):
                if inode in named:
                    found[named[inode]] = pid
        return found

    def children(self) -> list[int]:
        """The pids of the workers, which the children of the master have forked."""
        parents = _children(self.process.pid)
        if self.forks_workers and self.count > 1 and isinstance(self.process, ForkedProcess):
            parents = [pid for child in parents for pid in _children(child)]
        return [pid for parent in parents for pid in _children(parent)]

    def wait_workers(self, *names: str, timeout: float = 20.0) -> dict[str, int]:
        """Waits until exactly these workers serve."""
        until(lambda: sorted(self.workers()) == sorted(names), f"workers {names}: {self.log[-1500:]}", timeout)
        return self.workers()

    def connections(self, listener: str) -> dict[str, int]:
        """The number of connections to a listener, by worker."""
        port = f"{self.ports[listener]:04X}"
        ours = {line[9] for line in _connected() if line[1].endswith(f":{port}")}
        return {name: len(ours & set(_sockets(pid))) for name, pid in self.workers().items()}

    def serving(self, client: Program) -> str | None:
        """The worker that holds a client's connection, or None before it is accepted."""
        inodes = set(_sockets(client.process.pid))
        ends = {(line[2], line[1]) for line in _connected() if line[9] in inodes}
        ours = {line[9] for line in _connected() if (line[1], line[2]) in ends}
        return next((name for name, pid in self.workers().items() if ours & set(_sockets(pid))), None)

    def holder(self) -> str:
        """The worker with the only publisher."""
        (name,) = (name for name, count in self.connections("rtmp").items() if count)
        return name

    def measured(self) -> dict[str, float]:
        """The values of /metrics by name and labels."""
        reply = self.api("GET", "/metrics")
        assert reply.status == 200, reply.text
        pairs = (line.rpartition(" ") for line in reply.text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def ask(self, path: str = "/healthcheck") -> int:
        """Sends a request on a new connection, which any worker may accept. Returns the status."""
        return http("GET", f"http://127.0.0.1:{self.ports['http']}{path}").status

    def ended(self, timeout: float = 20.0) -> int:
        """Waits until it ends by itself and returns the exit code."""
        return self.process.wait(at_most(timeout))


def _connected() -> Iterator[list[str]]:
    """Lines of the kernel's table of IPv4 connections: [1] local, [2] remote address, [9] inode."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return (line for line in lines if line[3] == ESTABLISHED)


def _sockets(pid: int) -> Iterator[str]:
    """The inodes of a process's sockets."""
    with suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.startswith("socket:["):
                    yield target[8:-1]


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def alive(pid: int) -> bool:
    """Returns whether the process runs: a zombie has ended, and any may end while its state is read."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class EdgeCores(Cores):
    """An edge with several workers."""

    program = ("proxy",)


class ExecutedCores(Cores):
    """Starts its workers as in production, and not by forks."""

    forks_workers = False


class ExecutedEdgeCores(ExecutedCores):
    """The same for an edge."""

    program = ("proxy",)


Start = Callable[..., Cores]


@contextlib.contextmanager
def viewers_everywhere(gateway: Cores, url: str) -> Iterator[list[Program]]:
    """Starts ffmpeg viewers until each worker has one. The kernel distributes the connections."""
    with contextlib.ExitStack() as stack:
        viewers: list[Program] = []
        served: set[str] = set()
        while served != gateway.workers().keys():
            assert len(viewers) < 30, served
            viewers.append(stack.enter_context(pull(url, seconds=None)))
            served.add(until(lambda: gateway.serving(viewers[-1]), "the viewer is connected"))
        yield viewers


def answers(gateway: Gateway) -> bool:
    """Whether the console answers."""
    with contextlib.suppress(OSError):
        return gateway.api("GET", "/servers").status == 200
    return False
