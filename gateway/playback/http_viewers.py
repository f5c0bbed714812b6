"""Counts HTTP viewers that have no lasting connection: players that have fetched playlists or media recently."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Final

from gateway.http.request import Request
from gateway.http.response import Answer, Response
from gateway.lib.quota import Quota
from gateway.lib.traffic import TrafficCounts
from gateway.playback.formats import CMAF, suffixes
from gateway.playback.play_format import AnswerOrAwaitable, CacheClass
from gateway.playback.reports import RequestReports
from gateway.playback.viewer_limits import ViewerLimits, WatchedStream
from gateway.ports.errors import AtCapacity

MAX_PER_ADDRESS: Final = 500  # counted players of one address or IPv6 /64, of all streams; others are not counted
MEDIA: Final = suffixes(CacheClass.MEDIA)
_CMAF, _DASH = (address.name for address in CMAF.addresses)


@dataclass(slots=True)
class _Entry:
    """A player.

    began, at: times of its first and last request, monotonic seconds. address: counted in the quota; "": exempt.
    window: seconds after its last request for which it is a player.
    listed: time of its last playlist or manifest. counted: whether it is in `stream.viewers`: it got media, or its
    address is not limited.
    reports: number of its requests with CMCD.
    """

    stream: WatchedStream
    began: float
    at: float
    address: str
    window: float
    counted: bool = False
    listed: float = -math.inf
    reports: int = 0


@dataclass(eq=False, slots=True)
class HttpViewers:
    """Counts players in `stream.viewers` by protocol, until their window has passed without a request.

    The window is three times the channel's `hls_time`, because a player makes at least one request for each segment.
    A player is identified by address and user agent. LL-HLS and DASH have the same media files: these belong to the
    player that got its playlist or manifest last. It counts from the first answer with media on, because anybody can
    invent user agents and request playlists. Behind a trusted proxy, any request counts: a cache may answer for media.
    Of one address, MAX_PER_ADDRESS players count; trusted proxies are exempt.
    window: the shortest window, in seconds. It is enough for the usual GOPs, which may be longer than `hls_time`.
    max_viewers: limit of players. Above it, the player with the oldest request is removed.
    reports: reads the CMCD of their requests; None: it is ignored. limits: refuses new players; None: there are none.
    traffic: counts the bytes for streams of other nodes.
    """

    window: float = 15.0
    max_viewers: int = 50_000
    clock: Callable[[], float] = time.monotonic
    reports: RequestReports | None = None
    limits: ViewerLimits | None = None
    traffic: TrafficCounts = field(default_factory=TrafficCounts)
    # The address and user agent are stored as a hash, because a user agent may be as long as a request head.
    _entries: OrderedDict[tuple[str, str, int], _Entry] = field(default_factory=OrderedDict, init=False)
    _quota: Quota = field(default_factory=lambda: Quota(MAX_PER_ADDRESS), init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self._entries)

    def follow(
        self, request: Request, stream: WatchedStream, protocol: str, path: str, answering: AnswerOrAwaitable
    ) -> AnswerOrAwaitable:
        """Records a request and returns its answer. path: of the file below the stream. Hot path."""
        if not path.endswith(MEDIA):
            try:
                self.record(request, stream, protocol, media=False, is_list=True)
            except AtCapacity as error:
                if isinstance(answering, Coroutine):
                    answering.close()
                assert self.limits is not None, "only the limits refuse players"
                return self.limits.answer(request, stream.channel, error)
        elif isinstance(answering, Awaitable):
            return self._follow_later(request, stream, protocol, answering)
        else:
            self._record_media(request, stream, protocol, answering)
        return answering

    async def _follow_later(
        self, request: Request, stream: WatchedStream, protocol: str, answering: Awaitable[Answer]
    ) -> Answer:
        answer = await answering
        self._record_media(request, stream, protocol, answer)
        return answer

    def _record_media(self, request: Request, stream: WatchedStream, protocol: str, answer: Answer) -> None:
        self.record(request, stream, protocol, media=isinstance(answer, Response) and answer.status == 200)

    def record(
        self, request: Request, stream: WatchedStream, protocol: str, *, media: bool, is_list: bool = False
    ) -> None:
        """Records that a player has requested a file of `stream`, whose bytes count from now on. Hot path.

        media: whether the answer has media. is_list: whether the file is a playlist or manifest.
        Raises AtCapacity if `limits` refuse a new player, which begins with a playlist. Players that do not count are
        not refused, because they may have watched for long.
        """
        request.tally = stream.tally
        key = (stream.name, protocol, hash((request.peer, request.headers.get("user-agent"))))
        now = self.clock()
        entry = self._entries.get(key)
        if protocol == _CMAF and not is_list:
            dash = self._entries.get(dash_key := (stream.name, _DASH, key[2]))
            if dash is not None and (entry is None or dash.listed > entry.listed):
                key, entry, protocol = dash_key, dash, _DASH
        if entry is not None and entry.stream is stream:
            entry.at = now
            self._entries.move_to_end(key)
        else:
            if entry is not None:
                self._forget(key)  # the player watched an earlier stream of this name
            address = "" if request.exempt else request.peer
            if address and not self._quota.take(address):
                return
            if is_list and self.limits is not None:
                try:
                    self.limits.admit(stream, address)
                except AtCapacity:
                    if address:
                        self._quota.give(address)
                    raise
            window = max(self.window, 3 * stream.channel.hls_time)
            entry = self._begin(key, _Entry(stream, now, now, address, window))
        if is_list:
            entry.listed = now
        began = None
        if not entry.counted:
            if not (media or request.proxied) or request.method != "GET":
                return
            entry.counted, began = True, entry.began
            stream.viewers[protocol] += 1
        if self.reports is not None and ("CMCD=" in request.raw_query or "cmcd-session" in request.headers):
            entry.reports += 1
            self.reports.read(request, stream.name, protocol, entry.reports, began)

    def _begin(self, key: tuple[str, str, int], entry: _Entry) -> _Entry:
        self._entries[key] = entry
        if len(self._entries) > self.max_viewers:
            self._forget(next(iter(self._entries)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.window / 5, self._tick)
        return entry

    def expire(self) -> None:
        """Removes players without a request within their window."""
        now = self.clock()
        expired = []
        for key, entry in self._entries.items():
            if now - entry.at < self.window:
                break  # the following ones are more recent, and no window is shorter
            if now - entry.at >= entry.window:
                expired.append(key)
        for key in expired:
            self._forget(key)

    def close(self) -> None:
        """Removes all players."""
        for key in list(self._entries):
            self._forget(key)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        self.expire()
        if self._entries:
            self._timer = asyncio.get_running_loop().call_later(self.window / 5, self._tick)

    def _forget(self, key: tuple[str, str, int]) -> None:
        entry = self._entries.pop(key)
        if entry.address:
            self._quota.give(entry.address)
        if entry.counted:
            entry.stream.viewers[key[1]] -= 1


class _UncountedViewers(HttpViewers):
    """Counts nothing: for requests of other nodes, which count their players themselves."""

    def record(
        self, request: Request, stream: WatchedStream, protocol: str, *, media: bool, is_list: bool = False
    ) -> None:
        return


UNCOUNTED: Final[HttpViewers] = _UncountedViewers()
