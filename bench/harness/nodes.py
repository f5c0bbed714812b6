"""A gateway that holds streams and a node that plays them from there, sharing one registry: what an edge costs."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from bench.harness.procs import tree
from bench.harness.servers import Gateway, Urls
from bench.harness.tap import Tap

SECRET = "load-bench-cluster-secret-0123456789abcdef"


class Edge(Gateway):
    """The playback edge."""

    name = "millrace-edge"
    verb: ClassVar[str] = "edge"


FAR: dict[str, type[Gateway]] = {"edge": Edge, "gateway": Gateway}


class Nodes:
    """`holder` takes the pushes, `far` plays them; both are started by `running`. tap: between them, where one is."""

    def __init__(self, far: str, flush_ms: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-nodes-"))
        self.holder = Gateway(flush_ms)
        self.far = FAR[far](flush_ms)
        self.tap: Tap | None = None
        shared = {
            "MILLRACE_REGISTRY": f"sqlite:///{self.folder}/registry.db",
            "MILLRACE_CHANNELS": f"sqlite:///{self.folder}/channels.db",
            "MILLRACE_CLUSTER__SECRET": SECRET,
        }
        self.holder.settings |= shared
        self.far.settings |= shared

    @contextlib.contextmanager
    def running(self, streams: int, *, packaged: bool = False, tapped: bool = False) -> Iterator[Urls]:
        """Both started, with so many channels; their addresses are the holder's. tapped: what `far` asks is counted."""
        try:
            with contextlib.ExitStack() as stack:
                if tapped:
                    self.tap = stack.enter_context(Tap())
                    self.holder.settings["MILLRACE_HTTP__ADVERTISE"] = f"127.0.0.1:{self.tap.port}"
                stack.callback(self.holder.stop)
                self.holder.start(packaged=packaged)
                if self.tap is not None:
                    self.tap.behind = self.holder.ports["http"] or 0
                stack.callback(self.far.stop)
                self.far.start(packaged=packaged)
                yield self.holder.streams(streams, packaged=packaged)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def at_far(self, urls: list[str]) -> list[str]:
        """The same addresses at the far node."""
        port = self.far.ports["http"]
        return [urlsplit(url)._replace(netloc=f"127.0.0.1:{port}").geturl() for url in urls]

    def upstream(self) -> int:
        """Connections that the far node has to the holder's playback listener now."""
        assert self.far.process is not None, "running"
        return connections(self.far.process.pid, self.holder.ports["http"] or 0)


def connections(root: int, port: int) -> int:
    """Established TCP connections of a process tree to a local port."""
    sockets = set()
    for pid in tree(root):
        with contextlib.suppress(OSError):
            sockets |= {_inode(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    found = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                to = int(fields[2].rpartition(":")[2], 16)
                found += to == port and fields[3] == "01" and fields[9] in sockets
    return found


def _inode(link: str) -> str:
    """Of a socket; "" for any other file."""
    with contextlib.suppress(OSError):
        target = os.readlink(link)
        if target.startswith("socket:["):
            return target[8:-1]
    return ""
