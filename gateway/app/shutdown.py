"""The shutdown of a process: its signals, and the time for which a replaced process may stay."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog

from gateway.lib import held_signals
from gateway.lib.terminal import Terminal
from gateway.processes.link_protocol import ProcessMessage
from gateway.processes.worker_link import WorkerLink

log = structlog.get_logger(__name__)

_POLL_SECONDS: Final = 0.5  # seconds between two checks whether a replaced process is still needed


class ShutdownSignals:
    """Handles signals, and the master's commands if there is a master.

    The first SIGTERM or SIGINT requests the shutdown; a second one ends the process at once. SIGHUP from a closed
    terminal requests it, too. Any other SIGHUP reads the certificate again and asks for new processes; a single
    process cannot replace itself and logs that. A process with a master ignores SIGINT and SIGHUP, because a terminal
    sends them to its master too.
    """

    def __init__(self, link: WorkerLink | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._terminal = Terminal()
        self.on_reload: Callable[[], object] | None = None  # called at SIGHUP in a single process
        self._signalled_once = False
        self._starting: asyncio.Timeout | None = None  # of the start; has no limit until the process must end
        self._stop: asyncio.Future[None] = loop.create_future()
        self._retire: asyncio.Future[None] = loop.create_future()
        self._opened: asyncio.Future[None] = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._signalled, signal.SIGTERM)
        if link is None:
            loop.add_signal_handler(signal.SIGINT, self._signalled, signal.SIGINT)
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)
            self._opened.set_result(None)
        else:
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            link.listen(self._on_command)
        held_signals.deliver()

    def _hung_up(self) -> None:
        if self._terminal.is_closed:
            self.stop()  # the shell sends a second SIGHUP
        elif self.on_reload is not None:
            log.info("SIGHUP reads only the certificate again; restart this process for other options")
            self.on_reload()
        else:
            log.warning("SIGHUP replaces processes only if serve.workers is more than 1; restart this process")

    @contextlib.asynccontextmanager
    async def ends_start(self) -> AsyncIterator[None]:
        """Cancels the block when this process must end, and continues after it. A slow start does not delay the end."""
        try:
            async with asyncio.timeout(0.0 if self._stop.done() else None) as self._starting:
                yield
        except TimeoutError:
            if self._starting is None or not self._starting.expired():
                raise
        finally:
            self._starting = None

    async def all_opened(self) -> bool:
        """Waits until all processes of the node serve for the first time. A single process does not wait.

        Returns False if this process must end or is replaced first. A process that starts later waits for its own end.
        """
        await asyncio.wait((self._opened, self._stop, self._retire), return_when=asyncio.FIRST_COMPLETED)
        return self._opened.done() and not self._stop.done()

    async def was_replaced(self) -> bool:
        """Waits until this process must end. Returns whether another process replaced it.

        A replaced process may wait until its publishers have ended.
        """
        await asyncio.wait((self._stop, self._retire), return_when=asyncio.FIRST_COMPLETED)
        return not self._stop.done()

    async def wait_until_unneeded(self, busy: Callable[[], bool], limit: float) -> None:
        """Waits until the process is no longer busy, must end at once, or `limit` seconds have passed."""
        try:
            async with asyncio.timeout(limit):
                while busy() and not self._stop.done():
                    await asyncio.wait((self._stop,), timeout=_POLL_SECONDS)
        except TimeoutError:
            log.warning("publishers or viewers remain after serve.retire", retire=limit)

    def stop(self) -> None:
        """Requests the shutdown, like a signal."""
        if not self._stop.done():
            self._stop.set_result(None)
            if self._starting is not None:
                self._starting.reschedule(0.0)

    def _signalled(self, number: signal.Signals) -> None:
        if self._signalled_once:
            os._exit(128 + number)
        self._signalled_once = True  # systemd signals every process, so the master's command is not a second signal
        self.stop()

    def _on_command(self, command: ProcessMessage) -> None:
        if command is ProcessMessage.STOP:
            self.stop()
            return
        future = self._retire if command is ProcessMessage.RETIRE else self._opened
        if not future.done():
            future.set_result(None)
