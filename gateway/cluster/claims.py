"""Claims: the streams that this node holds. A claim is in the registry before a push is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.cluster.forward import PushForwarder
from gateway.cluster.node_address import PeerRefused, PeerUnavailable
from gateway.cluster.node_liveness import NodeLiveness
from gateway.cluster.registry_locator import RegistryLocator
from gateway.cluster.session_rows import SessionRows
from gateway.lib.backoff import Backoff
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.ports.errors import AtCapacity, HeldByOtherNode, NameInUse, StoreUnavailable
from gateway.ports.nodes import StreamClaim

log = structlog.get_logger(__name__)

FINISH_SECONDS: Final = 3.0  # time for the releases when the process ends
VERIFY_SECONDS: Final = 30.0  # between two checks of our claims
_TRIES: Final = 4  # attempts to claim, where other nodes are quicker
_ASK_AGAIN: Final = 0.3  # seconds before a holder that denies its claim is asked once more
_RELEASE_SECONDS: Final = 600.0  # how long a release is tried; after that, the row's time to live removes it
_BATCH: Final = 100
_MARGIN: Final = 60  # for more than one segment a second at the previous holder, and for seconds of clock difference


@dataclass(slots=True)
class _PushLock:
    """The lock that serializes the pushes of one channel."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


@dataclass(slots=True)
class _Held:
    """A stream that this node holds, and its row in the registry.

    began: when this node took the stream, seconds since the epoch.
    writing: serializes the writes of the row and its release. A write after the release finds that the stream has
    ended.
    """

    holding: StreamClaim
    channel: Channel
    began: float
    stale: bool = False  # the row in the registry is out of date
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Claims:
    """Accepts pushes for the cluster. `lease` implements live.publisher.AcquirePublisher.

    A push becomes a stream of this node once the registry has accepted the claim. A push of a stream that another
    node holds is forwarded to that node, which decides about it. This node takes over the streams of a dead holder.

    A holder is dead in three cases: it refuses connections; it has left; or it cannot be reached and its heartbeat
    stood still for ALIVE_SECONDS by the clock of this node. `run` must run: it renews lost claims, and ends a stream
    that another node has claimed.
    """

    def __init__(
        self,
        hub: Hub,
        rows: SessionRows,
        locator: RegistryLocator,
        forwards: PushForwarder,
        tasks: Tasks,
        clocks: Clocks = SYSTEM_CLOCKS,
    ) -> None:
        self._hub = hub
        self._rows = rows
        self._registry = rows.registry
        self._locator = locator
        self._forwards = forwards
        self._tasks = tasks
        self._releases = Tasks("releases", _crashed)
        self._clock = clocks.wall
        self._monotonic = clocks.monotonic
        self._names: dict[str, _PushLock] = {}
        self._held: dict[str, _Held] = {}
        self._liveness = NodeLiveness(clocks.monotonic)

    def __len__(self) -> int:
        return len(self._held)

    async def lease(
        self, channel: Channel, *, protocol: str, peer: str, evict: Callable[[EndReason], None]
    ) -> StreamPublisher:
        """Implements live.publisher.AcquirePublisher."""
        hub, name = self._hub, channel.id
        waiting = self._names.setdefault(name, _PushLock())
        waiting.waiting += 1
        try:
            async with waiting.lock:
                if not hub.holds(name):
                    publisher = await self._elsewhere(channel, protocol, peer, evict)
                    if publisher is not None:
                        return publisher
                return self._publish(channel, protocol, peer, evict)
        finally:
            waiting.waiting -= 1
            if not waiting.waiting:
                del self._names[name]

    def session(self, stream: Stream) -> str:
        """Returns an id that stays equal while the timestamps of a stream are continuous. It contains the claim."""
        held = self._held.get(stream.channel.id)
        return f"{held.holding.claim if held is not None else ''}/{stream.started}"

    def told(self, channel: str) -> None:
        """Writes the row of a channel again, because the values that `row` returns have changed. Does not wait for
        the write.
        """
        held = self._held.get(channel)
        if held is not None and not held.stale:
            held.stale = True
            self._tasks.start(self._try_to_rewrite(held), f"row {channel}")

    async def run(self) -> None:
        """Verifies the claims every VERIFY_SECONDS, until it is cancelled."""
        while True:
            await asyncio.sleep(VERIFY_SECONDS)
            try:
                await self._verify()
            except StoreUnavailable as away:
                log.warning("claims cannot be verified", reason=str(away))

    async def finish(self) -> None:
        """Waits until the registry knows which streams have ended here, for FINISH_SECONDS at most."""
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self._releases.idle()
        except TimeoutError:
            log.warning("the registry was not told of all streams that ended")
        await self._releases.close()

    # ---- a push ----

    async def _elsewhere(
        self, channel: Channel, protocol: str, peer: str, evict: Callable[[EndReason], None]
    ) -> StreamPublisher | None:
        """Returns the lease that another node gave, or None once the claim belongs to this node."""
        name = channel.id
        holding = await self._registry.holding(name)
        asked_again = ""  # the claim whose holder answered 404
        for _ in range(_TRIES):
            if holding is not None and not holding.left and holding.node != self._rows.node:
                place = self._locator.place(holding)
                try:
                    return await self._forwards.publish(place, channel, name, protocol=protocol, peer=peer, evict=evict)
                except PeerRefused as refused:
                    if refused.status != 404:
                        raise AtCapacity("the node that holds the stream does not take it") from None
                    if asked_again != holding.claim:  # a holder writes its row before its stream exists
                        asked_again = holding.claim
                        await asyncio.sleep(_ASK_AGAIN)
                        holding = await self._registry.holding(name)
                        continue
                    log.info("a holder has let go without a word", stream=name, node=holding.node)
                except PeerUnavailable as away:
                    if not away.refused and not await self._dead(holding.node):
                        log.warning("a holder cannot be reached", stream=name, reason=str(away))
                        raise AtCapacity("the node that holds the stream does not answer") from None
                    log.warning("a dead node's stream is taken over", stream=name, node=holding.node)
            try:
                await self._claim(channel, holding)
                return None
            except HeldByOtherNode as held:
                holding = held.holding
        raise NameInUse(name)

    async def _claim(self, channel: Channel, before: StreamClaim | None) -> None:
        """Writes the claim. Raises HeldByOtherNode, StoreUnavailable."""
        now = self._clock()
        holding = self._rows.holding(channel, before.started if before is not None else now)
        await self._rows.write(holding, channel, now, over=before.claim if before is not None else "")
        self._held[channel.id] = _Held(holding, channel, now)
        self._locator.put(holding)

    def _publish(
        self, channel: Channel, protocol: str, peer: str, evict: Callable[[EndReason], None]
    ) -> StreamPublisher:
        hub, name = self._hub, channel.id
        held, begins = self._held.get(name), not hub.holds(name)
        first = 0
        if held is not None and begins and (age := self._clock() - held.holding.started) >= 1:
            first = int(age) + _MARGIN
        try:
            publisher = hub.publish(channel, name, protocol=protocol, peer=peer, evict=evict, first_number=first)
        except (AtCapacity, NameInUse):
            if begins and held is not None:
                self._release(held, EndReason.NO_MEDIA)
            raise
        if begins and held is not None:
            publisher.stream.when_ended(lambda reason: self._release(held, reason))
        return publisher

    # ---- a stream's end ----

    def _release(self, held: _Held, reason: EndReason) -> None:
        name = held.holding.stream
        if self._held.get(name) is held:
            del self._held[name]
        self._locator.forget(name)
        if reason is not EndReason.MOVED or held.writing.locked():
            self._releases.start(self._give_up(held, reason is EndReason.SHUTDOWN), name)

    async def _give_up(self, held: _Held, left: bool) -> None:
        backoff, until = Backoff(), self._monotonic() + _RELEASE_SECONDS
        stream, claim = held.holding.stream, held.holding.claim
        while True:
            try:
                async with held.writing:
                    await self._registry.release(stream, claim, left=left)
                return
            except StoreUnavailable as away:
                if self._monotonic() >= until:
                    log.warning("a stream's row stays in the registry", stream=stream, reason=str(away))
                    return
            await asyncio.sleep(backoff.next())

    # ---- holding on ----

    async def _verify(self) -> None:
        """Checks all claims against the registry.

        Restores deleted claims and writes rows that could not be written before. Ends streams that another node has
        claimed.
        """
        held = list(self._held.values())
        for first in range(0, len(held), _BATCH):
            batch = held[first : first + _BATCH]
            found = await self._registry.find([one.holding.stream for one in batch])
            for one in batch:
                stands = found.get(one.holding.stream)
                if self._held.get(one.holding.stream) is not one:
                    continue  # the stream has ended meanwhile
                if stands is not None and stands.claim != one.holding.claim:
                    # The batch read may be old. A row from before our claim must not end the stream: read it again.
                    now = await self._registry.holding(one.holding.stream)
                    if now is not None and now.claim != one.holding.claim:
                        self._lost(one.holding, now)
                elif stands is None or one.stale:
                    one.stale = True
                    await self._rewrite(one)

    async def _try_to_rewrite(self, held: _Held) -> None:
        """Writes the row once. If the registry does not answer, the next verification writes it."""
        try:
            await self._rewrite(held)
        except StoreUnavailable as away:
            log.warning("a stream's row cannot be written now", stream=held.holding.stream, reason=str(away))

    async def _rewrite(self, held: _Held) -> None:
        """Writes the present row, unless the stream has ended. Raises StoreUnavailable; the row stays marked as stale
        then.
        """
        async with held.writing:
            name = held.holding.stream
            if not held.stale or self._held.get(name) is not held:
                return
            held.stale = False
            stream = self._hub.find(name)
            channel = held.channel = stream.channel if stream is not None else held.channel
            holding = held.holding = replace(held.holding, cluster=self._rows.spreads(channel))
            try:
                await self._rows.write(holding, channel, held.began, over=holding.claim)
            except StoreUnavailable:
                held.stale = True
                raise
            except HeldByOtherNode as other:
                self._lost(holding, other.holding)
            else:
                if self._held.get(name) is held:
                    self._locator.put(holding)

    def _lost(self, holding: StreamClaim, now: StreamClaim) -> None:
        log.warning("another node has taken a stream over", stream=holding.stream, node=now.node)
        self._hub.end(holding.stream, EndReason.MOVED)

    async def _dead(self, id: str) -> bool:
        """Whether a node that cannot be reached is dead: its heartbeat stands still, or the registry does not list
        it.
        """
        node = await self._registry.node(id)
        if node is None:
            return True
        self._liveness.see(node)
        return self._liveness.dead(id)


def _crashed(name: str, error: BaseException) -> None:
    log.error("a release failed", task=name, exc_info=error)
