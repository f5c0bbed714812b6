"""A gateway of several worker processes: which of them has what, as the system tells."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from tests.support.clients import Program, pull, until
from tests.support.gateway import Gateway, http
from tests.support.media import Film

FILM = Film("cores-20", seconds=20)
SHORT = Film("cores-6", seconds=6)
LONG = Film("cores-40", seconds=40)  # outlasts a reload on a busy machine

ESTABLISHED = "01"


class Cores(Gateway):
    """`workers` processes below a master; settings as of Gateway. Only on Linux, as they are."""

    def __init__(self, folder: Path, workers: int = 2, **settings: str) -> None:
        self.count = workers
        super().__init__(folder, MILLRACE_SERVE__WORKERS=str(workers), **settings)

    def workers(self) -> dict[str, int]:
        """The processes that serve, by name: whoever holds the socket that is named after it."""
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
        """Of the master."""
        pid = self.process.pid
        with suppress(OSError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def wait_workers(self, *names: str, timeout: float = 20.0) -> dict[str, int]:
        """Returns once exactly these serve."""
        until(lambda: sorted(self.workers()) == sorted(names), f"workers {names}: {self.log[-1500:]}", timeout)
        return self.workers()

    def connections(self, listener: str) -> dict[str, int]:
        """How many connections to a listener each worker holds."""
        port = f"{self.ports[listener]:04X}"
        ours = {line[9] for line in _connected() if line[1].endswith(f":{port}")}
        return {name: len(ours & set(_sockets(pid))) for name, pid in self.workers().items()}

    def serving(self, client: Program) -> str | None:
        """The worker at the other end of a client's connection; None where it has none yet."""
        inodes = set(_sockets(client.process.pid))
        ends = {(line[2], line[1]) for line in _connected() if line[9] in inodes}
        ours = {line[9] for line in _connected() if (line[1], line[2]) in ends}
        return next((name for name, pid in self.workers().items() if ours & set(_sockets(pid))), None)

    def holder(self) -> str:
        """The worker that has the only publisher."""
        (name,) = (name for name, count in self.connections("rtmp").items() if count)
        return name

    def measured(self) -> dict[str, float]:
        """What /metrics says, by name and labels as Prometheus writes them."""
        reply = self.api("GET", "/metrics")
        assert reply.status == 200, reply.text
        pairs = (line.rpartition(" ") for line in reply.text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def ask(self, path: str = "/healthcheck") -> int:
        """The status of a request on a connection of its own; it lands on any worker."""
        return http("GET", f"http://127.0.0.1:{self.ports['http']}{path}").status

    def ended(self, timeout: float = 20.0) -> int:
        """The exit code, once it has ended by itself."""
        return self.process.wait(timeout)


def _connected() -> Iterator[list[str]]:
    """Lines of the kernel's table of IPv4 connections: [1] local, [2] remote address, [9] inode."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return (line for line in lines if line[3] == ESTABLISHED)


def _sockets(pid: int) -> Iterator[str]:
    """Inodes of a process's sockets."""
    with suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.startswith("socket:["):
                    yield target[8:-1]


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class EdgeCores(Cores):
    """An edge of several workers."""

    program = ("proxy",)


Start = Callable[..., Cores]


@contextlib.contextmanager
def viewers_everywhere(gateway: Cores, url: str) -> Iterator[list[Program]]:
    """ffmpegs that play until the stream ends, as many as it takes until each worker has one. The kernel chooses."""
    with contextlib.ExitStack() as stack:
        viewers: list[Program] = []
        served: set[str] = set()
        while served != gateway.workers().keys():
            assert len(viewers) < 30, served
            viewers.append(stack.enter_context(pull(url, seconds=None)))
            served.add(until(lambda: gateway.serving(viewers[-1]), "the viewer is connected"))
        yield viewers


def answers(gateway: Gateway) -> bool:
    """Whether its console is there."""
    with contextlib.suppress(OSError):
        return gateway.api("GET", "/servers").status == 200
    return False
