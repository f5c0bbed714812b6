"""Clips of every codec, and what happens when codecs, the disk, the store or a recording fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.channels.channel import Channel
from gateway.live.stream import Stream
from gateway.outputs.clips import clip_service
from gateway.outputs.clips.clip_service import ClipService, StoredClip
from gateway.outputs.clips.sources import ClipSources
from gateway.outputs.storage.stored_pieces import StoredPieces
from gateway.ports.errors import AtCapacity, CannotCut, NothingRecorded, StoreUnavailable
from gateway.ports.events import Events
from gateway.settings import load
from tests.support import builders, growing
from tests.support.at_night import at_night
from tests.support.clients import new_ffmpeg
from tests.support.media import Film, Take, excerpt, framehash_command, parse_framehash
from tests.support.recording import RunningArchive, film
from tests.support.time_outs import at_most
from tests.support.tools import need

SEGMENTS = {
    "h264 with B-frames, mp3": Film("codec-mp3", seconds=6, bframes=3, audio="libmp3lame"),
    "h265, aac": Film("codec-h265", seconds=6, video="libx265"),
    "h264, ac3": Film("codec-ac3", seconds=6, audio="ac3"),
    "mp3 alone": Film("codec-mp3-alone", seconds=6, video=None, audio="libmp3lame"),
}
MOVIES = {
    "av1, opus": Film("codec-av1", seconds=6, video="libsvtav1", audio="libopus"),
    "h265, aac": SEGMENTS["h265, aac"],
    "vp9, flac": Film("codec-vp9", seconds=6, video="libvpx-vp9", audio="flac"),
}
AAC = Film("codec-aac", seconds=4)
CHANNEL = Channel({"id": "c1"})


class Clips:
    """A clip service over an archive, with its recordings."""

    def __init__(self, studio: RunningArchive) -> None:
        self.studio = studio
        sources = ClipSources(studio.objects, studio.archive, studio.finisher)
        self.service = ClipService(studio.objects, studio.archive, sources, Events(), load(environ={}).clips)

    async def record(self, source: Film, *, movies: bool = False, **fields: str) -> None:
        hub = builders.hub()
        publisher = builders.publish(hub, **({"video_time": "2", "ondemand_time": "2"} | fields))
        make = self.studio.recorder if movies else self.studio.on_demand
        await film(make(publisher.stream), publisher, Film(**{**vars(source), "ffmpeg": new_ffmpeg()}))
        await self.studio.finisher.flush()
        hub.drain()
        await hub.drained()

    async def start(self) -> float:
        stored = StoredPieces(self.studio.objects)
        pieces = await stored.segments("c1", 0, 4e9) or await stored.movies("c1", 0, 4e9)
        return pieces[0].start

    async def clip(self, start: float, end: float, stream: Stream | None = None) -> StoredClip:
        return await self.service.make_clip(CHANNEL, start, end, stream)

    def frames(self, clip: StoredClip) -> Take:
        command = framehash_command(self.studio.media / clip.key, ffmpeg=new_ffmpeg())
        command[command.index("-bsf:a") : command.index("-bsf:a") + 2] = []
        done = subprocess.run(command, check=True, capture_output=True, timeout=at_most(60))
        assert not done.stderr, done.stderr.decode()
        return parse_framehash(done.stdout.decode())


@pytest.fixture
async def clips(tmp_path: Path) -> AsyncIterator[Clips]:
    need("ffmpeg")
    async with RunningArchive(tmp_path).open() as studio:
        yield Clips(studio)


def source_of(film: Film) -> Take:
    made = Film(**{**vars(film), "ffmpeg": new_ffmpeg()})
    command = framehash_command(made.path(), ffmpeg=new_ffmpeg())
    command[command.index("-bsf:a") : command.index("-bsf:a") + 2] = []
    return parse_framehash(
        subprocess.run(command, check=True, capture_output=True, timeout=at_most(60)).stdout.decode()
    )


def check(take: Take, source: Take) -> None:
    """Checks that the clip from 1.5 s to 4 s has exactly these pictures, and their sound within a packet."""
    pictures = [f.digest for f in source.video]
    assert [f.digest for f in take.video] == pictures[45:120]
    sounds = [f.digest for f in source.audio]
    at = excerpt([f.digest for f in take.audio], sounds, least=80)
    if take.video:
        # Both are measured from the first picture of the film.
        heard = source.audio[at].time - source.video[0].time
        shown = source.video[45].time - source.video[0].time
        assert take.audio[0].time - take.video[0].time == pytest.approx(heard - shown, abs=0.02)


@pytest.mark.parametrize("source", SEGMENTS.values(), ids=SEGMENTS)
async def test_a_clip_of_segments_has_exactly_the_frames_of_its_time(source: Film, clips: Clips) -> None:
    await clips.record(source)
    zero = await clips.start()
    check(clips.frames(await clips.clip(zero + 1.5, zero + 4)), source_of(source))


@pytest.mark.parametrize("source", MOVIES.values(), ids=MOVIES)
async def test_a_clip_of_movies_has_exactly_the_frames_of_its_time(source: Film, clips: Clips) -> None:
    await clips.record(source, movies=True)
    zero = await clips.start()
    check(clips.frames(await clips.clip(zero + 1.5, zero + 4)), source_of(source))


async def test_a_time_with_different_codecs_is_refused_with_the_reason(
    clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    await clips.record(AAC)
    zero = await clips.start()
    with monkeypatch.context() as patch:
        patch.setattr("tests.support.recording.time.time", lambda: zero + 20)
        await clips.record(SEGMENTS["h264, ac3"])
    with pytest.raises(CannotCut, match="from aac to ac3"):
        await clips.clip(zero, zero + 60)
    assert (await clips.clip(zero, zero + 3)).seconds == pytest.approx(3, abs=0.04)


async def test_a_deleted_or_damaged_segment_is_treated_like_a_gap(clips: Clips) -> None:
    await clips.record(SEGMENTS["h264 with B-frames, mp3"])
    zero = await clips.start()
    first, second, third = clips.studio.files("*/720p/*.ts")
    whole = second.read_bytes()
    second.unlink()
    clip = await clips.clip(zero, zero + 6)
    pictures = [f.digest for f in source_of(SEGMENTS["h264 with B-frames, mp3"]).video]
    take = clips.frames(clip)
    assert [f.digest for f in take.video] == pictures[:60] + pictures[120:]
    assert max(b.time - a.time for a, b in zip(take.video, take.video[1:], strict=False)) < 0.05
    second.write_bytes(whole[:100_000] + b"?" + whole[100_001:])
    take = clips.frames(await clips.clip(zero, zero + 6))
    assert [f.digest for f in take.video][:60] == pictures[:60]
    assert [f.digest for f in take.video][-60:] == pictures[120:]
    assert first.exists() and third.exists()


async def test_a_failing_store_leaves_no_partial_clip(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    await clips.record(AAC)
    zero = await clips.start()

    async def put(self: LocalObjects, key: str, file: Path) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(LocalObjects, "put", put)
        with pytest.raises(StoreUnavailable):
            await clips.clip(zero, zero + 2)
    assert clips.studio.files("*/clips/**/*") == []
    assert [p for p in clips.studio.scratch() if p.parent.name == "clips"] == []
    with monkeypatch.context() as patch:
        patch.setattr("os.sendfile", lambda *_: 0)
        with pytest.raises(AtCapacity, match="disk"):
            await clips.clip(zero, zero + 2)
    assert [p for p in clips.studio.scratch() if p.parent.name == "clips"] == []
    assert (await clips.clip(zero, zero + 2)).seconds == pytest.approx(2, abs=0.04)


@pytest.mark.parametrize("start", [9.4, 18.9, *at_night(1.5, 5.0)])
async def test_a_clip_of_a_finished_recording_has_exactly_its_pictures(clips: Clips, start: float) -> None:
    short = Film("growing-30", seconds=20, gop=30)
    await clips.record(short, movies=True, video_time="60")
    zero = await clips.start()
    made = await clips.clip(zero + start, zero + start + 1)
    pictures = [frame.digest for frame in source_of(short).video]
    first = round(start * 30)
    assert [frame.digest for frame in clips.frames(made).video] == pictures[first : first + 30]


async def test_a_time_without_media_is_refused(clips: Clips) -> None:
    with pytest.raises(NothingRecorded):
        await clips.service.find_newest_range("c1", 30, None)
    await clips.record(AAC)
    zero = await clips.start()
    for start, end in ((zero - 50, zero - 1), (zero + 10, zero + 50)):
        with pytest.raises(NothingRecorded):
            await clips.clip(start, end)
    start, end = await clips.service.find_newest_range("c1", 1.5, None)
    assert (start - zero, end - zero) == pytest.approx((2.5, 4), abs=0.04)


async def test_a_clip_that_starts_before_the_media_starts_with_the_media(clips: Clips) -> None:
    await clips.record(AAC)
    zero = await clips.start()
    clip = await clips.clip(zero - 20, zero + 1)
    assert clip.start == pytest.approx(zero, abs=0.002)
    assert [f.digest for f in clips.frames(clip).video] == [f.digest for f in source_of(AAC).video][:30]


async def test_a_clip_that_is_cancelled_while_it_is_written_leaves_no_file(
    clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    await clips.record(AAC)
    zero = await clips.start()
    began, over = threading.Event(), threading.Event()
    original = clip_service._copy

    def copy(source: int, target: int, size: int) -> None:
        began.set()
        assert over.wait(at_most(30))
        original(source, target, size)

    monkeypatch.setattr(clip_service, "_copy", copy)
    making = asyncio.ensure_future(clips.clip(zero, zero + 2))
    await asyncio.to_thread(began.wait, 30)
    making.cancel()
    over.set()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert clips.studio.scratch() == []


async def test_simultaneous_exports_of_a_channel_are_limited(clips: Clips) -> None:
    await clips.record(AAC)
    zero = await clips.start()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(clips.service.export(CHANNEL, zero, zero + 2, None, lambda: True))
        with pytest.raises(AtCapacity):
            await stack.enter_async_context(clips.service.export(CHANNEL, zero, zero + 2, None, lambda: True))
        await clips.clip(zero, zero + 2)  # clips have their own limit
    async with clips.service.export(CHANNEL, zero, zero + 2, None, lambda: True) as movie:
        data = b"".join([chunk async for chunk in clips.service.read(movie)])
        assert len(data) == movie.size
    with pytest.raises(ConnectionAbortedError):
        async with clips.service.export(CHANNEL, zero, zero + 2, None, lambda: False):
            pass
    assert time.time() > zero


@pytest.mark.parametrize("gop", [60, 1200], ids=["short", "longer than the margin"])
async def test_a_clip_near_the_end_of_a_long_segment_reads_only_a_part(
    gop: int, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Film(f"clip-long-{gop}", seconds=40, gop=gop, bframes=2)
    await clips.record(source, ondemand_time="60")
    zero = await clips.start()
    (segment,) = clips.studio.files("*/720p/*.ts")
    read: list[int] = []
    original = LocalObjects.read

    async def counted(self: LocalObjects, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        async for chunk in original(self, key, start, end):
            read.append(len(chunk) if key.endswith(".ts") else 0)
            yield chunk

    monkeypatch.setattr(LocalObjects, "read", counted)
    clip = await clips.clip(zero + 35, zero + 38)
    assert [f.digest for f in clips.frames(clip).video] == [f.digest for f in source_of(source).video][1050:1140]
    assert (sum(read) < segment.stat().st_size) == (gop == 60)


@pytest.mark.parametrize(("gop", "first", "least"), [(30, 38.0, 0), (1800, 38.0, 1)], ids=["near", "far"])
async def test_a_clip_of_a_growing_recording_reads_only_a_part(
    clips: Clips, monkeypatch: pytest.MonkeyPatch, gop: int, first: float, least: int
) -> None:
    """If the key frame is further away than usual, the recording is read from its start."""
    short = Film(f"growing-{gop}", seconds=20, gop=gop)
    began = clips.studio.finisher.new_path("c1", 1_790_000_000_000)
    growing.write(began, await growing.recorded(clips.studio, short), short.seconds, 3)
    read = [0]

    def pread(descriptor: int, size: int, at: int) -> bytes:
        data = os_pread(descriptor, size, at)
        read[0] += len(data)
        return data

    os_pread = os.pread
    monkeypatch.setattr(os, "pread", pread)
    end = (await clips.service.find_newest_range("c1", 2, None))[1]
    assert end == pytest.approx(1_790_000_060, abs=0.1) and read[0] < began.stat().st_size / 3
    read[0] = 0
    made = await clips.clip(1_790_000_000 + first, 1_790_000_000 + first + 1)
    pictures = [frame.digest for frame in source_of(short).video]
    at = round((first - 20) * 30)
    assert [frame.digest for frame in clips.frames(made).video] == pictures[at : at + 30]
    assert (read[0] > began.stat().st_size * 0.6) == bool(least)
