"""Motion clips of real streams: ffmpeg makes still and moving pictures, and real workers analyse them."""

import asyncio
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Kind
from gateway.outputs.motion.motion_output import MotionOutput
from gateway.settings import load
from gateway.workers.jpeg_protocol import PictureDifference
from gateway.workers.jpeg_service import JpegService
from gateway.workers.worker_pool import WorkerPool
from tests.support import sources
from tests.support.at_night import at_night
from tests.support.recording import RunningArchive, stream_of, subscriptions
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.support.waiting import until

SETTINGS = load(environ={})
ID = "0f0e0d0c-0b0a-4909-8807-060504030201"
FIELDS = {"isMotion": True, "motion_duration": 3, "motion_percent": 10, "motion_timeout": 60, "motion_diff": 30}


def film(seconds: int, moves: str, *, gop: int = 30, bframes: int = 0, sound: bool = True) -> sources.Source:
    """Gray with a little noise; while `moves` (an expression of t) holds, half of the picture changes every second."""
    box = "drawbox=x=0:y=0:w=160:h=180:t=fill:color=0x{0:02x}{0:02x}{0:02x}:enable='({1})*eq(mod(floor(t)\\,5)\\,{2})'"
    boxes = ",".join(box.format(level, moves, n) for n, level in enumerate((10, 210, 60, 255, 170)))
    return sources.source(
        *("-f", "lavfi", "-i", f"color=0x808080:s=320x180:r=15,noise=alls=8:allf=t,{boxes}"),
        *(sources.tone() if sound else ()),
        *("-t", str(seconds), *sources.X264, "-g", str(gop), "-bf", str(bframes), "-pix_fmt", "yuv420p"),
        *(sources.AAC if sound else ()),
    )


@dataclass
class Clip:
    """A motion clip.

    seconds: of media.
    region, percent: of the motion, from the name.
    """

    path: Path
    region: int
    percent: int
    seconds: float
    pictures: int
    sound: bool


class Watch:
    """The files of the motion output."""

    def __init__(self, place: RunningArchive) -> None:
        self.images = place.files("**/*.jpeg")
        self.clips = [self._clip(path) for path in place.files("**/*.mp4")]
        for path in (*self.images, *(c.path for c in self.clips)):
            key = str(path.relative_to(place.media))
            folder = "images" if path.suffix == ".jpeg" else "mp4"
            form = (
                rf"{ID}/motion/{folder}/\d{{4}}/[1-9]\d?/[1-9]\d?/\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{{3}}_\d-\d+_\.\w+"
            )
            assert re.fullmatch(form, key), key

    def _clip(self, path: Path) -> Clip:
        need("ffprobe")
        command = [
            "ffprobe",
            "-v",
            "error",
            "-count_packets",
            "-show_streams",
            "-show_format",
            "-of",
            "json",
            str(path),
        ]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=at_most(60)).stdout)
        kinds = {s["codec_type"]: s for s in told["streams"]}
        region, percent = path.stem.rstrip("_").rpartition("_")[2].split("-")
        return Clip(
            path,
            int(region),
            int(percent),
            float(told["format"]["duration"]),
            int(kinds["video"]["nb_read_packets"]),
            "audio" in kinds,
        )


@asynccontextmanager
async def studio(folder: Path) -> AsyncIterator[tuple[RunningArchive, JpegService]]:
    workers = WorkerPool(SETTINGS.workers, Counter(WORKER_RESTARTS))
    async with RunningArchive(folder).open() as place, JpegService(workers, SETTINGS.snapshot) as stills:
        yield place, stills


async def watch(folder: Path, source: sources.Source, *, pre_roll: float = 3, **fields: Any) -> Watch:
    """Records the motion in a whole film."""
    async with studio(folder) as (place, stills):
        live = stream_of(ID, **{**FIELDS, **fields})
        live.set_tracks(source.tracks.video, source.tracks.audio, {}, True)
        output = MotionOutput(live, place.archive, stills, place.counts, pre_roll)
        output.begin(live)
        running = asyncio.ensure_future(output.run(live))
        await push(live, source.units, output)
        live.end(EndReason.PUBLISHER_GONE)
        async with asyncio.timeout(at_most(20)):
            await running
        assert not place.scratch()
        assert output.report()["clips"] == len(place.files("**/*.mp4"))
        return Watch(place)


async def push(live: Stream, units: Iterable[AccessUnit], output: MotionOutput) -> None:
    """Pushes the units as fast as the output processes them, on any machine."""
    start = time.time()
    while output._session is None:
        await asyncio.sleep(0)  # it has not begun
    for unit in units:
        live.push(replace(unit, wall=start + unit.dts / 1000))
        while any(sink.waiting for sink in subscriptions(live)):
            await asyncio.sleep(0.001)
        if output._comparison is not None and not output._comparison.done():
            await asyncio.wait([output._comparison])


class Late:
    """A replacement of `Stills` and its sessions with slow answers.

    moves: whether half of the picture changes at a time. lag: seconds of media that each answer takes.
    now: the time of the stream.
    """

    def __init__(self, moves: Callable[[float], bool], lag: float) -> None:
        self._moves, self._lag = moves, lag
        self.now = 0.0
        self._additional = asyncio.Condition()

    def open_session(self, stream: Stream) -> "Late":
        return self

    async def compare(self, units: Sequence[AccessUnit], _fresh: bool, _difference: int) -> PictureDifference:
        at = units[-1].dts / 1000
        async with self._additional:
            await self._additional.wait_for(lambda: self.now >= at + self._lag)
        return PictureDifference(50.0 if self._moves(at) else 0.0, 5, False, False)

    async def last_picture(self) -> bytes:
        return b"a picture"

    def close(self) -> None: ...

    async def reach(self, now: float) -> None:
        async with self._additional:
            self.now = now
            self._additional.notify_all()


async def watch_late(folder: Path, seconds: int, moves: Callable[[float], bool], lag: float, **fields: Any) -> Watch:
    """Records motion with a worker that is always `lag` seconds late. The stream waits for each picture."""
    source = film(seconds, "0")
    late = Late(moves, lag)
    async with RunningArchive(folder).open() as place:
        live = stream_of(ID, **{**FIELDS, **fields})
        live.set_tracks(source.tracks.video, source.tracks.audio, {}, True)
        output = MotionOutput(live, place.archive, late, place.counts, 3)  # type: ignore[arg-type]
        output.begin(live)
        running = asyncio.ensure_future(output.run(live))
        taken = 0

        def take(unit: AccessUnit) -> None:
            nonlocal taken
            taken += 1
            MotionOutput.on_unit(output, unit)

        output.on_unit = take  # type: ignore[method-assign]
        for count, unit in enumerate(source.units, 1):
            live.push(replace(unit, wall=time.time()))
            while taken < count:
                await asyncio.sleep(0)
            await late.reach(unit.dts / 1000)
        live.end(EndReason.PUBLISHER_GONE)
        async with asyncio.timeout(at_most(20)):
            await running
        return Watch(place)


async def test_a_late_result_includes_the_media_before_its_picture(tmp_path: Path) -> None:
    seen = await watch_late(tmp_path, 24, lambda t: 8 <= t < 11, 2.5)
    assert len(seen.images) == len(seen.clips) == 1
    # One check every 2.5 s, from 3 s before the picture until 3 s without motion have passed.
    assert 3 + 3 * 2.5 <= seen.clips[0].seconds <= 5 + 3 * 2.7


@pytest.mark.parametrize("lag", [2.5, *at_night(0.0, 0.4)])
async def test_motion_during_a_clip_starts_no_other_clip(tmp_path: Path, lag: float) -> None:
    seen = await watch_late(tmp_path, 30, lambda t: t >= 6, lag, motion_timeout=8)
    assert len(seen.images) == len(seen.clips)
    first, *others, last = seen.clips
    assert 3 + 8 <= first.seconds <= 5 + 8 + 1 + lag
    for clip in others:
        assert 8 <= clip.seconds <= 8 + 2 + 2 * (1 + lag)
    for clip in seen.clips:
        assert abs(clip.pictures - clip.seconds * 15) <= 2, "pictures from the first moment to the last"
    assert last.seconds >= 1


async def test_a_still_picture_creates_no_files(tmp_path: Path) -> None:
    seen = await watch(tmp_path, film(12, "0"))
    assert (seen.images, seen.clips) == ([], [])


async def test_motion_creates_a_picture_and_a_clip_that_begins_before_it(tmp_path: Path) -> None:
    seen = await watch(tmp_path, film(20, "between(t,8,10)"))
    assert len(seen.images) == len(seen.clips) == 1
    with Image.open(seen.images[0]) as image:
        assert (image.format, image.size) == ("JPEG", (320, 180))
        assert image.convert("L").getpixel((20, 90)) not in range(100, 156), "the motion itself, not what was before"
    (clip,) = seen.clips
    assert 45 <= clip.percent <= 55
    assert clip.region in (1, 2, 4, 5, 7, 8), "on the left"
    assert clip.sound
    # 3 to 5 s before, 2 s of motion and the turning back, 3 s after the last.
    assert 3 + 2 + 3 <= clip.seconds <= 5 + 3 + 3 + 1
    assert abs(clip.pictures - clip.seconds * 15) <= 2
    assert clip.path.stem == seen.images[0].stem


@pytest.mark.nightly
async def test_continuous_motion_extends_one_clip(tmp_path: Path) -> None:
    seen = await watch(tmp_path, film(30, "between(t,6,20)"))
    assert len(seen.images) == len(seen.clips) == 1
    assert 3 + 14 + 3 <= seen.clips[0].seconds <= 5 + 15 + 3 + 1


@pytest.mark.nightly
async def test_a_clip_ends_at_the_limit_and_the_next_one_continues_there(tmp_path: Path) -> None:
    seen = await watch(tmp_path, film(30, "gte(t,6)"), motion_timeout=8)
    assert len(seen.clips) == len(seen.images) == 3
    first, second, _ = seen.clips
    assert 3 + 8 <= first.seconds <= 5 + 8 + 1
    assert 8 <= second.seconds <= 1 + 8 + 2 + 1, "little of what the first has already"


@pytest.mark.nightly
async def test_motion_after_a_pause_starts_another_clip(tmp_path: Path) -> None:
    seen = await watch(tmp_path, film(36, "between(t,6,8)+between(t,22,24)"))
    assert len(seen.images) == len(seen.clips) == 2


async def test_motion_inside_long_gops_with_b_frames_is_detected(tmp_path: Path) -> None:
    seen = await watch(tmp_path, film(24, "between(t,11,13)", gop=150, bframes=2, sound=False))
    assert len(seen.clips) == 1
    assert not seen.clips[0].sound
    assert seen.clips[0].seconds >= 3 + 2 + 3


@pytest.mark.nightly
async def test_changes_below_the_threshold_are_no_motion(tmp_path: Path) -> None:
    seen = await watch(tmp_path, film(14, "between(t,6,8)"), motion_percent=80)
    assert seen.clips == []


async def test_a_clip_is_finished_when_the_stream_ends_in_it(tmp_path: Path) -> None:
    seen = await watch(tmp_path, film(12, "gte(t,8)"))
    assert len(seen.clips) == 1
    assert seen.clips[0].seconds >= 6


async def test_without_video_a_clip_is_kept_and_video_that_comes_back_is_compared(tmp_path: Path) -> None:
    source = film(24, "between(t,6,10.9) + gte(t,18)")
    async with studio(tmp_path) as (place, stills):
        live = stream_of(ID, **FIELDS)
        live.set_tracks(source.tracks.video, source.tracks.audio, {}, True)
        output = MotionOutput(live, place.archive, stills, place.counts, 3)
        output.begin(live)
        running = asyncio.ensure_future(output.run(live))
        await push(live, [u for u in source.units if u.dts < 12_000], output)
        assert output.report()["recording"]
        live.set_tracks(None, source.tracks.audio, {}, True)
        live.push(next(u for u in source.of(Kind.AUDIO) if u.dts >= 14_000))
        await until(lambda: place.files("**/*.mp4"))
        live.set_tracks(source.tracks.video, source.tracks.audio, {}, True)
        await push(live, [u for u in source.units if u.dts >= 14_000], output)
        assert output.report()["recording"]
        live.end(EndReason.PUBLISHER_GONE)
        await running
        assert not place.scratch()
        seen = Watch(place)
    assert len(seen.clips) == 2
    assert all(clip.seconds >= 5 for clip in seen.clips)


async def test_motion_detection_continues_after_the_loss_of_its_worker(tmp_path: Path) -> None:
    source = film(24, "between(t,14,16)")
    async with studio(tmp_path) as (place, stills):
        live = stream_of(ID, **FIELDS)
        live.set_tracks(source.tracks.video, source.tracks.audio, {}, True)
        output = MotionOutput(live, place.archive, stills, place.counts, 3)
        running = asyncio.ensure_future(output.run(live))
        await push(live, [u for u in source.units if u.dts < 6_000], output)
        output._session._queue._running = False  # type: ignore[union-attr]
        output._session._number += 1_000  # type: ignore[union-attr]  # a session that its worker does not know
        rest = [u for u in source.units if u.dts >= 6_000]
        await push(live, rest, output)
        live.end(EndReason.PUBLISHER_GONE)
        await running
        assert len(place.files("**/*.mp4")) == 1
