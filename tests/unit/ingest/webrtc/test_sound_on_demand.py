"""Pushed Opus is converted to AAC from the first sink that needs it until some seconds after the last one."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

import pytest

from gateway.ingest.webrtc import sound_on_demand
from gateway.ingest.webrtc.sound_on_demand import AAC_TRACK, SoundOnDemand
from gateway.live.publisher import StreamPublisher
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit, MediaTrack
from gateway.workers.sound_client import SoundWorkerFailed
from gateway.workers.sound_protocol import opus_track
from tests.support import builders
from tests.support.builders import Recorder, picture
from tests.support.waiting import until

OPUS = opus_track(2)
SOURCE = MediaTrack(OPUS.kind, OPUS.codec, VIDEO_CLOCK, OPUS.config)
MS = VIDEO_CLOCK // 1_000


class Worker:
    """A double of `SoundWorkerClient` that keeps its input; `deliver` returns units."""

    all: ClassVar[list[Worker]] = []
    error: ClassVar[SoundWorkerFailed | None] = None  # raised by `run`
    started = 0

    def __init__(self, workers: Any, stream: str, deliver: Any) -> None:
        self.given: list[int] = []
        self.changes = 0
        self.deliver_unit = deliver
        self.finished = asyncio.Event()
        Worker.all.append(self)

    def change(self, track: MediaTrack, output: MediaTrack) -> None:
        assert (track, output) == (SOURCE, AAC_TRACK)
        self.changes += 1
        self.given = []

    def give(self, unit: AccessUnit, *, at_once: bool = True) -> None:
        self.given.append(unit.dts // MS)

    def deliver(self, *times: int) -> None:
        for ms in times:
            self.deliver_unit(AccessUnit(AAC_TRACK, ms * MS, 0, True, 0.0, b"aac"))

    def finish(self) -> None:
        self.finished.set()

    async def run(self) -> None:
        error, Worker.error = Worker.error, None
        if error is not None:
            raise error
        await self.finished.wait()


def times(listener: Recorder) -> list[int]:
    """Returns the decode times in milliseconds."""
    return [unit.dts * 1_000 // unit.track.timescale for unit in listener.units]


class Push:
    def __init__(self, has_video: bool) -> None:
        self.publisher: StreamPublisher = builders.publish(builders.hub())
        self.sound = SoundOnDemand(self.publisher, cast(Any, None), SOURCE)
        self.sound.has_video = has_video
        self.publisher.set_opus(OPUS, self.sound)
        self.publisher.set_tracks(builders.VIDEO if has_video else None, AAC_TRACK, {})
        self.stream = self.publisher.stream

    @property
    def worker(self) -> Worker:
        return Worker.all[-1]

    def key(self, ms: int) -> None:
        self.sound.forget_before(ms * MS)
        self.publisher.push(picture(ms, key=True), 50.0)

    def opus(self, begin: int, end: int) -> None:
        for ms in range(begin, end, 20):
            self.sound.take(AccessUnit(SOURCE, ms * MS, 0, True, 0.0, b"opus"))


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_on_demand, "SoundWorkerClient", Worker)
    monkeypatch.setattr(Worker, "all", [])


pytestmark = pytest.mark.usefixtures("worker")


async def test_sound_is_not_converted_without_listeners() -> None:
    push = Push(has_video=True)
    push.key(0)
    before = push.stream.received.bytes
    push.opus(0, 10_000)
    assert not Worker.all
    assert push.stream.received.bytes == before + 500 * 4, "the received sound counts"


async def test_the_first_listener_gets_the_sound_since_the_last_key_frame() -> None:
    push = Push(has_video=True)
    push.opus(0, 2_000)
    push.key(2_000)
    push.opus(2_000, 2_400)
    listener = Recorder()
    push.stream.attach(listener)
    assert push.worker.given == [*range(1_940, 2_400, 20)]
    push.opus(2_400, 2_460)
    assert push.worker.given[-1] == 2_440
    push.worker.deliver(*range(1_980, 2_316, 21))
    assert not listener.units
    push.worker.deliver(2_320)
    assert times(listener) == [2_000, *range(2_001, 2_316, 21), 2_320]
    push.worker.deliver(2_341)
    assert times(listener)[-1] == 2_341 and listener.units[-1].wall > 0


async def test_the_conversion_continues_for_some_seconds_after_the_last_listener() -> None:
    push = Push(has_video=True)
    listener = Recorder()
    push.stream.attach(listener)
    push.key(0)
    push.opus(0, 1_000)
    push.stream.detach(listener)
    push.opus(1_000, 5_500)
    assert push.worker.given[-1] == 5_480
    push.stream.attach(listener)
    assert len(Worker.all) == push.worker.changes == 1, "the sound was not interrupted"
    push.opus(5_500, 6_000)
    push.stream.detach(listener)
    push.key(6_000)
    push.opus(6_000, 12_000)
    ended = push.worker
    assert ended.given[-1] == 10_980 and ended.finished.is_set()
    ended.deliver(10_990)
    assert push.stream.gop.units()[-1].track.kind is not OPUS.kind, "nobody waits for the rest"
    push.stream.attach(listener)
    assert len(Worker.all) == 2 and push.worker.changes == 1
    ended.deliver(11_990)
    assert push.stream.gop.units()[-1].track.kind is not OPUS.kind, "the earlier worker was late"
    assert push.worker.given == [*range(6_000 - 60, 12_000, 20)]


async def test_sound_timestamps_always_increase() -> None:
    push = Push(has_video=True)
    listener = Recorder()
    push.stream.attach(listener)
    push.opus(0, 100)
    push.worker.deliver(40, 40, 39)
    assert [unit.dts for unit in listener.units] == [40 * MS, 40 * MS + 1, 40 * MS + 2]


async def test_without_video_the_last_second_of_sound_is_kept() -> None:
    push = Push(has_video=False)
    push.opus(0, 3_000)
    listener = Recorder()
    push.stream.attach(listener)
    assert push.worker.given == [*range(1_920, 3_000, 20)]
    push.worker.deliver(1_940, 2_500, 2_940)
    assert times(listener) == [1_940, 2_500, 2_940]


async def test_the_kept_sound_is_bounded_without_key_frames() -> None:
    push = Push(has_video=True)
    push.opus(0, 100_000)
    push.stream.attach(Recorder())
    assert len(push.worker.given) == 500


async def test_a_slow_worker_delays_the_pictures_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_on_demand, "_LONGEST_WAIT", 0.01)
    push = Push(has_video=True)
    push.key(0)
    push.opus(0, 400)
    listener = Recorder()
    push.stream.attach(listener)
    push.worker.deliver(0, 21)
    await until(lambda: bool(listener.units))
    assert times(listener) == [0, 0, 21]
    push.worker.deliver(42)
    assert times(listener)[-1] == 42


async def test_the_end_of_the_push_releases_waiting_listeners() -> None:
    push = Push(has_video=True)
    push.key(0)
    push.opus(0, 400)
    listener = Recorder()
    push.stream.attach(listener)
    running = asyncio.create_task(push.sound.run())
    push.sound.close()
    push.publisher.close()
    await running
    assert times(listener) == [0]
    push.worker.deliver(21)
    assert len(listener.units) == 1


async def test_each_need_of_sound_runs_a_worker() -> None:
    push = Push(has_video=True)
    running = asyncio.create_task(push.sound.run())
    for begin in (0, 20_000):
        listener = Recorder()
        push.stream.attach(listener)
        push.opus(begin, begin + 1_000)
        push.stream.detach(listener)
        push.opus(begin + 1_000, begin + 10_000)
        assert push.worker.finished.is_set()
        await asyncio.sleep(0)
    assert len(Worker.all) == 2 and not running.done()
    push.sound.close()
    await running


async def test_a_push_goes_on_while_no_worker_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_on_demand, "_RETRY_SECONDS", 0)
    monkeypatch.setattr(Worker, "error", SoundWorkerFailed("all 8 media workers are busy", again=True))
    push = Push(has_video=True)
    push.key(0)
    push.opus(0, 400)
    running = asyncio.create_task(push.sound.run())
    listener = Recorder()
    push.stream.attach(listener)
    await until(lambda: bool(listener.units), "the pictures come without sound")
    push.opus(400, 800)
    assert len(Worker.all) == 2, "the next sound tries again"
    push.worker.deliver(760, 781)
    assert times(listener)[-1] == 781 and not running.done()
    push.sound.close()
    await running


async def test_sound_that_cannot_be_decoded_ends_the_push(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "error", SoundWorkerFailed("no decoder", again=False))
    push = Push(has_video=True)
    push.stream.attach(Recorder())
    push.opus(0, 40)
    with pytest.raises(SoundWorkerFailed):
        await push.sound.run()


async def test_sound_that_comes_later_than_its_key_frame_is_not_converted() -> None:
    push = Push(has_video=True)
    push.key(1_000)
    push.stream.attach(Recorder())
    push.opus(800, 1_100)
    assert push.worker.given == [*range(940, 1_100, 20)]
    push.key(1_200)
    push.opus(1_100, 1_300)
    assert push.worker.given == [*range(940, 1_300, 20)], "a worker that runs gets all sound"


async def test_a_listener_waits_for_the_sound_of_a_key_frame_that_comes_meanwhile() -> None:
    push = Push(has_video=True)
    push.key(0)
    push.opus(0, 400)
    listener = Recorder()
    push.stream.attach(listener)
    push.key(500)
    push.opus(400, 600)
    push.worker.deliver(*range(0, 500, 20))
    assert not listener.units
    push.worker.deliver(500)
    push.worker.deliver(520)
    assert times(listener) == [500, 500, 520]


@pytest.mark.parametrize("came", [1_020, 980, 900])
async def test_no_sound_precedes_the_key_frame_with_which_a_listener_begins(came: int) -> None:
    push = Push(has_video=True)
    push.key(0)
    push.opus(0, came)
    push.key(1_000)
    listener = Recorder()
    push.stream.attach(listener)
    push.worker.deliver(*range(940, came - 20, 20))
    push.opus(came, 1_200)
    push.worker.deliver(*range(max(came - 20, 940), 1_120, 20))
    assert times(listener)[:2] == [1_000, 1_000] and times(listener) == sorted(times(listener))
