"""Checks whether other processes are alive. Returns a unique name of this process for a shared store."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress


def alive(pid: int) -> bool:
    """Whether a process with this number runs on this machine, also of another user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def owner() -> str:
    """Returns a unique name for this process: its machine, its number, and random digits."""
    return f"{_machine()}/{os.getpid()}/{secrets.token_hex(4)}"


def is_dead(name: str, own_name: str) -> bool:
    """Whether the process with this `owner` name has surely ended. For processes of other machines this is unknown.

    own_name: the name of the caller.
    """
    machine, _, rest = name.partition("/")
    pid = rest.partition("/")[0]
    if machine != _machine() or not (pid.isascii() and pid.isdigit() and len(pid) < 10):
        return False
    if int(pid) == os.getpid():
        return name != own_name  # an earlier process with this number
    return not alive(int(pid))


def _machine() -> str:
    """Returns the host name and the PID namespace. Containers with equal host names have separate process numbers."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    return f"{socket.gethostname()}+{namespace}"
