"""The worker's end of the link: blocking frames over the inherited socket, and what a worker does first of all."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.protocols import wire

_PIECE: Final = 1 << 18
_PR_SET_PDEATHSIG: Final = 1


class Link:
    """Frames to and from the gateway. `receive` belongs to one thread; `send` may be called from any."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._framer = wire.Framer()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._sending = threading.Lock()

    def receive(self) -> tuple[int, bytes] | None:
        """The next frame as (kind, body); None when the gateway has closed its end or is gone.

        Blocks. Raises InvalidData for what is no frame.
        """
        while not self._frames:
            try:
                data = self._socket.recv(_PIECE)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._frames.extend(self._framer.receive(data))
        return self._frames.popleft()

    def send(self, kind: int, body: bytes) -> None:
        """Blocks until the gateway's end has taken it: that is the back-pressure. Raises OSError when it is gone."""
        data = wire.frame(kind, body)
        with self._sending:
            self._socket.sendall(data)


def run(work: Callable[[Link], None]) -> int:
    """The main program of a worker, whose only argument is the number of the link's descriptor; its exit status.

    The worker ends with the gateway, whatever becomes of that: at the link's end of file, and on Linux by a signal
    where it hangs in native code. Signals that people and init systems send to the whole group are the gateway's to
    answer; it finishes its files and then ends its workers.
    """
    if len(sys.argv) != 2 or not sys.argv[1].isascii() or not sys.argv[1].isdigit():
        say("this program is started by the gateway")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    link = Link(int(sys.argv[1]))
    try:
        work(link)
    except (BrokenPipeError, ConnectionResetError):
        # The gateway has closed its end: nobody wants the rest.
        return 0
    return 0


def say(text: str) -> None:
    """To the gateway's log, by way of stderr: why this worker is about to end."""
    sys.stderr.write(text.rstrip() + "\n")


def leave(status: int) -> None:
    """Ends the process at once: threads that still encode are not waited for."""
    sys.stderr.flush()
    os._exit(status)


def _die_with_parent() -> None:
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went before the kernel knew
        leave(0)
