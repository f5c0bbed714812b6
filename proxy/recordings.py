"""Recordings and films, which gateways have: small files asked for once and kept for a while, large ones passed on."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import AsyncExitStack
from typing import Final, Self
from urllib.parse import quote

from gateway.hub.errors import HubError
from gateway.hub.names import is_object_key
from gateway.nodes.cache import Cache
from gateway.nodes.copies import Copy, copy_of
from gateway.nodes.flights import Cut, Flight, Flights
from gateway.nodes.origin import Answered
from gateway.servers.request import Request
from gateway.servers.response import Response, text, try_later
from gateway.servers.segmented import M3U8, copied_query
from proxy.gateways import Store

_SMALL: Final = (".m3u8", ".ts", ".jpg")  # what many ask for at once and is seldom large
_MOST: Final = 8 << 20  # bytes of a file that is kept; a larger one is passed on to each who asks
_MOST_LARGE: Final = 1_000  # names that are known to be of such
_LONGEST: Final = 600.0
_NOT_THERE: Final = 0.5  # seconds for which "no such file" serves
_PATIENCE: Final = 60.0
_ASKED: Final[tuple[str, ...]] = ("range", "if-range", "if-none-match", "if-modified-since")
_NONE: Final = text(404, "no such recording")


class _TooLarge(Exception):
    """Not one to be kept."""


class Recordings:
    """What servers.recordings.Recordings answers on a gateway, for who was let in already. Use as `async with`.

    most: bytes that are kept. A gateway sees no query of a viewer but `download`.
    """

    def __init__(self, store: Store, most: int) -> None:
        self._store = store
        self._cache: Cache[Copy] = Cache(most)
        self._flights: Flights[Copy] = Flights("recordings")
        self._large: OrderedDict[str, None] = OrderedDict()

    async def __aenter__(self) -> Self:
        await self._flights.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._flights.__aexit__(*error)

    async def __call__(self, request: Request, id: str, path: str) -> Response:
        """The recording `<id>/vod/<path>`: a servers.playback.StoredResponder."""
        return await self._file(request, f"{id}/{path}", f"/_node/{id}/vod/{quote(path)}", id)

    async def serve(self, request: Request, key: str, cache: str) -> Response:
        """A film: a servers.vod.Films, whose gateways say themselves how long it may be kept."""
        return await self._file(request, key, f"/_node/.node/film/{quote(key)}", "")

    async def _file(self, request: Request, key: str, target: str, channel: str) -> Response:
        if not is_object_key(key) or any(part.startswith(".") for part in key.split("/")):
            return _NONE
        try:
            if key.endswith(_SMALL) and target not in self._large and "download" not in request.query:
                try:
                    return await self._small(request, target, channel)
                except _TooLarge:
                    self._large[target] = None
                    if len(self._large) > _MOST_LARGE:
                        self._large.popitem(last=False)
            return await self._passed_on(request, target, channel)
        except HubError:
            return try_later("recordings cannot be read now", 2)

    # ---- small ones ----

    async def _small(self, request: Request, target: str, channel: str) -> Response:
        suffix = ""
        if target.endswith(".m3u8"):
            copied = copied_query(request)
            if isinstance(copied, Response):
                return copied
            suffix = copied
        now = time.monotonic()
        copy = self._cache.get(target, now)
        if copy is None:
            flight = self._flights.join(target, channel, lambda flight: self._fly(flight, target, channel))
            try:
                if not await flight.answered(_PATIENCE):
                    return try_later("recordings cannot be read now", 2)
                copy = flight.result
            finally:
                self._flights.leave(flight)
        return copy.answer(request, suffix, now)

    async def _fly(self, flight: Flight[Copy], target: str, channel: str) -> Copy:
        async with self._store.ask(target, channel) as answered:
            head, received = answered.head, time.monotonic()
            size = 0
            async for piece in answered.pieces():
                size += len(piece)
                if size > (32 << 20 if head.kind == M3U8 else _MOST) or (head.length or 0) > _MOST:
                    raise _TooLarge
                flight.add(piece)
        copy = copy_of("vod/", head, flight.body, received)
        seconds = min(head.max_age, _LONGEST) if head.status == 200 else _NOT_THERE
        if seconds:
            copy.fresh_until = received + seconds
            self._cache.put(target, copy)
        return copy

    # ---- large ones ----

    async def _passed_on(self, request: Request, target: str, channel: str) -> Response:
        """With its ranges; as fast as the client takes it."""
        headers = {name: request.headers[name] for name in _ASKED if name in request.headers}
        if "download" in request.query:
            target += "?download"
        async with AsyncExitStack() as stack:
            asked = self._store.ask(target, channel, method=request.method, headers=headers)
            answered = await stack.enter_async_context(asked)
            head = answered.head
            said = dict(head.headers)
            if head.status in (200, 206):
                said["Accept-Ranges"] = "bytes"
            if request.method == "HEAD" or head.status == 304:
                return Response(head.status, None, head.kind, cache=head.cache, headers=said, length=head.length)
            body = _Passing(stack.pop_all(), answered)
            return Response(head.status, body, head.kind, cache=head.cache, headers=said, length=head.length)


class _Passing:
    """The body of an answer that is passed on; `aclose` ends it."""

    def __init__(self, stack: AsyncExitStack, answered: Answered) -> None:
        self._stack = stack
        self._pieces = answered.pieces()

    def __aiter__(self) -> _Passing:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            raise
        except Exception as error:
            raise Cut(str(error) or type(error).__name__) from None

    async def aclose(self) -> None:
        await self._stack.aclose()
