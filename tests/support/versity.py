"""The Versity S3 gateway: a server that is compatible with S3 and keeps objects in a folder.

`deploy/compose.fleet.yaml` runs the same version. Go builds it once, below build/, in one to three minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.clients import until
from tests.support.free_ports import free_ports
from tests.support.gateway import http
from tests.support.go_programs import go_program
from tests.support.time_outs import at_most

SOURCE = Path(__file__).with_name("versity")
ACCESS_KEY, SECRET_KEY = "millrace", "the secret of the store"
BUCKET = "recordings"


@dataclass(frozen=True)
class Versity:
    """A running server. folder: has a folder for each bucket, with its objects as files."""

    folder: Path
    url: str

    def settings(self, **other: str) -> dict[str, str]:
        """Returns the variables of a gateway whose objects are in the bucket. other: other options of `[s3]`."""
        values = {"ENDPOINT": self.url, "PATH_STYLE": "true", "ACCESS_KEY": ACCESS_KEY, "SECRET_KEY": SECRET_KEY}
        return {"MILLRACE_OBJECTS": f"s3://{BUCKET}"} | {f"MILLRACE_S3__{n}": v for n, v in (values | other).items()}

    def stored(self, bucket: str = BUCKET) -> list[str]:
        """Returns the keys of the objects, without unfinished uploads."""
        root = self.folder / bucket
        found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        return sorted(str(path) for path in found if not path.parts[0].startswith(".sgw"))


def program() -> Path:
    """Returns the program. Skips the test if it cannot be built."""
    return go_program("versitygw", SOURCE, "github.com/versity/versitygw/cmd/versitygw")


@contextmanager
def versity(folder: Path, environ: Mapping[str, str]) -> Iterator[Versity]:
    """Runs the server on a free port, with the folder's own folders as buckets. environ: its VGW_ variables."""
    port = free_ports(1)[0]
    own = {"VGW_PORT": f"127.0.0.1:{port}", "VGW_HEALTH": "/health", "VGW_QUIET": "true"}
    url = f"http://127.0.0.1:{port}"
    with (folder.parent / "versity.log").open("wb") as log:
        server = subprocess.Popen(
            [program(), "posix", folder], env={**os.environ, **environ, **own}, stdout=log, stderr=log
        )
    try:
        until(lambda: server.poll() is not None or _healthy(url), "the store answers")
        assert server.poll() is None, (folder.parent / "versity.log").read_text()
        yield Versity(folder, url)
    finally:
        server.terminate()
        server.wait(at_most(10))


def _healthy(url: str) -> bool:
    try:
        return http("GET", f"{url}/health", timeout=2).status == 200
    except OSError:
        return False


@pytest.fixture(scope="session")
def versity_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versity]:
    """Yields one server for all tests of this process."""
    folder = tmp_path_factory.mktemp("versity") / "buckets"
    folder.mkdir()
    keys = {"ROOT_ACCESS_KEY_ID": ACCESS_KEY, "ROOT_SECRET_ACCESS_KEY": SECRET_KEY}
    with versity(folder, keys) as server:
        yield server


@pytest.fixture
def store(versity_server: Versity) -> Versity:
    """Yields the server with an empty bucket."""
    shutil.rmtree(versity_server.folder / BUCKET, ignore_errors=True)
    (versity_server.folder / BUCKET).mkdir()
    return versity_server
