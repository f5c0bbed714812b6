"""Starts a worker of the master with its sockets, sends it messages, and waits for its end.

In this folder, a worker is one process of the node; see `gateway.processes.master`.
"""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from gateway.lib import held_signals
from gateway.lib.process import with_python_path
from gateway.processes.link_protocol import Begin, LineReader, LinkBroken, ProcessMessage, encode_message

log = structlog.get_logger(__name__)

_NOT_STARTED: Final = 1  # exit status if the process could not be started


class Child:
    """One worker process. `run` starts it and returns when it ends.

    command: the module and its arguments. `--link` and the link's descriptor are appended.
    ready: called when the worker accepts connections.
    """

    def __init__(self, command: Sequence[str], begin: Begin, ready: Callable[[], None]) -> None:
        self._command, self._begin, self._ready = command, begin, ready
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._unsent: list[bytes] = []  # messages to the worker, before the link was open
        self._killed = False
        self._silence: int | None = None  # see `count_silence`; None: not ready yet, or the link is closed

    async def run(self) -> int:
        """Runs until the process ends. Returns its exit code; -n if signal n ended it."""
        master_end, worker_end = socket.socketpair()
        with worker_end:
            try:
                self._process = await self._spawn(worker_end.fileno())
            except OSError as error:
                master_end.close()
                log.error("no worker can be started", reason=error.strerror or str(error))
                return _NOT_STARTED
        if self._killed:
            self.kill()
        reader, writer = await asyncio.open_unix_connection(sock=master_end)
        try:
            self._writer = writer
            writer.writelines((self._begin.encode(), *self._unsent))
            await self._listen(reader, self._process.pid)
            return await self._process.wait()
        finally:
            self._writer = None
            writer.close()

    def send(self, kind: ProcessMessage) -> None:
        """Sends a message. A worker that is starting receives it after BEGIN. If the worker has ended, does nothing."""
        if self._process is None or (self._writer is None and self._process.returncode is None):
            self._unsent.append(encode_message(kind))
        elif self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode_message(kind))

    def count_silence(self) -> int:
        """Returns the number of calls since the last message; 0 if the worker is not ready, or ends.

        This does not read the clock: after a pause of all processes, each of them has time to continue.
        """
        if self._silence is None:
            return 0
        self._silence += 1
        return self._silence

    def kill(self) -> None:
        """Kills the process at once."""
        self._killed = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _spawn(self, link: int) -> Process:
        sockets = [descriptor for descriptors in self._begin.sockets.values() for descriptor in descriptors]
        held_signals.hold()  # the child gets signals when it can drain; a supervisor may signal all processes
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", *self._command, "--link", str(link)),
                pass_fds=(link, *sockets),
                stdin=DEVNULL,
                env=with_python_path(os.environ),
            )
        finally:
            held_signals.deliver()

    async def _listen(self, reader: asyncio.StreamReader, pid: int) -> None:
        """Reads messages until the worker closes its end of the link. The worker closes it last."""
        lines = LineReader()
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self._silence:
                    self._silence = 0
                try:
                    messages = lines.receive(data)
                except LinkBroken as error:
                    log.error("a worker sent an invalid message", pid=pid, reason=str(error))
                    self.kill()
                    return
                if any(message.get("say") == ProcessMessage.READY for message in messages):
                    self._silence = 0
                    self._ready()
        self._silence = None
