"""The end of a process: its signals, and the time that a replaced process may stay."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

import structlog

from gateway.processes.link_protocol import WorkerCommand
from gateway.processes.worker_link import WorkerLink

log = structlog.get_logger(__name__)

_POLL_SECONDS: Final = 0.5  # seconds between two checks whether a replaced process is still needed


class ShutdownSignals:
    """Handles signals from its creation on, and the master's commands where there is a master.

    The first SIGTERM or SIGINT asks for the end; a second one ends the process at once. SIGHUP of a closed terminal
    counts like them. Any other SIGHUP asks to replace processes: a single process cannot do that and logs a warning. A
    worker ignores SIGINT and SIGHUP, because a terminal sends them to its master too.
    """

    def __init__(self, seat: WorkerLink | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._heard = False
        self._stop: asyncio.Future[None] = loop.create_future()
        self._retire: asyncio.Future[None] = loop.create_future()
        self._opened: asyncio.Future[None] = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._signalled, signal.SIGTERM)
        if seat is None:
            loop.add_signal_handler(signal.SIGINT, self._signalled, signal.SIGINT)
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)
            self._opened.set_result(None)
        else:
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            seat.listen(self._told)

    def _hung_up(self) -> None:
        if sys.stdin is not None and sys.stdin.isatty():
            self._signalled(signal.SIGHUP)
        else:
            log.warning("SIGHUP replaces processes where serve.workers is more than 1; one alone has to be restarted")

    async def opened(self) -> bool:
        """Waits until all workers serve for the first time since their master started; at once in a single process.

        Returns False where this process has to end or is replaced first. A worker that started after that moment waits
        for its own end.
        """
        await asyncio.wait((self._opened, self._stop, self._retire), return_when=asyncio.FIRST_COMPLETED)
        return self._opened.done()

    async def asked(self) -> bool:
        """Waits until this process has to end.

        Returns whether it may wait for its publishers, because it was replaced.
        """
        await asyncio.wait((self._stop, self._retire), return_when=asyncio.FIRST_COMPLETED)
        return not self._stop.done()

    async def unneeded(self, busy: Callable[[], bool], most: float) -> None:
        """Waits until the process is no longer busy, has to end at once, or `most` seconds have passed."""
        try:
            async with asyncio.timeout(most):
                while busy() and not self._stop.done():
                    await asyncio.wait((self._stop,), timeout=_POLL_SECONDS)
        except TimeoutError:
            log.warning("publishers or viewers stay longer than a replaced process may", retire=most)

    def stop(self) -> None:
        """Asks for the end, like a signal."""
        if not self._stop.done():
            self._stop.set_result(None)

    def _signalled(self, number: signal.Signals) -> None:
        if self._heard:
            os._exit(128 + number)
        self._heard = True  # systemd signals every process, so the master's command is not a second signal
        self.stop()

    def _told(self, word: WorkerCommand) -> None:
        future = {
            WorkerCommand.STOP: self._stop,
            WorkerCommand.RETIRE: self._retire,
            WorkerCommand.OPENED: self._opened,
        }[word]
        if not future.done():
            future.set_result(None)
