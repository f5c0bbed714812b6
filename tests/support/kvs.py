"""Live streams into the strict Kinesis double through the real adapter, for tests of the output."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.aws.kvs import AwsKvs
from gateway.adapters.aws.session import AwsSession
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Kind, MediaTrack
from gateway.outputs.kinesis.kvs_output import KvsOutput
from gateway.outputs.kinesis.kvs_streams import KvsStreams
from gateway.settings.models import KvsSettings, WorkersSettings
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.flv_reader import FlvFileDemuxer
from tests.support.kvs_rules import Frame
from tests.support.media import Film
from tests.support.putmedia import KvsDouble, VideoStream
from tests.support.waiting import until

ROLE = "arn:aws:iam::123456789012:role/kvs"
WORKERS = WorkersSettings(runner="local", most=4, nice=0, memory=0)
NO_FILE = "/nonexistent/aws"
NUMBER = {Kind.VIDEO: 1, Kind.AUDIO: 2}


@dataclass(frozen=True)
class Reel:
    """The units of a film in file order, with times in milliseconds from 0."""

    video: MediaTrack | None
    audio: MediaTrack | None
    units: tuple[AccessUnit, ...]

    def shifted(self, ms: int) -> list[AccessUnit]:
        """The units, shifted to later times."""
        return [replace(unit, dts=unit.dts + ms) for unit in self.units]


@functools.cache
def reel(film: Film) -> Reel:
    """The units of an FLV film."""
    found = list(FlvFileDemuxer().receive(film.path().read_bytes()))
    tracks = {event.kind: event for event in found if isinstance(event, MediaTrack)}
    units = tuple(event for event in found if isinstance(event, AccessUnit))
    return Reel(tracks.get(Kind.VIDEO), tracks.get(Kind.AUDIO), units)


def settings(**fields: Any) -> KvsSettings:
    """The section `kvs`: the defaults of config/default.toml with the changes in `fields`."""
    given: dict[str, Any] = {
        "role": "", "stream": "lobby", "log_every": 0, "size": "640x480", "object_bytes": 10**9, "object_seconds": 0,
        "backlog": 64 << 20, "queue": "", "prefix": "", "suffixes": (),
    }  # fmt: skip
    return KvsSettings(**given | fields)


def use(double: KvsDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configures this process as a client of the double."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL_KINESIS_VIDEO": double.url, "AWS_ENDPOINT_URL_STS": double.url,
        "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": NO_FILE, "AWS_SHARED_CREDENTIALS_FILE": NO_FILE,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


@dataclass
class Live:
    """A hub whose streams have only the output `kvs`, and one pushed stream."""

    double: KvsDouble
    kvs: KvsStreams
    hub: Hub
    publisher: StreamPublisher
    wall: float = 0.0  # of the media's time 0

    @property
    def stream(self) -> Stream:
        return self.publisher.stream

    @property
    def report(self) -> dict[str, Any]:
        """The entry of the output in the session."""
        assert self.stream.outputs is not None
        return self.stream.outputs.status()[0]

    async def push(self, units: Iterable[AccessUnit], *, speed: float = 8.0, wall: float = 0.0) -> None:
        """Pushes units `speed` times as fast as their times; their wall clock advances equally fast.

        wall: start of the wall clock. By default it continues from the last push; the first push began an hour ago.
        """
        first, began = None, time.monotonic()
        for count, unit in enumerate(units):
            first = unit.dts if first is None else first
            if wall or not self.wall:
                self.wall = (wall or time.time() - 3600) - unit.dts / 1000
                wall = 0.0
            due = began + (unit.dts - first) / 1000 / speed
            if (pause := due - time.monotonic()) > 0.005:
                await asyncio.sleep(pause)
            elif not count % 4:
                await asyncio.sleep(0)  # an encoder that is late does not send seconds in one turn of the loop
            self.publisher.push(replace(unit, wall=self.wall + unit.dts / 1000), time.monotonic())

    async def end(self) -> None:
        """Ends the push and waits until its outputs have finished."""
        self.hub.end(self.stream.name, EndReason.KICKED)
        await until(lambda: self.report["state"] in ("done", "failed", "off"), "the output has finished")

    async def reports(self, met: Callable[[dict[str, Any]], Any], what: str, within: float = 20.0) -> dict[str, Any]:
        """Waits until the entry meets the condition and returns it."""
        await until(lambda: met(self.report), lambda: f"{what}: {self.report}", within)
        return self.report


@contextlib.asynccontextmanager
async def live(
    double: KvsDouble, film: Reel, *, kvs: KvsSettings | None = None, tls: ssl.SSLContext | None = None, **fields: Any
) -> AsyncIterator[Live]:
    """A stream with the film's tracks and isKvs. The test pushes the film."""
    chosen = kvs or settings()
    async with AwsSession() as session, KvsStreams(AwsKvs(session, chosen.role), chosen, tls) as streams:
        workers = WorkerPool(WORKERS, Counter(WORKER_RESTARTS))
        spec = OutputSpec("kvs", lambda s: KvsOutput(s, streams, workers), lambda s: s.channel.flag("isKvs"))
        hub = builders.hub([spec], gop_bytes=16_000_000)
        publisher = builders.publish(hub, **{"isKvs": True, **fields})
        publisher.set_tracks(film.video, film.audio, {})
        yield Live(double, streams, hub, publisher)
        hub.drain()
        await hub.drained()


def shown(units: Iterable[AccessUnit]) -> list[tuple[int, bytes]]:
    """(track, payload) of units, in push order."""
    return [(NUMBER[u.track.kind], u.payload) for u in units]


def assert_stored(stream: VideoStream, units: Iterable[AccessUnit]) -> None:
    """Asserts that every frame is stored once, in track order, and nothing was refused."""
    wanted = shown(units)
    for track in sorted({t for t, _ in wanted}):
        got = [f.payload for f in stream.frames if f.track == track]
        expected = [payload for t, payload in wanted if t == track]
        assert len(got) == len(expected), f"track {track}: {len(got)} of {len(expected)} frames are stored"
        assert got == expected, f"track {track} is stored in another order"


def times(frames: Iterable[Frame], track: int) -> list[int]:
    return [f.time for f in frames if f.track == track]


def written(stream: VideoStream, folder: Path) -> list[Path]:
    """The stored data as files."""
    files = []
    for n, data in enumerate(stream.mkv()):
        files.append(folder / f"{stream.name}-{n}.mkv")
        files[-1].write_bytes(data)
    return files
