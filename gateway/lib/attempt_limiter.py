"""Limits expensive work that anyone can request. Addresses with recent failures come last and may queue less."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.network import client_network

MAX_WAITING: Final = 64
MAX_PER_ADDRESS: Final = 16  # waiting attempts of one address
MAX_PER_FAILED_ADDRESS: Final = 4  # waiting attempts of one address with recent failures
_MAX_KEYS: Final = 10_000


class TooManyAttempts(Exception):
    """Too many attempts wait.

    own_limit: whether the address reached its own limit. If false, all addresses together reached the limit.
    """

    def __init__(self, *, own_limit: bool) -> None:
        super().__init__("too many attempts wait for their turn")
        self.own_limit = own_limit


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that waits for a turn.

    failures: recent failures of the address. Attempts with fewer failures go first.
    pauses: by key, such as the address or a name: minimum number of seconds since the last turn with this key.
    """

    address: str = ""
    failures: int = 0
    pauses: Mapping[str, float] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Waiting:
    attempt: Attempt
    network: str
    turn: asyncio.Future[None]


class AttemptLimiter:
    """Allows at most `max_concurrent` turns at a time. Use `async with limiter.turn(attempt)`.

    Among attempts with the same number of failures, the newest goes first. So if an attacker fills the queue, others do
    not wait for all of it. At most 64 attempts wait: of one address 16, or 4 if it failed recently. Above a limit, the
    oldest attempt with the most failures gets TooManyAttempts.

    loop: has the clock and the timers. None: the running event loop.
    """

    def __init__(self, max_concurrent: int = 1, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._free, self._loop = max_concurrent, loop
        self._waiting: list[_Waiting] = []  # oldest first
        self._began: BoundedDict[str, float] = BoundedDict(_MAX_KEYS)  # by key: start of its last turn
        self._timer: Any = None

    @contextlib.asynccontextmanager
    async def turn(self, attempt: Attempt) -> AsyncIterator[None]:
        """Waits for a turn, and has it during the block. Raises TooManyAttempts."""
        await self._wait(attempt)
        try:
            yield
        finally:
            self._free += 1
            self._start_turns()

    def waits_for(self, address: str) -> bool:
        """Whether an attempt of the address waits."""
        return any(waiting.network == client_network(address) for waiting in self._waiting)

    async def _wait(self, attempt: Attempt) -> None:
        waiting = _Waiting(attempt, client_network(attempt.address), asyncio.get_running_loop().create_future())
        self._reject_above_limits(waiting)
        self._waiting.append(waiting)
        self._start_turns()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif waiting.turn.done() and not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self._free += 1  # it got a turn just before its cancellation
                self._start_turns()
            raise

    def _reject_above_limits(self, new: _Waiting) -> None:
        """Removes a waiting attempt if the queue is full. Raises TooManyAttempts if that is the new one."""
        of_address = [w for w in self._waiting if w.network == new.network]
        if len(of_address) >= (MAX_PER_FAILED_ADDRESS if new.attempt.failures else MAX_PER_ADDRESS):
            self._reject(of_address[0], own_limit=True)
        elif len(self._waiting) >= MAX_WAITING:
            worst = max(self._waiting, key=lambda w: w.attempt.failures)  # the oldest of equal ones
            if worst.attempt.failures < new.attempt.failures:
                raise TooManyAttempts(own_limit=False)
            self._reject(worst, own_limit=False)

    def _reject(self, waiting: _Waiting, *, own_limit: bool) -> None:
        self._waiting.remove(waiting)
        if not waiting.turn.done():
            waiting.turn.set_exception(TooManyAttempts(own_limit=own_limit))

    def _start_turns(self) -> None:
        """Starts turns of attempts without a remaining pause. Sets a timer for the end of the next pause."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = self._loop or asyncio.get_running_loop()
        now = loop.time()
        self._waiting = [w for w in self._waiting if not w.turn.done()]
        while self._free and self._waiting:
            ready = [w for w in reversed(self._waiting) if self._earliest_start(w) <= now]
            if not ready:
                soonest = min(self._earliest_start(w) for w in self._waiting)
                self._timer = loop.call_later(soonest - now, self._start_turns)
                return
            first = min(ready, key=lambda w: w.attempt.failures)  # the newest of equal ones
            self._waiting.remove(first)
            self._free -= 1
            for key in first.attempt.pauses:
                self._began[key] = now
            first.turn.set_result(None)

    def _earliest_start(self, waiting: _Waiting) -> float:
        """Returns the earliest time for its turn. A time in the past means now."""
        pauses = waiting.attempt.pauses.items()
        return max((self._began[key] + pause for key, pause in pauses if key in self._began), default=0.0)


def attempt_pause(failures: int, per_minute: int) -> float:
    """Returns the minimum number of seconds between two attempts of a key.

    failures: failed attempts of the key within a minute.
    per_minute: allowed attempts a minute; 0: no limit.
    The pause doubles with each of up to ten failures. Its maximum is `60 / per_minute` seconds, but at most 5. So at
    most `per_minute` attempts fit into a minute. Without failures the pause is 0.
    """
    if not failures or not per_minute:
        return 0.0
    maximum = min(5.0, 60.0 / per_minute)
    return maximum * 2.0 ** min(0, failures - min(10, per_minute))
