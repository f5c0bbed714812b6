"""Recordings without the rest of the gateway: a stream with a recording output, and an archive in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from gateway.adapters.local.objects import LocalObjects
from gateway.channels.channel import Channel
from gateway.formats.flv.tag import AUDIO, VIDEO
from gateway.lib.tasks import Tasks
from gateway.live.flv_intake import FlvIntake
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.live.subscription import Subscription
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX
from gateway.media.track import AccessUnit, Tracks
from gateway.outputs.recording.mp4_finalizer import Mp4Finalizer
from gateway.outputs.recording.mp4_recording import Mp4Recording
from gateway.outputs.recording.on_demand_recording import OnDemandRecording
from gateway.outputs.recording.recording_output import RecordingCounts, RecordingOutput
from gateway.outputs.storage.archive import Archive
from gateway.ports.events import Event, Events
from gateway.ports.stores import ObjectStore
from gateway.settings import load
from gateway.settings.models import RecordingSettings
from tests.support import builders
from tests.support.flv_reader import FlvReader
from tests.support.media import Film
from tests.support.segmented import Timetable
from tests.support.time_outs import at_most


def settings(**options: object) -> RecordingSettings:
    """The default options with these changes, without a limit on free disk space."""
    environ = {f"MILLRACE_RECORDING__{n.upper()}": str(v) for n, v in ({"keep_free": 0} | options).items()}
    return load(environ=environ).recording


class RunningArchive:
    """A running archive and finisher. `media` is the folder of finished recordings."""

    def __init__(self, folder: Path, objects: ObjectStore | None = None, process: str = "", **options: object) -> None:
        self.media = folder / "media"
        self.spool = folder / "spool"
        self.events: list[Event] = []
        events = Events()
        events.listen(self.events.append)
        self.objects = objects or LocalObjects(self.media)
        local = None if objects is not None else self.media
        self.archive = Archive(
            self.objects, settings(**options), events, media=local, spool=self.spool, process=process
        )
        self.finisher = Mp4Finalizer(self.archive)
        self.counts = RecordingCounts()
        self.failures: list[BaseException] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[RunningArchive]:
        async with Tasks("studio", lambda _, error: self.failures.append(error)) as tasks:
            tasks.start(self.archive.run(), "archive")
            tasks.start(self.finisher.run(), "finisher")
            yield self
            async with asyncio.timeout(at_most(30)):
                await self.finisher.flush()
        assert not self.failures

    def files(self, pattern: str = "**/*") -> list[Path]:
        """The visible files, oldest name first."""
        while True:
            with contextlib.suppress(FileNotFoundError):  # a hidden folder vanished while it was read
                found = [p.relative_to(self.media) for p in self.media.glob(pattern) if p.is_file()]
                return sorted(self.media / p for p in found if not any(part.startswith(".") for part in p.parts))

    def scratch(self) -> list[Path]:
        """The unfinished files."""
        root = self.media / ".unfinished"
        return sorted(p for p in root.rglob("*") if p.is_file())

    def recorder(self, stream: Stream) -> Mp4Recording:
        return Mp4Recording(stream, self.archive, self.finisher, self.counts)

    def on_demand(self, stream: Stream) -> OnDemandRecording:
        return OnDemandRecording(stream, self.archive, self.finisher, self.counts)


def stream_of(id: str = "c1", **fields: Any) -> Stream:
    return Stream(builders.spec(id), Channel(dict(builders.channel(id, **fields).item)))


async def record(output: RecordingOutput, stream: Stream, *tables: Timetable, end: bool = True) -> None:
    """Runs an output to the stream's end. tables: timetables, each of which is an epoch."""
    output.begin(stream)
    running = asyncio.ensure_future(output.run(stream))
    for table in tables:
        stream.set_tracks(table.video, table.audio, {}, False)
        await push(stream, table.units())
    if end:
        stream.end(EndReason.PUBLISHER_GONE)
        await asyncio.wait_for(running, at_most(30))
    else:
        await settled(output)


async def settled(output: RecordingOutput) -> None:
    """Waits until the output has taken all pushed units and its files do not grow any more."""
    still, wrote = 0, -1
    while still < 10:
        await asyncio.sleep(0.02)
        still, wrote = (still + 1, wrote) if output.report()["bytes"] == wrote else (0, output.report()["bytes"])


async def push(stream: Stream, units: Iterable[AccessUnit]) -> None:
    """Pushes units as fast as the outputs take them.

    Seconds of media arrive within milliseconds, so without waiting an output would fall behind and drop units.
    """
    for n, unit in enumerate(units):
        stream.push(unit)
        if n % 50 == 49:
            await asyncio.sleep(0.002)
            while any(sink.waiting for sink in subscriptions(stream)):
                await asyncio.sleep(0.002)


def subscriptions(stream: Stream) -> Iterable[Subscription]:
    """The queues of the stream's outputs."""
    sinks = {*stream._sinks, *stream.original._sinks}
    return [sink for sink in sinks if isinstance(sink, Subscription)]


def play(film: Film, publisher: StreamPublisher) -> Iterable[None]:
    """Pushes a film through the intake, tag by tag."""
    intake = FlvIntake(publisher)
    began = time.time()
    for tag in FlvReader().receive(film.path().read_bytes()):
        wall = began + tag.timestamp / 1000
        if tag.type_id == VIDEO:
            intake.take_media(VIDEO_INDEX, tag.timestamp, tag.payload, wall, time.monotonic())
        elif tag.type_id == AUDIO:
            intake.take_media(AUDIO_INDEX, tag.timestamp, tag.payload, wall, time.monotonic())
        yield


async def film(output: RecordingOutput, publisher: StreamPublisher, source: Film) -> None:
    """Records a complete film."""
    stream = publisher.stream
    output.begin(stream)
    running = asyncio.ensure_future(output.run(stream))
    for n, _ in enumerate(play(source, publisher)):
        if n % 50 == 49:
            await asyncio.sleep(0.002)
    stream.end(EndReason.PUBLISHER_GONE)
    await asyncio.wait_for(running, at_most(60))


__all__ = ["RunningArchive", "Tracks", "film", "push", "record", "settings", "stream_of", "subscriptions"]
