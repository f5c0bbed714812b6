"""Checks manifests with code of Kubernetes: kustomize and the Pod Security admission (`admission/main.go`)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.separate_environment import BUILD, making, run, separate_environment

_SOURCE = Path(__file__).with_name("admission")


def judge(kustomization: Path) -> dict[str, Any]:
    """Returns the rendered objects (`objects`), and messages of an API server about refused pods (`refused`)."""
    program = BUILD / "admission"
    with making("admission"):
        run("admission", _go(), "build", "-trimpath", "-mod=readonly", "-o", str(program), ".", folder=_SOURCE)
    done = subprocess.run([program, kustomization], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _go() -> str:
    """Returns the installed Go, or the one of the lock file if it is missing or too old."""
    own = shutil.which("go")
    if own:
        version = subprocess.run([own, "version"], capture_output=True, text=True, timeout=30, check=True).stdout
        needed = re.search(r"^go 1\.(\d+)", (_SOURCE / "go.mod").read_text(), re.M)
        found = re.search(r"go1\.(\d+)", version)
        if found and needed and int(found[1]) >= int(needed[1]):
            return own
    return str(separate_environment(_SOURCE / "go.lock") / "go")
