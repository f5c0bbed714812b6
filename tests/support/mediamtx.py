"""MediaMTX, if this machine has it."""

import os
import shutil

import pytest


def mediamtx_program() -> str:
    """Returns the path of the program. Skips the test without it, also in CI: neither Debian nor PyPI has it."""
    program = os.environ.get("BENCH_MEDIAMTX") or shutil.which("mediamtx")
    if not program:
        pytest.skip("MediaMTX: set BENCH_MEDIAMTX to its binary")
    return program
