"""Relay: HLS, LL-HLS, DASH and pictures of streams that other nodes hold: asked for once, given to everybody."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final, Self, TypeAlias
from urllib.parse import quote
from weakref import WeakValueDictionary

from gateway.hub.cache import CachedChannels
from gateway.hub.channel import Channel
from gateway.hub.errors import AtCapacity, HubError, NoSuchChannel, NoSuchStream, StoreAway
from gateway.hub.names import channel_of
from gateway.lib import metrics
from gateway.lib.metrics import Sample
from gateway.nodes.cache import Cache
from gateway.nodes.copies import QUERY, Copy, Manifest, Playlist, Status, copy_of
from gateway.nodes.flights import Flight, Flights, Reading
from gateway.nodes.origin import GivenUp, Origin
from gateway.nodes.peers import Peers
from gateway.nodes.places import Whereabouts
from gateway.nodes.vigil import Vigil
from gateway.servers.audience import Audience
from gateway.servers.playback import Answering, not_streaming
from gateway.servers.protection import Protection
from gateway.servers.request import Request
from gateway.servers.response import Answer, Response, Takeover, text, try_later
from gateway.servers.segmented import copied_query, directives
from gateway.settings.models import Edge

WHOLE: Final = 16 << 20  # bytes of an answer of known length up to which nobody gets any of it before its end
MOST_TEXT: Final = 4 << 20  # of a playlist, a manifest, a picture, a refusal
MOST_MEDIA: Final = 128 << 20  # of a segment
_PATIENCE: Final = 120.0  # for an answer, or its next piece; where the node has died the vigil ends it long before
_STALE_PATIENCE: Final = 1.0  # the same where there is an old answer to fall back on
_MOMENT: Final = 0.3  # that a live playlist serves who asks next; half a part where that is less
_SAYING_NO: Final = {400: 0.5, 404: 0.5}  # the same of other answers than 200 …
_OTHERWISE: Final = 0.2
_LONGEST: Final = 600.0

_PATH: Final = re.compile(r"(?:[A-Za-z0-9_-]{1,32}/){0,2}[A-Za-z0-9._-]{1,80}", re.ASCII)
_MEDIA: Final = (".ts", ".m4s", ".mp4")
_LISTS: Final = (".m3u8", ".mpd")
_NUMBER: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_NO_PAGE: Final = text(404, "not found")

# What answers where nobody holds a stream: it judges who asks by itself.
Absent: TypeAlias = Callable[[], Coroutine[Any, Any, Answer]]
# Who gets a copy, of which stream: what counts viewers.
Seen: TypeAlias = Callable[[Request, str, "Copy"], None]


class Crowd:
    """Who watches one stream of another node here; a servers.audience.Watched."""

    __slots__ = ("__weakref__", "name", "viewers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.viewers: Counter[str] = Counter()


class Relay:
    """A servers.playback.Elsewhere. Use as `async with`. What is in memory is answered without a task.

    Who asks is judged here, by the channel as `channels` knows it; holders judge no more, and see no query of a viewer
    but the delivery directives. Any number of equal requests are one to the holder. cache: bytes that may be kept.
    stale: seconds for which the last playlist serves where no holder answers. Bounds are of Flights and Origin: beyond
    them 503 with Retry-After. Counter: `served_stale`, `bytes` (from holders).
    """

    def __init__(
        self,
        where: Whereabouts,
        peers: Peers,
        channels: CachedChannels,
        protection: Protection,
        audience: Audience,
        edge: Edge,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vigil = Vigil(peers)
        self.origin = Origin(where, peers, self._vigil)
        self._channels = channels
        self._protection = protection
        self._audience = audience
        self._stale = edge.stale
        self._clock = clock
        self._most = edge.cache
        self._media: Cache[Copy] = Cache(edge.cache - edge.cache // 8)
        self._brief: Cache[Copy] = Cache(edge.cache // 8)  # apart: what viewers make up must not drive out media
        self._flights: Flights[Copy] = Flights("relay")
        self._crowds: WeakValueDictionary[str, Crowd] = WeakValueDictionary()
        self._stack = AsyncExitStack()
        self._under_way = 0  # bytes of answers that are not complete
        self.served_stale = 0
        self.bytes = 0

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._vigil)
        await self._stack.enter_async_context(self._flights)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    # ---- who may ----

    def file(self, request: Request, name: str, rest: str, absent: Absent) -> Answering:
        """As of Elsewhere. Hot."""
        try:
            channel = self._channels.known(channel_of(name))
        except NoSuchChannel:
            return self._unknown(request, name, rest, absent)
        if channel is None:
            return self._read(request, name, rest, absent)
        return self._judged(request, name, rest, channel, absent)

    def given(self, request: Request, name: str, rest: str) -> Answering:
        """The same for another node, which judges and counts those whom it asks for."""
        return self._found(request, name, rest, partial(_not_live, name), _unseen)

    async def _read(self, request: Request, name: str, rest: str, absent: Absent) -> Answer:
        try:
            channel = await self._channels.get(channel_of(name))
        except NoSuchChannel:
            return await self._unknown(request, name, rest, absent)
        except StoreAway as away:
            return try_later("the channels cannot be read now", away.retry_after)
        return await _answer(self._judged(request, name, rest, channel, absent))

    async def _unknown(self, request: Request, name: str, rest: str, absent: Absent) -> Answer:
        """There was no such channel a moment ago. Where somebody holds its stream it was made since: what is known of
        it must not be that it is open to all."""
        try:
            if not await self.origin.held(name):
                return await absent()
            self._channels.forget(channel_of(name))
            channel = await self._channels.get(channel_of(name))
        except NoSuchChannel:
            return await absent()
        except StoreAway as away:
            return try_later("the channels cannot be read now", away.retry_after)
        except AtCapacity as error:
            return try_later(str(error), 1)
        return await _answer(self._judged(request, name, rest, channel, absent))

    # ---- what is in memory ----

    def _judged(self, request: Request, name: str, rest: str, channel: Channel, absent: Absent) -> Answering:
        refusal = self._protection.judge(request, name, channel)
        return refusal if refusal is not None else self._found(request, name, rest, absent, self._saw)

    def _found(self, request: Request, name: str, rest: str, absent: Absent, seen: Seen) -> Answering:
        if not _PATH.fullmatch(rest):
            return _NO_PAGE
        suffix = query = ""
        if rest.endswith(_LISTS):
            copied = copied_query(request)
            if isinstance(copied, Response):
                return copied
            suffix, query = copied, self._query(request, name, rest)
        key = (name, rest, query)
        copy = self._kept(key)
        if copy is None:
            return self._fetched(request, key, suffix, absent, seen)
        seen(request, name, copy)
        return copy.answer(request, suffix, self._clock())

    def _kept(self, key: tuple[str, str, str]) -> Copy | None:
        """What is fresh."""
        now = self._clock()
        copy = self._media.get(key, now) if key[1].endswith(_MEDIA) else None
        return copy if copy is not None else self._brief.get(key, now)

    def _query(self, request: Request, name: str, rest: str) -> str:
        """What a holder is asked for a playlist with: our own query and the delivery directives that mean something, so
        that what means the same is one request."""
        if "/" not in rest:
            return QUERY  # no directives for those
        wanted = directives(request)
        parts = [QUERY]
        msn = wanted.get("_HLS_msn")
        if msn is not None and _NUMBER.fullmatch(msn):
            last = self._brief.stale((name, rest), self._clock())
            if isinstance(last, Playlist) and int(msn) < last.first_number:
                return QUERY  # older than anything in the playlist: it gets the newest, as everybody
        for directive in ("_HLS_msn", "_HLS_part"):
            value = wanted.get(directive)
            if value is not None:
                parts.append(f"{directive}={int(value) if _NUMBER.fullmatch(value) else 'x'}")
        if wanted.get("_HLS_skip") in ("YES", "v2"):
            parts.append("_HLS_skip=YES")
        return "&".join(parts)

    def _saw(self, request: Request, name: str, copy: Copy) -> None:
        if copy.protocol:
            crowd = self._crowds.get(name)
            if crowd is None:
                crowd = self._crowds[name] = Crowd(name)
            self._audience.saw(request, crowd, copy.protocol)

    # ---- what has to be asked for ----

    async def _fetched(
        self, request: Request, key: tuple[str, str, str], suffix: str, absent: Absent, seen: Seen
    ) -> Answer:
        name, rest, query = key
        try:
            return await self._flown(request, key, suffix, seen)
        except GivenUp:
            return await absent()
        except HubError as error:
            copy = self._brief.stale((name, rest), self._clock())
            if copy is not None:
                if "_HLS_msn" in query:
                    await asyncio.sleep(_STALE_PATIENCE)  # it was to be held: its player asks again at once
                return self._old(request, suffix, copy)
            if isinstance(error, NoSuchStream):
                return await absent()
            return try_later(f"{name} cannot be fetched now", 1)

    async def _flown(self, request: Request, key: tuple[str, str, str], suffix: str, seen: Seen) -> Answer:
        """Raises what Origin.live does."""
        name, rest, query = key
        copy = self._kept(key)  # it may have come since this task was started
        if copy is not None:
            seen(request, name, copy)
            return copy.answer(request, suffix, self._clock())
        flight = self._flights.join(key, name, lambda flight: self._fly(flight, key))
        joined, keep = True, False
        try:
            old = self._brief.stale((name, rest), self._clock()) if "_HLS_msn" not in query else None
            if not await flight.answered(_PATIENCE if old is None else _STALE_PATIENCE):
                if old is None:
                    raise AtCapacity(f"{rest} of {name} takes too long")
                keep = True  # whoever asks next may get its answer
                return self._old(request, suffix, old)
            if flight.done:
                copy = flight.result
                seen(request, name, copy)
                return copy.answer(request, suffix, self._clock())
            assert flight.head is not None, "it is answered, and not over"
            seen(request, name, flight.head)
            joined = False
            return flight.head.head.response(Reading(self._flights, flight, _PATIENCE))
        finally:
            if joined:
                self._flights.leave(flight, keep=keep)

    def _old(self, request: Request, suffix: str, copy: Copy) -> Response:
        self.served_stale += 1
        return copy.answer(request, suffix, self._clock())

    async def _fly(self, flight: Flight[Copy], key: tuple[str, str, str]) -> Copy:
        name, rest, query = key
        size = 0
        try:
            async with self.origin.live(name, quote(rest), query) as answered:
                head, received = answered.head, self._clock()
                media = head.status == 200 and rest.endswith(_MEDIA)
                most = MOST_MEDIA if media else MOST_TEXT
                if media and (head.length is None or head.length > WHOLE):
                    flight.open(copy_of(rest, head, b"", received))
                async for piece in answered.pieces():
                    size += len(piece)
                    self.bytes += len(piece)
                    self._under_way += len(piece)
                    if size > most or self._under_way > self._most:
                        raise AtCapacity(f"{rest} of {name} is too large")
                    flight.add(piece)
        finally:
            self._under_way -= size
        copy = copy_of(rest, head, flight.body, received)
        self._keep(key, copy)
        return copy

    def _keep(self, key: tuple[str, str, str], copy: Copy) -> None:
        name, rest, query = key
        seconds = _lifetime(copy)
        listed = isinstance(copy, Playlist | Manifest)
        if not seconds:
            return
        copy.fresh_until = copy.received + seconds
        copy.stale_until = copy.received + self._stale if listed else 0.0
        cache = self._media if copy.head.status == 200 and rest.endswith(_MEDIA) else self._brief
        cache.put(key, copy)
        if listed and "_HLS_skip" not in query:
            self._brief.put((name, rest), copy)

    # ---- counters ----

    @property
    def viewers(self) -> dict[str, Counter[str]]:
        """Who watches what here, by stream and protocol."""
        return {name: crowd.viewers for name, crowd in self._crowds.items() if any(crowd.viewers.values())}

    def samples(self) -> Iterator[Sample]:
        """A source of metrics."""
        viewers: Counter[str] = Counter()
        for counts in self.viewers.values():
            viewers.update(counts)
        for protocol, count in viewers.items():
            yield Sample(metrics.VIEWERS, count, (protocol,))
        flights = self._flights
        hits = self._media.hits + self._brief.hits
        results = {"hit": hits, "miss": flights.flown, "collapsed": flights.collapsed, "stale": self.served_stale}
        for result, count in results.items():
            yield Sample(metrics.EDGE_REQUESTS, count, (result,))
        yield Sample(metrics.EDGE_UPSTREAM, self.origin.requests)
        yield Sample(metrics.EDGE_FAILED, self.origin.failures)
        yield Sample(metrics.EDGE_BYTES, self.bytes)
        yield Sample(metrics.EDGE_CACHE, self._media.bytes + self._brief.bytes)


def _lifetime(copy: Copy) -> float:
    """Seconds for which an answer serves whoever asks next."""
    head = copy.head
    if head.status != 200:
        return _SAYING_NO.get(head.status, _OTHERWISE)
    if head.max_age:
        return min(head.max_age, _LONGEST)
    if isinstance(copy, Playlist):
        return min(_MOMENT, copy.part_target / 2) if copy.part_target else _MOMENT
    return _MOMENT if isinstance(copy, Manifest | Status) else 0.0


def _unseen(request: Request, name: str, copy: Copy) -> None:
    """Another node's request is no viewer's."""


async def _not_live(name: str) -> Answer:
    return not_streaming(name)


async def _answer(answering: Answering) -> Answer:
    return answering if isinstance(answering, Response | Takeover) else await answering
