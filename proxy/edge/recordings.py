"""Serves recordings and VODs of the gateways. Small files are requested once and cached; large files are streamed."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Final, Self
from urllib.parse import quote

from gateway.channels.names import is_served_key
from gateway.cluster.files.cached_response import Cache, CachedResponse, to_cached_response
from gateway.cluster.files.request_coalescer import RequestCoalescer, SharedRequest, TruncatedBody
from gateway.cluster.files.upstream_client import UpstreamResponse
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.bounded_dict import BoundedDict
from gateway.playback.playlist_response import M3U8, copied_query
from gateway.playback.recording_files import is_recording
from gateway.ports import media_keys
from gateway.ports.errors import GatewayError
from proxy.edge.gateways import GatewayFiles

_SMALL_SUFFIXES: Final = (".m3u8", ".ts", ".jpg", ".vtt", "/")  # requested by many viewers at once; rarely large
_MAX_FILE: Final = 8 << 20  # bytes of a cached file; a larger one is requested for each viewer
_MAX_PLAYLIST: Final = 32 << 20  # bytes of a cached playlist without a declared length
_MAX_LARGE: Final = 1_000  # number of remembered targets of larger files
_MAX_CACHE_SECONDS: Final = 600.0  # for a file
_NOT_FOUND_SECONDS: Final = 0.5  # for which "not found" is cached
_TIMEOUT_SECONDS: Final = 60.0
_FORWARDED_HEADERS: Final[tuple[str, ...]] = ("range", "if-range", "if-none-match", "if-modified-since")
_NOT_FOUND: Final = text(404, "no such recording")


class _TooLarge(Exception):
    """The file is too large for the cache."""


class EdgeRecordings:
    """Answers requests for recordings like RecordingFiles on a gateway. Use as `async with`.

    The caller has checked the viewer's access. A gateway gets only `download` of the viewer's query.

    files: the files on the gateways. cache_bytes: size of the cache.
    """

    def __init__(self, files: GatewayFiles, cache_bytes: int) -> None:
        self._files = files
        self._cache = Cache(cache_bytes)
        self._coalescer: RequestCoalescer[CachedResponse] = RequestCoalescer("recordings")
        self._large: BoundedDict[str, None] = BoundedDict(_MAX_LARGE)

    async def __aenter__(self) -> Self:
        await self._coalescer.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._coalescer.__aexit__(*error)

    async def __call__(self, request: Request, id: str, path: str) -> Response:
        """Answers with the recording `<id>/vod/<path>`, or its page. Implements playback.router.StoredResponder."""
        if not is_recording(f"{id}/{path.removesuffix('/')}") and media_keys.session_file(path) is None:
            return _NOT_FOUND  # the gateways would give this answer too
        return await self._file(request, f"{id}/{path}", f"/_node/{id}/vod/{quote(path)}", id)

    async def serve(self, request: Request, key: str, cache: str) -> Response:
        """Answers with a file of a VOD. Implements playback.vod_files.VodFileSource.

        cache: unused, because the gateway's answer has the cache time.
        """
        return await self._file(request, key, f"/_node/.node/film/{quote(key)}", "")

    async def film_page(self, request: Request, folder: str) -> Response:
        """Answers with the player page of a VOD. Implements playback.vod_files.PageResponder."""
        return await self._file(request, f"{folder}/", f"/_node/.node/film/{quote(folder)}/", "")

    async def _file(self, request: Request, key: str, target: str, channel: str) -> Response:
        name = key.removesuffix("/")  # the key of a page ends in a slash
        if not is_served_key(name):
            return _NOT_FOUND
        try:
            if key.endswith(_SMALL_SUFFIXES) and target not in self._large and "download" not in request.query:
                try:
                    return await self._cached_file(request, target, channel)
                except _TooLarge:
                    self._large[target] = None
            return await self._streamed_file(request, target, channel)
        except GatewayError:
            return service_unavailable("recordings cannot be read now", 2)

    # ---- small files ----

    async def _cached_file(self, request: Request, target: str, channel: str) -> Response:
        suffix = ""
        if target.endswith(".m3u8"):
            copied = copied_query(request)
            if isinstance(copied, Response):
                return copied
            suffix = copied
        now = time.monotonic()
        cached = self._cache.get(target, now)
        if cached is None:
            shared = self._coalescer.join(target, channel, lambda shared: self._fetch(shared, target, channel))
            try:
                if not await shared.wait_for_answer(_TIMEOUT_SECONDS):
                    return service_unavailable("recordings cannot be read now", 2)
                cached = shared.result
            finally:
                self._coalescer.leave(shared)
        return cached.answer(request, suffix, now)

    async def _fetch(self, shared: SharedRequest[CachedResponse], target: str, channel: str) -> CachedResponse:
        async with self._files.request(target, channel) as upstream:
            head, received = upstream.head, time.monotonic()
            size = 0
            async for chunk in upstream.chunks():
                size += len(chunk)
                if size > (_MAX_PLAYLIST if head.kind == M3U8 else _MAX_FILE) or (head.length or 0) > _MAX_FILE:
                    raise _TooLarge
                shared.add(chunk)
        cached = to_cached_response("vod/", head, shared.body, received)
        seconds = min(head.max_age, _MAX_CACHE_SECONDS) if head.status == 200 else _NOT_FOUND_SECONDS
        if seconds:
            cached.fresh_until = received + seconds
            self._cache.put(target, cached)
        return cached

    # ---- large files ----

    async def _streamed_file(self, request: Request, target: str, channel: str) -> Response:
        """Forwards a gateway's answer, also for ranges, as fast as the client reads it."""
        headers = {name: request.headers[name] for name in _FORWARDED_HEADERS if name in request.headers}
        if "download" in request.query:
            target += "?download"
        async with AsyncExitStack() as stack:
            upstream_request = self._files.request(target, channel, method=request.method, headers=headers)
            upstream = await stack.enter_async_context(upstream_request)
            head = upstream.head
            response_headers = dict(head.headers)
            if head.status in (200, 206):
                response_headers["Accept-Ranges"] = "bytes"
            has_body = request.method != "HEAD" and head.status != 304
            body = _StreamedBody(stack.pop_all(), upstream) if has_body else None
            return Response(head.status, body, head.kind, cache=head.cache, headers=response_headers).sized(head.length)


class _StreamedBody:
    """The body of a forwarded answer. `aclose` ends the request to the gateway."""

    def __init__(self, stack: AsyncExitStack, upstream: UpstreamResponse) -> None:
        self._stack = stack
        self._chunks = upstream.chunks()

    def __aiter__(self) -> _StreamedBody:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except Exception as error:
            raise TruncatedBody(str(error) or type(error).__name__) from None

    async def aclose(self) -> None:
        await self._stack.aclose()
