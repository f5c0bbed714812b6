"""Child: the master's view of one worker process. Starts it with its sockets, sends it commands, waits for its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from gateway.processes.link_protocol import Begin, Lines, LinkBroken, WorkerCommand, line

log = structlog.get_logger(__name__)

_NOT_STARTED: Final = 1  # exit status if the process could not be started


class Child:
    """One worker process. `run` starts it and returns when it ends.

    command: the module and its arguments; `--link` and the link's descriptor are appended.
    ready: called when the worker serves.
    """

    def __init__(self, command: Sequence[str], begin: Begin, ready: Callable[[], None]) -> None:
        self._command = command
        self._begin = begin
        self._ready = ready
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._unsent: list[bytes] = []  # commands from before the link was open
        self._killed = False

    @property
    def pid(self) -> int:
        """Process id; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    async def run(self) -> int:
        """Runs until the process ends. Returns its exit code; -n if signal n ended it."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await self._spawn(theirs.fileno())
            except OSError as error:
                ours.close()
                log.error("no worker can be started", reason=error.strerror or str(error))
                return _NOT_STARTED
        if self._killed:
            self.kill()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            self._writer = writer
            for words in (self._begin.encode(), *self._unsent):
                writer.write(words)
            await self._listen(reader)
            return await self._process.wait()
        finally:
            self._writer = None
            writer.close()

    def tell(self, word: WorkerCommand) -> None:
        """Sends a command. A worker that is just starting gets it after BEGIN; one that has ended does not get it."""
        if self._process is None or (self._writer is None and self._process.returncode is None):
            self._unsent.append(line(word))
        elif self._writer is not None and not self._writer.is_closing():
            self._writer.write(line(word))

    def kill(self) -> None:
        """Kills the process at once."""
        self._killed = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _spawn(self, link: int) -> Process:
        sockets = [descriptor for found in self._begin.sockets.values() for descriptor in found]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", *self._command, "--link", str(link)),
            pass_fds=(link, *sockets),
            stdin=DEVNULL,
            env=_environment(),
        )

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Reads messages until the worker closes its end of the link, which is its last action."""
        lines = Lines()
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                try:
                    said = lines.receive(data)
                except LinkBroken as error:
                    log.error("a worker makes no sense", pid=self.pid, reason=str(error))
                    self.kill()
                    return
                if any(one.get("say") == WorkerCommand.READY for one in said):
                    self._ready()


def describe_exit(status: int) -> str:
    """Returns words such as `ended by SIGKILL` or `ended with status 3`."""
    if -status in list(signal.Signals):
        return f"ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _environment() -> dict[str, str]:
    """Returns this process's environment; for a checkout that is not installed, with its path in PYTHONPATH."""
    root = Path(__file__).resolve().parents[2]
    environment = dict(os.environ)
    if not root.is_relative_to(sys.prefix):
        environment["PYTHONPATH"] = os.pathsep.join(p for p in (str(root), environment.get("PYTHONPATH", "")) if p)
    return environment
