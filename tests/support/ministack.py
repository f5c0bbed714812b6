"""MiniStack, a second double of AWS that is stricter than moto about DynamoDB.

It needs another botocore than the gateway, so it has its own virtual environment below build/, created once from
`ministack.lock`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.separate_environment import separate_environment
from tests.support.time_outs import at_most

_LOCK = Path(__file__).with_name("ministack.lock")


@contextlib.contextmanager
def ministack(folder: Path) -> Iterator[str]:
    """Runs an empty server with its files in the folder. Yields its address."""
    python = separate_environment(_LOCK) / "python"
    with socket.socket() as listener, (folder / "log").open("wb") as log:
        # The test opens the listening socket, so no other program can take the port, and an early client only waits.
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        port, fd = listener.getsockname()[1], listener.fileno()
        server = subprocess.Popen(
            [python, "-m", "hypercorn", "ministack.app:app", "--bind", f"fd://{fd}", "--workers", "0"],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_environment(folder, port),
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _reset(url, server, folder / "log")
        yield url
    finally:
        server.kill()
        server.wait(at_most(10))


@pytest.fixture(scope="session")
def ministack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one server for all tests of this process. It keeps data of earlier tests."""
    with ministack(tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture
def ministack_url(ministack_server: str) -> str:
    """The address of an empty server."""
    import requests

    requests.post(f"{ministack_server}/_ministack/reset", timeout=at_most(10)).raise_for_status()
    return ministack_server


def _environment(folder: Path, port: int) -> dict[str, str]:
    """The environment without AWS variables of the caller; all listeners are local."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
    own = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "LOG_LEVEL": "WARNING", "SFTP_ENABLED": "0"}
    return {**theirs, **own, "TMPDIR": str(folder), "S3_DATA_DIR": str(folder / "s3")}


def _reset(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    import requests

    try:
        requests.post(f"{url}/_ministack/reset", timeout=at_most(30)).raise_for_status()
    except requests.RequestException as e:
        pytest.fail(f"MiniStack does not start ({type(e).__name__}, exit {server.poll()}): {log.read_text()[-600:]}")
