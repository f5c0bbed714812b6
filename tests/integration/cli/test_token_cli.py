"""The admin token: stored when it was shown, and replaced by `millrace token reset`."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.integration.cli.test_users_cli import done, millrace
from tests.support.clients import until
from tests.support.cores import Cores
from tests.support.gateway import Gateway
from tests.support.time_outs import at_most

NO_TOKEN = {"MILLRACE_ADMIN__TOKEN": ""}


@contextlib.contextmanager
def busy_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def printed(gateway: Gateway) -> str:
    """The token that the gateway has printed; it does so after it is ready."""
    return str(until(lambda: re.findall(r"^Admin token, shown only now: (\S+)$", gateway.log, re.M), "a token")[0])


def accepts(gateway: Gateway, token: str) -> bool:
    gateway.token = token
    return gateway.api("GET", "/videostream").status == 200


def test_a_failed_first_start_stores_no_token_and_the_next_one_prints_one(tmp_path: Path) -> None:
    with busy_port() as port:
        failed = Gateway(tmp_path, **NO_TOKEN, MILLRACE_RTMP__PORT=str(port))
        assert failed.process.wait(at_most(60)) == 1
    assert "Admin token" not in failed.log and not (failed.data / "admin.token").exists()
    (tmp_path / "again").mkdir()
    gateway = Gateway(tmp_path / "again", **NO_TOKEN, MILLRACE_DATA=str(failed.data))
    gateway.data = failed.data
    try:
        gateway.wait_ready()
        token = printed(gateway)
        assert accepts(gateway, token)
        until((gateway.data / "admin.token").exists, "the hash is stored")

        new = done(gateway.data, "token", "reset").strip()
        assert re.fullmatch(r"\S{40,}", new) and new != token
        until(lambda: accepts(gateway, new), "the running gateway accepts it")
        assert not accepts(gateway, token)
        assert new not in gateway.log
    finally:
        assert gateway.stop() == 0
    last = done(gateway.data, "token", "reset").strip()
    (tmp_path / "last").mkdir()
    (gateway.data / "ports.json").unlink()
    started = Gateway(tmp_path / "last", **NO_TOKEN, MILLRACE_DATA=str(failed.data))
    started.data = failed.data
    try:
        started.wait_ready()
        assert accepts(started, last) and not accepts(started, new)
        assert "Admin token" not in started.log
    finally:
        assert started.stop() == 0


def test_all_processes_of_a_host_accept_the_token_and_a_new_one(tmp_path: Path) -> None:
    gateway = Cores(tmp_path, 2, **NO_TOKEN)
    try:
        gateway.wait_ready()
        token = printed(gateway)
        until(lambda: all(accepts(gateway, token) for _ in range(20)), "both accept it")
        assert gateway.log.count("Admin token") == 1
        new = done(gateway.data, "token", "reset").strip()
        until(lambda: all(accepts(gateway, new) for _ in range(20)), "both accept the new one")
        until(lambda: not any(accepts(gateway, token) for _ in range(20)), "none accepts the old one")
    finally:
        assert gateway.stop() == 0


def test_a_token_cannot_be_reset_where_the_gateway_would_not_read_it(tmp_path: Path) -> None:
    missing = millrace(tmp_path / "none", "token", "reset")
    assert (missing.returncode, missing.stdout) == (1, "") and "no data folder" in missing.stderr
    assert not (tmp_path / "none").exists()
    configured = millrace(tmp_path, "token", "reset", "--set", "admin.token=sixteen-characters")
    assert (configured.returncode, configured.stdout) == (1, "") and "admin.token" in configured.stderr
    assert not list(tmp_path.iterdir())
