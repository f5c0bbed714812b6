"""Virtual environments of programs for tests that are incompatible with the project's own environment.

Each is created once below build/, from a lock file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.time_outs import at_most
from tests.support.tools import lacking

BUILD = Path(__file__).parents[2] / "build"
_INSTALL_SECONDS = 300


def separate_environment(lock: Path) -> Path:
    """Returns the folder of the programs. The first caller installs them; skips the test if that fails."""
    mark = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = BUILD / f"{lock.stem}-{mark}"
    ready = folder / "ready"
    with making(lock.stem):
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            run(lock.stem, sys.executable, "-m", "venv", str(folder))
            pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--retries", "1")
            run(lock.stem, *pip, "--require-hashes", "-r", str(lock))
            ready.touch()
    return folder / "bin"


@contextlib.contextmanager
def making(name: str) -> Iterator[None]:
    """Locks the creation of what has this name, because several test processes start together."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f"{name}.making").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(name: str, *command: str, folder: Path | None = None) -> None:
    """Runs a command that creates what has this name; skips the test if it fails."""
    try:
        made = subprocess.run(
            command, capture_output=True, text=True, timeout=at_most(_INSTALL_SECONDS), check=False, cwd=folder
        )
    except subprocess.TimeoutExpired:
        lacking(f"{name} cannot be made: the package index does not answer")
    if made.returncode:
        lacking(f"{name} cannot be made: {(made.stderr or made.stdout).strip()[-300:]}")
