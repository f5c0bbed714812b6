"""Two servers of PostgreSQL with synchronous replication, between which Patroni fails over. Its store is one etcd."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from bench.claims.world import Fault, World, primary_of
from bench.harness import paths
from bench.harness.procs import BenchError, Process, free_port, tree
from tests.support.gateway import http
from tests.support.postgres import programs

PASSWORD = "bench"
_NAME = "millrace"
_TTL, _LOOP, _RETRY = 20, 1, 3  # seconds; Patroni allows no smaller TTL
_STARTED, _HEALED = 90.0, 60.0


@dataclass
class Server:
    """A server under its own Patroni."""

    name: str
    port: int
    api: int
    process: Process
    data: Path

    @property
    def url(self) -> str:
        return f"postgresql://{_NAME}:{PASSWORD}@127.0.0.1:{self.port}/{_NAME}"

    @property
    def postmaster(self) -> int:
        """The process id of the server itself."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def send(self, what: signal.Signals) -> None:
        """Sends a signal to Patroni and to all processes of the server."""
        pids = {*tree(self.process.pid)}
        with contextlib.suppress(OSError, ValueError, IndexError):
            pids |= {*tree(self.postmaster)}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)

    def end(self) -> None:
        """Ends Patroni, and then the server, which Patroni may have left."""
        self.send(signal.SIGCONT)
        self.process.stop(10)
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.kill(self.postmaster, signal.SIGQUIT)


@dataclass
class Cluster:
    """Both servers."""

    servers: list[Server]

    @property
    def url(self) -> str:
        """The address for gateways, with both servers."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"postgresql://{_NAME}:{PASSWORD}@{hosts}/{_NAME}"

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    def state(self) -> dict[str, str]:
        """Returns the role of each server that streams or leads, by name, as one of the Patronis tells it."""
        for server in self.servers:
            with contextlib.suppress(OSError):
                members = http("GET", f"http://127.0.0.1:{server.api}/cluster", timeout=2).json()["members"]
                return {one["name"]: one["role"] for one in members if one["state"] in ("running", "streaming")}
        return {}

    def leader(self) -> Server:
        """Returns the primary."""
        roles = self.state()
        return next(server for server in self.servers if roles.get(server.name) == "leader")

    async def wait_healthy(self, seconds: float) -> None:
        """Waits until there is a primary with a synchronous standby."""
        end = time.monotonic() + seconds
        while sorted((await asyncio.to_thread(self.state)).values()) != ["leader", "sync_standby"]:
            if time.monotonic() > end:
                raise BenchError(f"Patroni has not healed in {seconds:.0f} s: {self.state()}")
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def patroni(folder: Path) -> AsyncIterator[Cluster]:
    """Runs etcd and both servers, with an empty database."""
    for name in ("etcd", "patroni"):
        if shutil.which(name) is None:
            raise BenchError(f"{name} is missing (Debian: patroni etcd-server)")
    folder.mkdir(parents=True)
    user = "postgres" if os.geteuid() == 0 else None
    for one in (folder, *folder.parents[:2]):
        one.chmod(0o755)
    async with contextlib.AsyncExitStack() as stack:
        etcd = _etcd(folder)
        stack.callback(etcd.stop, 5)
        etcd.wait_listening(_port_of(etcd))
        cluster = Cluster([])
        for name in ("alpha", "beta"):  # "first" is a word of synchronous_standby_names
            server = _server(folder / name, name, _port_of(etcd), user)
            stack.callback(server.end)
            cluster.servers.append(server)
        await _ready(cluster)
        yield cluster


def _etcd(folder: Path) -> Process:
    client, peer = free_port(), free_port()
    urls = {"client": f"http://127.0.0.1:{client}", "peer": f"http://127.0.0.1:{peer}"}
    command = ["etcd", "--data-dir", str(folder / "etcd"), "--name", "one", "--unsafe-no-fsync"]
    command += ["--enable-v2"]  # Patroni 3.0.2 keeps an old copy of its keys with the third version, after a SIGSTOP
    command += ["--listen-client-urls", urls["client"], "--advertise-client-urls", urls["client"]]
    command += ["--listen-peer-urls", urls["peer"], "--initial-advertise-peer-urls", urls["peer"]]
    command += ["--initial-cluster", f"one={urls['peer']}"]
    process = Process("etcd", command, cwd=folder, log=paths.LOGS / "etcd.log")
    process.port = client  # type: ignore[attr-defined]
    return process


def _port_of(etcd: Process) -> int:
    return int(etcd.port)  # type: ignore[attr-defined]


def _server(folder: Path, name: str, etcd: int, user: str | None) -> Server:
    folder.mkdir()
    if user is not None:
        shutil.chown(folder, user)
    port, api = free_port(), free_port()
    file = folder / "patroni.yml"
    file.write_text(json.dumps(_settings(folder, name, etcd, port, api)))
    file.chmod(0o644)
    command = ["patroni", str(file)]
    if user is not None:
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *command]
    process = Process(f"patroni {name}", command, cwd=folder, log=paths.LOGS / f"patroni-{name}.log")
    return Server(name, port, api, process, folder / "data")


def _settings(folder: Path, name: str, etcd: int, port: int, api: int) -> dict[str, Any]:
    access = [f"host {what} all 127.0.0.1/32 scram-sha-256" for what in ("all", "replication")]
    owner = {"username": _NAME, "password": PASSWORD}
    return {
        "scope": "bench",
        "name": name,
        "restapi": {"listen": f"127.0.0.1:{api}", "connect_address": f"127.0.0.1:{api}"},
        "etcd": {"host": f"127.0.0.1:{etcd}"},
        "bootstrap": {
            "dcs": {
                "ttl": _TTL,
                "loop_wait": _LOOP,
                "retry_timeout": _RETRY,
                "maximum_lag_on_failover": 1 << 20,
                "master_start_timeout": 0,  # a dead primary is not started again first
                "synchronous_mode": True,
                "postgresql": {"use_pg_rewind": True, "parameters": {"max_connections": 100}},
            },
            "initdb": ["data-checksums", {"encoding": "UTF8"}, {"locale": "C.UTF-8"}],
            "pg_hba": access,
        },
        "postgresql": {
            "listen": f"127.0.0.1:{port}",
            "connect_address": f"127.0.0.1:{port}",
            "data_dir": str(folder / "data"),
            "bin_dir": str(programs()),
            "pgpass": str(folder / "pgpass"),
            "authentication": {
                "superuser": owner,
                "replication": {"username": "replicator", "password": PASSWORD},
                "rewind": {"username": "rewinder", "password": PASSWORD},
            },
            "basebackup": {"checkpoint": "fast"},
            "parameters": {"unix_socket_directories": str(folder), "fsync": "off"},
        },
    }


async def _ready(cluster: Cluster) -> None:
    """Waits for both servers, and creates the database."""
    first = [url.rpartition("/")[0] + "/postgres" for url in cluster.urls]
    url = await primary_of(first, _STARTED)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE DATABASE {_NAME}")
    finally:
        await connection.close()
    await cluster.wait_healthy(_STARTED)


@dataclass
class PatroniFaults:
    """Faults of the primary. After each, both servers are healthy again."""

    world: World
    cluster: Cluster

    async def switchover(self) -> None:
        """Both servers change their roles, as for maintenance."""
        leader = await asyncio.to_thread(self.cluster.leader)
        candidate = next(server for server in self.cluster.servers if server is not leader)
        body = {"leader": leader.name, "candidate": candidate.name}
        asking = asyncio.to_thread(http, "POST", f"http://127.0.0.1:{leader.api}/switchover", body=body, timeout=60)
        task = asyncio.create_task(asking)
        await self._fail_over("switchover", leader)
        await task

    async def kill(self) -> None:
        """`kill -9` of the server; its Patroni still runs."""
        leader = await asyncio.to_thread(self.cluster.leader)
        os.kill(leader.postmaster, signal.SIGKILL)
        await self._fail_over("primary killed", leader)

    async def pause(self) -> None:
        """A machine that stands still (SIGSTOP of server and Patroni), until after another server is the primary."""
        leader = await asyncio.to_thread(self.cluster.leader)
        leader.send(signal.SIGSTOP)
        try:
            await self._fail_over("primary paused", leader, healthy=False)
            await asyncio.sleep(self.world.random.uniform(0, 3))
        finally:
            leader.send(signal.SIGCONT)
        await self.cluster.wait_healthy(_HEALED)

    async def _fail_over(self, kind: str, old: Server, *, healthy: bool = True) -> None:
        """Waits until another server answers. Encoders lose their pushes meanwhile."""
        began = time.monotonic()
        await asyncio.sleep(self.world.random.uniform(0, 1))
        self.world.drop_some()
        answered = await self.world.monitor.answer_of_other_than(old.url)
        self.world.faults.append(Fault(kind, began, answered))
        if healthy:
            await self.cluster.wait_healthy(_HEALED)
