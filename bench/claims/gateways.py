"""Gateways under a witness, on fixed addresses, that are killed, stopped and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.claims.history import Call, Read, Service, Stop, of_witness
from bench.claims.publishers import Address
from bench.harness import paths
from bench.harness.procs import BenchError
from tests.support.gateway import Reply, http
from tests.support.haproxy import free_ports

TOKEN = "the token of the bench"
_PORTS = ("rtmp", "http", "ws", "admin")
_READY = 60.0


@dataclass
class Gateway:
    """One address with a sequence of processes: `one.1`, `one.2` and so on.

    shift: seconds that its time of day is ahead. linger: seconds for which its streams linger.
    url: of the database, without the name of the process.
    runs: name and end of each process; inf: it runs.
    """

    name: str
    host: str
    ports: dict[str, int]
    folder: Path
    url: str
    shift: float = 0.0
    linger: float = 10.0
    stops: list[Stop] = field(default_factory=list)
    runs: dict[str, float] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        return Address(self.name, self.host, self.ports["rtmp"])

    @property
    def process(self) -> str:
        """The name of its newest process."""
        return f"{self.name}.{len(self.runs)}"

    def start(self) -> None:
        """Starts the next process. Returns at once."""
        self.runs[f"{self.name}.{len(self.runs) + 1}"] = float("inf")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "data" / "ports.json").unlink(missing_ok=True)
        witness = ("-m", "bench.claims.witness", str(self.folder / self.process), str(self.shift), "serve")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *witness],
                env=self._environment(),
                cwd=paths.PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        settings = {
            "DATA": str(self.folder / "data"),
            "DATABASE": f"{self.url}{'&' if '?' in self.url else '?'}application_name={self.process}",
            "CLUSTER__SECRET": "what all nodes of the bench share",
            "SIGNING__SECRET": "what keys of the bench are signed with",
            "ADMIN__TOKEN": TOKEN,
            "HTTP__ADVERTISE": f"{self.host}:{self.ports['http']}",
            "WEBRTC__PORT": "0",
            "WEBRTC__HOST": self.host,
            "STREAM__LINGER": str(self.linger),
            "LOG__FORMAT": "json",
        }
        for name in _PORTS:
            settings |= {f"{name.upper()}__HOST": self.host, f"{name.upper()}__PORT": str(self.ports[name])}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        return kept | {f"MILLRACE_{name}": value for name, value in settings.items()}

    def wait_ready(self) -> None:
        """Waits until all listeners are open."""
        end = time.monotonic() + _READY
        while not (self.folder / "data" / "ports.json").exists():
            if self._process is None or self._process.poll() is not None or time.monotonic() > end:
                raise BenchError(f"{self.process} does not start: {self.log[-1000:]}")
            time.sleep(0.02)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def api(self, method: str, path: str, body: object = None) -> Reply:
        """Sends a request to the API."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return http(method, f"http://{self.host}:{self.ports['admin']}{path}", body=body, headers=headers)

    # ---- faults ----

    def kill(self) -> None:
        """Ends the process at once (SIGKILL)."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        self.runs[self.process] = time.monotonic()
        self.stops.append(Stop(self.process, began, float("inf"), killed=True))

    @contextlib.contextmanager
    def paused(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[misc]
        """Stops the process (SIGSTOP) during the block."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield  # type: ignore[misc]
        finally:
            self._process.send_signal(signal.SIGCONT)
            self.stops.append(Stop(self.process, began, time.monotonic()))

    def end(self) -> None:
        """Ends the process properly."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self.runs[self.process] = time.monotonic()

    # ---- the witness ----

    def seen(self) -> tuple[list[Call], list[Read], list[Service]]:
        """Returns what all its processes asked, were told and served."""
        calls: list[Call] = []
        reads: list[Read] = []
        services: list[Service] = []
        for process, ended in self.runs.items():
            file = self.folder / process
            lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
            found = of_witness(process, lines, min(ended, time.monotonic()))
            calls += found[0]
            reads += found[1]
            services += found[2]
        return calls, reads, services


def gateways(folder: Path, urls: dict[str, str], kinds: dict[str, tuple[float, float]]) -> dict[str, Gateway]:
    """Returns gateways by name, not started yet. kinds: shift and linger by name."""
    hosts = {name: f"127.0.0.{number}" for number, name in enumerate(urls, 51)}
    ports = dict(zip(_PORTS, free_ports(len(_PORTS), *hosts.values()), strict=True))
    return {name: Gateway(name, host, ports, folder / name, urls[name], *kinds[name]) for name, host in hosts.items()}
