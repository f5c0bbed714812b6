"""The pictures that a watermark worker gets."""

from types import SimpleNamespace
from typing import Any, cast

from gateway.lib.metrics import Counter
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.outputs.watermark.picture_fetcher import PictureFetcher
from gateway.outputs.watermark.watermark_output import WatermarkFactory, WatermarkOutput
from gateway.protocols import wire
from gateway.settings.models import TranscodeSettings, WatermarkSettings
from gateway.workers.worker_pool import WorkerPool, WorkerProcess
from tests.support import builders
from tests.support.builders import AUDIO, AVCC, VIDEO, Recorder, picture, sound

CODED = MediaTrack(Kind.VIDEO, Codec.H264, 1000, AVCC + b"\0")


class Worker:
    """A worker that keeps what it gets."""

    def __init__(self) -> None:
        self.items: list[Tracks | AccessUnit] = []
        self.ended = False

    async def send_json(self, kind: int, fields: dict[str, Any]) -> None: ...

    async def send(self, kind: int, body: bytes) -> None: ...

    async def send_item(self, item: Tracks | AccessUnit) -> None:
        self.items.append(item)

    async def send_end(self) -> None:
        self.ended = True


def output_of(stream: builders.Stream, backlog: float) -> WatermarkOutput:
    transcode = TranscodeSettings.model_construct(backlog=backlog, preset="", threads=1)
    watermark = WatermarkSettings.model_construct(bitrate=0, font="")
    dropped = cast(Counter, SimpleNamespace(add=lambda *labels, amount: None))
    factory = WatermarkFactory(cast(WorkerPool, None), cast(PictureFetcher, None), watermark, transcode, dropped)
    return factory.make(stream)


async def sent_to_worker(output: WatermarkOutput) -> list[Tracks | AccessUnit]:
    worker = Worker()
    await output._send_queue(cast(WorkerProcess, worker))
    assert worker.ended
    return worker.items


async def test_pictures_since_the_last_key_frame_come_first_however_many_they_are() -> None:
    stream = builders.stream()
    stream.set_tracks(VIDEO, AUDIO, {"framerate": 25.0, "title": "x"}, True)
    for n in range(100):
        stream.push(picture(n * 100, key=not n))
        stream.push(sound(n * 100))
    output = output_of(stream, backlog=1)
    output.begin(stream)
    for n in range(100, 105):
        stream.push(picture(n * 100))
        stream.push(sound(n * 100))
    stream.end(EndReason.KICKED)
    tracks, *units = await sent_to_worker(output)
    assert isinstance(tracks, Tracks)
    assert (tracks.video, tracks.audio, tracks.metadata) == (VIDEO, None, {"framerate": 25.0})
    assert [unit.dts for unit in units if isinstance(unit, AccessUnit)] == [n * 100 for n in range(105)]
    assert output.report()["dropped"] == 0


async def test_a_slow_worker_continues_at_a_key_frame() -> None:
    stream = builders.stream()
    output = output_of(stream, backlog=1)
    output.begin(stream)
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    for n in range(50):
        stream.push(picture(n * 100, key=n % 20 == 0))
        stream.push(sound(n * 100))
    stream.end(EndReason.KICKED)
    tracks, *units = await sent_to_worker(output)
    assert isinstance(tracks, Tracks)
    assert [unit.dts for unit in units if isinstance(unit, AccessUnit)] == [n * 100 for n in range(40, 50)]
    assert output._dropped.count == 40


async def test_a_moment_without_video_does_not_end_the_watermark() -> None:
    stream, viewer = builders.stream(), Recorder()
    stream.attach(viewer)
    output = output_of(stream, backlog=6)
    output.begin(stream)
    stream.set_tracks(None, AUDIO, {}, True)
    stream.push(sound(0))
    assert [unit.dts for unit in viewer.units] == [0], "sound without video waits for no picture"
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    stream.push(picture(40, key=True))
    stream.push(sound(50))
    assert output._failure is None
    assert output._override is not None
    assert output._override.open
    assert [unit.dts for unit in viewer.units] == [0], "no picture is shown without the watermark"
    output._on_coded_tracks(wire.encode_tracks(Tracks(CODED, None, 1)))
    output._on_coded_picture(wire.encode_unit(picture(40, key=True, track=CODED)))
    stream.push(picture(80))
    assert [(tracks.video, tracks.audio) for tracks in viewer.tracks] == [(None, AUDIO), (CODED, AUDIO)]
    assert [(unit.track, unit.dts) for unit in viewer.units] == [(AUDIO, 0), (CODED, 40), (AUDIO, 50)]
    stream.set_tracks(None, AUDIO, {}, True)
    output._on_coded_picture(wire.encode_unit(picture(80, track=CODED)))
    stream.push(sound(90))
    assert viewer.tracks[-1].video is None
    assert [unit.dts for unit in viewer.units] == [0, 40, 50, 80, 90]


async def test_pictures_that_follow_sound_alone_have_the_watermark_if_it_was_switched_on_meanwhile() -> None:
    stream, viewer = builders.stream(), Recorder()
    stream.set_tracks(None, AUDIO, {}, True)
    stream.attach(viewer)
    output = output_of(stream, backlog=6)
    output.begin(stream)
    stream.push(sound(0))
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    stream.push(picture(40, key=True))
    assert [unit.dts for unit in viewer.units] == [0]
    assert output._override is not None
    assert output._override.engaged


async def test_sound_is_not_repeated_when_a_watermark_without_pictures_ends() -> None:
    stream, viewer = builders.stream(), Recorder()
    stream.attach(viewer)
    output = output_of(stream, backlog=6)
    output.begin(stream)
    stream.set_tracks(None, AUDIO, {}, True)
    stream.push(sound(0))
    assert output._override is not None
    stream.original.detach(output)
    output._override.close(output._units_to_resume(stream))
    stream.push(sound(20))
    assert [unit.dts for unit in viewer.units] == [0, 20]
