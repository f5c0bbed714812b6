"""Caches of channels for playback and of domains for display. Both still work while their store is unavailable."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from gateway.channels.addresses import PublicDomains
from gateway.channels.channel import Channel
from gateway.channels.stores import ChannelReader, DomainStore
from gateway.lib.bounded_dict import BoundedDict
from gateway.ports.errors import NoSuchChannel, StoreUnavailable


@dataclass(slots=True)
class _CachedAnswer:
    channel: Channel | None  # None: the store has no such channel
    cached_at: float


class CachedChannels:
    """A ChannelReader in front of a store, for playback only. A push must read without a cache.

    An answer is used for `ttl` seconds, so changes by other nodes appear within that time. Concurrent callers with one
    id cause one read. While the store is unavailable, the last answer is used for `stale` seconds. An unavailable store
    is read at most once a second. The cache contains at most `max_channels` ids, because viewers can invent ids. The
    least recently used id is removed first.
    """

    def __init__(
        self,
        store: ChannelReader,
        *,
        ttl: float = 5,
        stale: float = 3600,
        max_channels: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._ttl, self._stale, self._clock = ttl, stale, clock
        self._answers: BoundedDict[str, _CachedAnswer] = BoundedDict(max_channels)
        # By id: callers hold the lock of their id while one of them reads the store. A lock without callers disappears.
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._unavailable: StoreUnavailable | None = None
        self._next_read = 0.0

    async def get(self, id: str) -> Channel:
        """Returns the channel, at most `ttl` seconds old.

        Raises NoSuchChannel; StoreUnavailable if the store is unavailable and nothing is cached.
        """
        if (answer := self._fresh_answer(id)) is None:
            async with self._reading.setdefault(id, asyncio.Lock()):
                answer = self._fresh_answer(id) or await self._read(id)
        if answer.channel is None:
            raise NoSuchChannel(id)
        return answer.channel

    def known(self, id: str) -> Channel | None:
        """Returns the cached channel, at most `ttl` seconds old; None if not cached. Raises NoSuchChannel. Hot path."""
        answer = self._fresh_answer(id)
        if answer is None:
            return None
        if answer.channel is None:
            raise NoSuchChannel(id)
        return answer.channel

    def put(self, channel: Channel) -> None:
        """Caches a channel that was just stored or read."""
        self._store_answer(channel.id, channel)

    def forget(self, id: str) -> None:
        """Removes a channel that was changed or deleted. The next call reads the store."""
        self._answers.pop(id, None)

    def _fresh_answer(self, id: str) -> _CachedAnswer | None:
        answer = self._answers.get(id)
        if answer is None or self._clock() - answer.cached_at >= self._ttl:
            return None
        self._answers.move_to_end(id)
        return answer

    async def _read(self, id: str) -> _CachedAnswer:
        if self._unavailable is not None and self._clock() < self._next_read:
            return self._stale_answer(id, self._unavailable)
        try:
            channel: Channel | None = await self._store.get(id)
        except NoSuchChannel:
            channel = None
        except StoreUnavailable as error:
            self._unavailable, self._next_read = error, self._clock() + 1
            return self._stale_answer(id, error)
        self._unavailable = None
        return self._store_answer(id, channel)

    def _stale_answer(self, id: str, error: StoreUnavailable) -> _CachedAnswer:
        answer = self._answers.get(id)
        if answer is None or self._clock() - answer.cached_at >= self._stale:
            raise StoreUnavailable(str(error), error.retry_after)
        return answer

    def _store_answer(self, id: str, channel: Channel | None) -> _CachedAnswer:
        answer = self._answers[id] = _CachedAnswer(channel, self._clock())
        return answer


class CachedDomains:
    """A DomainStore in front of another one. All displayed addresses need the domains, so reading must not fail.

    The store is read at most once in `ttl` seconds. While it is unavailable, the last domains are used. Before the
    first successful read, the domains are empty.
    """

    def __init__(self, store: DomainStore, *, ttl: float = 5, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._ttl, self._clock = store, ttl, clock
        self._domains = PublicDomains()
        self._expires = float("-inf")
        self._reading = asyncio.Lock()

    async def get_domains(self) -> PublicDomains:
        async with self._reading:
            if self._clock() >= self._expires:
                with contextlib.suppress(StoreUnavailable):
                    self._domains = await self._store.get_domains()
                self._expires = self._clock() + self._ttl
            return self._domains

    async def set_domains(self, domains: PublicDomains) -> None:
        """Stores the domains. Raises StoreUnavailable if that fails, because the operator must see it."""
        await self._store.set_domains(domains)
        self._domains, self._expires = domains, self._clock() + self._ttl
