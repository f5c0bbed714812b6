"""Bounds expensive work that anybody can request: a few at a time, and slower for addresses that failed before."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from gateway.lib.network import client_network

# later(seconds, call): like AbstractEventLoop.call_later
Later: TypeAlias = Callable[[float, Callable[[], None]], Any]

MAX_WAITING: Final = 64
MAX_PER_ADDRESS: Final = 16  # of one address
MAX_PER_FAILED_ADDRESS: Final = 4  # of one address with recent failures
_MAX_KEYS: Final = 10_000


class TooManyAttempts(Exception):
    """Too many attempts wait.

    own: whether the limit of the address was reached; false: the limit for all addresses.
    """

    def __init__(self, *, own: bool) -> None:
        super().__init__("too many tries wait for their turn")
        self.own = own


@dataclass(frozen=True, slots=True)
class Attempt:
    """The caller that requests a turn.

    failures: recent failures of the address; callers with fewer go first.
    pauses: by key, such as the address or a name: seconds that must pass since the last turn with that key.
    """

    address: str = ""
    failures: int = 0
    pauses: Mapping[str, float] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Waiting:
    who: Attempt
    network: str
    turn: asyncio.Future[None]


class AttemptLimiter:
    """Gives at most `max_concurrent` turns at a time. Use `async with turns.turn(who)`.

    Among callers with equally many failures, the newest goes first. So an attacker that fills the queue cannot make
    others wait for all of it. At most 64 wait; of one address 16, or 4 if it failed lately. Beyond that, the oldest
    with the most failures gets TooManyAttempts.
    """

    def __init__(
        self, max_concurrent: int = 1, clock: Callable[[], float] | None = None, later: Later | None = None
    ) -> None:
        """clock: returns seconds of the clock that `later` uses; None: the clock of the event loop."""
        self._free = max_concurrent
        self._clock = clock
        self._later = later
        self._waiting: list[_Waiting] = []  # oldest first
        self._began: OrderedDict[str, float] = OrderedDict()  # by key: when its last turn began
        self._timer: Any = None

    @contextlib.asynccontextmanager
    async def turn(self, who: Attempt) -> AsyncIterator[None]:
        """Waits for a turn and keeps it during the block. Raises TooManyAttempts."""
        await self._take(who)
        try:
            yield
        finally:
            self._free += 1
            self._serve()

    def waits_for(self, address: str) -> bool:
        """Whether an attempt of the address waits."""
        return any(waiting.network == client_network(address) for waiting in self._waiting)

    async def _take(self, who: Attempt) -> None:
        waiting = _Waiting(who, client_network(who.address), asyncio.get_running_loop().create_future())
        self._make_room(waiting)
        self._waiting.append(waiting)
        self._serve()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif waiting.turn.done() and not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self._free += 1  # it got a turn at the moment of its cancellation
                self._serve()
            raise

    def _make_room(self, new: _Waiting) -> None:
        """Removes a waiting attempt if the queue is full. Raises TooManyAttempts if the new one has the most
        failures.
        """
        same = [w for w in self._waiting if w.network == new.network]
        if len(same) >= (MAX_PER_FAILED_ADDRESS if new.who.failures else MAX_PER_ADDRESS):
            self._send_away(same[0], own=True)
        elif len(self._waiting) >= MAX_WAITING:
            worst = max(self._waiting, key=lambda w: w.who.failures)  # the oldest of equals
            if worst.who.failures < new.who.failures:
                raise TooManyAttempts(own=False)
            self._send_away(worst, own=False)

    def _send_away(self, waiting: _Waiting, *, own: bool) -> None:
        self._waiting.remove(waiting)
        if not waiting.turn.done():
            waiting.turn.set_exception(TooManyAttempts(own=own))

    def _serve(self) -> None:
        """Gives free turns to attempts whose pauses are over. Sets a timer for the end of the next pause."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        self._waiting = [w for w in self._waiting if not w.turn.done()]
        while self._free and self._waiting:
            ready = [w for w in reversed(self._waiting) if self._starts(w) <= now]
            if not ready:
                soonest = min(self._starts(w) for w in self._waiting)
                later = self._later or asyncio.get_running_loop().call_later
                self._timer = later(soonest - now, self._serve)
                return
            first = min(ready, key=lambda w: w.who.failures)  # the newest of equals
            self._waiting.remove(first)
            self._free -= 1
            for key in first.who.pauses:
                self._began[key] = now
                self._began.move_to_end(key)
            while len(self._began) > _MAX_KEYS:
                self._began.popitem(last=False)
            first.turn.set_result(None)

    def _starts(self, waiting: _Waiting) -> float:
        """Returns the time at which its turn may begin; a time in the past if it may begin now."""
        return max(
            (self._began[key] + pause for key, pause in waiting.who.pauses.items() if key in self._began), default=0.0
        )

    def _now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()


def attempt_pause(failures: int, per_minute: int, longest: float = 5.0) -> float:
    """Returns the seconds between two attempts of a key.

    failures: failed attempts of the key within a minute.
    per_minute: allowed attempts a minute; 0: no limit.
    longest: upper bound of the pause.
    The pause doubles with each of up to ten failures, to 60 / per_minute seconds or `longest`, whichever is less. With
    60 / per_minute, no more than `per_minute` attempts fit a minute. Without failures the pause is 0.
    """
    top = min(10, per_minute)
    if not failures or not per_minute:
        return 0.0
    full: float = min(longest, 60.0 / per_minute)
    return full * 2.0 ** min(0, failures - top)
