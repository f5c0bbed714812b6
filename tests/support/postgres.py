"""A PostgreSQL server of the tests."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.free_ports import free_ports
from tests.support.time_outs import at_most

PASSWORD = "a password/with @ signs"
_QUOTED = "a%20password%2Fwith%20%40%20signs"


def programs() -> Path:
    """Returns the folder of Debian's programs of the newest installed version."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


class Postgres:
    """A server on loopback. It does not run as root, because PostgreSQL refuses that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self.user = "postgres" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        if self.user is not None:
            shutil.chown(folder, self.user)
            folder.chmod(0o755)
        file = folder / "password"
        file.write_text(PASSWORD)
        file.chmod(0o644)
        self._run(
            *("initdb", "-D", self.data, "-U", "millrace", "--auth=scram-sha-256", f"--pwfile={file}"),
            *("--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"),
        )

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def _run(self, name: str, *arguments: str) -> str:
        command = [str(programs() / name), *arguments]
        environ = {**os.environ, "PGPASSWORD": PASSWORD}
        done = subprocess.run(
            command, user=self.user, cwd="/", env=environ, capture_output=True, text=True, timeout=at_most(60)
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        options = ("fsync=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(programs() / "postgres"), "-D", self.data, "-p", str(self.port)),
                    *itertools.chain.from_iterable(("-c", option) for option in options),
                ],
                user=self.user,
                cwd="/",
                stdout=log,
                stderr=log,
            )
        ready = [str(programs() / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]
        for _ in range(300):
            if subprocess.run(ready, stdout=subprocess.DEVNULL).returncode == 0:
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        raise AssertionError("PostgreSQL does not start")

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT: at once, like a crash; connections break, and unlogged tables are empty afterwards."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(at_most(30))
            self._process = None

    def send(self, what: signal.Signals) -> None:
        """Sends a signal to all processes of the server, such as SIGSTOP."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with suppress(ProcessLookupError):  # a process of a client may end meanwhile
                os.kill(pid, what)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Returns the output of psql, without headers."""
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "millrace", "-d", database)
        return self._run("psql", *where, "-v", "ON_ERROR_STOP=1", "-qtA", "-c", statement).strip()

    def use_tls(self, certificate: Path, key: Path) -> None:
        """From now on, new connections may use TLS."""
        for name, source in {"server.crt": certificate, "server.key": key}.items():
            target = Path(self.data, name)
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            if self.user is not None:
                shutil.chown(target, self.user)
        self.sql("ALTER SYSTEM SET ssl = on")
        self.sql("SELECT pg_reload_conf()")

    def new_database(self) -> str:
        """Creates an empty database and returns its URL."""
        name = f"test{next(self._names)}"
        self.sql(f"CREATE DATABASE {name} STRATEGY file_copy")
        return self.url(name)

    def url(self, database: str, port: int = 0) -> str:
        return f"postgresql://millrace:{_QUOTED}@127.0.0.1:{port or self.port}/{database}"


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Yields a running server."""
    with tempfile.TemporaryDirectory(prefix="millrace-postgres-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Yields one server for all tests that do not stop it. Each makes a database of its own."""
    with postgres_server() as server:
        yield server


@contextmanager
def pgbouncer(server: Postgres, connections: int) -> Iterator[int]:
    """Yields the port of PgBouncer in transaction mode, with this number of connections to the server."""
    port = free_ports(1)[0]
    (server.folder / "users").write_text(f'"millrace" "{PASSWORD}"\n')
    config = server.folder / "pgbouncer.ini"
    config.write_text(f"""[databases]
* = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {server.folder / "users"}
pool_mode = transaction
default_pool_size = {connections}
""")
    for file in (config, server.folder / "users"):
        file.chmod(0o644)
    with (server.folder / "pgbouncer.log").open("ab") as log:
        program = subprocess.Popen(["pgbouncer", str(config)], user=server.user, cwd="/", stdout=log, stderr=log)
    try:
        ready = [str(programs() / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
        for _ in range(300):
            if subprocess.run(ready, stdout=subprocess.DEVNULL).returncode == 0:
                break
            assert program.poll() is None, (server.folder / "pgbouncer.log").read_text()
        yield port
    finally:
        program.send_signal(signal.SIGTERM)  # an immediate shutdown
        program.wait(30)
