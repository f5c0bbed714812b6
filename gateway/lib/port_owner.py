"""Finds the program that listens on a port, from /proc on Linux."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from gateway.lib.network import url_host
from gateway.lib.numbers import read_integer
from gateway.lib.process import MAX_PID

# States of a socket in /proc/net/tcp and udp: TCP_LISTEN, and TCP_CLOSE for a UDP socket that is not connected.
_LISTENING: Final = {"tcp": "0A", "udp": "07"}
_MAX_COMMAND: Final = 4_096  # bytes of a command line
_OURS: Final = ("gateway", "millrace")  # the module in `python -m gateway`, and the installed command
# The options of listeners that have no section.
_OPTIONS: Final = {"agent": "cluster.agent_port", "srtla": "srt.srtla_port", "rtsps": "rtsp.tls_port"}


def port_in_use_text(
    name: str, port: int, host: str = "", proc: Path = Path("/proc"), transport: Literal["tcp", "udp"] = "tcp"
) -> str:
    """Returns the message for a port in use: its program, if it can be found, and how to choose another port.

    name: of the listener, which is usually also its section of the settings.
    """
    address = f"{url_host(host)}:{port}" if host else f"port {port}"
    if transport == "udp":
        address = f"UDP port {port} of {host}"
    option = _OPTIONS.get(name, f"{name}.port")
    owner = port_owner(port, proc, transport)
    return f"{address} is in use{f' by {owner}' if owner else ''}; choose another with --set {option}=…"


def port_owner(port: int, proc: Path = Path("/proc"), transport: Literal["tcp", "udp"] = "tcp") -> str:
    """Returns the program that listens on a port, such as "Millrace, pid 1234".

    Returns "" on other systems, and if the program belongs to another user.
    """
    state, tables = _LISTENING[transport], (transport, f"{transport}6")
    found = (inode for table in tables for inode in _listening(proc / "net" / table, port, state))
    sockets = {f"socket:[{inode}]" for inode in found}
    if not sockets or not proc.is_dir():
        return ""
    numbered = ((read_integer(process.name, MAX_PID), process) for process in proc.iterdir())
    for _, process in sorted((number, process) for number, process in numbered if number is not None):
        with suppress(OSError):  # the process has ended, or belongs to another user
            if any(_is_one_of(file, sockets) for file in (process / "fd").iterdir()):
                return f"{_program(process)}, pid {process.name}"
    return ""


def _listening(table: Path, port: int, state: str) -> list[str]:
    """Returns the inodes of the sockets that listen on a port. The format is described in proc(5), /proc/net/tcp."""
    with suppress(OSError):
        rows = (line.split() for line in table.read_text().splitlines()[1:])
        ending = f":{port:04X}"
        return [row[9] for row in rows if len(row) > 9 and row[3] == state and row[1].endswith(ending)]
    return []


def _is_one_of(file: Path, sockets: set[str]) -> bool:
    with suppress(OSError):  # closed meanwhile
        return os.readlink(file) in sockets
    return False


def _program(process: Path) -> str:
    """Returns Millrace, or the name of another program."""
    with (process / "cmdline").open("rb") as file:
        words = file.read(_MAX_COMMAND).decode(errors="replace").split("\0")
    module = words[words.index("-m") + 1 : words.index("-m") + 2] if "-m" in words else []
    if {*module, *(Path(word).name for word in words[:2])} & set(_OURS):
        return "Millrace"
    name = (process / "comm").read_text(errors="replace").strip()
    return "".join(c for c in name if c.isprintable()) or "another program"
