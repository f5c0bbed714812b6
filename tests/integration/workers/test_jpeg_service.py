"""Pictures of live streams by real workers: JPEG, shared requests, and dying workers."""

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
from gateway.media.track import AccessUnit, Kind
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
    """Returns the mean difference of brightness, 0 to 255."""
    from PIL import ImageChops, ImageStat

    assert one.size == other.size
    return float(ImageStat.Stat(ImageChops.difference(one.convert("L"), other.convert("L"))).mean[0])


async def test_the_last_picture_of_a_gop_becomes_a_full_size_jpeg() -> None:
    source = sources.h264(bframes=2)
    units = video(source)[:25]
    shown = dict(pictures(units))
    async with stills() as service:
        image = opened(await service.make_picture(units))
    assert image.size == (320, 180)
    assert likeness(image, shown[max(shown)]) < 4
    assert likeness(image, shown[min(shown)]) > 4, "testsrc2 moves"


async def test_decoded_pictures_report_black_and_frozen_video_to_the_stream_health() -> None:
    stream = builders.stream()
    health = StreamHealth(stream, lambda event: None, 0.0, lambda stream: False)
    stream.health = health
    black = video(sources.source("-f", "lavfi", "-i", "color=black:s=320x180", "-t", "1", *sources.X264))
    bars = video(sources.source("-f", "lavfi", "-i", "smptebars=s=320x180", "-t", "1", *sources.X264))
    async with stills() as service:
        session = service.open_session(stream)
        for at, units in enumerate((black, bars, bars)):
            last = [replace(unit, wall=float(at)) for unit in units[:1]]
            await (service.make_picture(last, stream) if at else session.compare(last, True, 30))
            assert (health._facts.black_since, health._facts.frozen_since) == ((0, None), (None, None), (None, 1))[at]


@pytest.mark.parametrize(("longest", "size"), [(160, (160, 90)), (319, (319, 179)), (480, (320, 180))])
async def test_a_large_picture_is_scaled_down(longest: int, size: tuple[int, int]) -> None:
    async with stills() as service:
        assert opened(await service.start_picture(video(sources.h264())[:1], longest)).size == size


async def test_pictures_with_non_square_pixels_are_made_square() -> None:
    source = sources.h264("320x240", more="setsar=4/3", bframes=0)
    async with stills() as service:
        assert opened(await service.make_picture(video(source)[:1])).size == (427, 240)


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
async def test_colors_match_the_stream(matrix: str) -> None:
    source = sources.source(
        *("-f", "lavfi", "-i", "color=0xC83200:s=320x240:r=30", "-t", "1"),
        *("-vf", f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv420p"),
        *(*sources.X264, "-qp", "10", "-colorspace", matrix, "-color_range", "tv"),
    )
    async with stills() as service:
        image = opened(await service.make_picture(video(source)[:1]))
    pixel = image.getpixel((160, 120))
    assert isinstance(pixel, tuple)
    assert all(abs(a - b) < 8 for a, b in zip(pixel, (0xC8, 0x32, 0), strict=True)), pixel


async def test_simultaneous_requests_for_the_latest_picture_share_one_result() -> None:
    source = sources.h264(gop=15)
    stream = builders.stream()
    stream.set_tracks(source.tracks.video, None, {}, True)
    units = video(source)
    for unit in units[:20]:
        stream.push(unit)
    async with stills() as service:
        first = await asyncio.gather(*(service.make_latest(stream) for _ in range(20)))
        assert len(set(map(id, first))) == 1
        assert await service.make_latest(stream) is first[0]
        for unit in units[20:40]:
            stream.push(unit)
        later = await service.make_latest(stream)
    assert later != first[0]
    key = next(image for ms, image in pictures(units) if ms == units[30].dts + units[30].cts)
    assert likeness(opened(later), key) < 4


async def test_a_stream_without_a_picture_gives_an_error() -> None:
    async with stills() as service:
        with pytest.raises(JpegUnavailable, match="no picture yet"):
            await service.make_latest(builders.stream())


async def test_units_without_a_picture_give_an_error_with_a_reason() -> None:
    damaged = [builders.picture(0, key=True), builders.picture(40)]
    async with stills() as service:
        with pytest.raises(JpegUnavailable, match="no picture"):
            await service.make_picture(damaged)
        assert opened(await service.make_picture(video(sources.h264())[:1]))


async def test_a_worker_that_is_killed_is_replaced() -> None:
    units = video(sources.h264())[:1]
    workers = WorkerPool(SETTINGS.workers, Counter(WORKER_RESTARTS))
    async with stills(workers) as service:
        await service.make_picture(units)
        assert workers.running == 1
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        for _ in range(3):
            try:
                picture = await service.make_picture(units)
                break
            except JpegUnavailable:
                continue
        assert opened(picture)
    assert workers.running == 0


async def test_a_request_is_refused_at_once_if_all_workers_are_busy() -> None:
    settings = load(environ={"MILLRACE_WORKERS__MOST": "1"})
    workers = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
    async with stills(workers) as service, workers.start("gateway.workers.programs.jpeg_worker", "other"):
        with pytest.raises(JpegUnavailable, match=r"workers\.most"):
            await service.make_picture(video(sources.h264())[:1])


async def test_requests_beyond_the_queue_limit_are_refused() -> None:
    units = video(sources.h264())[:1]
    async with stills() as service:
        answers = await asyncio.gather(*(service.make_picture(units) for _ in range(150)), return_exceptions=True)
    assert sum(isinstance(a, bytes) for a in answers) >= 32
    refused = [a for a in answers if isinstance(a, JpegUnavailable)]
    assert refused
    assert all("too many" in str(a) for a in refused)


async def test_a_cancelled_request_does_not_affect_other_requests() -> None:
    source = sources.h264()
    stream = builders.stream()
    stream.set_tracks(source.tracks.video, None, {}, True)
    stream.push(video(source)[0])
    async with stills() as service:
        one, other = (asyncio.ensure_future(service.make_latest(stream)) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        assert opened(await other)


async def test_comparisons_report_the_amount_and_the_place_of_a_change() -> None:
    units = video(moving_corner())
    async with stills() as service:
        session = service.open_session()
        first = await session.compare(units[:1], True, 30)
        assert first.first
        still = await session.compare(units[1:30], False, 30)
        assert still.changed == 0.0
        moved = await session.compare(units[30:61], False, 30)
        assert 8 < moved.changed < 15, moved
        assert moved.region == 9
        image = opened(await session.last_picture())
        assert image.size == (360, 180)
        session.close()


async def test_a_session_unknown_to_its_worker_is_reported_as_lost() -> None:
    units = video(moving_corner())
    async with stills() as service:
        session = service.open_session()
        assert await session.compare(units[5:6], False, 30) == PictureDifference(lost=True)
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
    """Returns the media workers that this process started. Other tests may have doubles beside them."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [
        int(pid) for pid in listing.split() if b"gateway.workers.programs" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
