"""Has a worker of the master forked with its sockets, sends it messages, and waits for its end.

In this folder, a worker is one process of the node; see `gateway.processes.master`.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from gateway.processes.link_protocol import Begin, LineReader, LinkBroken, ProcessMessage, encode_message
from gateway.processes.worker_parent import WorkerParent

log = structlog.get_logger(__name__)

_FAILED: Final = 1  # exit status if the process could not be started, or if its parent died before it


class Child:
    """One worker process. `run` has it forked and returns when it ends.

    ready: called when the worker accepts connections.
    """

    def __init__(self, parent: WorkerParent, begin: Begin, ready: Callable[[], None]) -> None:
        self._parent, self._begin, self._ready = parent, begin, ready
        self._pid: int | None = None  # None: not forked yet, or ended
        self._writer: asyncio.StreamWriter | None = None
        self._unsent: list[bytes] | None = []  # messages to the worker, before the link was open; None: it has ended
        self._killed = False
        self._silence: int | None = None  # see `count_silence`; None: not ready yet, or the link is closed

    async def run(self) -> int:
        """Runs until the process ends. Returns its exit code; -n if signal n ended it."""
        master_end, worker_end = socket.socketpair()
        try:
            with worker_end:
                self._begin.send(master_end)
                report = self._parent.fork(worker_end)
        except OSError as error:
            master_end.close()
            log.error("no worker can be started", reason=error.strerror or str(error))
            return _FAILED
        reports, report_writer = await asyncio.open_unix_connection(sock=report)
        reader, writer = await asyncio.open_unix_connection(sock=master_end)
        try:
            pid = await _read_number(reports)
            if pid is None:
                return await self._parent.status()  # it has printed why it cannot fork a worker
            self._pid = pid
            if self._killed:
                self.kill()
            self._writer = writer
            writer.writelines(self._unsent or ())
            await self._listen(reader, pid)
            status = await _read_number(reports)
            return _FAILED if status is None else status
        finally:
            self._pid = self._writer = self._unsent = None
            for stream in (report_writer, writer):
                stream.close()

    def send(self, kind: ProcessMessage) -> None:
        """Sends a message. A worker that is starting receives it after BEGIN. If the worker has ended, does nothing."""
        if self._writer is not None:
            if not self._writer.is_closing():
                self._writer.write(encode_message(kind))
        elif self._unsent is not None:
            self._unsent.append(encode_message(kind))

    def count_silence(self) -> int:
        """Returns the number of calls since the last message; 0 if the worker is not ready, or ends.

        This does not read the clock: after a pause of all processes, each of them has time to continue.
        """
        if self._silence is None:
            return 0
        self._silence += 1
        return self._silence

    def kill(self) -> None:
        """Kills the process at once; before the fork, the parent that does not fork it."""
        self._killed = True
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        elif self._unsent is not None:
            self._parent.kill()

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


async def _read_number(reports: asyncio.StreamReader) -> int | None:
    """Returns the next number of the worker's parent; None if it has ended."""
    with suppress(ConnectionError):
        if line := await reports.readline():
            return int(line)
    return None
