"""Child processes, a unique name of this process for a shared store, and a check whether a process is alive."""

import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.lib.numbers import read_integer

MAX_PID: Final = (1 << 31) - 1


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
    pid = read_integer(rest.partition("/")[0], MAX_PID)
    if machine != _machine() or pid is None:
        return False
    if pid == os.getpid():
        return name != own_name  # another name with this number is of an earlier process
    return not alive(pid)


def describe_exit(status: int) -> str:
    """Returns a text like `ended by SIGKILL` or `ended with status 3`. status: -n if signal n ended the process."""
    if -status in list(signal.Signals):
        return f"ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def with_python_path(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns a copy of the environment for a child process that runs code of this package.

    If the package is not installed (a checkout), adds its path to PYTHONPATH. So the child finds it from any folder.
    """
    root = Path(__file__).resolve().parents[2]
    result = dict(environment)
    if not root.is_relative_to(sys.prefix):
        result["PYTHONPATH"] = os.pathsep.join(p for p in (str(root), result.get("PYTHONPATH", "")) if p)
    return result


def _machine() -> str:
    """Returns the host name and the PID namespace. Containers with the same host name have separate process numbers."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    return f"{socket.gethostname()}+{namespace}"
