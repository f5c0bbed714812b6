"""Each codec that a broadcast carries reaches a subscriber of the library unchanged; other tracks are left out."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import moq
import pytest

from gateway.media.track import Kind, Tracks
from gateway.packaging.moq_broadcast import Broadcast
from tests.support.media import VP8, VP9
from tests.support.sources import AAC, X264, Source, pictures, source, tone
from tests.support.time_outs import at_most
from tests.support.tools import need

pytestmark = pytest.mark.usefixtures("ffmpeg")
NOISE = ("-f", "lavfi", "-i", "anoisesrc=amplitude=0.2:sample_rate=48000:seed=7")  # no two frames are equal
GOP = ("-g", "15", "-t", "2")
CODECS = {
    "H.264 with B-frames": (*pictures(), *tone(), *X264, "-bf", "2", *AAC, *GOP),
    "HEVC": (*pictures(), "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error", *GOP),
    "AV1": (*pictures(), "-c:v", "libsvtav1", "-preset", "12", *GOP),
    "VP8": (*pictures(), *VP8, *GOP),
    "VP9": (*pictures(), *VP9, *GOP),
    "Opus": (*NOISE, "-c:a", "libopus", *GOP),
}


@pytest.fixture(scope="module")
def ffmpeg() -> None:
    need("ffmpeg")


@contextmanager
def broadcasting(found: Source) -> Iterator[Broadcast]:
    errors: list[Exception] = []
    broadcast = Broadcast("c1", 16_000_000, errors.append)
    broadcast.on_tracks(found.tracks)
    yield broadcast
    broadcast.close()
    assert not errors


async def received(broadcast: Broadcast, count: int) -> list[moq.MediaFrame]:
    """Returns the first frames of the only track."""
    async with asyncio.timeout(at_most(20)):
        consumer = await broadcast.origin.consume().request_broadcast("c1")
        catalog = await consumer.catalog()
        ((name, track),) = [*catalog.video.items(), *catalog.audio.items()]
        frames = await consumer.subscribe_media(name, track)
        return [await anext(frames) for _ in range(count)]


@pytest.mark.parametrize("codec", CODECS)
async def test_units_arrive_unchanged_with_their_times(codec: str) -> None:
    found = source(*CODECS[codec], container="matroska" if codec in ("VP8", "VP9", "Opus", "AV1") else "mp4")
    main = Kind.VIDEO if found.tracks.video is not None else Kind.AUDIO
    units = found.of(main)
    with broadcasting(found.only(main)) as broadcast:
        for unit in units:
            broadcast.on_unit(unit)
        frames = await received(broadcast, 6)  # from the last group on
    start = [unit.payload for unit in units].index(frames[0].payload)
    expected = units[start : start + len(frames)]
    assert [frame.payload for frame in frames] == [unit.payload for unit in expected]
    assert [frame.timestamp_us // 1000 for frame in frames] == [unit.dts + unit.cts for unit in expected]
    assert frames[0].keyframe


def test_tracks_that_the_library_cannot_carry_are_left_out() -> None:
    found = source(*pictures(), *tone(), *X264, "-c:a", "ac3", *GOP)
    with broadcasting(found) as broadcast:
        for unit in found.units:
            broadcast.on_unit(unit)
        assert broadcast.written == sum(len(unit.payload) for unit in found.units if unit.track.kind is Kind.VIDEO)


def test_pictures_before_a_key_frame_and_broken_configurations_do_no_harm() -> None:
    found = source(*pictures(), *X264, *GOP)
    track = found.tracks.video
    assert track is not None
    with broadcasting(found) as broadcast:
        for unit in found.units[1:10]:
            broadcast.on_unit(unit)
        assert broadcast.written == 0
    with broadcasting(replace(found, tracks=Tracks(replace(track, config=b"\1"), None))) as broadcast:
        for unit in found.units:
            broadcast.on_unit(unit)
        assert broadcast.written == 0


async def test_new_tracks_replace_the_old_ones_in_the_catalog() -> None:
    first, second = source(*pictures(), *X264, *GOP), source(*pictures("640x360"), *X264, *GOP)
    with broadcasting(first) as broadcast:
        for unit in first.units:
            broadcast.on_unit(unit)
        broadcast.on_tracks(second.tracks)
        for unit in second.units:
            broadcast.on_unit(replace(unit, dts=unit.dts + 2_000))
        async with asyncio.timeout(at_most(20)):
            consumer = await broadcast.origin.consume().request_broadcast("c1")
            (video,) = (await consumer.catalog()).video.values()
    assert video.coded is not None and video.coded.width == 640
