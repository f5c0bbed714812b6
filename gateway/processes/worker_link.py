"""The worker's end of the link to its master. Provides the worker's slot, its inherited sockets and the commands."""

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
from gateway.processes.link_protocol import Begin, LineReader, LinkBroken, WorkerCommand, encode_message

log = structlog.get_logger(__name__)

_BEGIN_SECONDS: Final = 10.0  # time-out for the first message


class WorkerLink:
    """The worker's end of the link. Owns the link's descriptor and the inherited sockets."""

    def __init__(self, link: int) -> None:
        """Waits for the first message. link: the file descriptor (`--link`). Raises LinkBroken."""
        self._link = socket.socket(fileno=link)
        self._link.set_inheritable(False)
        self._lines = LineReader()
        begin = self._receive_begin()
        self.slot: WorkerSlot = begin.slot
        self.ports: OpenPorts = begin.ports
        self._sockets = {name: [_adopt(number) for number in numbers] for name, numbers in begin.sockets.items()}
        self._on_command: Callable[[WorkerCommand], None] | None = None

    def _receive_begin(self) -> Begin:
        self._link.settimeout(_BEGIN_SECONDS)
        try:
            while data := self._link.recv(65_536):
                for message in self._lines.receive(data):
                    if message.get("say") == WorkerCommand.BEGIN:
                        return Begin.decode(message)
        except TimeoutError:
            pass
        raise LinkBroken("no master answers on the link")

    def sockets(self, name: str, host: str, port: int) -> list[socket.socket]:
        """Returns the sockets of a listener; the caller then owns them. This method is an Opener.

        Raises ListenError if the master has not opened this listener.
        """
        sockets = self._sockets.pop(name, None)
        if sockets is None:
            raise ListenError(f"{name}: the master has opened no port for it: restart it")
        return sockets

    # ---- messages ----

    def listen(self, on_command: Callable[[WorkerCommand], None]) -> None:
        """Calls `on_command` with each OPENED, RETIRE and STOP. If the master has ended, calls it with STOP."""
        self._on_command = on_command
        self._link.setblocking(False)
        asyncio.get_running_loop().add_reader(self._link.fileno(), self._readable)

    def ready(self) -> None:
        """Reports to the master that this worker accepts connections."""
        try:
            self._link.sendall(encode_message(WorkerCommand.READY))
        except OSError as error:
            log.warning("the master does not listen", reason=error.strerror)

    def close(self) -> None:
        """Closes the link, and the sockets that `sockets` has not returned."""
        if self._on_command is not None:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._on_command = None
        self._link.close()
        for sockets in self._sockets.values():
            for sock in sockets:
                sock.close()
        self._sockets = {}

    def _readable(self) -> None:
        assert self._on_command is not None, "`listen` sets it"
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
        for message in self._lines.receive(data):
            if message.get("say") in (WorkerCommand.OPENED, WorkerCommand.RETIRE, WorkerCommand.STOP):
                self._on_command(WorkerCommand(message["say"]))


def _adopt(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)
