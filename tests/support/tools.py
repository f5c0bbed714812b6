"""Programs that a test needs: a missing one fails the test under CI and skips it elsewhere."""

import os
import shutil
from typing import NoReturn

import pytest


def need(*programs: str) -> None:
    """Skips the test, or fails it where CI is set, unless every program is on PATH."""
    missing = [p for p in programs if shutil.which(p) is None]
    if missing:
        lacking(f"not installed: {', '.join(missing)}")


def lacking(words: str) -> NoReturn:
    """Skips the test, or fails it where CI is set, because the machine lacks something."""
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)
