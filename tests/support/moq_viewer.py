"""Viewers over MoQ: the library's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import moq

from tests.support.time_outs import at_most

# Of a player that waits for a late group. By default players skip it at once.
PATIENT = moq.Subscription(max_age_us=30_000_000)


@dataclass
class Watched:
    """What a viewer gets. catalog: of its first tracks. video, audio: frames so far."""

    client: moq.Client
    broadcast: moq.BroadcastConsumer
    catalog: moq.Catalog
    video: list[moq.MediaFrame] = field(default_factory=list)
    audio: list[moq.MediaFrame] = field(default_factory=list)


def client(url: str, hashes: list[str], **options: object) -> moq.Client:
    """Returns a client that connects once, over QUIC."""
    return moq.Client(url, tls_fingerprints=hashes, websocket_enabled=False, reconnect=False, **options)


@asynccontextmanager
async def watching(url: str, name: str, hashes: list[str]) -> AsyncIterator[Watched]:
    """Plays the broadcast without skipping, and collects its frames until the block ends."""
    async with client(url, hashes) as connected, asyncio.TaskGroup() as group:
        async with asyncio.timeout(at_most(20)):
            broadcast = await connected.announced_broadcast(name)
            watched = Watched(connected, broadcast, await broadcast.catalog())

        async def collect(name: str, track: moq.Video | moq.Audio, frames: list[moq.MediaFrame]) -> None:
            with suppress(moq.Error):  # the end of the session, which tests see at the session
                async for frame in await broadcast.subscribe_media(name, track, PATIENT):
                    frames.append(frame)

        catalog = watched.catalog
        tasks = [group.create_task(collect(name, track, watched.video)) for name, track in catalog.video.items()]
        tasks += [group.create_task(collect(name, track, watched.audio)) for name, track in catalog.audio.items()]
        try:
            yield watched
        finally:
            for task in tasks:
                task.cancel()


async def frames(watched: Watched, *, video: int = 0, audio: int = 0) -> None:
    """Waits for so many frames."""
    async with asyncio.timeout(at_most(20)):
        while len(watched.video) < video or len(watched.audio) < audio:
            await asyncio.sleep(0.02)


async def gets_broadcast(connected: moq.Client) -> bool:
    """Returns whether the server announces a broadcast; False: it ends the session before."""
    assert connected.session is not None
    announced = asyncio.ensure_future(anext(connected.announced()))
    closed = asyncio.ensure_future(connected.session.closed())
    async with asyncio.timeout(at_most(20)):
        done, left = await asyncio.wait([announced, closed], return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, *done, return_exceptions=True)
    return announced in done and announced.exception() is None


async def refused(url: str, hashes: list[str]) -> bool:
    """Returns whether the server ends the session before it announces anything. url: with its query."""
    try:
        async with client(url, hashes) as connected:
            return not await gets_broadcast(connected)
    except moq.Error:
        return True
