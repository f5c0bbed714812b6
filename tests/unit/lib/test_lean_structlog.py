"""The program does not load optional dependencies of structlog."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import gateway.program, gateway.app.gateway
print(*sorted(sys.modules.keys() & {"rich", "greenlet", "pygments"}), "structlog" in sys.modules)
import rich
"""


def test_the_gateway_loads_neither_rich_nor_greenlet() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
