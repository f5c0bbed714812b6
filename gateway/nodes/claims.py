"""Claims: which streams this node holds, written into the registry before a push is accepted."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from gateway.hub.channel import Channel
from gateway.hub.errors import AtCapacity, Held, NameInUse, StoreAway
from gateway.hub.fanout import EndReason
from gateway.hub.hub import Hub
from gateway.hub.nodes import Holding
from gateway.hub.ports import Registry
from gateway.hub.publisher import Publisher
from gateway.hub.stream import Stream
from gateway.lib.aio import Tasks
from gateway.lib.backoff import Backoff
from gateway.nodes.forward import Forwards
from gateway.nodes.living import Living
from gateway.nodes.locator import Locator
from gateway.nodes.places import PeerAway, PeerRefused

log = structlog.get_logger(__name__)

FINISH_SECONDS: Final = 3.0  # what releases may take when the process ends
VERIFY_SECONDS: Final = 30.0  # how often the registry is asked whether our claims still stand
_TRIES: Final = 4  # of a claim that others are quicker with
_RELEASE_SECONDS: Final = 600.0  # for which a release is tried; the row's time to live is next
_BATCH: Final = 100
_MARGIN: Final = 60  # segments beyond one a second that a predecessor may have numbered, and seconds of clocks apart


@dataclass(slots=True)
class _Name:
    """Pushes of one channel wait here for each other."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


@dataclass(slots=True)
class _Held:
    """A stream of ours and its row. began: when we took it, seconds since the epoch.

    Writes of the row wait for each other, its release among them: a write that comes after it finds the stream gone.
    """

    holding: Holding
    channel: Channel
    began: float
    stale: bool = False  # the row tells something else than is so
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Claims:
    """`lease` is a hub.lease.Lease: a push becomes this node's stream once the registry says so; one of a stream that
    another node holds goes there, and that node decides. A holder that is dead is succeeded.

    Dead is who refuses connections, who left, and whose beat stood still for ALIVE_SECONDS on our clock while it could
    not be reached. `run` must run: it holds on to the claims, and ends a stream that another node claimed since.
    """

    def __init__(
        self,
        hub: Hub,
        registry: Registry,
        locator: Locator,
        forwards: Forwards,
        *,
        node: str,
        address: Callable[[], str],
        row: Callable[[Channel, str, float], Mapping[str, Any]],
        spreads: Callable[[Channel], bool],
        tasks: Tasks,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """node: our id. address: how others reach us. row: what else the registry tells of a session, by its channel,
        our address and its start. spreads: whether a channel can have edges of its own."""
        self._hub = hub
        self._registry = registry
        self._locator = locator
        self._forwards = forwards
        self._node = node
        self._address = address
        self._row = row
        self._spreads = spreads
        self._tasks = tasks
        self._releases = Tasks("releases", _crashed)
        self._clock = clock
        self._monotonic = monotonic
        self._names: dict[str, _Name] = {}
        self._held: dict[str, _Held] = {}
        self._doubted = Living(monotonic)

    def __len__(self) -> int:
        return len(self._held)

    async def lease(
        self, channel: Channel, *, protocol: str, peer: str, evict: Callable[[EndReason], None]
    ) -> Publisher:
        """As hub.lease.Lease."""
        hub, name = self._hub, channel.id
        waiting = self._names.setdefault(name, _Name())
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
        """What is the same for as long as a stream's times go on: its claim."""
        held = self._held.get(stream.channel.id)
        return f"{held.holding.claim if held is not None else ''}/{stream.started}"

    def told(self, channel: str) -> None:
        """What `row` tells of a channel has changed: where we hold it, its row is written again; does not wait."""
        held = self._held.get(channel)
        if held is not None and not held.stale:
            held.stale = True
            self._tasks.start(self._tell(held), f"row {channel}")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(VERIFY_SECONDS)
            try:
                await self._verify()
            except StoreAway as away:
                log.warning("claims cannot be verified", reason=str(away))

    async def finish(self) -> None:
        """Until the registry knows which streams have ended here, for FINISH_SECONDS at most."""
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self._releases.idle()
        except TimeoutError:
            log.warning("the registry was not told of all streams that ended")
        await self._releases.close()

    # ---- a push ----

    async def _elsewhere(
        self, channel: Channel, protocol: str, peer: str, evict: Callable[[EndReason], None]
    ) -> Publisher | None:
        """The lease that another node gave; None once the claim is ours."""
        name = channel.id
        holding = await self._registry.holding(name)
        for _ in range(_TRIES):
            if holding is not None and not holding.left and holding.node != self._node:
                place = self._locator.place(holding)
                try:
                    return await self._forwards.publish(place, channel, name, protocol=protocol, peer=peer, evict=evict)
                except PeerRefused as refused:
                    if refused.status != 404:
                        raise AtCapacity("the node that holds the stream does not take it") from None
                    log.info("a holder has let go without a word", stream=name, node=holding.node)
                except PeerAway as away:
                    if not away.refused and not await self._dead(holding.node):
                        log.warning("a holder cannot be reached", stream=name, reason=str(away))
                        raise AtCapacity("the node that holds the stream does not answer") from None
                    log.warning("a dead node's stream is taken over", stream=name, node=holding.node)
            try:
                await self._claim(channel, holding)
                return None
            except Held as held:
                holding = held.holding
        raise NameInUse(name)

    async def _claim(self, channel: Channel, before: Holding | None) -> None:
        """Raises Held, StoreAway."""
        now = self._clock()
        holding = Holding(
            channel.id,
            self._node,
            self._address(),
            secrets.token_hex(8),
            before.started if before is not None else now,
            cluster=self._spreads(channel),
        )
        row = self._row(channel, holding.address, now)
        await self._registry.claim(holding, row, over=before.claim if before is not None else "")
        self._held[channel.id] = _Held(holding, channel, now)
        self._locator.put(holding)

    def _publish(self, channel: Channel, protocol: str, peer: str, evict: Callable[[EndReason], None]) -> Publisher:
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
            except StoreAway as away:
                if self._monotonic() >= until:
                    log.warning("a stream's row stays in the registry", stream=stream, reason=str(away))
                    return
            await asyncio.sleep(backoff.next())

    # ---- holding on ----

    async def _verify(self) -> None:
        """Claims that somebody deleted are made again, rows that could not be written are; of those that another node
        has by now, the stream ends here."""
        held = list(self._held.values())
        for first in range(0, len(held), _BATCH):
            batch = held[first : first + _BATCH]
            found = await self._registry.find([one.holding.stream for one in batch])
            for one in batch:
                stands = found.get(one.holding.stream)
                if self._held.get(one.holding.stream) is not one:
                    continue  # it ended meanwhile
                if stands is not None and stands.claim != one.holding.claim:
                    # What is found may be of a moment ago: what stood there before our claim must not end the stream.
                    now = await self._registry.holding(one.holding.stream)
                    if now is not None and now.claim != one.holding.claim:
                        self._lost(one.holding, now)
                elif stands is None or one.stale:
                    one.stale = True
                    await self._rewrite(one)

    async def _tell(self, held: _Held) -> None:
        """What the registry does not take now is left to the next verification."""
        try:
            await self._rewrite(held)
        except StoreAway as away:
            log.warning("a stream's row cannot be written now", stream=held.holding.stream, reason=str(away))

    async def _rewrite(self, held: _Held) -> None:
        """The row as it is to be now, unless the stream has ended. Raises StoreAway; it is stale then."""
        async with held.writing:
            name = held.holding.stream
            if not held.stale or self._held.get(name) is not held:
                return
            held.stale = False
            stream = self._hub.find(name)
            channel = held.channel = stream.channel if stream is not None else held.channel
            holding = held.holding = replace(held.holding, cluster=self._spreads(channel))
            try:
                row = self._row(channel, holding.address, held.began)
                await self._registry.claim(holding, row, over=holding.claim)
            except StoreAway:
                held.stale = True
                raise
            except Held as other:
                self._lost(holding, other.holding)
            else:
                if self._held.get(name) is held:
                    self._locator.put(holding)

    def _lost(self, holding: Holding, now: Holding) -> None:
        log.warning("another node has taken a stream over", stream=holding.stream, node=now.node)
        self._hub.end(holding.stream, EndReason.MOVED)

    async def _dead(self, id: str) -> bool:
        """Whether a node that cannot be reached is dead: its beat stands still, or it is not there any more."""
        node = await self._registry.node(id)
        if node is None:
            return True
        self._doubted.see(node)
        return self._doubted.dead(id)


def _crashed(name: str, error: BaseException) -> None:
    log.error("a release failed", task=name, exc_info=error)
