"""What a test needs of its machine: missing is a failure under CI, a named skip on a developer's machine."""

import os
import shutil
from typing import NoReturn

import pytest


def need(*programs: str) -> None:
    """Skip (or, where CI is set, fail) unless every program is on PATH."""
    missing = [p for p in programs if shutil.which(p) is None]
    if missing:
        lacking(f"not installed: {', '.join(missing)}")


def lacking(words: str) -> NoReturn:
    """Skip (or, where CI is set, fail): this machine has not what the test needs."""
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)
