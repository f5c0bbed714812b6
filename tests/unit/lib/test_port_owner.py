"""The program that listens on a port, found in /proc."""

import os
import socket
from pathlib import Path

import pytest

from gateway.lib.port_owner import port_in_use_text, port_owner

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0\n"


def _proc(folder: Path, command: str, name: str, table: str = "tcp", state: str = "0A") -> Path:
    """A /proc with process 42, which has a socket on port 1935."""
    (folder / "net").mkdir()
    (folder / "net" / table).write_text(HEADER + ROW.format(address="00000000:078F", state=state, inode=777))
    process = folder / "42"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "3").symlink_to("socket:[777]")
    (process / "fd" / "4").symlink_to("/dev/null")
    (process / "cmdline").write_text(command.replace(" ", "\0"))
    (process / "comm").write_text(f"{name}\n")
    (folder / "7" / "fd").mkdir(parents=True)  # another process, which has ended meanwhile
    (folder / "self").symlink_to("42")
    return folder


@pytest.mark.parametrize(
    ("command", "name", "owner"),
    [
        ("/usr/bin/python3 -m gateway serve", "python3", "Millrace, pid 42"),
        ("/opt/venv/bin/python /opt/venv/bin/millrace serve", "millrace", "Millrace, pid 42"),
        ("millrace", "millrace", "Millrace, pid 42"),
        ("nginx: master process", "nginx", "nginx, pid 42"),
        ("/usr/bin/python3 -m http.server gateway", "python3", "python3, pid 42"),
    ],
)
def test_the_owner_is_found_by_its_socket(tmp_path: Path, command: str, name: str, owner: str):
    assert port_owner(1935, _proc(tmp_path, command, name)) == owner


def test_ipv6_sockets_are_found(tmp_path: Path):
    assert port_owner(1935, _proc(tmp_path, "nginx", "nginx", table="tcp6")) == "nginx, pid 42"


def test_connected_sockets_do_not_count_as_listeners(tmp_path: Path):
    assert port_owner(1935, _proc(tmp_path, "nginx", "nginx", state="01")) == ""


def test_without_proc_the_message_has_no_owner(tmp_path: Path):
    words = port_in_use_text("rtmp", 1935, "0.0.0.0", tmp_path / "nothing")
    assert words == "0.0.0.0:1935 is in use; choose another with --set rtmp.port=…"


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc of Linux")
def test_this_process_is_found():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert port_owner(taken.getsockname()[1]).endswith(f", pid {os.getpid()}")
