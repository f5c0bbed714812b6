"""Flights: identical requests that are one upstream, however many wait for its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, TypeVar

import structlog

from gateway.hub.errors import AtCapacity
from gateway.lib.aio import Tasks
from gateway.packagers.gate import Gate
from gateway.servers.request import BadRequest

log = structlog.get_logger(__name__)

_MOST: Final = 4_096  # at once
_MOST_OF_ONE: Final = 128  # for one stream: whoever asks it for nonsense harms no other

T = TypeVar("T")


class Cut(BadRequest):
    """What was passed on as it came did not come to its end: connections are cut, so that nobody takes it for all."""

    def __init__(self, reason: str) -> None:
        super().__init__(503, reason)


class Flight(Generic[T]):
    """One request under way. Its work returns what answers everybody; before that it may `open` a body that is passed
    on as it comes, and `add` to it: who comes late gets what came so far first."""

    def __init__(self, key: Hashable, group: Hashable) -> None:
        self.key = key
        self.group = group
        self.followers = 0
        self.head: T | None = None  # how a body that is passed on begins
        self.done = False
        self._result: T | None = None
        self._error: Exception | None = None
        self._pieces: list[bytes] = []
        self._gate = Gate()
        self.task: asyncio.Task[object] | None = None

    # ---- the work's side ----

    def open(self, head: T) -> None:
        """From now on the body is passed on as it comes. head: the answer but for that."""
        self.head = head
        self._gate.open()

    def add(self, piece: bytes) -> None:
        """Of a body that was not opened nobody sees anything before its end."""
        self._pieces.append(piece)
        if self.head is not None:
            self._gate.open()

    @property
    def body(self) -> bytes:
        """What was added."""
        return b"".join(self._pieces)

    def land(self, result: T | None, error: Exception | None = None) -> None:
        """It is over; Flights' call."""
        self._result, self._error = result, error
        self.done = True
        self._gate.open()

    # ---- the followers' side ----

    async def answered(self, seconds: float) -> bool:
        """Waits until it is over or has a head; False after `seconds`."""
        return await self._gate.until(lambda: self.done or self.head is not None, seconds)

    @property
    def result(self) -> T:
        """What the work returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        assert self._result is not None, "asked before it was over"
        return self._result

    async def piece(self, index: int, seconds: float) -> bytes | None:
        """A piece of the body that is passed on, None behind the last. Raises Cut."""
        there = await self._gate.until(lambda: self.done or index < len(self._pieces), seconds)
        if index < len(self._pieces):
            return self._pieces[index]
        if not there:
            raise Cut("nothing came for too long")
        if self._error is not None:
            raise Cut(str(self._error))
        return None


class Flights(Generic[T]):
    """The requests under way. Use as `async with`. Whoever joins one leaves it: without followers it is cancelled.

    Beyond _MOST at once, or _MOST_OF_ONE of a group, joining raises AtCapacity. Counters: `flown`, `collapsed`
    (requests that joined another's).
    """

    def __init__(self, name: str) -> None:
        self._flying: dict[Hashable, Flight[T]] = {}
        self._groups: dict[Hashable, int] = {}
        self._tasks = Tasks(name, _crashed)
        self.flown = 0
        self.collapsed = 0

    async def __aenter__(self) -> Flights[T]:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    def __len__(self) -> int:
        return len(self._flying)

    def join(self, key: Hashable, group: Hashable, work: Callable[[Flight[T]], Coroutine[Any, Any, T]]) -> Flight[T]:
        """The flight for `key`, begun with `work` where there is none. group: whose share of the bound it takes."""
        flight = self._flying.get(key)
        if flight is not None:
            self.collapsed += 1
        else:
            if len(self._flying) >= _MOST or self._groups.get(group, 0) >= _MOST_OF_ONE:
                raise AtCapacity("too many requests are under way")
            flight = self._flying[key] = Flight(key, group)
            self._groups[group] = self._groups.get(group, 0) + 1
            self.flown += 1
            flight.task = self._tasks.start(self._fly(flight, work), str(group))
        flight.followers += 1
        return flight

    def leave(self, flight: Flight[T], *, keep: bool = False) -> None:
        """A follower goes. keep: the flight goes on though nobody may wait for it, for what it brings will be asked."""
        flight.followers -= 1
        if not flight.followers and not keep and not flight.done:
            self._land(flight)  # who comes now begins another
            assert flight.task is not None, "it was started when it was joined first"
            flight.task.cancel()

    async def _fly(self, flight: Flight[T], work: Callable[[Flight[T]], Coroutine[Any, Any, T]]) -> None:
        try:
            result = await work(flight)
        except asyncio.CancelledError:
            flight.land(None, Cut("given up"))
            raise
        except Exception as error:
            flight.land(None, error)
        else:
            flight.land(result)
        finally:
            self._land(flight)

    def _land(self, flight: Flight[T]) -> None:
        if self._flying.get(flight.key) is flight:
            del self._flying[flight.key]
            left = self._groups[flight.group] - 1
            if left:
                self._groups[flight.group] = left
            else:
                del self._groups[flight.group]


class Reading(Generic[T]):
    """The body of an open flight for one follower, who leaves with `aclose`."""

    def __init__(self, flights: Flights[T], flight: Flight[T], seconds: float) -> None:
        self._flights = flights
        self._flight: Flight[T] | None = flight
        self._seconds = seconds
        self._index = 0

    def __aiter__(self) -> Reading[T]:
        return self

    async def __anext__(self) -> bytes:
        if self._flight is None:
            raise StopAsyncIteration
        piece = await self._flight.piece(self._index, self._seconds)
        if piece is None:
            raise StopAsyncIteration
        self._index += 1
        return piece

    async def aclose(self) -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            self._flights.leave(flight)


def _crashed(name: str, error: BaseException) -> None:
    log.error("a fetch failed", task=name, exc_info=error)
