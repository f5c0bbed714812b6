"""The real HAProxy with `proxy/haproxy/haproxy.cfg`; variables set its ports, names and certificate."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.clients import Program, until
from tests.support.free_ports import free_ports
from tests.support.http import Wire
from tests.support.time_outs import at_most
from tests.support.tools import need

CONFIG = Path(__file__).resolve().parents[2] / "proxy" / "haproxy" / "haproxy.cfg"
GATEWAYS, PLAYERS = "gateways.example", "edges.example"  # the names by which HAProxy finds gateways and edges
SOURCE = "127.0.0.2"  # the address of HAProxy that gateways see
_LISTENERS = ("rtmp", "rtmps", "http", "https", "ws", "wss", "metrics")


@dataclass(frozen=True)
class Front:
    """A running HAProxy. ports: by listener as in `ports.json`, and `metrics`."""

    ports: dict[str, int]
    program: Program
    socket_path: Path

    @property
    def log(self) -> str:
        """Its log until now: connections of encoders, and servers that came and went."""
        return self.program.output + self.program.errors

    def ask(self, command: str) -> str:
        """Sends one command to its admin socket and returns the answer."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(at_most(10))
            admin.connect(str(self.socket_path))
            admin.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode()

    def servers(self, backend: str) -> dict[str, str]:
        """Addresses and states (`UP`, `DOWN`, `DOWN (agent)`, …) of a backend's servers with an address."""
        rows = csv.DictReader(self.ask("show stat -1 4 -1").removeprefix("# ").splitlines())
        state = {row["svname"]: row["status"] for row in rows if row["pxname"] == backend}
        address: dict[str, str] = {}
        for line in self.ask(f"show servers state {backend}").splitlines()[2:]:
            if words := line.split():
                address[words[3]] = words[4]
        return {address[name]: state[name] for name in state if address.get(name, "-") != "-"}

    def up(self, backend: str) -> set[str]:
        """The addresses of servers whose state starts with UP: they accept new connections."""
        return {address for address, state in self.servers(backend).items() if state.startswith("UP")}

    def wait_up(self, backend: str, *addresses: str, timeout: float = 20.0) -> None:
        """Waits until exactly these servers accept new connections."""
        until(lambda: self.up(backend) == set(addresses), f"{backend} is {addresses}", timeout)


def checked(**variables: str) -> Program:
    """Runs `haproxy -c` on the configuration with these variables and waits for its end."""
    need("haproxy")
    program = Program(["haproxy", "-c", "-dD", "-f", str(CONFIG)], env=variables)
    program.process.wait(at_most(20))
    return program


@contextlib.contextmanager
def haproxy(dns: str, certificate: Path | None = None, **variables: str) -> Iterator[Front]:
    """Runs HAProxy on free ports. dns: address:port of the name server. variables: FRONT_ variables."""
    need("haproxy")
    # If root starts HAProxy, the socket must not be in a private folder of another user.
    with tempfile.TemporaryDirectory(prefix="millrace-haproxy-") as folder:
        path = Path(folder) / "admin"
        ports = dict(zip(_LISTENERS, free_ports(len(_LISTENERS), "127.0.0.1"), strict=True))
        env = {f"FRONT_{name.upper()}": f"127.0.0.1:{port}" for name, port in ports.items()}
        env |= {"FRONT_DNS": dns, "FRONT_GATEWAYS": GATEWAYS, "FRONT_SOURCE": SOURCE, "FRONT_SOCKET": str(path)}
        env |= {"FRONT_MOST": "4"} | ({"FRONT_CERT": str(certificate)} if certificate is not None else {})
        with Program(["haproxy", "-db", "-f", str(CONFIG)], env={**os.environ, **env, **variables}) as program:
            front = Front(ports, program, path)

            def listening() -> bool:
                assert program.running, f"HAProxy ended: {front.log[-2000:]}"
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    return bool(front.ask("show version"))
                return False

            until(listening, "HAProxy runs")
            yield front


@contextlib.asynccontextmanager
async def wire(port: int, *, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Opens an HTTP/1.1 connection to one of its ports from a local address."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, local_addr=(source, 0), ssl=tls, server_hostname="localhost" if tls else None
    )
    opened = Wire(reader, writer)
    try:
        yield opened
    finally:
        await opened.close()
