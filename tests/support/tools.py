"""Programs that a test drives: missing is a failure under CI, a named skip on a developer's machine."""

import os
import shutil

import pytest


def need(*programs: str) -> None:
    """Skip (or, where CI is set, fail) unless every program is on PATH."""
    missing = [p for p in programs if shutil.which(p) is None]
    if not missing:
        return
    words = f"not installed: {', '.join(missing)}"
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)
