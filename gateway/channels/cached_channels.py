"""Caches of channels for playback and of domains for display. Both go on working while their store is away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.channels.addresses import PublicDomains
from gateway.channels.channel import Channel
from gateway.channels.stores import ChannelReader, DomainStore
from gateway.ports.errors import NoSuchChannel, StoreUnavailable


@dataclass(slots=True)
class _Seen:
    channel: Channel | None  # None: the store has no such channel
    at: float


@dataclass(slots=True)
class _Asking:
    """The callers that ask for one id. They wait here while the first of them asks the store."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class CachedChannels:
    """A ChannelReader in front of a store, for playback only: a push must read without a cache.

    An answer is used for `ttl` seconds, so a change elsewhere shows within that time. Callers that ask for one id at
    the same time cause one read. While the store is away, the last answer is used for `stale` seconds. The store is
    then asked once a second. At most `most` ids are remembered, because viewers can make up ids. The least recently
    used id is removed first.
    """

    def __init__(
        self,
        store: ChannelReader,
        *,
        ttl: float = 5,
        stale: float = 3600,
        most: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._ttl, self._stale, self._most, self._clock = ttl, stale, most, clock
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._asking: dict[str, _Asking] = {}
        self._away: StoreUnavailable | None = None
        self._ask_again = 0.0

    async def get(self, id: str) -> Channel:
        """Returns the channel, at most `ttl` seconds old. Raises NoSuchChannel; StoreUnavailable if nothing is
        remembered.
        """
        if (seen := self._fresh(id)) is None:
            asking = self._asking.setdefault(id, _Asking())
            asking.waiting += 1
            try:
                async with asking.lock:
                    seen = self._fresh(id) or await self._ask(id)
            finally:
                asking.waiting -= 1
                if not asking.waiting:
                    del self._asking[id]
        if seen.channel is None:
            raise NoSuchChannel(id)
        return seen.channel

    def known(self, id: str) -> Channel | None:
        """Returns what `get` would return without the store, else None. Raises NoSuchChannel. Hot path."""
        seen = self._fresh(id)
        if seen is None:
            return None
        if seen.channel is None:
            raise NoSuchChannel(id)
        return seen.channel

    def put(self, channel: Channel) -> None:
        """Remembers a channel that was just stored or read."""
        self._remember(channel.id, channel)

    def forget(self, id: str) -> None:
        """Forgets a channel that was changed or deleted. The next call asks the store."""
        self._seen.pop(id, None)

    def _fresh(self, id: str) -> _Seen | None:
        seen = self._seen.get(id)
        if seen is None or self._clock() - seen.at >= self._ttl:
            return None
        self._seen.move_to_end(id)
        return seen

    async def _ask(self, id: str) -> _Seen:
        if self._away is not None and self._clock() < self._ask_again:
            return self._old(id, self._away)
        try:
            channel: Channel | None = await self._store.get(id)
        except NoSuchChannel:
            channel = None
        except StoreUnavailable as away:
            self._away, self._ask_again = away, self._clock() + 1
            return self._old(id, away)
        self._away = None
        return self._remember(id, channel)

    def _old(self, id: str, away: StoreUnavailable) -> _Seen:
        seen = self._seen.get(id)
        if seen is None or self._clock() - seen.at >= self._stale:
            raise StoreUnavailable(str(away), away.retry_after)
        return seen

    def _remember(self, id: str, channel: Channel | None) -> _Seen:
        seen = self._seen[id] = _Seen(channel, self._clock())
        self._seen.move_to_end(id)
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return seen


class CachedDomains:
    """A DomainStore in front of another. All shown addresses need the domains, but reading them must not fail.

    The store is read once in `ttl` seconds. While it is away, the last domains are used, at first none.
    """

    def __init__(self, store: DomainStore, *, ttl: float = 5, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._ttl, self._clock = store, ttl, clock
        self._known = PublicDomains()
        self._until = float("-inf")
        self._asking = asyncio.Lock()

    async def get_domains(self) -> PublicDomains:
        async with self._asking:
            if self._clock() >= self._until:
                with contextlib.suppress(StoreUnavailable):
                    self._known = await self._store.get_domains()
                self._until = self._clock() + self._ttl
            return self._known

    async def set_domains(self, domains: PublicDomains) -> None:
        """Stores the domains. Raises StoreUnavailable if that fails, because an operator must learn of it."""
        await self._store.set_domains(domains)
        self._known, self._until = domains, self._clock() + self._ttl
