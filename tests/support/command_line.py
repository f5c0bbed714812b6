"""Runs commands of `millrace` without the CPU time of their imports.

A forked command runs the same code from its arguments on. How a command starts is judged by
`tests/integration/cli/test_cli.py` and by the tests of the wheel.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support import fork_server
from tests.support.time_outs import at_most

ROOT = fork_server.ROOT
_TIMEOUT = 60.0


def run_bytes(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", folder: Path = ROOT
) -> subprocess.CompletedProcess[bytes]:
    """Runs `millrace <arguments>` in the folder. env: all variables, by default those of the tests."""
    env = os.environ if env is None else env
    if not fork_server.is_usual(env):
        command = [sys.executable, "-m", "gateway", *arguments]
        env = {"PYTHONPATH": str(ROOT), **env}
        return subprocess.run(command, env=env, cwd=folder, input=stdin, capture_output=True, timeout=at_most(_TIMEOUT))
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        files = {0: given.fileno(), 1: output.fileno(), 2: errors.fileno()}
        process = fork_server.start_command(arguments, env, files, folder)
        try:
            code = process.wait(at_most(_TIMEOUT))
        finally:
            process.kill()
        for file in (output, errors):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, code, output.read(), errors.read())


def run(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "", folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Does the same with text."""
    done = run_bytes(*arguments, env=env, stdin=stdin.encode(), folder=folder)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
