"""The running child processes of a process, as the kernel lists them, which is faster than reading all of `/proc`."""

import contextlib
import os
from pathlib import Path


def children(program: str = "", parent: int | None = None) -> list[int]:
    """Returns the children whose command line contains `program`. parent: this process if None."""
    found = []
    with contextlib.suppress(OSError):  # the parent has ended
        for task in Path(f"/proc/{os.getpid() if parent is None else parent}/task").iterdir():
            with contextlib.suppress(OSError):  # the thread has ended
                found += [int(pid) for pid in (task / "children").read_text().split()]
    commands = {pid: _command(pid) for pid in found}
    return [pid for pid, command in commands.items() if command and program in command]


def _command(pid: int) -> str:
    """The command line; "" for a process that has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return ""
