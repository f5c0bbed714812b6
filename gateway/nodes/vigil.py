"""Vigil: whether a node that owes answers still lives, found out long before those answers could be late."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from gateway.lib.aio import Tasks
from gateway.nodes.peers import Peers
from gateway.nodes.places import PeerAway, Place

log = structlog.get_logger(__name__)

QUIET_SECONDS: Final = 4.0  # without a byte from a node that owes one, it is asked whether it lives
_ASK_SECONDS: Final = 4.0  # in which it has to say so
_DEAD_SECONDS: Final = 2.0  # for which a node that said nothing is not asked for anything
_PROBE: Final = "/healthcheck"


class _Watched:
    __slots__ = ("guards", "heard", "task")

    def __init__(self, heard: float) -> None:
        self.heard = heard
        self.guards: set[Guard] = set()
        self.task: asyncio.Task[object] | None = None


class Guard:
    """What is owed by one node. cut: what ends the waiting for it where the node has died; who waits sets it."""

    __slots__ = ("_watched", "cut")

    def __init__(self, watched: _Watched) -> None:
        self._watched = watched
        self.cut: Callable[[], None] = _nothing

    def heard(self, now: float) -> None:
        """It sent something. now: monotonic seconds."""
        self._watched.heard = now


def _nothing() -> None:
    """Nobody waits yet."""


class Vigil:
    """Requests may rightly wait for a minute (a blocking reload while a publisher is away): a bound on the answer says
    nothing about the node. Use as `async with`. One look a second at each node that owes something."""

    def __init__(
        self,
        peers: Peers,
        *,
        quiet: float = QUIET_SECONDS,
        patience: float = _ASK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers = peers
        self._quiet = quiet
        self._patience = patience
        self._clock = clock
        self._watched: dict[str, _Watched] = {}  # by address
        self._dead: dict[str, float] = {}  # until when
        self._tasks = Tasks("vigil", _crashed)

    async def __aenter__(self) -> Vigil:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    @contextlib.contextmanager
    def guard(self, place: Place) -> Iterator[Guard]:
        """While the block runs, the node owes something. Raises PeerAway where it was found dead a moment ago."""
        until = self._dead.get(place.address)
        if until is not None:
            if until > self._clock():
                raise PeerAway(place, "does not answer")
            del self._dead[place.address]
        watched = self._watched.get(place.address)
        if watched is None:
            watched = self._watched[place.address] = _Watched(self._clock())
            watched.task = self._tasks.start(self._watch(place, watched), place.address)
        elif not watched.guards:
            watched.heard = self._clock()  # it owed nothing until now
        guard = Guard(watched)
        watched.guards.add(guard)
        try:
            yield guard
        finally:
            watched.guards.discard(guard)

    async def _watch(self, place: Place, watched: _Watched) -> None:
        """Until nothing is owed any more."""
        try:
            while True:
                await asyncio.sleep(self._quiet / 4)
                if not watched.guards:
                    return
                if self._clock() - watched.heard < self._quiet:
                    continue
                if await self._lives(place):
                    watched.heard = self._clock()
                    continue
                log.warning("a node does not answer", node=place.node, address=place.address)
                self._dead[place.address] = self._clock() + _DEAD_SECONDS
                for guard in list(watched.guards):
                    guard.cut()
                return
        finally:
            if self._watched.get(place.address) is watched:
                del self._watched[place.address]

    async def _lives(self, place: Place) -> bool:
        """Whether it says anything: a sibling's door knows no other answer than that there is no such page."""
        try:
            async with (
                asyncio.timeout(self._patience),
                self._peers.request(place, "GET", _PROBE, seconds=self._patience),
            ):
                return True
        except (PeerAway, TimeoutError):
            return False


def _crashed(name: str, error: BaseException) -> None:
    log.error("watching a node failed", task=name, exc_info=error)
