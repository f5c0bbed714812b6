"""Export of a live stream for another node: it asks until the file is complete, then reads it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.channels.channel import Channel
from gateway.cluster import export_operations as module
from gateway.cluster.export_operations import ExportOperations
from gateway.cluster.node_identity import SiblingProcesses
from gateway.cluster.peers import Peers
from gateway.formats.mp4.movie import MovieHead
from gateway.http.response import Response
from gateway.lib.tasks import Tasks
from gateway.live.stream import Stream
from gateway.outputs.clips.clip_service import ClipService, Movie
from gateway.ports.errors import NothingRecorded
from tests.support.builders import AUDIO, VIDEO, hub, publish
from tests.support.http import request

QUERY = "start=10.000000&end=20.000000&last=0.000000"
MOVIE = Movie(MovieHead(b"head", 5, 1.0), io.BytesIO(b"media"), 12.5)


@dataclass
class Clips:
    """A ClipService whose exports are complete when `complete` is set, or fail."""

    complete: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    begun: int = 0
    ended: int = 0

    @asynccontextmanager
    async def export(
        self, channel: Channel, start: float, end: float, stream: Stream | None, is_wanted: Callable[[], bool]
    ) -> AsyncIterator[Movie]:
        assert (channel.id, start, end) == ("c1", 10.0, 20.0) and stream is not None
        self.begun += 1
        try:
            while not self.complete.is_set():
                if not is_wanted():
                    raise ConnectionAbortedError
                await asyncio.sleep(0.001)
            if self.error is not None:
                raise self.error
            yield MOVIE
        finally:
            self.ended += 1

    async def read(self, movie: Movie, start: int, end: int) -> AsyncIterator[bytes]:
        assert (movie, start, end) == (MOVIE, 0, 9)
        yield b"head"
        yield b"media"


@dataclass
class Rig:
    clips: Clips
    ask: Callable[..., Any]


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.02)
    monkeypatch.setattr(module, "_CHECK_SECONDS", 0.002)
    on, clips = hub([]), Clips()
    publish(on, "c1").set_tracks(VIDEO, AUDIO, {})

    class Channels:
        async def get(self, id: str) -> Channel:
            return Channel({"id": id})

    async with Tasks("exports") as tasks:
        siblings = SiblingProcesses("h.1", cast(Peers, None))
        operations = ExportOperations(siblings, on, cast(Any, Channels()), cast(ClipService, clips), tasks)

        async def ask(operation: str, channel: str = "c1", query: str = QUERY) -> Response:
            target = f"/_node/.node/{operation}/{channel}?{query}"
            return await operations.table()[operation](request(target, "GET"), channel)

        yield Rig(clips, ask)
        monkeypatch.setattr(module, "_ABANDONED_SECONDS", 0.0)
        async with asyncio.timeout(5):
            while clips.ended < clips.begun:
                await asyncio.sleep(0.001)
        on.drain()
        await on.drained()


async def body(response: Response) -> bytes:
    assert not isinstance(response.body, bytes | None)
    return b"".join([chunk async for chunk in response.body])


async def test_a_node_asks_until_the_export_is_complete_and_then_reads_it(rig: Rig) -> None:
    for _ in range(2):
        assert json.loads((await rig.ask("export")).body) == {"pending": True}
    assert (await rig.ask("exported")).status == 503
    rig.clips.complete.set()
    assert json.loads((await rig.ask("export")).body) == {"start": 12.5, "size": 9}
    answer = await rig.ask("exported")
    assert (answer.status, answer.length, rig.clips.ended) == (200, 9, 0)
    assert await body(answer) == b"headmedia"
    async with asyncio.timeout(5):
        while not rig.clips.ended:  # at once, because it was read
            await asyncio.sleep(0.001)
    assert rig.clips.begun == 1
    assert (await rig.ask("exported")).status == 503


async def test_a_failed_export_is_reported_at_the_next_request(rig: Rig) -> None:
    rig.clips.error = NothingRecorded("nothing")
    assert json.loads((await rig.ask("export")).body) == {"pending": True}
    rig.clips.complete.set()
    for _ in range(2):
        assert (await rig.ask("export")).status in (404, 409)
    assert rig.clips.begun == 1


async def test_an_abandoned_export_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads((await rig.ask("export")).body) == {"pending": True}
    monkeypatch.setattr(module, "_ABANDONED_SECONDS", 0.0)
    async with asyncio.timeout(5):
        while not rig.clips.ended:
            await asyncio.sleep(0.001)


async def test_exports_of_other_streams_or_with_bad_times_are_refused(rig: Rig) -> None:
    assert (await rig.ask("export", "c2")).status == 421
    assert (await rig.ask("export", query="start=x&end=1&last=0")).status == 400
    assert rig.clips.begun == 0
