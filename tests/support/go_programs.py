"""Programs that a test builds with Go, from modules that `go.sum` locks."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.separate_environment import BUILD, making, run, separate_environment
from tests.support.time_outs import at_most

_GO_LOCK = Path(__file__).with_name("admission") / "go.lock"


def go_program(name: str, source: Path, package: str = ".") -> Path:
    """Builds a package of the module in `source`, and returns the program. Skips the test if that fails."""
    program = BUILD / name
    with making(name):
        run(name, _go(source), "build", "-trimpath", "-mod=readonly", "-o", str(program), package, folder=source)
    return program


def _go(source: Path) -> str:
    """Returns the installed Go, or the one of the lock file if it is missing or older than the module needs."""
    own = shutil.which("go")
    if own:
        version = subprocess.run(
            [own, "version"], capture_output=True, text=True, timeout=at_most(30), check=True
        ).stdout
        needed = re.search(r"^go 1\.(\d+)", (source / "go.mod").read_text(), re.M)
        found = re.search(r"go1\.(\d+)", version)
        if found and needed and int(found[1]) >= int(needed[1]):
            return own
    return str(separate_environment(_GO_LOCK) / "go")
