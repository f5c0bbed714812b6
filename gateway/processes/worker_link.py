"""WorkerLink: a worker's end of the link to its master. Provides its slot, its inherited sockets and the commands."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

import structlog

from gateway.channels.addresses import OpenPorts
from gateway.cluster.worker_slot import WorkerSlot
from gateway.lib.sockets import ListenError
from gateway.processes.link_protocol import Begin, Lines, LinkBroken, WorkerCommand, line

log = structlog.get_logger(__name__)

_FIRST_WORD_SECONDS: Final = 10.0


class WorkerLink:
    """A worker's end of the link. Owns the link's descriptor (`--link`) and the sockets. Raises LinkBroken."""

    def __init__(self, link: int) -> None:
        self._link = socket.socket(fileno=link)
        self._link.set_inheritable(False)
        self._lines = Lines()
        begin = self._first_word()
        self.slot: WorkerSlot = begin.slot
        self.ports: OpenPorts = begin.ports
        self._sockets = {name: [_adopted(descriptor) for descriptor in found] for name, found in begin.sockets.items()}
        self._on_command: Callable[[WorkerCommand], None] | None = None

    def _first_word(self) -> Begin:
        self._link.settimeout(_FIRST_WORD_SECONDS)
        try:
            while data := self._link.recv(65_536):
                for said in self._lines.receive(data):
                    if said.get("say") == WorkerCommand.BEGIN:
                        return Begin.decode(said)
        except TimeoutError:
            pass
        raise LinkBroken("no master is at the other end")

    def sockets(self, name: str, host: str, port: int) -> list[socket.socket]:
        """Returns the sockets of a listener, which the caller then owns. An Opener. Raises ListenError."""
        found = self._sockets.pop(name, None)
        if found is None:
            raise ListenError(f"{name}: the master has opened no port for it: restart it")
        return found

    # ---- messages ----

    def listen(self, on_command: Callable[[WorkerCommand], None]) -> None:
        """Calls `on_command` with each OPENED, RETIRE and STOP. Calls it with STOP too if the master is gone."""
        self._on_command = on_command
        self._link.setblocking(False)
        asyncio.get_running_loop().add_reader(self._link.fileno(), self._readable)

    def ready(self) -> None:
        """Tells the master that this worker serves."""
        try:
            self._link.sendall(line(WorkerCommand.READY))
        except OSError as error:
            log.warning("the master does not listen", reason=error.strerror)

    def close(self) -> None:
        """Closes the link and the sockets that were not taken."""
        if self._on_command is not None:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._on_command = None
        self._link.close()
        for left in (one for found in self._sockets.values() for one in found):
            left.close()
        self._sockets = {}

    def _readable(self) -> None:
        assert self._on_command is not None, "it is read only while somebody listens"
        try:
            data = self._link.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            log.error("the master is gone")
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._on_command(WorkerCommand.STOP)
            return
        for said in self._lines.receive(data):
            if said.get("say") in (WorkerCommand.OPENED, WorkerCommand.RETIRE, WorkerCommand.STOP):
                self._on_command(WorkerCommand(said["say"]))


def _adopted(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)
