"""The test support finds warnings of Python about unclosed resources in a gateway's log."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.fork_server import WARNINGS
from tests.support.gateway import faults
from tests.support.time_outs import at_most

_FORGETFUL = """
import socket
async def forgotten(): pass
forgotten()
socket.socket()
print("a line of its own")
"""


def test_warnings_about_a_coroutine_and_a_socket_are_found_in_the_log() -> None:
    environment = {**os.environ, "PYTHONWARNINGS": WARNINGS}
    run = subprocess.run(
        [sys.executable, "-c", _FORGETFUL], env=environment, capture_output=True, text=True, timeout=at_most(60)
    )
    found = faults(run.stderr + run.stdout)
    assert len(found) == 2, run.stderr
    assert "coroutine 'forgotten' was never awaited" in found[0]
    assert "unclosed <socket.socket" in found[1]
