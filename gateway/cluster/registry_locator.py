"""Finds the node that holds a stream, with as few reads of the registry as possible."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.channels.names import channel_of
from gateway.cluster.node_address import NodeAddress
from gateway.lib.token_bucket import TokenBucket
from gateway.ports.errors import AtCapacity, StoreUnavailable
from gateway.ports.nodes import StreamClaim

KEEP_SECONDS: Final = 30.0  # for which an answer is used
ABSENT_SECONDS: Final = 0.5  # for which the answer that no node holds the stream is used
_GATHER_SECONDS: Final = 0.005  # look-ups within this time become one request
_BATCH: Final = 100  # the limit of BatchGetItem
_NAMES_PER_SECOND: Final = 1000.0  # viewers can make up names: this bounds the cost
_MAX_WAITING: Final = 10_000
_MAX_KNOWN: Final = 20_000
_DOUBT_SECONDS: Final = 2.0  # for which a holder that failed twice is not tried again
_MAX_DOUBTS: Final = 10_000


class Finder(Protocol):
    """The registry method that looks streams up."""

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        """See ports.stores.Registry."""
        ...


@dataclass(slots=True)
class _Known:
    place: NodeAddress | None
    at: float


@dataclass(slots=True)
class _Doubt:
    times: int
    at: float


class RegistryLocator:
    """A StreamLocator over the registry. `run` must run. A rendition is on the node of its source.

    An answer is used for KEEP_SECONDS. A holder that cannot be reached is looked up again at once. If it is still the
    holder, it is tried again only after a pause. While the registry is away, the last answers stay in use.

    Look-ups of one moment become one request. At most _NAMES_PER_SECOND names are looked up; beyond that, AtCapacity
    is raised.

    siblings: returns the Unix sockets of the other processes of this host, by node id. Counter: `asked` (names).
    """

    def __init__(
        self,
        registry: Finder,
        siblings: Callable[[], Mapping[str, str]] = dict,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._siblings = siblings
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Future[_Known]] = {}
        self._wanted = asyncio.Event()
        self._doubts: OrderedDict[str, _Doubt] = OrderedDict()
        self._names = TokenBucket(_NAMES_PER_SECOND, _NAMES_PER_SECOND)
        self.asked = 0

    # ---- StreamLocator ----

    def known(self, name: str) -> NodeAddress | None:
        known = self._fresh(channel_of(name))
        return None if known is None else self._trusted(known.place)

    async def find(self, name: str) -> NodeAddress | None:
        channel = channel_of(name)
        known = self._fresh(channel) or await self._ask(channel)
        return self._trusted(known.place)

    def lost(self, name: str, place: NodeAddress) -> None:
        channel = channel_of(name)
        known = self._known.get(channel)
        if known is not None and known.place == place:
            del self._known[channel]
        now = self._clock()
        doubt = self._doubts.get(place.claim)
        if doubt is None or now - doubt.at > 2 * _DOUBT_SECONDS:
            doubt = self._doubts[place.claim] = _Doubt(0, now)
        doubt.times += 1
        doubt.at = now
        self._doubts.move_to_end(place.claim)
        if len(self._doubts) > _MAX_DOUBTS:
            self._doubts.popitem(last=False)

    # ---- knowledge of this node ----

    def put(self, holding: StreamClaim) -> None:
        """Remembers a holding that was just read or written."""
        self._remember(holding.stream, self.place(holding))

    def forget(self, channel: str) -> None:
        """Removes what is known of a channel: the next look-up asks the registry."""
        self._known.pop(channel, None)

    def place(self, holding: StreamClaim) -> NodeAddress:
        """Returns how to reach a holder. A sibling is reached over its Unix socket."""
        socket = self._siblings().get(holding.node)
        return NodeAddress(
            holding.node, f"unix:{socket}" if socket else holding.address, holding.claim, holding.cluster
        )

    # ---- look-ups ----

    async def run(self) -> None:
        """Looks names up in batches, until it is cancelled."""
        try:
            while True:
                await self._wanted.wait()
                await asyncio.sleep(_GATHER_SECONDS)
                batch = dict(itertools.islice(self._asking.items(), _BATCH))
                await self._look_up(batch)
                for name in batch:  # not earlier, so that callers meanwhile wait for this answer
                    del self._asking[name]
                if not self._asking:
                    self._wanted.clear()
        finally:
            for future in self._asking.values():
                future.cancel()

    async def _look_up(self, asking: dict[str, asyncio.Future[_Known]]) -> None:
        self.asked += len(asking)
        try:
            found = await self._registry.find(asking.keys())
        except StoreUnavailable as away:
            for name, future in asking.items():
                old = self._known.get(name)
                if future.done():
                    continue
                if old is not None and old.place is not None:
                    future.set_result(old)
                else:
                    future.set_exception(StoreUnavailable(str(away), away.retry_after))
                    future.exception()  # marks it as retrieved: the caller may have gone
            return
        for name, future in asking.items():
            holding = found.get(name)
            known = self._remember(name, self.place(holding) if holding is not None else None)
            if not future.done():
                future.set_result(known)

    async def _ask(self, channel: str) -> _Known:
        future = self._asking.get(channel)
        if future is None:
            if len(self._asking) >= _MAX_WAITING or not self._names.take(1, self._clock()):
                raise AtCapacity("too many streams are looked for")
            future = self._asking[channel] = asyncio.get_running_loop().create_future()
            self._wanted.set()
        return await asyncio.shield(future)

    def _fresh(self, channel: str) -> _Known | None:
        known = self._known.get(channel)
        if known is None:
            return None
        age = self._clock() - known.at
        if age >= (ABSENT_SECONDS if known.place is None else KEEP_SECONDS):
            return None
        return known

    def _remember(self, channel: str, place: NodeAddress | None) -> _Known:
        known = self._known[channel] = _Known(place, self._clock())
        self._known.move_to_end(channel)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return known

    def _trusted(self, place: NodeAddress | None) -> NodeAddress | None:
        if place is None:
            return None
        doubt = self._doubts.get(place.claim)
        if doubt is not None and doubt.times > 1 and self._clock() - doubt.at < _DOUBT_SECONDS:
            return None
        return place
