"""Serves HLS, LL-HLS, DASH and pictures of streams that other nodes hold.

The same request of any number of viewers becomes one request to the other node.
"""

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

from gateway.channels.cached_channels import CachedChannels
from gateway.channels.channel import Channel
from gateway.channels.names import channel_of
from gateway.cluster.files.cached_response import (
    QUERY,
    Cache,
    CachedManifest,
    CachedPlaylist,
    CachedResponse,
    CachedStatus,
    to_cached_response,
)
from gateway.cluster.files.request_coalescer import RequestCoalescer, SharedBody, SharedRequest
from gateway.cluster.files.upstream_client import NotHeld, UpstreamClient
from gateway.http.request import Request
from gateway.http.response import Answer, Response, Takeover, service_unavailable, text
from gateway.lib import metric_table
from gateway.lib.clocks import Clock
from gateway.lib.metric_table import MetricSample, by_label
from gateway.lib.numbers import read_integer
from gateway.lib.traffic import Tally
from gateway.playback.formats import suffixes
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.play_format import LIVE_M3U8, MASTER, AnswerOrAwaitable, CacheClass
from gateway.playback.playlist_response import (
    MAX_NUMBER,
    REWIND,
    copied_query,
    directives,
    not_streaming,
    rewind_seconds,
)
from gateway.playback.protection import PlaybackProtection
from gateway.ports.errors import AtCapacity, GatewayError, NoSuchChannel, NoSuchStream, StoreUnavailable
from gateway.settings.models import EdgeSettings

MAX_BUFFERED: Final = 16 << 20  # bytes; an answer of a known length up to this limit is sent when it is complete
MAX_TEXT: Final = 4 << 20  # bytes of a playlist, a manifest, a picture, a refusal
MAX_MEDIA: Final = 128 << 20  # bytes of a segment
_TIMEOUT_SECONDS: Final = 120.0  # for an answer or its next chunk; LivenessMonitor detects a dead node earlier
_STALE_TIMEOUT_SECONDS: Final = 1.0  # limit for an answer if the cache has an old answer
_STALE_SECONDS: Final = 6.0  # for which the last playlist is still served if no node answers
_LIVE_SECONDS: Final = 0.3  # for which a live playlist is cached; at most half a part duration
_REFUSED_SECONDS: Final = {400: 0.5, 404: 0.5}  # for which answers other than 200 are cached, by status
_OTHER_SECONDS: Final = 0.2  # for which answers with all other statuses are cached
_MAX_CACHE_SECONDS: Final = 600.0  # also if max-age is longer

_PATH: Final = re.compile(r"(?:[A-Za-z0-9_-]{1,32}/){0,2}[A-Za-z0-9._-]{1,80}", re.ASCII)
_MEDIA: Final = suffixes(CacheClass.MEDIA)
_LISTS: Final = suffixes(CacheClass.PLAYLIST, CacheClass.MANIFEST)
_REWIND_LISTS: Final = (LIVE_M3U8, MASTER)  # the playlists that have the parameter `rewind`
_NO_PAGE: Final = text(404, "not found")

# Answers if no node holds the stream. It checks the viewer's access.
AnswerIfAbsent: TypeAlias = Callable[[], Coroutine[Any, Any, Answer]]
# count(request, stream name, answer to the viewer): counts a viewer, or returns the refusal of a new one.
CountViewer: TypeAlias = Callable[[Request, str, "CachedResponse"], Response | None]


class ViewerSet:
    """This node's viewers of one stream of another node. Implements playback.viewer_limits.WatchedStream."""

    __slots__ = ("__weakref__", "bitrate", "channel", "name", "tally", "viewers")

    def __init__(self, name: str, channel: Channel, tally: Tally) -> None:
        self.name = name
        self.channel = channel
        self.tally = tally
        self.viewers: Counter[str] = Counter()
        self.bitrate = 0  # bits per second, from the last playlist or manifest of the other node


class HttpCacheProxy:
    """Implements playback.router.RemoteFiles. Use as `async with`. An answer from the cache needs no task.

    This node checks each viewer's access with the channel that `channels` returns. The other node does not check it
    again. It gets only the delivery directives of a viewer's query. The same request of several viewers is sent once.

    edge: `edge.cache` is the maximum number of bytes in the cache.

    RequestCoalescer and UpstreamClient set the other bounds. A request that exceeds a bound gets 503 with
    Retry-After. Counters: `served_stale`, `bytes` (received from other nodes).
    """

    def __init__(
        self,
        upstream: UpstreamClient,
        channels: CachedChannels,
        protection: PlaybackProtection,
        viewers: HttpViewers,
        edge: EdgeSettings,
        clock: Clock = time.monotonic,
    ) -> None:
        self.upstream = upstream
        self._channels = channels
        self._protection = protection
        self._viewers = viewers
        self._clock = clock
        self._max_bytes = edge.cache
        self._media: Cache = Cache(edge.cache - edge.cache // 8)
        # Playlists, manifests, pictures and refusals. Separate, so that requests for invented names remove no media.
        self._short_lived: Cache = Cache(edge.cache // 8)
        self._coalescer: RequestCoalescer[CachedResponse] = RequestCoalescer("HTTP cache")
        self._viewer_sets: WeakValueDictionary[str, ViewerSet] = WeakValueDictionary()
        self._stack = AsyncExitStack()
        self._incomplete = 0  # bytes received of incomplete answers
        self.served_stale = 0
        self.bytes = 0

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.upstream.monitor)
        await self._stack.enter_async_context(self._coalescer)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    # ---- access ----

    def file(self, request: Request, name: str, rest: str, absent: AnswerIfAbsent) -> AnswerOrAwaitable:
        """Implements RemoteFiles. Hot path."""
        try:
            channel = self._channels.known(channel_of(name))
        except NoSuchChannel:
            channel = None
        if channel is None:
            return self._read_channel(request, name, rest, absent)
        return self._authorized(request, name, rest, channel, absent)

    async def is_held(self, name: str) -> bool:
        """Implements RemoteFiles."""
        return await self.upstream.is_held(name)

    def file_for_node(self, request: Request, name: str, rest: str) -> AnswerOrAwaitable:
        """Answers another node. That node checks the access of its viewers and counts them."""
        return self._answer(request, name, rest, partial(_not_live, name), _do_not_count)

    async def _read_channel(self, request: Request, name: str, rest: str, absent: AnswerIfAbsent) -> Answer:
        """Reads the channel, then answers.

        If the channel did not exist when it was last read, but a node holds its stream, it was created since then. It
        is read again, so that its protection applies.
        """
        try:
            try:
                channel = await self._channels.get(channel_of(name))
            except NoSuchChannel:
                if not await self.upstream.is_held(name):
                    return await absent()
                self._channels.forget(channel_of(name))
                channel = await self._channels.get(channel_of(name))
        except NoSuchChannel:
            return await absent()
        except StoreUnavailable as error:
            return service_unavailable("the channels cannot be read now", error.retry_after)
        except AtCapacity as error:
            return service_unavailable(str(error), 1)
        return await _completed(self._authorized(request, name, rest, channel, absent))

    # ---- answers from the cache ----

    def _authorized(
        self, request: Request, name: str, rest: str, channel: Channel, absent: AnswerIfAbsent
    ) -> AnswerOrAwaitable:
        """Checks the viewer's access, then answers."""
        refusal = self._protection.judge(request, name, channel)
        if refusal is not None:
            return refusal
        return self._answer(request, name, rest, absent, partial(self._count, channel))

    def _answer(
        self, request: Request, name: str, rest: str, absent: AnswerIfAbsent, count: CountViewer
    ) -> AnswerOrAwaitable:
        if not _PATH.fullmatch(rest):
            return _NO_PAGE
        suffix = query = ""
        if rest.endswith(_LISTS):
            copied, seconds = copied_query(request), rewind_seconds(request)
            if isinstance(copied, Response):
                return copied
            if isinstance(seconds, Response):
                return seconds
            rewind = f"&{REWIND}{seconds}" if seconds and rest.endswith(_REWIND_LISTS) else ""
            suffix, query = copied, self._upstream_query(request, name, rest, rewind)
        key = (name, rest, query)
        cached = self._fresh(key)
        if cached is None:
            return self._answer_from_node(request, key, suffix, absent, count)
        return count(request, name, cached) or cached.answer(request, suffix, self._clock())

    def _fresh(self, key: tuple[str, str, str]) -> CachedResponse | None:
        """Returns the cached answer if it is fresh."""
        now = self._clock()
        cached = self._media.get(key, now) if key[1].endswith(_MEDIA) else None
        return cached if cached is not None else self._short_lived.get(key, now)

    def _upstream_query(self, request: Request, name: str, rest: str, rewind: str) -> str:
        """Returns the query string of a playlist request to the other node.

        It has QUERY and the parameters that have an effect. So requests with the same meaning become one.
        rewind: the parameter of a playlist that begins earlier (rewind); "" for other playlists.
        """
        if "/" not in rest and not rewind:
            return QUERY  # directives apply only to playlists in a folder and to rewind playlists
        requested = directives(request)
        parts = [QUERY + rewind]
        if (msn := read_integer(requested.get("_HLS_msn", ""), MAX_NUMBER)) is not None:
            last = self._short_lived.stale((name, rest, rewind), self._clock())
            if isinstance(last, CachedPlaylist) and msn < last.first_number:
                return parts[0]  # the segment is older than the playlist: answer the newest playlist
        for directive in ("_HLS_msn", "_HLS_part"):
            if directive in requested:
                number = read_integer(requested[directive], MAX_NUMBER)
                parts.append(f"{directive}={'x' if number is None else number}")
        if requested.get("_HLS_skip") in ("YES", "v2"):
            parts.append("_HLS_skip=YES")
        return "&".join(parts)

    def _count(self, channel: Channel, request: Request, name: str, cached: CachedResponse) -> Response | None:
        if not cached.protocol:
            return None
        viewer_set = self._viewer_sets.get(name)
        if viewer_set is None:
            tally = self._viewers.traffic.of(channel_of(name))
            viewer_set = self._viewer_sets[name] = ViewerSet(name, channel, tally)
        viewer_set.channel = channel
        is_list = isinstance(cached, CachedPlaylist | CachedManifest)
        if is_list:
            viewer_set.bitrate = cached.head.bitrate
        try:
            self._viewers.record(request, viewer_set, cached.protocol, media=not is_list, is_list=is_list)
        except AtCapacity as error:
            assert self._viewers.limits is not None, "only the limits refuse players"
            return self._viewers.limits.answer(request, channel, error)
        return None

    # ---- answers from other nodes ----

    async def _answer_from_node(
        self, request: Request, key: tuple[str, str, str], suffix: str, absent: AnswerIfAbsent, count: CountViewer
    ) -> Answer:
        name, rest, query = key
        try:
            return await self._join(request, key, suffix, count)
        except NotHeld:
            return await absent()
        except GatewayError as error:
            cached = self._short_lived.stale((name, rest, _rewind_of(query)), self._clock())
            if cached is not None:
                if "_HLS_msn" in query:
                    # Without this pause, the player would repeat its blocking reload at once.
                    await asyncio.sleep(_STALE_TIMEOUT_SECONDS)
                return self._answer_stale(request, suffix, cached)
            if isinstance(error, NoSuchStream):
                return await absent()
            return service_unavailable(f"{name} cannot be fetched now", 1)

    async def _join(self, request: Request, key: tuple[str, str, str], suffix: str, count: CountViewer) -> Answer:
        """Joins the request to the other node, and answers from it. Raises the errors of UpstreamClient.live."""
        name, rest, query = key
        cached = self._fresh(key)  # the answer may have arrived since this task was started
        if cached is not None:
            return count(request, name, cached) or cached.answer(request, suffix, self._clock())
        # Any viewer can request many playlists that the other node holds: they take no place of other requests.
        group = (name, rest.endswith(_REWIND_LISTS)) if "_HLS_msn" in query else name
        shared = self._coalescer.join(key, group, lambda shared: self._fetch(shared, key))
        joined, keep = True, False
        try:
            latest = (name, rest, _rewind_of(query))
            old = self._short_lived.stale(latest, self._clock()) if "_HLS_msn" not in query else None
            if not await shared.wait_for_answer(_TIMEOUT_SECONDS if old is None else _STALE_TIMEOUT_SECONDS):
                if old is None:
                    raise AtCapacity(f"{rest} of {name} takes too long")
                keep = True  # the request continues: the next viewer may use its answer
                return self._answer_stale(request, suffix, old)
            if shared.done:
                cached = shared.result
                return count(request, name, cached) or cached.answer(request, suffix, self._clock())
            assert shared.head is not None, "it has an answer and has not ended"
            count(request, name, shared.head)  # of media, which are refused to nobody
            joined = False
            return shared.head.head.response(SharedBody(self._coalescer, shared, _TIMEOUT_SECONDS))
        finally:
            if joined:
                self._coalescer.leave(shared, keep=keep)

    def _answer_stale(self, request: Request, suffix: str, cached: CachedResponse) -> Response:
        self.served_stale += 1
        return cached.answer(request, suffix, self._clock())

    async def _fetch(self, shared: SharedRequest[CachedResponse], key: tuple[str, str, str]) -> CachedResponse:
        name, rest, query = key
        size = 0
        try:
            async with self.upstream.live(name, quote(rest), query) as answered:
                head, received = answered.head, self._clock()
                media = head.status == 200 and rest.endswith(_MEDIA)
                max_bytes = MAX_MEDIA if media else MAX_TEXT
                if media and (head.length is None or head.length > MAX_BUFFERED):
                    shared.open(to_cached_response(rest, head, b"", received))
                async for chunk in answered.chunks():
                    size += len(chunk)
                    self.bytes += len(chunk)
                    self._incomplete += len(chunk)
                    if size > max_bytes or self._incomplete > self._max_bytes:
                        raise AtCapacity(f"{rest} of {name} is too large")
                    shared.add(chunk)
        finally:
            self._incomplete -= size
        cached = to_cached_response(rest, head, shared.body, received)
        self._keep(key, cached)
        return cached

    def _keep(self, key: tuple[str, str, str], cached: CachedResponse) -> None:
        name, rest, query = key
        seconds = _lifetime(cached)
        is_list = isinstance(cached, CachedPlaylist | CachedManifest)
        if not seconds:
            return
        cached.fresh_until = cached.received + seconds
        cached.stale_until = cached.received + _STALE_SECONDS if is_list else 0.0
        cache = self._media if cached.head.status == 200 and rest.endswith(_MEDIA) else self._short_lived
        cache.put(key, cached)
        if is_list and "_HLS_skip" not in query:
            # Also stored without directives: `stale` then finds the newest playlist.
            self._short_lived.put((name, rest, _rewind_of(query)), cached)

    # ---- counters ----

    @property
    def viewers(self) -> dict[str, Counter[str]]:
        """Number of viewers on this node, by stream and protocol."""
        return {name: found.viewers for name, found in self._viewer_sets.items() if any(found.viewers.values())}

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of the proxy."""
        viewers: Counter[str] = Counter()
        for counts in self.viewers.values():
            viewers.update(counts)
        yield from by_label(metric_table.VIEWERS, viewers)
        coalescer = self._coalescer
        hits = self._media.hits + self._short_lived.hits
        results = {"hit": hits, "miss": coalescer.started, "collapsed": coalescer.collapsed, "stale": self.served_stale}
        yield from by_label(metric_table.EDGE_REQUESTS, results)
        yield MetricSample(metric_table.EDGE_UPSTREAM, self.upstream.requests)
        yield MetricSample(metric_table.EDGE_FAILED, self.upstream.failures)
        yield MetricSample(metric_table.EDGE_BYTES, self.bytes)
        yield MetricSample(metric_table.EDGE_CACHE, self._media.bytes + self._short_lived.bytes)


def _rewind_of(query: str) -> str:
    """Returns the rewind parameter in a query to another node, in the form that `_upstream_query` gets; "" if none."""
    at = query.find(f"&{REWIND}")
    return query[at:].partition("&_HLS_")[0] if at >= 0 else ""


def _lifetime(cached: CachedResponse) -> float:
    """Returns the seconds for which the answer may be cached."""
    head = cached.head
    if head.status != 200:
        return _REFUSED_SECONDS.get(head.status, _OTHER_SECONDS)
    if head.max_age:
        return min(head.max_age, _MAX_CACHE_SECONDS)
    if isinstance(cached, CachedPlaylist):
        return min(_LIVE_SECONDS, cached.part_target / 2) if cached.part_target else _LIVE_SECONDS
    return _LIVE_SECONDS if isinstance(cached, CachedManifest | CachedStatus) else 0.0


def _do_not_count(request: Request, name: str, cached: CachedResponse) -> Response | None:
    """Counts nothing: a request of another node is not a viewer."""


async def _not_live(name: str) -> Answer:
    return not_streaming(name)


async def _completed(answering: AnswerOrAwaitable) -> Answer:
    return answering if isinstance(answering, Response | Takeover) else await answering
