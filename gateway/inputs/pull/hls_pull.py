"""Follows an HLS playlist: loads it, its segments in order, and plays them by the clock."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from typing import Final
from urllib.parse import urljoin

import aiohttp

from gateway.formats.hls.playlist_reader import (
    MAX_BYTES,
    MediaPlaylist,
    MultivariantPlaylist,
    Playlist,
    RemoteSegment,
    Resource,
    parse_playlist,
)
from gateway.inputs.demux_client import Item
from gateway.inputs.descriptor import InputContext, InputServices
from gateway.inputs.paced_media import MediaClock, MediaQueue
from gateway.inputs.pull.http_client import open_response
from gateway.inputs.pull.pull_parts import SILENCE_SECONDS, peer_of
from gateway.inputs.pull.source_opener import SourceOpener
from gateway.inputs.splicer import ItemSource, Splicer
from gateway.inputs.unit_output import UnitOutput
from gateway.lib.egress import HTTP
from gateway.lib.tasks import Tasks
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit
from gateway.ports.errors import GatewayError, OutputError

_LIVE_DISTANCE: Final = 3  # segments from the end at which playing begins (RFC 8216 §6.3.3)
_MIN_RELOAD: Final = 0.5  # seconds between two reloads
_RELOAD_PAUSE_FACTOR: Final = 20.0  # the pause before a reload is this many times the CPU time of the last one
_PROBE_SECONDS: Final = 5.0
_MAX_CHUNK: Final = 1 << 18


async def pull_hls(session: aiohttp.ClientSession, url: str, services: InputServices, context: InputContext) -> None:
    """Plays the best variant until the playlist ends. Raises OutputError."""
    address, playlist, _ = await _load(session, url)
    sound = ""
    if isinstance(playlist, MultivariantPlaylist):
        best = playlist.best
        sound = urljoin(address, best.audio) if best.audio else ""
        address = urljoin(address, best.uri)
    followers = [_Follower(session, address)] + ([_Follower(session, sound)] if sound and sound != address else [])
    queue, clock = MediaQueue[Item](), MediaClock()
    opener = SourceOpener(services.workers, context.channel)
    async with Tasks("hls", queue.on_crash) as tasks:
        tasks.start(_read(opener, followers, queue), "read")
        with closing(UnitOutput(context, peer_of(url))) as output:
            while (item := await queue.get()) is not None:
                if not isinstance(item, AccessUnit):
                    output.announce(item)
                    continue
                if wait := clock.delay(item.dts):
                    await asyncio.sleep(wait)
                output.push(item)


async def _read(opener: SourceOpener, followers: list[_Follower], queue: MediaQueue[Item]) -> None:
    """Reads one run after the other into the queue. `_Follower.next_run` says what a run is."""
    # Segments come at intervals of their duration, so the silence is longer than for a connection.
    splicer = Splicer(3 * SILENCE_SECONDS)
    try:
        async with opener:
            while True:
                sources: list[ItemSource] = []
                for follower in followers:
                    run = await follower.next_run()
                    if run is None:
                        queue.end()
                        return
                    sources.append(await opener.open(run, "", _PROBE_SECONDS))
                async for item in splicer.play(sources):
                    await queue.put(item)
                for source in sources:
                    await source.close()
    except GatewayError as error:
        queue.end(error)


class _Follower:
    """Follows one media playlist."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._base = url  # the address after redirects, for relative addresses in the playlist
        self._next_number: int | None = None  # media sequence number; None: any, at the begin or after a server restart
        self._segments: list[RemoteSegment] = []  # known, but not read yet
        self._ended = False
        self._target = 1.0  # target duration in seconds
        self._pause_until = 0.0  # monotonic time before which the playlist is not loaded again
        self._read_at = -math.inf  # monotonic time at which a segment was last read to its end

    async def next_run(self) -> AsyncGenerator[bytes] | None:
        """Returns the bytes of a run: of the segments up to a discontinuity or a new initialization section.

        Returns None at the end of the playlist. Raises OutputError.
        """
        first = await self._peek()
        return None if first is None else self._read_run(first)

    @property
    def _limit(self) -> float:
        """Seconds for which a playlist may have no new segment, or no segment can be read."""
        return max(SILENCE_SECONDS, 3 * self._target)

    async def _read_run(self, first: RemoteSegment) -> AsyncGenerator[bytes]:
        """Yields the bytes of the initialization section and of the segments that continue it.

        A segment that cannot be read leaves a gap. Raises OutputError if it is the first one, if a part of it was
        read, or if no segment could be read for too long.
        """
        begin = () if first.start is None else (first.start,)
        segment: RemoteSegment | None = first
        while segment is not None and (segment is first or not segment.discontinuity) and segment.start == first.start:
            self._segments.pop(0)
            try:
                for resource in (*begin, segment.media):
                    is_partial = False
                    async with aclosing(self._fetch(resource)) as chunks:
                        async for chunk in chunks:
                            is_partial = True
                            yield chunk
                    begin = ()
                self._read_at = time.monotonic()
            except OutputError:
                if is_partial or time.monotonic() - self._read_at > self._limit:
                    raise
            segment = await self._peek()

    async def _peek(self) -> RemoteSegment | None:
        """Returns the next segment without taking it; waits for it; None at the end of the playlist."""
        pause, since = 0.0, time.monotonic()
        failure: OutputError | None = None  # of the last reload
        while not self._segments:
            if self._ended:
                return None
            if time.monotonic() - since > self._limit:
                raise failure or OutputError(f"its playlist has had no new segment for {self._limit:.0f} s")
            await asyncio.sleep(max(pause, self._pause_until - time.monotonic()))
            try:
                await self._reload()
                failure = None
            except OutputError as error:
                if self._next_number is None:  # nothing was played yet
                    raise
                failure = error
            pause = max(_MIN_RELOAD, self._target / 2)
        return self._segments[0]

    async def _reload(self) -> None:
        self._base, playlist, cpu_seconds = await _load(self._session, self._url)
        self._pause_until = time.monotonic() + _RELOAD_PAUSE_FACTOR * cpu_seconds
        if not isinstance(playlist, MediaPlaylist):
            raise OutputError("its playlist of a variant has variants again")
        self._ended, self._target = playlist.ended, playlist.target
        segments = playlist.segments
        if self._next_number and segments and segments[-1].number + len(segments) < self._next_number:
            self._next_number = None  # the server has started again with other numbers
        if self._next_number is not None:
            segments = tuple(segment for segment in segments if segment.number >= self._next_number)
        elif not playlist.ended:
            segments = segments[-_LIVE_DISTANCE:]
        if segments:
            self._next_number = segments[-1].number + 1
            self._segments += segments

    async def _fetch(self, resource: Resource) -> AsyncGenerator[bytes]:
        """Yields the bytes of a resource. After a failure, asks once more for those that are missing.

        Raises OutputError.
        """
        span, sent = resource.range, 0
        address = _resolve(self._base, resource.uri)
        headers = {"Range": f"bytes={span.offset}-{span.offset + span.size - 1}"} if span is not None else None
        for is_last in (False, True):
            try:
                async with open_response(self._session, address, headers) as response:
                    skip = sent
                    if span is not None and response.status == 200:  # the server has no ranges
                        skip += span.offset
                    async for chunk in response.content.iter_chunked(_MAX_CHUNK):
                        data = chunk[skip:] if span is None else chunk[skip : skip + span.size - sent]
                        skip, sent = max(skip - len(chunk), 0), sent + len(data)
                        if data:  # for the reader, no bytes are the end
                            yield data
                        if span is not None and sent == span.size:
                            return
                return
            except OutputError:
                if is_last:
                    raise
            await asyncio.sleep(_MIN_RELOAD)


async def _load(session: aiohttp.ClientSession, url: str) -> tuple[str, Playlist, float]:
    """Returns the final address of a playlist, its content, and the CPU seconds it cost. Raises OutputError."""
    async with open_response(session, url) as response:
        text = bytearray()
        async for chunk in response.content.iter_chunked(_MAX_CHUNK):
            text += chunk
            if len(text) > MAX_BYTES:
                raise OutputError(f"its playlist has more than {MAX_BYTES} bytes")
        try:
            return str(response.url), *await asyncio.to_thread(_parse_timed, bytes(text))
        except InvalidData as error:
            raise OutputError(f"its playlist cannot be used: {error}") from None


def _parse_timed(text: bytes) -> tuple[Playlist, float]:
    began = time.thread_time()
    return parse_playlist(text), time.thread_time() - began


def _resolve(base: str, uri: str) -> str:
    address = urljoin(base, uri)
    if not address.startswith(tuple(f"{scheme}://" for scheme in HTTP)):
        raise OutputError("its playlist names another protocol")
    return address
