"""Checks whether a node with unanswered requests is still alive, long before its answers are late."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from gateway.cluster.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.peers import Peers
from gateway.lib.tasks import Tasks

log = structlog.get_logger(__name__)

QUIET_SECONDS: Final = 4.0  # without a byte from a node with unanswered requests, it is asked whether it lives
_ASK_SECONDS: Final = 4.0  # in which it has to answer
_DEAD_SECONDS: Final = 2.0  # for which a dead node gets no requests
_PROBE: Final = "/healthcheck"


class _Watched:
    __slots__ = ("guards", "heard", "task")

    def __init__(self, heard: float) -> None:
        self.heard = heard
        self.guards: set[PendingCall] = set()
        self.task: asyncio.Task[object] | None = None


class PendingCall:
    """An unanswered request to a node.

    cut: ends the waiting if the node has died; the caller sets it.
    """

    __slots__ = ("_watched", "cut")

    def __init__(self, watched: _Watched) -> None:
        self._watched = watched
        self.cut: Callable[[], None] = _nothing

    def heard(self, now: float) -> None:
        """Notes that the node sent something. now: monotonic seconds."""
        self._watched.heard = now


def _nothing() -> None:
    """Does nothing: no caller waits yet."""


class LivenessMonitor:
    """Watches the nodes that have unanswered requests. Use as `async with`.

    A request may wait for a minute without fault: a blocking reload while a publisher is away. So a timeout of the
    answer does not show whether the node is alive. Each node with unanswered requests is checked four times every
    `quiet` seconds.

    quiet: seconds without a byte, after which the node is asked.
    patience: seconds in which it has to answer.
    """

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
        self._dead: dict[str, float] = {}  # by address: the time until which it counts as dead
        self._tasks = Tasks("vigil", _crashed)

    async def __aenter__(self) -> LivenessMonitor:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    @contextlib.contextmanager
    def guard(self, place: NodeAddress) -> Iterator[PendingCall]:
        """Watches the node while the block runs. Raises PeerUnavailable if the node was found dead a moment ago."""
        until = self._dead.get(place.address)
        if until is not None:
            if until > self._clock():
                raise PeerUnavailable(place, "does not answer")
            del self._dead[place.address]
        watched = self._watched.get(place.address)
        if watched is None:
            watched = self._watched[place.address] = _Watched(self._clock())
            watched.task = self._tasks.start(self._watch(place, watched), place.address)
        elif not watched.guards:
            watched.heard = self._clock()  # it had no unanswered request until now
        guard = PendingCall(watched)
        watched.guards.add(guard)
        try:
            yield guard
        finally:
            watched.guards.discard(guard)

    async def _watch(self, place: NodeAddress, watched: _Watched) -> None:
        """Watches one node until it has no unanswered request."""
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

    async def _lives(self, place: NodeAddress) -> bool:
        """Whether the node answers anything. The endpoint of a sibling answers the probe with 404, which is enough."""
        try:
            async with (
                asyncio.timeout(self._patience),
                self._peers.request(place, "GET", _PROBE, seconds=self._patience),
            ):
                return True
        except (PeerUnavailable, TimeoutError):
            return False


def _crashed(name: str, error: BaseException) -> None:
    log.error("watching a node failed", task=name, exc_info=error)
