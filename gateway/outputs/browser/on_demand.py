"""OnDemand: runs the work of a stream only while somebody uses it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks
from gateway.lib.waiting import wait_at_most
from gateway.live.stream import Stream
from gateway.ports.errors import INTERNAL_ERROR, OutputError

log = structlog.get_logger(__name__)

LINGER_SECONDS: Final = 5.0  # after the last user
_LONGEST_PAUSE: Final = 8.0  # seconds between two attempts, while somebody waits
_GOOD_SECONDS: Final = 30.0  # an attempt of this length resets the pauses


class OnDemand:
    """Runs `work` from the first user to `linger` seconds after the last one. Work that fails is started again.

    name: of the work, for logs. work: runs until it is cancelled; raises OutputError.
    """

    def __init__(self, name: str, work: Callable[[], Awaitable[None]], linger: float = LINGER_SECONDS) -> None:
        self._name = name
        self._work = work
        self._linger = linger
        self._users = 0
        self._changed = asyncio.Event()
        self.is_running = False
        self.error: str | None = None
        """Why the last attempt failed; None if none has failed since the work began."""

    def acquire(self) -> None:
        """Adds a user."""
        self._users += 1
        self._changed.set()

    @property
    def is_wanted(self) -> bool:
        """Whether the work has a user, or still runs."""
        return self._users > 0 or self.is_running

    def release(self) -> None:
        """Removes a user."""
        assert self._users, f"{self._name} has no user"
        self._users -= 1
        self._changed.set()

    async def run(self, stream: Stream) -> None:
        """Runs the work on demand until the stream has ended."""
        async with Tasks(f"{self._name} of {stream.name}") as tasks:
            tasks.start(self._serve(stream))
            await stream.over()

    async def _serve(self, stream: Stream) -> None:
        while True:
            await self._until(in_use=True)
            log.info("work begins", work=self._name, stream=stream.name)
            self.is_running, self.error = True, None
            try:
                async with Tasks(self._name) as tasks:
                    tasks.start(self._repeat(stream), stream.name)
                    await self._until(in_use=False)
            finally:
                self.is_running = False
            log.info("work ends", work=self._name, stream=stream.name)

    async def _until(self, *, in_use: bool) -> None:
        """Waits for a user if `in_use`; otherwise waits until there has been none for `linger` seconds."""
        while True:
            if in_use and self._users:
                return
            self._changed.clear()
            if not await wait_at_most(None if in_use or self._users else self._linger, self._changed):
                return

    async def _repeat(self, stream: Stream) -> None:
        backoff = Backoff(longest=_LONGEST_PAUSE)
        while True:
            began = time.monotonic()
            try:
                await self._work()
                return
            except OutputError as error:
                self.error = str(error)[:300]
                log.warning("work starts again", work=self._name, stream=stream.name, reason=self.error)
            except Exception as error:  # the users of this object wait; the next attempt may succeed
                self.error = INTERNAL_ERROR
                log.error("work failed", work=self._name, stream=stream.name, exc_info=error)
            if time.monotonic() - began > _GOOD_SECONDS:
                backoff.reset()
            await asyncio.sleep(backoff.next())
