"""Finds the node that holds a stream, with few reads of the registry."""

import asyncio
import itertools
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.channels.names import channel_of
from gateway.cluster.members.node_address import FindSockets, NodeAddress
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.clocks import Clock
from gateway.lib.tasks import kept
from gateway.lib.token_bucket import TokenBucket
from gateway.ports.errors import AtCapacity, StoreUnavailable
from gateway.ports.nodes import StreamClaim

CACHE_SECONDS: Final = 30.0  # time for which an answer is cached
ABSENT_SECONDS: Final = 0.4  # time for which it is cached that no node holds a stream; each poll of replicas asks again
FAILING_SECONDS: Final = 0.2  # time for which an answer is cached whose node failed twice
_GATHER_SECONDS: Final = 0.005  # lookups within this time become one request
_BATCH: Final = 100  # names of one request: the limit of BatchGetItem of DynamoDB
_NAMES_PER_SECOND: Final = 1000.0  # bounds the cost, because viewers can invent names
_MAX_WAITING: Final = 10_000
_MAX_CACHED: Final = 20_000
_FAILED_SECONDS: Final = 2.0  # time for which a node that failed twice is not used
_MAX_FAILURES: Final = 10_000


class Finder(Protocol):
    """The registry method for lookups."""

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        """See ports.stores.Registry."""


@dataclass(slots=True)
class _CachedAddress:
    node: NodeAddress | None
    read_at: float


class RegistryLocator:
    """A StreamLocator over the registry. `run` must be running. A rendition is on the node of its source.

    An answer is cached for CACHE_SECONDS. If a node cannot be reached, the stream is looked up again at once. If that
    node still holds it, the node is used again only after _FAILED_SECONDS, and the stream is looked up every
    FAILING_SECONDS while somebody needs it. If the registry is unavailable, the last
    answers are used.

    Lookups within _GATHER_SECONDS become one request. At most _NAMES_PER_SECOND names are looked up. Beyond that, the
    last answers are used for streams that had a node, and lookups of others raise AtCapacity.

    sockets: returns the Unix sockets of the processes of this host, by node id. Counter: `lookups` (names).
    on_failed: called with the channel and the node that did not answer for it, or does not have its stream.
    """

    def __init__(self, registry: Finder, sockets: FindSockets = dict, *, clock: Clock = time.monotonic) -> None:
        self._registry = registry
        self._sockets = sockets
        self._clock = clock
        self._cache: BoundedDict[str, _CachedAddress] = BoundedDict(_MAX_CACHED)  # streams that a node holds
        self._absent: BoundedDict[str, _CachedAddress] = BoundedDict(_MAX_CACHED)  # apart, because names are invented
        self._waiting: dict[str, asyncio.Future[_CachedAddress]] = {}
        self._requested = asyncio.Event()
        # By claim: how often its node has failed, and the time of the last failure.
        self._failures: BoundedDict[str, tuple[int, float]] = BoundedDict(_MAX_FAILURES)
        self._rate = TokenBucket(_NAMES_PER_SECOND, _NAMES_PER_SECOND)
        self.lookups = 0
        self.on_failed: Callable[[str, NodeAddress], None] = lambda channel, node: None

    # ---- StreamLocator ----

    def known(self, name: str) -> NodeAddress | None:
        cached = self._fresh(channel_of(name))
        return None if cached is None else self._unless_failed(cached.node)

    async def find(self, name: str) -> NodeAddress | None:
        channel = channel_of(name)
        cached = self._fresh(channel) or await self._look_up(channel)
        return self._unless_failed(cached.node)

    def invalidate(self, name: str, node: NodeAddress) -> None:
        channel = channel_of(name)
        cached = self._cache.get(channel)
        if cached is not None and cached.node == node:
            del self._cache[channel]
        now = self._clock()
        count, last = self._failures.get(node.claim, (0, now))
        self._failures[node.claim] = (count + 1 if now - last <= 2 * _FAILED_SECONDS else 1, now)
        self.on_failed(channel, node)

    # ---- claims of this node ----

    def put(self, claim: StreamClaim) -> None:
        """Caches a claim that was just read or written."""
        self._put(claim.stream, self.address_of(claim))

    def forget(self, channel: str) -> None:
        """Removes a channel from the cache. The next lookup reads the registry."""
        self._cache.pop(channel, None)
        self._absent.pop(channel, None)

    def address_of(self, claim: StreamClaim) -> NodeAddress:
        """Returns the address of the node with this claim. For a process of this host, it is the Unix socket."""
        socket = self._sockets().get(claim.node)
        return NodeAddress(claim.node, f"unix:{socket}" if socket else claim.address, claim.id, claim.cluster)

    # ---- lookups ----

    async def run(self) -> None:
        """Looks up names in batches, until it is cancelled."""
        try:
            await kept(self._look_up_batches, "look-ups")
        finally:
            for future in self._waiting.values():
                future.cancel()

    async def _look_up_batches(self) -> None:
        while True:
            await self._requested.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            batch = dict(itertools.islice(self._waiting.items(), _BATCH))
            await self._look_up_batch(batch)
            for name in batch:  # removed only now, so that new callers wait for this answer
                del self._waiting[name]
            if not self._waiting:
                self._requested.clear()

    async def _look_up_batch(self, batch: dict[str, asyncio.Future[_CachedAddress]]) -> None:
        self.lookups += len(batch)
        try:
            claims = await self._registry.find(batch.keys())
        except StoreUnavailable as error:
            for name, future in batch.items():
                old = self._cache.get(name)
                if future.done():
                    continue
                if old is not None:
                    future.set_result(old)
                else:
                    future.set_exception(StoreUnavailable(str(error), error.retry_after))
                    future.exception()  # marks it as retrieved: the caller may be cancelled
            return
        for name, future in batch.items():
            claim = claims.get(name)
            cached = self._put(name, self.address_of(claim) if claim is not None else None)
            if not future.done():
                future.set_result(cached)

    async def _look_up(self, channel: str) -> _CachedAddress:
        future = self._waiting.get(channel)
        if future is None:
            if len(self._waiting) >= _MAX_WAITING or not self._rate.take(1, self._clock()):
                old = self._cache.get(channel)
                if old is not None and self._unless_failed(old.node) is not None:
                    return old
                raise AtCapacity("too many streams are looked up")
            future = self._waiting[channel] = asyncio.get_running_loop().create_future()
            self._requested.set()
        return await asyncio.shield(future)

    def _fresh(self, channel: str) -> _CachedAddress | None:
        cached = self._cache.get(channel) or self._absent.get(channel)
        if cached is None:
            return None
        if cached.node is None:
            seconds = ABSENT_SECONDS
        else:  # while the node with the claim fails, another node may claim the stream at any time
            seconds = FAILING_SECONDS if self._unless_failed(cached.node) is None else CACHE_SECONDS
        return cached if self._clock() - cached.read_at < seconds else None

    def _put(self, channel: str, node: NodeAddress | None) -> _CachedAddress:
        self.forget(channel)
        cached = _CachedAddress(node, self._clock())
        (self._absent if node is None else self._cache)[channel] = cached
        return cached

    def _unless_failed(self, node: NodeAddress | None) -> NodeAddress | None:
        """Returns `node`, or None if it failed twice recently."""
        if node is None:
            return None
        count, last = self._failures.get(node.claim, (0, 0.0))
        return None if count > 1 and self._clock() - last < _FAILED_SECONDS else node
