"""Pictures out of live streams by real workers: JPEG, collapsed requests, workers that die."""

import asyncio
import io
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from gateway.diagnosis.stream_health import StreamHealth
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.media.track import Kind
from gateway.media.unit import AccessUnit
from gateway.settings import load
from gateway.workers.jpeg_protocol import PictureDifference
from gateway.workers.jpeg_service import JpegService, JpegUnavailable
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders, sources
from tests.support.marking import pictures

SETTINGS = load(environ={})


def video(source: sources.Source) -> list[AccessUnit]:
    return source.of(Kind.VIDEO)


def stills(workers: WorkerPool | None = None) -> JpegService:
    return JpegService(workers or WorkerPool(SETTINGS.workers, Counter(WORKER_RESTARTS)), SETTINGS.snapshot)


def opened(jpeg: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    assert image.format == "JPEG"
    return image


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of brightness, 0 to 255."""
    from PIL import ImageChops, ImageStat

    assert one.size == other.size
    return float(ImageStat.Stat(ImageChops.difference(one.convert("L"), other.convert("L"))).mean[0])


async def test_the_last_picture_of_a_group_becomes_a_jpeg_of_full_size() -> None:
    source = sources.h264(bframes=2)
    units = video(source)[:25]
    shown = dict(pictures(units))
    async with stills() as service:
        image = opened(await service.picture(units))
    assert image.size == (320, 180)
    assert likeness(image, shown[max(shown)]) < 4
    assert likeness(image, shown[min(shown)]) > 4, "testsrc2 moves"


async def test_decoded_pictures_tell_the_health_of_their_stream_whether_they_are_black_or_equal() -> None:
    stream = builders.stream()
    stream.health = health = StreamHealth(stream, lambda event: None, 0.0)
    black = video(sources.source("-f", "lavfi", "-i", "color=black:s=320x180", "-t", "1", *sources.X264))
    bars = video(sources.source("-f", "lavfi", "-i", "smptebars=s=320x180", "-t", "1", *sources.X264))
    async with stills() as service:
        session = service.session(stream)
        for at, units in enumerate((black, bars, bars)):
            last = [replace(unit, wall=float(at)) for unit in units[:1]]
            await (service.picture(last, stream) if at else session.compare(last[0].track, last, True, 30))
            assert (health._facts.black_since, health._facts.frozen_since) == ((0, None), (None, None), (None, 1))[at]


async def test_pixels_that_are_not_square_are_made_so() -> None:
    source = sources.h264("320x240", more="setsar=4/3", bframes=0)
    async with stills() as service:
        assert opened(await service.picture(video(source)[:1])).size == (427, 240)


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
async def test_colors_are_those_of_the_stream(matrix: str) -> None:
    source = sources.source(
        *("-f", "lavfi", "-i", "color=0xC83200:s=320x240:r=30", "-t", "1"),
        *("-vf", f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv420p"),
        *(*sources.X264, "-qp", "10", "-colorspace", matrix, "-color_range", "tv"),
    )
    async with stills() as service:
        image = opened(await service.picture(video(source)[:1]))
    pixel = image.getpixel((160, 120))
    assert isinstance(pixel, tuple)
    assert all(abs(a - b) < 8 for a, b in zip(pixel, (0xC8, 0x32, 0), strict=True)), pixel


async def test_who_asks_for_the_latest_picture_while_it_is_made_waits_for_the_same_one() -> None:
    source = sources.h264(gop=15)
    stream = builders.stream()
    stream.set_tracks(source.tracks.video, None, {}, True)
    units = video(source)
    for unit in units[:20]:
        stream.push(unit)
    async with stills() as service:
        first = await asyncio.gather(*(service.latest(stream) for _ in range(20)))
        assert len(set(map(id, first))) == 1
        assert await service.latest(stream) is first[0]
        for unit in units[20:40]:
            stream.push(unit)
        later = await service.latest(stream)
    assert later != first[0]
    key = next(image for ms, image in pictures(units) if ms == units[30].dts + units[30].cts)
    assert likeness(opened(later), key) < 4


async def test_a_stream_without_a_picture_yet_has_no_latest_one() -> None:
    async with stills() as service:
        with pytest.raises(JpegUnavailable, match="no picture yet"):
            await service.latest(builders.stream())


async def test_units_that_hold_no_picture_are_answered_with_a_reason() -> None:
    damaged = [builders.picture(0, key=True), builders.picture(40)]
    async with stills() as service:
        with pytest.raises(JpegUnavailable, match="no picture"):
            await service.picture(damaged)
        assert opened(await service.picture(video(sources.h264())[:1]))


async def test_a_worker_that_is_killed_is_replaced() -> None:
    units = video(sources.h264())[:1]
    workers = WorkerPool(SETTINGS.workers, Counter(WORKER_RESTARTS))
    async with stills(workers) as service:
        await service.picture(units)
        assert workers.running == 1
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        for _ in range(3):
            try:
                picture = await service.picture(units)
                break
            except JpegUnavailable:
                continue
        assert opened(picture)
    assert workers.running == 0


async def test_where_all_workers_are_busy_a_picture_is_refused_at_once() -> None:
    settings = load(environ={"MILLRACE_WORKERS__MOST": "1"})
    workers = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
    async with stills(workers) as service, workers.start("gateway.workers.programs.jpeg_worker", "other"):
        with pytest.raises(JpegUnavailable, match=r"workers\.most"):
            await service.picture(video(sources.h264())[:1])


async def test_more_requests_than_can_wait_are_refused() -> None:
    units = video(sources.h264())[:1]
    async with stills() as service:
        answers = await asyncio.gather(*(service.picture(units) for _ in range(150)), return_exceptions=True)
    assert sum(isinstance(a, bytes) for a in answers) >= 32
    refused = [a for a in answers if isinstance(a, JpegUnavailable)]
    assert refused
    assert all("too many" in str(a) for a in refused)


async def test_who_goes_away_does_not_take_the_picture_from_the_others() -> None:
    source = sources.h264()
    stream = builders.stream()
    stream.set_tracks(source.tracks.video, None, {}, True)
    stream.push(video(source)[0])
    async with stills() as service:
        one, other = (asyncio.ensure_future(service.latest(stream)) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        assert opened(await other)


async def test_looks_tell_how_much_changed_and_where() -> None:
    units = video(moving_corner())
    async with stills() as service:
        session = service.session()
        first = await session.compare(units[0].track, units[:1], True, 30)
        assert first.first
        still = await session.compare(units[0].track, units[1:30], False, 30)
        assert still.changed == 0.0
        moved = await session.compare(units[0].track, units[30:61], False, 30)
        assert 8 < moved.changed < 15, moved
        assert moved.region == 9
        image = opened(await session.last_picture())
        assert image.size == (360, 180)
        session.close()


async def test_a_worker_that_has_forgotten_a_session_says_so() -> None:
    units = video(moving_corner())
    async with stills() as service:
        session = service.session()
        assert await session.compare(units[0].track, units[5:6], False, 30) == PictureDifference(lost=True)
        with pytest.raises(JpegUnavailable, match="no longer available"):
            await session.last_picture()


def moving_corner() -> sources.Source:
    """Gray, but that the lower right ninth turns white after a second; one group of pictures, with B-frames."""
    draw = "drawbox=x=240:y=120:w=120:h=60:color=white:t=fill:enable='gte(t,1)'"
    return sources.source(
        *("-f", "lavfi", "-i", f"color=gray:s=360x180:r=30,{draw}", "-t", "4"),
        *(*sources.X264, "-g", "300", "-bf", "2", "-pix_fmt", "yuv420p"),
    )


def children() -> list[int]:
    """The media workers that this process started; beside them may be the doubles of other tests."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [
        int(pid) for pid in listing.split() if b"gateway.workers.programs" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
