"""Checks whether a node with unanswered requests is alive, long before a time-out of the requests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

import aiohttp
import structlog

from gateway.cluster.members.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.lib.clocks import Clock
from gateway.lib.tasks import Tasks

log = structlog.get_logger(__name__)

QUIET_SECONDS: Final = 4.0  # time without a byte from a node with unanswered requests, after which the node is probed
_PROBE_SECONDS: Final = 4.0  # time in which the node must answer the probe
_DEAD_SECONDS: Final = 2.0  # time for which a dead node gets no requests
_PROBE: Final = "/healthcheck"


@dataclass(slots=True, eq=False)
class _Watched:
    last_received: float
    calls: set[PendingCall] = field(default_factory=set)


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
        """Returns the head of the answer. Raises PeerUnavailable if the node dies before that.

        If the node dies later, the connection is closed, and the body of the answer ends.
        """
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


@dataclass(slots=True, eq=False)
class LivenessMonitor(contextlib.AbstractAsyncContextManager["LivenessMonitor"]):
    """Watches the nodes that have unanswered requests. Use as `async with`.

    An answer may correctly need a minute, such as a blocking reload while the publisher is disconnected. So a time-out
    does not show whether the node is alive. Each node with unanswered requests is checked four times per `quiet`
    seconds.

    quiet: seconds without a byte, after which the node is probed.
    probe_seconds: in which it must answer.
    """

    peers: Peers
    _: KW_ONLY
    quiet: float = QUIET_SECONDS
    probe_seconds: float = _PROBE_SECONDS
    clock: Clock = time.monotonic
    _watched: dict[str, _Watched] = field(default_factory=dict, init=False)  # by address
    _dead: dict[str, float] = field(default_factory=dict, init=False)  # by address: until when it counts as dead
    _tasks: Tasks = field(default_factory=lambda: Tasks("liveness"), init=False)

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    @contextlib.contextmanager
    def watch(self, node: NodeAddress) -> Iterator[PendingCall]:
        """Watches the node while the block runs. Raises PeerUnavailable if the node was recently found dead."""
        until = self._dead.get(node.address)
        if until is not None:
            if until > self.clock():
                raise PeerUnavailable(node, "does not answer")
            del self._dead[node.address]
        watched = self._watched.get(node.address)
        if watched is None:
            watched = self._watched[node.address] = _Watched(self.clock())
            self._tasks.start(self._watch(node, watched), node.address)
        elif not watched.calls:
            watched.last_received = self.clock()  # the node had no unanswered request until now
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
                await asyncio.sleep(self.quiet / 4)
                if not watched.calls:
                    return
                if self.clock() - watched.last_received < self.quiet:
                    continue
                if await self._is_alive(node):
                    watched.last_received = self.clock()
                    continue
                log.warning("a node does not answer", node=node.id, address=node.address)
                self._dead[node.address] = self.clock() + _DEAD_SECONDS
                for call in list(watched.calls):
                    call.on_dead()
                return
        finally:
            if self._watched.get(node.address) is watched:
                del self._watched[node.address]

    async def _is_alive(self, node: NodeAddress) -> bool:
        """Whether the node answers the probe with any status. A sibling's socket answers 404."""
        try:
            probe = self.peers.request(node, "GET", _PROBE, seconds=self.probe_seconds)
            async with asyncio.timeout(self.probe_seconds), probe:
                return True
        except (PeerUnavailable, TimeoutError):
            return False
