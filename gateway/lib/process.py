"""Processes: whether another one lives, and how one names itself to others that share a store."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress


def alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine, somebody else's included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def owner() -> str:
    """A name for what this process holds: its machine, its number, and chance."""
    return f"{_machine()}/{os.getpid()}/{secrets.token_hex(4)}"


def is_dead(name: str, own: str) -> bool:
    """Whether the owner `name` is known to be gone: on another machine nobody knows. own: of whoever asks."""
    machine, _, rest = name.partition("/")
    pid = rest.partition("/")[0]
    if machine != _machine() or not (pid.isascii() and pid.isdigit() and len(pid) < 10):
        return False
    if int(pid) == os.getpid():
        return name != own  # an earlier life under the same number
    return not alive(int(pid))


def _machine() -> str:
    """Host name and PID namespace: containers may share the one, and then count processes each by itself."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    return f"{socket.gethostname()}+{namespace}"
