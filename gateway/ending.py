"""The end of a process: what tells it to end, how long one that was replaced stays, and the drain."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from gateway.cores.link import Word

if TYPE_CHECKING:
    from gateway.cores.seat import Seat
    from gateway.hub.hub import Hub
    from gateway.listeners import Listeners
    from gateway.outputs import Makers

log = structlog.get_logger(__name__)

_LOOK: Final = 0.5  # seconds between looks at whether a process that was replaced is still needed


class Ending:
    """Listens for signals, and for the master where there is one, from its making on.

    The first SIGTERM or SIGINT asks for the end, a second one ends the process at once; so does a terminal that is
    closed. Other SIGHUPs, by which several processes are replaced, one alone says it cannot obey. A worker leaves
    SIGINT and SIGHUP, which a terminal sends to all of its processes, to its master.
    """

    def __init__(self, seat: Seat | None = None) -> None:
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
        """Until all workers serve, for the first time since their master began; False where that was before this one,
        which has to end or is replaced now. At once where there is but this process."""
        await asyncio.wait((self._opened, self._stop, self._retire), return_when=asyncio.FIRST_COMPLETED)
        return self._opened.done()

    async def asked(self) -> bool:
        """Until this process has to end; whether it may wait for its publishers, as another has taken its place."""
        await asyncio.wait((self._stop, self._retire), return_when=asyncio.FIRST_COMPLETED)
        return not self._stop.done()

    async def unneeded(self, busy: Callable[[], bool], most: float) -> None:
        """Until it is not busy any more, somebody asks for the end, or `most` seconds are over."""
        try:
            async with asyncio.timeout(most):
                while busy() and not self._stop.done():
                    await asyncio.wait((self._stop,), timeout=_LOOK)
        except TimeoutError:
            log.warning("publishers or viewers stay longer than a replaced process may", retire=most)

    def stop(self) -> None:
        """Asks for the end, as a signal would."""
        if not self._stop.done():
            self._stop.set_result(None)

    def _signalled(self, number: signal.Signals) -> None:
        if self._heard:
            os._exit(128 + number)
        self._heard = True  # systemd tells every process: what the master says besides is no second signal
        self.stop()

    def _told(self, word: Word) -> None:
        future = {Word.STOP: self._stop, Word.RETIRE: self._retire, Word.OPENED: self._opened}[word]
        if not future.done():
            future.set_result(None)


async def drain(hub: Hub, makers: Makers, listeners: Listeners, seconds: float) -> None:
    """Accepts nothing more, tells publishers and viewers, lets outputs finish and store what they made."""
    listeners.stop_accepting()
    hub.drain()
    try:
        async with asyncio.timeout(seconds or None):
            await hub.drained()
            await listeners.finish()
            await makers.flush()
    except TimeoutError:
        log.warning("not everything was finished in time", drain=seconds)
