"""Snapshots of live streams: real workers, real files."""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Kind
from gateway.outputs.snapshot.snapshot_output import SnapshotOutput
from gateway.ports.errors import OutputError
from gateway.settings import load
from gateway.workers.jpeg_service import JpegService
from gateway.workers.worker_pool import WorkerPool
from tests.support import sources
from tests.support.recording import RunningArchive, stream_of
from tests.support.waiting import until

SETTINGS = load(environ={})
ID = "0f0e0d0c-0b0a-4909-8807-060504030201"


@asynccontextmanager
async def studio(folder: Path, **options: Any) -> AsyncIterator[tuple[RunningArchive, JpegService]]:
    workers = WorkerPool(SETTINGS.workers, Counter(WORKER_RESTARTS))
    async with RunningArchive(folder, **options).open() as place, JpegService(workers, SETTINGS.snapshot) as stills:
        yield place, stills


def stream(source: sources.Source, **fields: Any) -> Stream:
    made = stream_of(ID, isImage=True, **fields)
    made.set_tracks(source.tracks.video, source.tracks.audio, {}, True)
    return made


def push(to: Stream, units: list[AccessUnit]) -> None:
    for unit in units:
        to.push(replace(unit, wall=time.time()))


async def test_the_first_snapshot_is_made_at_once_and_named_by_its_time(tmp_path: Path) -> None:
    source = sources.h264()
    async with studio(tmp_path) as (place, stills):
        live = stream(source, image_time=60)
        output = SnapshotOutput(live, place.archive, stills, place.counts)
        running = asyncio.ensure_future(output.run(live))
        before = datetime.now(UTC).replace(microsecond=0)
        push(live, source.of(Kind.VIDEO)[:40])
        await until(lambda: place.files("**/*.jpg"))
        live.end(EndReason.PUBLISHER_GONE)
        await running
        (file,) = place.files("**/*.jpg")
        assert not place.scratch()
    key = str(file.relative_to(place.media))
    form = rf"{ID}/images/(\d{{4}})/([1-9]\d?)/([1-9]\d?)/capture-(\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d)\.jpg"
    match = re.fullmatch(form, key)
    assert match is not None, key
    at = datetime.strptime(match[4], "%Y-%m-%d_%H-%M-%S").replace(tzinfo=UTC)
    assert before <= at <= datetime.now(UTC)
    assert (at.year, at.month, at.day) == tuple(int(match[n]) for n in (1, 2, 3))
    with Image.open(file) as image:
        assert (image.format, image.size) == ("JPEG", (320, 180))
    assert [e.data["key"] for e in place.events] == [key]
    assert output.report() == {"made": 1, "error": None}


async def test_each_snapshot_shows_another_picture_and_overwrites_none(tmp_path: Path) -> None:
    # One group of pictures of four seconds, taken much faster than once a second.
    source = sources.h264(gop=300)
    async with studio(tmp_path) as (place, stills):
        live = stream(source, image_time=1)
        output = SnapshotOutput(live, place.archive, stills, place.counts)
        object.__setattr__(output, "_channel", _Every(live.channel, 0.05))
        running = asyncio.ensure_future(output.run(live))
        units = source.of(Kind.VIDEO)
        for n in range(0, 120, 20):
            made = output.report()["made"]
            push(live, units[n : n + 20])
            await until(lambda made=made: output.report()["made"] > made)
        # The key frame has a snapshot of its own, so the count may lag one behind the pushed pictures.
        await until(lambda: output._last_used == units[119].dts)
        await asyncio.sleep(0.3)
        made = output.report()["made"]
        await asyncio.sleep(0.3)
        assert output.report()["made"] == made, "no new picture, no snapshot"
        live.end(EndReason.PUBLISHER_GONE)
        await running
        files = place.files("**/*.jpg")
    assert len(files) == made >= 6
    assert len({file.read_bytes() for file in files}) == made


async def test_a_shorter_interval_takes_effect_while_live(tmp_path: Path) -> None:
    source = sources.h264(gop=15)
    async with studio(tmp_path) as (place, stills):
        live = stream(source, image_time=3600)
        output = SnapshotOutput(live, place.archive, stills, place.counts)
        running = asyncio.ensure_future(output.run(live))
        push(live, source.of(Kind.VIDEO)[:20])
        await until(lambda: output.report()["made"] == 1)
        output.channel_changed(stream_of(ID, image_time=1).channel)
        push(live, source.of(Kind.VIDEO)[20:40])
        await until(lambda: output.report()["made"] == 2)
        running.cancel()
        await asyncio.wait([running])


async def test_the_first_snapshot_of_a_stream_without_video_waits_for_its_first_picture(tmp_path: Path) -> None:
    source = sources.h264()
    async with studio(tmp_path) as (place, stills):
        live = stream(source.only(Kind.AUDIO), image_time=60)
        output = SnapshotOutput(live, place.archive, stills, place.counts)
        running = asyncio.ensure_future(output.run(live))
        push(live, source.of(Kind.AUDIO)[:1])
        await until(lambda: output._waits_for_picture)
        live.set_tracks(source.tracks.video, source.tracks.audio, {}, True)
        push(live, source.of(Kind.VIDEO)[:20])
        await until(lambda: place.files("**/*.jpg"))
        live.end(EndReason.PUBLISHER_GONE)
        await running
    assert output.report() == {"made": 1, "error": None}


async def test_no_snapshot_is_made_outside_the_schedule(tmp_path: Path) -> None:
    source = sources.h264()
    tomorrow = (datetime.now(UTC).weekday() + 2) % 7
    day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[tomorrow]
    async with studio(tmp_path) as (place, stills):
        live = stream(source, recordSchedule=f"{day} 00:00-24:00")
        assert live.channel.record_schedule is not None
        output = SnapshotOutput(live, place.archive, stills, place.counts)
        running = asyncio.ensure_future(output.run(live))
        push(live, source.of(Kind.VIDEO)[:20])
        await asyncio.sleep(0.3)
        assert output.report()["made"] == 0
        live.end(EndReason.PUBLISHER_GONE)
        await running


async def test_a_full_disk_raises_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources.h264()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=10**12, free=10**6))
    async with studio(tmp_path, keep_free=10**9) as (place, stills):
        live = stream(source)
        push(live, source.of(Kind.VIDEO)[:20])
        with pytest.raises(OutputError, match="no space left"):
            await SnapshotOutput(live, place.archive, stills, place.counts).run(live)
        assert not place.files()
        assert not place.scratch()


class _Every:
    """A channel whose `image_time` is shorter than any that can be stored."""

    def __init__(self, channel: Any, seconds: float) -> None:
        self._channel, self._seconds = channel, seconds

    def number(self, name: str) -> float:
        return self._seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)
