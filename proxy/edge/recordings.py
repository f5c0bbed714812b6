"""Serves recordings and VODs of the gateways. Small files are requested once and cached, large ones passed through."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import AsyncExitStack
from typing import Final, Self
from urllib.parse import quote

from gateway.channels.names import is_object_key
from gateway.cluster.cache import Cache
from gateway.cluster.cached_response import CachedResponse, to_cached_response
from gateway.cluster.request_coalescer import RequestCoalescer, SharedRequest, TruncatedBody
from gateway.cluster.upstream_client import UpstreamResponse
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.playback.playlist_response import M3U8, copied_query
from gateway.playback.recording_files import is_recording
from gateway.ports.errors import GatewayError
from proxy.edge.gateways import GatewayFiles

_SMALL: Final = (".m3u8", ".ts", ".jpg")  # often requested by many viewers at once, and seldom large
_MAX_FILE: Final = 8 << 20  # bytes of a cached file; a larger one is requested for each viewer
_MAX_LARGE: Final = 1_000  # remembered names of larger files
_LONGEST: Final = 600.0  # seconds that a file is cached
_NOT_THERE: Final = 0.5  # seconds that "no such file" is cached
_TIMEOUT_SECONDS: Final = 60.0
_ASKED: Final[tuple[str, ...]] = ("range", "if-range", "if-none-match", "if-modified-since")
_NONE: Final = text(404, "no such recording")


class _TooLarge(Exception):
    """The file is too large for the cache."""


class EdgeRecordings:
    """Answers requests for recordings like RecordingFiles on a gateway. The viewer is authorized before.

    Use as `async with`. most: bytes of the cache. Of a viewer's query, a gateway gets only `download`.
    """

    def __init__(self, store: GatewayFiles, most: int) -> None:
        self._store = store
        self._cache: Cache[CachedResponse] = Cache(most)
        self._flights: RequestCoalescer[CachedResponse] = RequestCoalescer("recordings")
        self._large: OrderedDict[str, None] = OrderedDict()

    async def __aenter__(self) -> Self:
        await self._flights.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._flights.__aexit__(*error)

    async def __call__(self, request: Request, id: str, path: str) -> Response:
        """Answers with the recording `<id>/vod/<path>`. Implements playback.router.StoredResponder."""
        if not is_recording(f"{id}/{path}"):
            return _NONE  # the gateways would answer the same
        return await self._file(request, f"{id}/{path}", f"/_node/{id}/vod/{quote(path)}", id)

    async def serve(self, request: Request, key: str, cache: str) -> Response:
        """Answers with a file of a VOD. Implements playback.vod_files.VodFileSource.

        cache: not used, because the gateway's answer says how long the file may be cached.
        """
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
                    if len(self._large) > _MAX_LARGE:
                        self._large.popitem(last=False)
            return await self._passed_on(request, target, channel)
        except GatewayError:
            return service_unavailable("recordings cannot be read now", 2)

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
                if not await flight.answered(_TIMEOUT_SECONDS):
                    return service_unavailable("recordings cannot be read now", 2)
                copy = flight.result
            finally:
                self._flights.leave(flight)
        return copy.answer(request, suffix, now)

    async def _fly(self, flight: SharedRequest[CachedResponse], target: str, channel: str) -> CachedResponse:
        async with self._store.ask(target, channel) as answered:
            head, received = answered.head, time.monotonic()
            size = 0
            async for piece in answered.pieces():
                size += len(piece)
                if size > (32 << 20 if head.kind == M3U8 else _MAX_FILE) or (head.length or 0) > _MAX_FILE:
                    raise _TooLarge
                flight.add(piece)
        copy = to_cached_response("vod/", head, flight.body, received)
        seconds = min(head.max_age, _LONGEST) if head.status == 200 else _NOT_THERE
        if seconds:
            copy.fresh_until = received + seconds
            self._cache.put(target, copy)
        return copy

    # ---- large ones ----

    async def _passed_on(self, request: Request, target: str, channel: str) -> Response:
        """Passes a gateway's answer through, also for ranges, as fast as the client reads it."""
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
                return Response(head.status, None, head.kind, cache=head.cache, headers=said).sized(head.length)
            body = _Passing(stack.pop_all(), answered)
            return Response(head.status, body, head.kind, cache=head.cache, headers=said).sized(head.length)


class _Passing:
    """The body of an answer that is passed through. `aclose` ends the request to the gateway."""

    def __init__(self, stack: AsyncExitStack, answered: UpstreamResponse) -> None:
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
            raise TruncatedBody(str(error) or type(error).__name__) from None

    async def aclose(self) -> None:
        await self._stack.aclose()
