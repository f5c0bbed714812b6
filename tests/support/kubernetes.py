"""Checks manifests with code of Kubernetes: kustomize and the Pod Security admission (`admission/main.go`)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.go_programs import go_program
from tests.support.time_outs import at_most

_SOURCE = Path(__file__).with_name("admission")


def judge(kustomization: Path) -> dict[str, Any]:
    """Returns the rendered objects (`objects`), and messages of an API server about refused pods (`refused`)."""
    program = go_program("admission", _SOURCE)
    done = subprocess.run([program, kustomization], capture_output=True, text=True, timeout=at_most(60), check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
