"""Ports that servers of tests can open later."""

import contextlib
import random
import socket

# Below those that the kernel gives away (32768 on): otherwise another test may get the port before its server opens it.
_FIRST, _LAST = 15_000, 32_000


def free_ports(count: int, *hosts: str) -> list[int]:
    """Returns ports that are free now for TCP and UDP on all these addresses; by default on 127.0.0.1."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(_FIRST, _LAST)
        if port not in found and all(_is_free(host, port) for host in hosts or ("127.0.0.1",)):
            found.append(port)
    return found


def free_port() -> int:
    """Returns a free port of 127.0.0.1."""
    return free_ports(1)[0]


def _is_free(host: str, port: int) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                stack.enter_context(socket.socket(type=kind)).bind((host, port))
        except OSError:
            return False
    return True
