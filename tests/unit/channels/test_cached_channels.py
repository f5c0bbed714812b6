"""Caches in front of the stores: expiry, one request for many callers, outages of the store, and memory bounds."""

import asyncio

import pytest

from gateway.channels.addresses import PublicDomains
from gateway.channels.cached_channels import CachedChannels, CachedDomains
from gateway.channels.channel import Channel
from gateway.ports.errors import NoSuchChannel, StoreUnavailable


class Shelf:
    """A store in memory that records requests and can be unavailable."""

    def __init__(self) -> None:
        self.items: dict[str, Channel] = {}
        self.asked: list[str] = []
        self.away = False
        self.now = 0.0
        self.domains = PublicDomains()
        self.gate: asyncio.Event | None = None

    def put(self, id: str, **fields: object) -> Channel:
        self.items[id] = Channel({"id": id} | fields)
        return self.items[id]

    async def get(self, id: str) -> Channel:
        self.asked.append(id)
        if self.gate:
            await self.gate.wait()
        if self.away:
            raise StoreUnavailable("the shelf is away", 7)
        if id not in self.items:
            raise NoSuchChannel(id)
        return self.items[id]

    async def get_domains(self) -> PublicDomains:
        self.asked.append("domains")
        if self.away:
            raise StoreUnavailable("the shelf is away")
        return self.domains

    async def set_domains(self, domains: PublicDomains) -> None:
        if self.away:
            raise StoreUnavailable("the shelf is away")
        self.domains = domains

    def cached(self, **bounds: float) -> CachedChannels:
        return CachedChannels(self, clock=lambda: self.now, **bounds)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def test_a_cached_channel_expires_after_its_ttl(shelf):
    cached, old = shelf.cached(ttl=5), shelf.put("a")
    assert await cached.get("a") is old
    new = shelf.put("a", videoname="new")
    shelf.now = 4.9
    assert await cached.get("a") is old
    shelf.now = 5
    assert await cached.get("a") is new


async def test_a_deleted_channel_disappears_after_the_ttl(shelf):
    cached = shelf.cached(ttl=5)
    shelf.put("a")
    await cached.get("a")
    shelf.items.clear()
    shelf.now = 5
    with pytest.raises(NoSuchChannel):
        await cached.get("a")


async def test_known_channels_are_returned_without_a_request_to_the_store(shelf):
    cached, stored = shelf.cached(ttl=5), shelf.put("a")
    assert cached.known("a") is None
    await cached.get("a")
    assert cached.known("a") is stored
    with pytest.raises(NoSuchChannel):
        await cached.get("b")
    with pytest.raises(NoSuchChannel):
        cached.known("b")
    shelf.now = 5
    assert cached.known("a") is None and cached.known("b") is None
    assert shelf.asked == ["a", "b"]


async def test_a_missing_channel_is_cached_too(shelf):
    cached = shelf.cached()
    for _ in range(3):
        with pytest.raises(NoSuchChannel):
            await cached.get("a")
    assert shelf.asked == ["a"]
    cached.put(shelf.put("a"))
    assert (await cached.get("a")).id == "a"


async def test_a_forgotten_channel_is_read_from_the_store_again(shelf):
    cached = shelf.cached()
    shelf.put("a")
    await cached.get("a")
    new = shelf.put("a", videoname="new")
    cached.forget("a")
    cached.forget("never seen")
    assert await cached.get("a") is new


async def test_concurrent_callers_for_one_channel_share_one_request(shelf):
    cached, channel, shelf.gate = shelf.cached(), shelf.put("a"), asyncio.Event()
    callers = [asyncio.ensure_future(cached.get("a")) for _ in range(100)]
    await asyncio.sleep(0)
    shelf.gate.set()
    assert await asyncio.gather(*callers) == [channel] * 100
    assert shelf.asked == ["a"]
    assert not cached._reading


async def test_a_cancelled_caller_does_not_cancel_the_shared_request(shelf):
    cached, channel, shelf.gate = shelf.cached(), shelf.put("a"), asyncio.Event()
    first, second = asyncio.ensure_future(cached.get("a")), asyncio.ensure_future(cached.get("a"))
    await asyncio.sleep(0)
    first.cancel()
    shelf.gate.set()
    assert await second is channel
    assert not cached._reading


async def test_a_stale_channel_is_served_while_the_store_is_unavailable(shelf):
    cached, channel = shelf.cached(ttl=5, stale=3600), shelf.put("a")
    await cached.get("a")
    shelf.away, shelf.now = True, 100
    assert await cached.get("a") is channel
    with pytest.raises(StoreUnavailable) as e:
        await cached.get("b")
    assert e.value.retry_after == 7
    shelf.now = 3700
    with pytest.raises(StoreUnavailable):
        await cached.get("a")


async def test_an_unavailable_store_is_requested_once_a_second(shelf):
    cached = shelf.cached()
    shelf.away = True
    for id in "abcdef":
        with pytest.raises(StoreUnavailable):
            await cached.get(id)
    assert shelf.asked == ["a"]
    shelf.away, shelf.now = False, 1
    shelf.put("a")
    assert (await cached.get("a")).id == "a"


async def test_requests_for_random_ids_cannot_fill_the_cache(shelf):
    cached = shelf.cached(max_channels=10)
    shelf.put("kept")
    for n in range(1000):
        await cached.get("kept")
        with pytest.raises(NoSuchChannel):
            await cached.get(f"guess-{n}")
    assert len(cached._answers) == 10
    assert shelf.asked.count("kept") == 1


async def test_domains_are_read_once_per_ttl(shelf):
    shelf.domains = PublicDomains("a", "b")
    cached = CachedDomains(shelf, ttl=5, clock=lambda: shelf.now)
    assert [await cached.get_domains() for _ in range(3)] == [PublicDomains("a", "b")] * 3
    shelf.domains, shelf.now = PublicDomains("c", "d"), 5
    assert await cached.get_domains() == PublicDomains("c", "d")
    assert shelf.asked == ["domains"] * 2


async def test_cached_domains_are_served_while_the_store_is_unavailable(shelf):
    cached = CachedDomains(shelf, clock=lambda: shelf.now)
    shelf.away = True
    assert await cached.get_domains() == PublicDomains()
    shelf.away, shelf.domains, shelf.now = False, PublicDomains("a", "b"), 5
    assert await cached.get_domains() == PublicDomains("a", "b")
    shelf.away, shelf.now = True, 100
    assert await cached.get_domains() == PublicDomains("a", "b")


async def test_domains_that_cannot_be_stored_raise_an_error(shelf):
    cached = CachedDomains(shelf, clock=lambda: shelf.now)
    await cached.set_domains(PublicDomains("a", "b"))
    assert await cached.get_domains() == PublicDomains("a", "b")
    assert shelf.asked == []
    shelf.away = True
    with pytest.raises(StoreUnavailable):
        await cached.set_domains(PublicDomains("c", "d"))
    assert await cached.get_domains() == PublicDomains("a", "b")
