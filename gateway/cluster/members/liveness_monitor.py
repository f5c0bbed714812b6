"""Checks whether a node with unanswered requests is alive, long before a time-out of the requests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import aiohttp
import structlog

from gateway.cluster.members.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.lib.tasks import Tasks

log = structlog.get_logger(__name__)

QUIET_SECONDS: Final = 4.0  # time without a byte from a node with unanswered requests, after which the node is probed
_PROBE_SECONDS: Final = 4.0  # time in which the node must answer the probe
_DEAD_SECONDS: Final = 2.0  # time for which a dead node gets no requests
_PROBE: Final = "/healthcheck"


class _Watched:
    __slots__ = ("calls", "last_received", "task")

    def __init__(self, last_received: float) -> None:
        self.last_received = last_received
        self.calls: set[PendingCall] = set()
        self.task: asyncio.Task[object] | None = None


class PendingCall:
    """An unanswered request to a node.

    on_dead: ends the call if the node has died; the caller sets it.
    """

    __slots__ = ("_watched", "on_dead")

    def __init__(self, watched: _Watched) -> None:
        self._watched = watched
        self.on_dead: Callable[[], None] = _do_nothing

    def received(self, now: float) -> None:
        """Records that the node sent data. now: monotonic seconds."""
        self._watched.last_received = now

    async def head(self, node: NodeAddress, opening: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
        """Returns the head of the answer. Raises PeerUnavailable if the node dies first; later, its body ends."""
        try:
            async with asyncio.timeout(None) as limit:
                self.on_dead = lambda: limit.reschedule(0)
                response = await opening
        except TimeoutError:
            if not limit.expired():
                raise
            raise PeerUnavailable(node, "does not answer") from None
        self.received(time.monotonic())
        self.on_dead = response.close
        return response


def _do_nothing() -> None:
    """Does nothing: no caller waits yet."""


class LivenessMonitor:
    """Watches the nodes that have unanswered requests. Use as `async with`.

    An answer may correctly need a minute, such as a blocking reload while the publisher is disconnected. So a time-out
    does not show whether the node is alive. Each node with unanswered requests is checked four times per `quiet`
    seconds.

    quiet: seconds without a byte, after which the node is probed.
    probe_seconds: in which it must answer.
    """

    def __init__(
        self,
        peers: Peers,
        *,
        quiet: float = QUIET_SECONDS,
        probe_seconds: float = _PROBE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers = peers
        self._quiet = quiet
        self._probe_seconds = probe_seconds
        self._clock = clock
        self._watched: dict[str, _Watched] = {}  # by address
        self._dead: dict[str, float] = {}  # by address: the time until which it counts as dead
        self._tasks = Tasks("liveness")

    async def __aenter__(self) -> LivenessMonitor:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stops watching."""
        await self._tasks.close()

    @contextlib.contextmanager
    def watch(self, node: NodeAddress) -> Iterator[PendingCall]:
        """Watches the node while the block runs. Raises PeerUnavailable if the node was recently found dead."""
        until = self._dead.get(node.address)
        if until is not None:
            if until > self._clock():
                raise PeerUnavailable(node, "does not answer")
            del self._dead[node.address]
        watched = self._watched.get(node.address)
        if watched is None:
            watched = self._watched[node.address] = _Watched(self._clock())
            watched.task = self._tasks.start(self._watch(node, watched), node.address)
        elif not watched.calls:
            watched.last_received = self._clock()  # the node had no unanswered request until now
        call = PendingCall(watched)
        watched.calls.add(call)
        try:
            yield call
        finally:
            watched.calls.discard(call)

    async def _watch(self, node: NodeAddress, watched: _Watched) -> None:
        """Watches one node until it has no unanswered request."""
        try:
            while True:
                await asyncio.sleep(self._quiet / 4)
                if not watched.calls:
                    return
                if self._clock() - watched.last_received < self._quiet:
                    continue
                if await self._is_alive(node):
                    watched.last_received = self._clock()
                    continue
                log.warning("a node does not answer", node=node.id, address=node.address)
                self._dead[node.address] = self._clock() + _DEAD_SECONDS
                for call in list(watched.calls):
                    call.on_dead()
                return
        finally:
            if self._watched.get(node.address) is watched:
                del self._watched[node.address]

    async def _is_alive(self, node: NodeAddress) -> bool:
        """Whether the node answers the probe with any status. A sibling's socket answers 404."""
        try:
            async with (
                asyncio.timeout(self._probe_seconds),
                self._peers.request(node, "GET", _PROBE, seconds=self._probe_seconds),
            ):
                return True
        except (PeerUnavailable, TimeoutError):
            return False
