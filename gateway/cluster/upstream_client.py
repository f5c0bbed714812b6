"""Fetches a file of a stream from the node that holds it. Finds the new holder if the stream has moved."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.channels.names import channel_of
from gateway.cluster.cached_response import ResponseHead
from gateway.cluster.liveness_monitor import LivenessMonitor, PendingCall
from gateway.cluster.node_address import NodeAddress, PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.peers import Peers
from gateway.ports.errors import NoSuchStream

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger(__name__)

SILENCE_SECONDS: Final = 100.0  # that an answer may take; LivenessMonitor finds dead nodes
KEEP_SECONDS: Final = 60.0  # contract: the holder keeps an ended stream's playlists for so long
_MAX_RECENT: Final = 10_000
_MAX_REFUSAL_BYTES: Final = 65_536  # bytes of an answer that may be a refusal
_MAX_TRIES: Final = 6
_NOT_LIVE: Final = b"is not streaming live now"
_NOT_HELD: Final = b"does not hold the stream"  # quotes NOT_HERE of NodeEndpoint
_NO_STATUS: Final = b'"live": false'
_WARN_SECONDS: Final = 60.0


class NoHolder(NoSuchStream):
    """No node holds the stream. The node that was asked last has said so."""


class UpstreamResponse:
    """The answer of a node: its head, and its body while it arrives."""

    def __init__(self, head: ResponseHead, response: aiohttp.ClientResponse, guard: PendingCall) -> None:
        self.head = head
        self._response = response
        self._guard = guard
        self._said: bytes | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yields the body in pieces as they arrive. If it breaks off, the end of the `async with` block raises
        PeerUnavailable.
        """
        if self._said is not None:
            yield self._said
            return
        async for piece in self._response.content.iter_any():
            self._guard.heard(time.monotonic())
            yield piece

    async def words(self) -> bytes:
        """Returns the body of an answer that may be a refusal, at most _MAX_REFUSAL_BYTES. No refusal is longer."""
        if self._said is None:
            said = b""
            async for piece in self.pieces():
                said += piece
                if len(said) >= _MAX_REFUSAL_BYTES:
                    break
            self._said = said[:_MAX_REFUSAL_BYTES]
        return self._said


class UpstreamClient:
    """Sends requests to nodes. Only one event loop may use it. Counters: `requests`, and `failures` of them."""

    def __init__(self, where: StreamLocator, peers: Peers, monitor: LivenessMonitor | None = None) -> None:
        """monitor: its owner runs it, `async with`; None: one of its own."""
        self._where = where
        self._peers = peers
        self.monitor = monitor or LivenessMonitor(peers)
        self._recent: OrderedDict[str, tuple[NodeAddress, float]] = OrderedDict()  # who had a stream, and until when
        self._warned: dict[str, float] = {}
        self.requests = 0
        self.failures = 0

    async def held(self, name: str) -> bool:
        """Whether a node holds the stream. Raises StoreUnavailable, AtCapacity."""
        channel = channel_of(name)
        return (self._where.known(channel) or await self._where.find(channel)) is not None

    # ---- of live streams ----

    @contextlib.asynccontextmanager
    async def live(self, name: str, path: str, query: str = "") -> AsyncIterator[UpstreamResponse]:
        """Gives the holder's answer for a file of a stream.

        path: encoded. query: "", or without its "?".

        A holder that is away, or has given the stream up, is looked up once more, at once. An edge that fails is
        replaced by the next choice. Raises NoSuchStream if no node has the stream (NoHolder if the node asked says
        so), PeerUnavailable, PeerRefused, StoreUnavailable, AtCapacity.
        """
        target = f"/_node/{name}/{path}" + (f"?{query}" if query else "")
        async with contextlib.AsyncExitStack() as stack:
            yield await self._found(stack, name, target)

    async def _found(self, stack: contextlib.AsyncExitStack, name: str, target: str) -> UpstreamResponse:
        channel = channel_of(name)
        place = self._where.known(channel) or await self._where.find(channel)
        if place is None:
            return await self._ended(stack, name, target)
        second = False
        failure: PeerUnavailable | PeerRefused | NoSuchStream = NoSuchStream(name)
        for _ in range(_MAX_TRIES):
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    answered = await attempt.enter_async_context(self.ask(place, "GET", target))
                    if place.edge and answered.head.status >= 500:
                        raise PeerRefused(place, answered.head.status, "has no answer now")
                    if not await _given_up(answered, target):
                        self._has(channel, place)
                        stack.push_async_exit(attempt.pop_all())
                        return answered
                failure = NoHolder(name)
            except PeerRefused as refused:
                if not place.edge:
                    raise
                failure = refused
            except PeerUnavailable as away:
                failure = away
            self._where.lost(channel, place)
            before, place = place, await self._where.find(channel)
            same = place == before and (isinstance(failure, NoSuchStream) or _dead(failure))
            if place is None or same or second:
                break
            second = not before.edge
        raise failure

    async def _ended(self, stack: contextlib.AsyncExitStack, name: str, target: str) -> UpstreamResponse:
        """Asks the node that lately held the stream, because it still has the last playlists."""
        place, until = self._recent.get(channel_of(name), (None, 0.0))
        if place is not None and until > time.monotonic():
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    answered = await attempt.enter_async_context(self.ask(place, "GET", target))
                    if not await _given_up(answered, target):
                        stack.push_async_exit(attempt.pop_all())
                        return answered
            except (PeerUnavailable, PeerRefused) as error:
                log.debug("what has ended cannot be asked for", stream=name, reason=str(error))
            else:
                self._recent.pop(channel_of(name), None)
                raise NoHolder(name)
        raise NoSuchStream(name)

    def _has(self, channel: str, place: NodeAddress) -> None:
        self._recent[channel] = (place, time.monotonic() + KEEP_SECONDS)
        self._recent.move_to_end(channel)
        if len(self._recent) > _MAX_RECENT:
            self._recent.popitem(last=False)

    # ---- one node ----

    @contextlib.asynccontextmanager
    async def ask(
        self, place: NodeAddress, method: str, target: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[UpstreamResponse]:
        """Gives the answer of a node.

        Raises PeerUnavailable, also if the body breaks off in the block. Raises PeerRefused if the node does not accept
        our signature.
        """
        self.requests += 1
        sent = {**(headers or {}), "Accept-Encoding": "identity"}
        try:
            with self.monitor.guard(place) as guard:
                async with contextlib.AsyncExitStack() as stack:
                    asked = self._peers.request(place, method, target, headers=sent, seconds=SILENCE_SECONDS)
                    response = await _in_time(stack.enter_async_context(asked), place, guard)
                    if response.status in (401, 403):
                        raise PeerRefused(place, response.status, "cluster.secret is another one there, or none")
                    yield UpstreamResponse(
                        ResponseHead.of(response.status, response.headers, response.content_length), response, guard
                    )
        except (PeerUnavailable, PeerRefused) as error:
            self.failures += 1
            self._warn(place, str(error))
            raise

    def _warn(self, place: NodeAddress, reason: str) -> None:
        """Logs a failure, once a minute for each node, because many requests may fail at once."""
        now = time.monotonic()
        self._warned = {node: until for node, until in self._warned.items() if until > now}
        if place.node not in self._warned:
            self._warned[place.node] = now + _WARN_SECONDS
            log.warning("a node cannot be asked", node=place.node, address=place.address, reason=reason)


async def _in_time(
    head: Coroutine[Any, Any, aiohttp.ClientResponse], place: NodeAddress, guard: PendingCall
) -> aiohttp.ClientResponse:
    """Returns the head of an answer. Raises PeerUnavailable if the node dies meanwhile.

    If it dies later, the body ends.
    """
    try:
        async with asyncio.timeout(None) as limit:
            guard.cut = lambda: limit.reschedule(0)
            response = await head
    except TimeoutError:
        raise PeerUnavailable(place, "does not answer") from None
    guard.heard(time.monotonic())
    guard.cut = response.close
    return response


async def _given_up(answered: UpstreamResponse, target: str) -> bool:
    """Whether the answer of a node says that it does not hold the stream, also by a `status.json`."""
    if answered.head.status == 404:
        words = await answered.words()
        return _NOT_LIVE in words or _NOT_HELD in words
    return target.endswith("/status.json") and answered.head.status == 200 and _NO_STATUS in await answered.words()


def _dead(failure: PeerUnavailable | PeerRefused) -> bool:
    return isinstance(failure, PeerUnavailable) and failure.refused
