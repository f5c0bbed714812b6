"""Origin: a file of a stream asked of the node that holds it, of the one after it where it has moved."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.hub.errors import NoSuchStream
from gateway.hub.names import channel_of
from gateway.nodes.copies import Head
from gateway.nodes.peers import Peers
from gateway.nodes.places import PeerAway, PeerRefused, Place, Whereabouts
from gateway.nodes.vigil import Guard, Vigil

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger(__name__)

SILENCE_SECONDS: Final = 100.0  # that an answer may take; whether the node lives is the vigil's to find out
KEEP_SECONDS: Final = 60.0  # contract: an ended stream's playlists stay there for so long
_MOST_RECENT: Final = 10_000
_MOST_WORDS: Final = 65_536  # of an answer that may say no
_MOST_TRIES: Final = 6
_NOT_LIVE: Final = b"is not streaming live now"
_NOT_HELD: Final = b"does not hold the stream"  # the node door's word
_NO_STATUS: Final = b'"live": false'
_WARN_SECONDS: Final = 60.0


class GivenUp(NoSuchStream):
    """Nobody holds the stream: who was asked last says so himself."""


class Answered:
    """A node's answer: its head, and its body as it comes."""

    def __init__(self, head: Head, response: aiohttp.ClientResponse, guard: Guard) -> None:
        self.head = head
        self._response = response
        self._guard = guard
        self._said: bytes | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, pieces as they arrive; what breaks it off raises PeerAway where the block ends."""
        if self._said is not None:
            yield self._said
            return
        async for piece in self._response.content.iter_any():
            self._guard.heard(time.monotonic())
            yield piece

    async def words(self) -> bytes:
        """The body of an answer that may say no; nobody does in more than _MOST_WORDS, which are then all of it."""
        if self._said is None:
            said = b""
            async for piece in self.pieces():
                said += piece
                if len(said) >= _MOST_WORDS:
                    break
            self._said = said[:_MOST_WORDS]
        return self._said


class Origin:
    """Asks nodes for what they have; touched by one loop. Counters: `requests`, `failures`, of requests that failed."""

    def __init__(self, where: Whereabouts, peers: Peers, vigil: Vigil) -> None:
        self._where = where
        self._peers = peers
        self._vigil = vigil
        self._recent: OrderedDict[str, tuple[Place, float]] = OrderedDict()  # who had a stream, and until when
        self._warned: dict[str, float] = {}
        self.requests = 0
        self.failures = 0

    async def held(self, name: str) -> bool:
        """Whether somebody holds the stream. Raises StoreAway, AtCapacity."""
        channel = channel_of(name)
        return (self._where.known(channel) or await self._where.find(channel)) is not None

    # ---- of live streams ----

    @contextlib.asynccontextmanager
    async def live(self, name: str, path: str, query: str = "") -> AsyncIterator[Answered]:
        """The holder's answer for a file of a stream. path: encoded; query: "" or without its "?".

        A holder that is away, or has given the stream up, is looked for once more, at once; an edge of the stream gives
        way to whoever comes next. Raises NoSuchStream where nobody has it (GivenUp where its node says so itself),
        PeerAway, PeerRefused, StoreAway, AtCapacity.
        """
        target = f"/_node/{name}/{path}" + (f"?{query}" if query else "")
        async with contextlib.AsyncExitStack() as stack:
            yield await self._found(stack, name, target)

    async def _found(self, stack: contextlib.AsyncExitStack, name: str, target: str) -> Answered:
        channel = channel_of(name)
        place = self._where.known(channel) or await self._where.find(channel)
        if place is None:
            return await self._ended(stack, name, target)
        second = False
        failure: PeerAway | PeerRefused | NoSuchStream = NoSuchStream(name)
        for _ in range(_MOST_TRIES):
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    answered = await attempt.enter_async_context(self.ask(place, "GET", target))
                    if place.edge and answered.head.status >= 500:
                        raise PeerRefused(place, answered.head.status, "has no answer now")
                    if not await _given_up(answered, target):
                        self._has(channel, place)
                        stack.push_async_exit(attempt.pop_all())
                        return answered
                failure = GivenUp(name)
            except PeerRefused as refused:
                if not place.edge:
                    raise
                failure = refused
            except PeerAway as away:
                failure = away
            self._where.lost(channel, place)
            before, place = place, await self._where.find(channel)
            same = place == before and (isinstance(failure, NoSuchStream) or _dead(failure))
            if place is None or same or second:
                break
            second = not before.edge
        raise failure

    async def _ended(self, stack: contextlib.AsyncExitStack, name: str, target: str) -> Answered:
        """Nobody holds it: who did so lately has its last playlists."""
        place, until = self._recent.get(channel_of(name), (None, 0.0))
        if place is not None and until > time.monotonic():
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    answered = await attempt.enter_async_context(self.ask(place, "GET", target))
                    if not await _given_up(answered, target):
                        stack.push_async_exit(attempt.pop_all())
                        return answered
            except (PeerAway, PeerRefused) as error:
                log.debug("what has ended cannot be asked for", stream=name, reason=str(error))
            else:
                self._recent.pop(channel_of(name), None)
                raise GivenUp(name)
        raise NoSuchStream(name)

    def _has(self, channel: str, place: Place) -> None:
        self._recent[channel] = (place, time.monotonic() + KEEP_SECONDS)
        self._recent.move_to_end(channel)
        if len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)

    # ---- one node ----

    @contextlib.asynccontextmanager
    async def ask(
        self, place: Place, method: str, target: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Answered]:
        """A node's answer. Raises PeerAway, also for what breaks off in the block; PeerRefused where it knows no
        request of ours."""
        self.requests += 1
        sent = {**(headers or {}), "Accept-Encoding": "identity"}
        try:
            with self._vigil.guard(place) as guard:
                async with contextlib.AsyncExitStack() as stack:
                    asked = self._peers.request(place, method, target, headers=sent, seconds=SILENCE_SECONDS)
                    response = await _in_time(stack.enter_async_context(asked), place, guard)
                    if response.status in (401, 403):
                        raise PeerRefused(place, response.status, "cluster.secret is another one there, or none")
                    yield Answered(Head.of(response.status, response.headers, response.content_length), response, guard)
        except (PeerAway, PeerRefused) as error:
            self.failures += 1
            self._warn(place, str(error))
            raise

    def _warn(self, place: Place, reason: str) -> None:
        """Once a minute of each node: as many requests fail as there are."""
        now = time.monotonic()
        self._warned = {node: until for node, until in self._warned.items() if until > now}
        if place.node not in self._warned:
            self._warned[place.node] = now + _WARN_SECONDS
            log.warning("a node cannot be asked", node=place.node, address=place.address, reason=reason)


async def _in_time(
    head: Coroutine[Any, Any, aiohttp.ClientResponse], place: Place, guard: Guard
) -> aiohttp.ClientResponse:
    """The head of an answer. Raises PeerAway where the node dies meanwhile; afterwards that ends the body."""
    try:
        async with asyncio.timeout(None) as limit:
            guard.cut = lambda: limit.reschedule(0)
            response = await head
    except TimeoutError:
        raise PeerAway(place, "does not answer") from None
    guard.heard(time.monotonic())
    guard.cut = response.close
    return response


async def _given_up(answered: Answered, target: str) -> bool:
    """Whether a node says that it does not hold the stream, be it by a `status.json`."""
    if answered.head.status == 404:
        words = await answered.words()
        return _NOT_LIVE in words or _NOT_HELD in words
    return target.endswith("/status.json") and answered.head.status == 200 and _NO_STATUS in await answered.words()


def _dead(failure: PeerAway | PeerRefused) -> bool:
    return isinstance(failure, PeerAway) and failure.refused
