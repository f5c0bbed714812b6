"""Sound and pictures for browsers: real workers run from the first viewer to a little after the last one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.lib.metric_table import DROPPED, WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.hub import Hub
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media import codecs, h264, nal, opus
from gateway.media.reordering import declared_reordering, has_reordering
from gateway.media.track import AccessUnit, Codec, Kind
from gateway.outputs.browser import browser_specs, on_demand
from gateway.outputs.browser.browser_pictures import BrowserPictures, browser_pictures
from gateway.outputs.browser.opus_sound import OpusSound, opus_sound
from gateway.ports.errors import AtCapacity, OutputError
from gateway.settings import Settings
from gateway.settings.layers import load
from gateway.workers.programs.codec import VideoDecoder
from gateway.workers.sound_protocol import opus_track
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.at_night import at_night
from tests.support.children import children
from tests.support.media import VP9
from tests.support.pushing import camera
from tests.support.sources import AAC, X264, Source, pictures, source, tone
from tests.support.sources import h264 as ordinary
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.support.waiting import until

SOUND, PICTURES = "sound_worker", "ladder_worker"
BROWSER = (Codec.H264, Codec.VP8)


@dataclass
class Services:
    """The services that these outputs use."""

    hub: Hub
    renditions: Hub
    settings: Settings
    workers: WorkerPool
    restarts: Counter = field(default_factory=lambda: Counter(WORKER_RESTARTS))
    dropped: Counter = field(default_factory=lambda: Counter(DROPPED))

    async def publish(self, film: Source) -> StreamPublisher:
        publisher = builders.publish(self.hub, "c1")
        publisher.set_tracks(film.tracks.video, film.tracks.audio, dict(film.tracks.metadata))
        await asyncio.sleep(0.01)  # the outputs start
        return publisher

    async def play(self, publisher: StreamPublisher, film: Source, *, begin: float = 0, end: float = 1e9) -> None:
        """Pushes a part of a film at its pace."""
        units = [unit for unit in film.units if begin <= unit.dts / 1000 < end]
        began = time.monotonic()
        for unit in units:
            await asyncio.sleep(max(0.0, (unit.dts - units[0].dts) / 1000 - (time.monotonic() - began)))
            publisher.push(replace(unit, wall=time.time()), time.monotonic())

    @asynccontextmanager
    async def playing(self, publisher: StreamPublisher, film: Source, seconds: int) -> AsyncIterator[None]:
        """Pushes a film of so many seconds again and again during the block: a busy machine starts workers slowly."""

        async def repeat() -> None:
            ms = 0
            while True:
                await self.play(publisher, film.shifted(ms))
                ms += seconds * 1000

        pushing = asyncio.create_task(repeat())
        try:
            yield
        finally:
            pushing.cancel()
            await asyncio.wait([pushing])
        assert pushing.cancelled(), "a push failed"


@asynccontextmanager
async def gateway(monkeypatch: pytest.MonkeyPatch, linger: float = 0.3) -> AsyncIterator[Services]:
    """Yields the services. `linger`: the seconds for which work continues after its last user."""
    monkeypatch.setattr(on_demand.OnDemand.__init__, "__defaults__", (linger,))
    settings = load(environ={}, overrides=["workers.most=4"])
    pool = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
    services = Services(builders.hub(gop_bytes=64_000_000), builders.hub(gop_bytes=64_000_000), settings, pool)
    services.hub.add_outputs(browser_specs(services, services.renditions))  # type: ignore[arg-type]
    running = asyncio.create_task(services.renditions.run())
    try:
        yield services
    finally:
        services.hub.drain()
        async with asyncio.timeout(at_most(20)):
            await services.hub.drained()
        running.cancel()
        await asyncio.wait([running])
    assert services.workers.running == 0


def sound_of(stream: Stream) -> OpusSound:
    sound = opus_sound(stream)
    assert sound is not None
    return sound


def pictures_of(stream: Stream) -> BrowserPictures:
    found = browser_pictures(stream)
    assert found is not None
    return found


def pids(program: str) -> list[int]:
    """Returns the workers below this process."""
    return children(program)


# ---- sound ----


async def test_sound_is_converted_to_opus_while_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    film = ordinary(seconds=4)
    async with gateway(monkeypatch) as services:
        publisher = await services.publish(film)
        stream = publisher.stream
        sound = sound_of(stream)
        await services.play(publisher, film, end=0.2)
        assert not pids(SOUND)
        first, second = builders.Recorder(), builders.Recorder()
        sound.acquire(first)
        sound.acquire(second)
        playing = asyncio.create_task(services.play(publisher, film, begin=0.2))
        await until(lambda: len(first.units) > 20)
        assert len(pids(SOUND)) == 1
        assert first.tracks[-1].video is None
        assert first.tracks[-1].audio is first.units[0].track and first.units[0].track.codec is Codec.OPUS
        sound.release(first)
        count = len(first.units)
        await playing
        assert len(first.units) == count and len(second.units) > count
        assert {b.dts - a.dts for a, b in pairwise(second.units)} == {960}
        assert second.units[-1].dts / opus.RATE == pytest.approx(film.of(Kind.AUDIO)[-1].dts / 1000, abs=0.1)
        sound.release(second)
        await until(lambda: not sound.is_running)
        assert not pids(SOUND) and services.workers.running == 0


async def test_sound_arrives_with_little_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    film = ordinary(seconds=3)
    delays: list[float] = []

    class Listener(builders.Recorder):
        def on_unit(self, unit: AccessUnit) -> None:
            super().on_unit(unit)
            delays.append(time.time() - unit.wall)

    async with gateway(monkeypatch) as services:
        publisher, listener = await services.publish(film), Listener()
        sound_of(publisher.stream).acquire(listener)
        async with services.playing(publisher, film, 3):
            await until(lambda: len(delays) > 100)
        sound_of(publisher.stream).release(listener)
    assert sorted(delays)[len(delays) // 2] < 0.15  # the median, also on a busy machine


async def test_opus_of_the_publisher_is_forwarded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    film = camera(seconds=1)
    async with gateway(monkeypatch) as services:
        publisher, listener = await services.publish(film), builders.Recorder()
        sound = sound_of(publisher.stream)
        sound.acquire(listener)
        await until(lambda: sound.is_running and listener.tracks)
        for unit in film.units:
            publisher.push(unit, time.monotonic())
        assert listener.units == film.of(Kind.AUDIO)
        assert not pids(SOUND)
        sound.release(listener)


async def test_opus_beside_the_tracks_needs_no_worker_until_a_publisher_lacks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    film, following = ordinary(seconds=2), ordinary(seconds=20).shifted(2_000)
    track = opus_track(2)
    async with gateway(monkeypatch) as services:
        publisher, listener = await services.publish(film), builders.Recorder()
        publisher.set_opus(track)
        sound = sound_of(publisher.stream)
        sound.acquire(listener)
        await until(lambda: sound.is_running and listener.tracks)
        pushed = [AccessUnit(track, ms * 48, 0, True, 0.0, b"\xfc%d" % ms) for ms in range(0, 1_000, 20)]
        for unit in pushed:
            publisher.push_opus(unit, time.monotonic())
        await services.play(publisher, film, end=1)
        assert listener.units == pushed
        assert not pids(SOUND)
        publisher.close()
        await asyncio.sleep(0.1)
        assert not pids(SOUND), "a lingering stream has no sound"
        other = await services.publish(film)
        playing = asyncio.create_task(services.play(other, following))  # a busy machine starts a worker in seconds
        await until(lambda: len(listener.units) > len(pushed) + 20)
        playing.cancel()
        await asyncio.wait([playing])
        assert len(pids(SOUND)) == 1
        assert all(a.dts < b.dts for a, b in pairwise(listener.units))
        other.set_opus(track)
        count = len(listener.units)
        other.push_opus(AccessUnit(track, 22_100 * 48, 0, True, 0.0, b"\xfc"), time.monotonic())
        assert listener.units[count:] and listener.units[-1].payload == b"\xfc"
        sound.release(listener)


async def test_opus_with_more_channels_is_mixed_to_stereo(monkeypatch: pytest.MonkeyPatch) -> None:
    film = source(*tone(48_000), "-t", "2", "-c:a", "libopus", "-ac", "6", container="matroska")
    async with gateway(monkeypatch) as services:
        publisher, listener = await services.publish(film), builders.Recorder()
        sound = sound_of(publisher.stream)
        sound.acquire(listener)
        async with services.playing(publisher, film, 2):
            await until(lambda: len(listener.units) > 10)
        assert {opus.parse_head(unit.track.config).channels for unit in listener.units} == {2}
        sound.release(listener)


async def test_a_dead_sound_worker_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    film = ordinary(seconds=6)
    async with gateway(monkeypatch) as services:
        publisher, listener = await services.publish(film), builders.Recorder()
        sound = sound_of(publisher.stream)
        sound.acquire(listener)
        playing = asyncio.create_task(services.play(publisher, film))
        await until(lambda: len(listener.units) > 10)
        before, pid = len(listener.units), pids(SOUND)[0]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: len(listener.units) > before + 20)
        assert pids(SOUND) != [pid]
        await playing
        assert all(a.dts < b.dts for a, b in pairwise(listener.units))
        assert len({t.epoch for t in listener.tracks}) == 1
        assert listener.units[-1].dts / opus.RATE == pytest.approx(6, abs=0.2)
        sound.release(listener)


async def test_sound_from_before_the_start_of_a_worker_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    film, behind = ordinary(seconds=8), list[tuple[int, float]]()
    async with gateway(monkeypatch) as services:
        publisher = await services.publish(film)
        sound, spawn = sound_of(publisher.stream), WorkerPool._spawn

        class Listener(builders.Recorder):
            def on_unit(self, unit: AccessUnit) -> None:
                super().on_unit(unit)
                behind.append((unit.dts // 48, publisher.stream.received.last_dts_ms - unit.dts / 48))

        async def slow(*given: Any) -> Any:
            await asyncio.sleep(1)
            return await spawn(*given)

        monkeypatch.setattr(WorkerPool, "_spawn", slow)
        listener = Listener()
        sound.acquire(listener)
        playing = asyncio.create_task(services.play(publisher, film))
        await until(lambda: len(behind) > 20)
        assert behind[0][0] > 800 and behind[0][1] < 200, "the first worker"
        count = len(behind)
        os.kill(pids(SOUND)[0], signal.SIGKILL)
        await until(lambda: len(behind) > count + 20)
        at = next(n for n in range(count, len(behind)) if behind[n][0] - behind[n - 1][0] > 500)
        assert behind[at][1] < 200 and len(behind) - at > 5, "the second worker"
        playing.cancel()
        sound.release(listener)


async def test_the_opus_output_follows_the_tracks_of_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    film, other = ordinary(seconds=2), camera(seconds=2)
    async with gateway(monkeypatch) as services:
        publisher, listener = await services.publish(film), builders.Recorder()
        sound = sound_of(publisher.stream)
        sound.acquire(listener)
        async with services.playing(publisher, film, 2):
            await until(lambda: listener.units)
        publisher.set_tracks(other.tracks.video, other.tracks.audio, {})
        await services.play(publisher, other.shifted(publisher.stream.received.last_dts_ms + 40))
        assert [t.audio.codec for t in listener.tracks if t.audio is not None] == [Codec.OPUS, Codec.OPUS]
        assert [t.epoch for t in listener.tracks] == [0, 1]
        assert listener.units[-1].payload == other.of(Kind.AUDIO)[-1].payload
        publisher.set_tracks(other.tracks.video, None, {})
        assert listener.tracks[-1].audio is None
        sound.release(listener)


async def test_listeners_are_informed_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    film = ordinary(seconds=1)
    async with gateway(monkeypatch) as services:
        publisher, listener = await services.publish(film), builders.Recorder()
        sound = sound_of(publisher.stream)
        sound.acquire(listener)
        services.hub.end("c1", EndReason.KICKED)
        await until(lambda: listener.ended)
        assert listener.ended is EndReason.KICKED
        sound.release(listener)
        assert publisher.stream.output("opus") is not None, "finished, but still there for its consumers"


# ---- pictures ----


def reordered(path: Path, units: list[AccessUnit]) -> str:
    """Returns what ffprobe reports about the pictures: whether they are reordered, and their types."""
    avcc = h264.parse_avcc(units[0].track.config)
    parts = [nal_unit for unit in units for nal_unit in nal.split(unit.payload)]
    path.write_bytes(nal.join_annexb([*avcc.sps, *avcc.pps, *parts]))
    need("ffprobe")
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=has_b_frames,profile:frame=pict_type"]
    return subprocess.run(
        [*command, "-of", "default=nk=1:nw=1", str(path)], check=True, capture_output=True, text=True
    ).stdout


async def test_b_frames_are_removed_while_somebody_watches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    film = ordinary(seconds=6)
    async with gateway(monkeypatch) as services:
        publisher = await services.publish(film)
        stream = publisher.stream
        await services.play(publisher, film, end=0.5)
        assert not pids(PICTURES)
        found = pictures_of(stream)
        playing = asyncio.create_task(services.play(publisher, film, begin=0.5))
        shown = await found.acquire(BROWSER)
        started = publisher.stream.received.last_dts_ms  # later than usual on a busy machine
        viewer = builders.Recorder()
        shown.attach(viewer)
        assert await found.acquire(BROWSER) is shown
        assert len(pids(PICTURES)) == 1
        assert services.hub.find(shown.name) is None, "players cannot find it"
        await playing
        found.release(shown)
        assert viewer.units[0].key and viewer.units[0].dts + viewer.units[0].cts < max(1_500, started)
        tracks = viewer.tracks[-1]
        assert tracks.audio is None and tracks.video is not None
        assert codecs.video_size(tracks.video) == (320, 180)
        assert not declared_reordering(tracks.video) and not has_reordering(tracks.video, viewer.units)
        assert all(a.dts + a.cts < b.dts + b.cts for a, b in pairwise(viewer.units))
        keys = {u.dts + u.cts for u in film.of(Kind.VIDEO) if u.key}
        assert {u.dts + u.cts for u in viewer.units if u.key} <= keys
        assert {u.dts + u.cts for u in viewer.units} <= {u.dts + u.cts for u in film.of(Kind.VIDEO)}
        lines = reordered(tmp_path / "shown.h264", viewer.units).split()
        assert "B" not in lines and lines.count("P") > 100 and "Baseline" in lines
        found.release(shown)
        await until(lambda: not found.is_running)
        assert viewer.ended is EndReason.OUTPUT_OFF and not pids(PICTURES)


async def test_pictures_without_b_frames_are_used_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    film = ordinary(seconds=1, bframes=0)
    async with gateway(monkeypatch) as services:
        publisher = await services.publish(film)
        await services.play(publisher, film, end=0.3)
        found = pictures_of(publisher.stream)
        assert await found.acquire(BROWSER) is publisher.stream
        found.release(publisher.stream)
        assert not found.is_running


async def test_a_full_size_rendition_without_b_frames_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    film, low = ordinary(seconds=1), ordinary("160x90", seconds=1, bframes=0)
    full = ordinary(seconds=1, bframes=0)
    async with gateway(monkeypatch) as services:
        publisher = await services.publish(film)
        await services.play(publisher, film, end=0.3)
        found = pictures_of(publisher.stream)
        for name, rendition in (("90p", low), ("180p", full)):
            origin = services.hub.publish_from(
                PushOrigin("", ""), publisher.stream.channel, f"c1@{name}", lambda reason: None
            )
            origin.set_tracks(rendition.tracks.video, None, {})
        shown = await found.acquire(BROWSER)
        assert shown.name == "c1@180p"
        found.release(shown)
        assert not found.is_running


@pytest.mark.parametrize(
    ("coder", "container"),
    [((*VP9, "-g", "30"), "matroska"),
     *at_night((("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=30"), "mp4"))],
    ids=["VP9", "HEVC"],
)  # fmt: skip
async def test_other_codecs_are_converted_to_h264(
    monkeypatch: pytest.MonkeyPatch, coder: tuple[str, ...], container: str
) -> None:
    film = source(*pictures(rate="60"), *tone(), "-t", "2", *coder, "-pix_fmt", "yuv420p", *AAC, container=container)
    assert film.tracks.video is not None
    async with gateway(monkeypatch) as services:
        publisher = await services.publish(film)
        found, viewer = pictures_of(publisher.stream), builders.Recorder()
        playing = asyncio.create_task(services.play(publisher, film))
        shown = await found.acquire(BROWSER)
        shown.attach(viewer)
        await playing
        await until(lambda: viewer.units and viewer.units[-1].dts > 1_800)
        assert viewer.units[0].track.codec is Codec.H264
        decoder = VideoDecoder(viewer.units[0].track)
        made = [picture for unit in viewer.units for picture in decoder.decode(unit)]
        assert len(made) == len(viewer.units) and decoder.damaged == 0
        steps = [b.pts - a.pts for a, b in pairwise(made)]
        assert sorted(steps)[len(steps) // 2] in (33, 34), "60 pictures a second become 30"
        found.release(shown)
        if film.tracks.video.codec is Codec.VP9:
            assert await found.acquire((Codec.VP9,)) is publisher.stream


async def test_a_viewer_without_h264_gets_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    film = ordinary(seconds=1)
    async with gateway(monkeypatch) as services:
        publisher = await services.publish(film)
        with pytest.raises(OutputError, match=r"H\.264"):
            await pictures_of(publisher.stream).acquire((Codec.VP8,))


async def test_a_dead_picture_worker_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    film = source(*pictures(), "-t", "16", *X264, "-g", "30", "-bf", "2", "-pix_fmt", "yuv420p")
    async with gateway(monkeypatch) as services:
        publisher = await services.publish(film)
        found, viewer = pictures_of(publisher.stream), builders.Recorder()
        playing = asyncio.create_task(services.play(publisher, film))
        shown = await found.acquire(BROWSER)
        shown.attach(viewer)
        await until(lambda: viewer.units)
        count = len(viewer.units)
        os.kill(pids(PICTURES)[0], signal.SIGKILL)
        await until(lambda: len(viewer.units) > count + 30)
        assert viewer.ended is None
        assert all(a.dts < b.dts for a, b in pairwise(viewer.units))
        playing.cancel()
        found.release(shown)


async def test_viewers_cannot_use_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    echo, film = "tests.support.echo_worker", ordinary(seconds=10)
    async with gateway(monkeypatch) as services, AsyncExitStack() as stack:
        publisher = await services.publish(film)
        found = pictures_of(publisher.stream)
        playing = asyncio.create_task(services.play(publisher, film))
        for _ in range(2):  # half of the workers are for pictures
            await stack.enter_async_context(found._workers.start(echo, "another stream"))
        with pytest.raises(AtCapacity, match="converts no more streams"):
            await found.acquire(BROWSER)
        assert not found.is_running
        async with services.workers.start(echo, "a ladder"):
            assert services.workers.running == 3, "there is room for other outputs"
        await stack.aclose()
        await stack.enter_async_context(found._workers.start(echo, "another stream"))
        shown = await found.acquire(BROWSER)
        assert found._workers.is_full
        assert await found.acquire(BROWSER) is shown, "a conversion that runs serves any number of viewers"
        for _ in range(2):
            found.release(shown)
        await stack.aclose()
        playing.cancel()


async def test_missing_pictures_give_an_error_after_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.browser.browser_pictures._START_SECONDS", 0.5)
    film = ordinary(seconds=1)
    async with gateway(monkeypatch) as services:
        publisher = await services.publish(film)  # no unit follows
        found = pictures_of(publisher.stream)
        with pytest.raises(OutputError, match="no picture within"):
            await found.acquire(BROWSER)
        await until(lambda: not found.is_running)
