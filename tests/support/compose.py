"""Reads compose files with the library of Docker Compose (`compose/main.go`), which needs no Docker engine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.go_programs import go_program
from tests.support.time_outs import at_most

_SOURCE = Path(__file__).with_name("compose")


def loaded(folder: Path, *files: str) -> dict[str, Any]:
    """Returns the project that Compose makes of the files: merged, with the variables of `folder/.env`.

    Fails if a file breaks the Compose specification, or if a service uses something that does not exist.
    """
    program = go_program("compose-files", _SOURCE)
    paths = [folder / name for name in files]
    done = subprocess.run([program, *paths], capture_output=True, text=True, timeout=at_most(60), check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
