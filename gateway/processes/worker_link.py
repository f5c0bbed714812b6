"""The worker's end of the link to its master. Provides the worker's slot, its sockets and the commands."""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog

from gateway.channels.addresses import OpenPorts
from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.lib.sockets import BACKLOG, ListenError, Transport
from gateway.processes.link_protocol import (
    ALIVE_SECONDS,
    MAX_SOCKETS,
    Begin,
    LineReader,
    LinkBroken,
    ProcessMessage,
    encode_message,
)

log = structlog.get_logger(__name__)

_BEGIN_SECONDS: Final = 10.0  # time-out for the first message


class WorkerLink:
    """The worker's end of the link. Owns the link's descriptor and the sockets that come over it."""

    def __init__(self, link: int) -> None:
        """Waits for the first message. link: the file descriptor (`--link`). Raises LinkBroken."""
        self._link = socket.socket(fileno=link)
        self._link.set_inheritable(False)
        self._lines = LineReader()
        self._early: list[dict[str, Any]] = []  # messages that arrived with the first message
        begin = self._receive_begin()
        self.slot: WorkerSlot = begin.slot
        self.ports: OpenPorts = begin.ports
        self._sockets = {name: [_adopt(number) for number in numbers] for name, numbers in begin.sockets.items()}
        self._on_command: Callable[[ProcessMessage], None] | None = None
        self._alive_timer: asyncio.TimerHandle | None = None

    def _receive_begin(self) -> Begin:
        self._link.settimeout(_BEGIN_SECONDS)
        descriptors: list[int] = []
        try:
            while True:
                data, more, _, _ = socket.recv_fds(self._link, 65_536, MAX_SOCKETS)
                descriptors += more
                if not data:
                    break
                if messages := self._lines.receive(data):
                    begin, *self._early = messages
                    return Begin.decode(begin, descriptors)
        except TimeoutError:
            pass
        self._link.close()
        raise LinkBroken("no master answers on the link")

    def sockets(self, name: str, host: str, port: int, transport: Transport = "tcp") -> list[socket.socket]:
        """Returns the sockets of a listener; the caller then owns them. This method is an Opener.

        Raises ListenError if the master has not opened this listener.
        """
        sockets = self._sockets.pop(name, None)
        if sockets is None:
            raise ListenError(f"{name}: the master has opened no port for it: restart the master")
        for sock in sockets:
            if sock.type is socket.SOCK_STREAM:
                sock.listen(BACKLOG)  # it does not listen if an earlier worker with it has died
        return sockets

    # ---- messages ----

    def listen(self, on_command: Callable[[ProcessMessage], None]) -> None:
        """Calls `on_command` with each OPENED, RETIRE and STOP. If the master has ended, calls it with STOP.

        Also begins to tell the master that this worker is alive.
        """
        self._on_command = on_command
        self._link.setblocking(False)
        asyncio.get_running_loop().add_reader(self._link.fileno(), self._readable)
        self._tell_alive()
        self._obey(self._early)

    def report_ready(self) -> None:
        """Reports to the master that this worker accepts connections."""
        try:
            self._link.sendall(encode_message(ProcessMessage.READY))
        except OSError as error:
            log.warning("the master does not listen", reason=error.strerror)

    def close(self) -> None:
        """Closes the link, and the sockets that `sockets` has not returned."""
        if self._on_command is not None:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._on_command = None
        if self._alive_timer is not None:
            self._alive_timer.cancel()
        self._link.close()
        for sockets in self._sockets.values():
            for sock in sockets:
                sock.close()
        self._sockets = {}

    def _tell_alive(self) -> None:
        with suppress(OSError):  # the master is gone, or reads nothing
            self._link.send(encode_message(ProcessMessage.ALIVE))
        self._alive_timer = asyncio.get_running_loop().call_later(ALIVE_SECONDS, self._tell_alive)

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
            self._on_command(ProcessMessage.STOP)
            return
        self._obey(self._lines.receive(data))

    def _obey(self, messages: list[dict[str, Any]]) -> None:
        assert self._on_command is not None, "`listen` sets it"
        for message in messages:
            if message.get("say") in (ProcessMessage.OPENED, ProcessMessage.RETIRE, ProcessMessage.STOP):
                self._on_command(ProcessMessage(message["say"]))


def _adopt(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)
