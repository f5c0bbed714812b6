"""The master's end of the process that forks the workers (`gateway.processes.forking`)."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog

from gateway.lib import held_signals
from gateway.lib.process import describe_exit, with_python_path
from gateway.lib.tasks import finished

log = structlog.get_logger(__name__)

_FAILED: Final = 1  # exit status where the real one is not known


class WorkerParent:
    """A process that forks workers with the code and the settings of the time when it started.

    `run` starts it and returns when it has ended. It ends after `retire`, with its last worker.

    command: the module and its arguments. `--link` and the descriptor for its requests are appended.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._requests, self._theirs = socket.socketpair()
        self._requests.setblocking(False)
        self._process: Process | None = None
        self._killed = False
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def usable(self) -> bool:
        """Whether it can fork workers: it was not retired, and has not ended."""
        return self._requests.fileno() >= 0 and not self._status.done()

    async def run(self) -> None:
        """Runs the process until it ends. If the caller is cancelled, waits until the workers have ended."""
        try:
            with self._theirs:
                self._process = await self._spawn(self._theirs.fileno())
            if self._killed:
                self.kill()
            status = await self._process.wait()
            if self.usable:
                log.error("the parent of the workers died", reason=describe_exit(status))
            self._status.set_result(status)
        except OSError as error:
            log.error("no worker can be started", reason=error.strerror or str(error))
        finally:
            self.retire()
            if not self._status.done():
                self._status.set_result(_FAILED)
            if self._process is not None:
                await finished(self._process.wait())

    def fork(self, link: socket.socket) -> socket.socket:
        """Asks for a worker with this link. Returns the socket on which the parent reports its number and its end.

        Raises OSError.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._requests, [b"\0"], [link.fileno(), theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return ours

    async def status(self) -> int:
        """Waits for the end of the process. Returns its exit code; -n if signal n ended it."""
        return await asyncio.shield(self._status)

    def retire(self) -> None:
        """Forks no more workers. The process ends when its workers have ended."""
        self._requests.close()

    def kill(self) -> None:
        """Kills the process at once. Its workers go on."""
        self._killed = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _spawn(self, requests: int) -> Process:
        held_signals.hold()  # workers get signals when they can drain; a supervisor may signal all processes
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", *self._command, "--link", str(requests)),
                pass_fds=(requests,),
                stdin=DEVNULL,
                env=with_python_path(os.environ),
            )
        finally:
            held_signals.deliver()
