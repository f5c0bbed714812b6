"""Inputs that differ from the push are encoded in its form by real workers: parameter sets and sound are equal."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import av
import pytest

from gateway.inputs.matching import Matching
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.live.sink import EndReason
from gateway.media.silence import is_silent
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.settings import load
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders, sources
from tests.support.sources import AAC, X264, Source
from tests.support.waiting import until

MAIN = sources.h264("320x180", 2)  # High, B-frames, 44.1 kHz stereo


class Lab:
    """The stream of an input, its matching, and a recorder of the result."""

    def __init__(self, workers: WorkerPool) -> None:
        settings = load(environ={})
        self.hub = builders.hub(gop_bytes=16_000_000)
        self.publisher = builders.publish(self.hub, "c1")
        self.matching = Matching(self.publisher.stream, workers, settings.transcode, settings.stream)
        self.seen = builders.Recorder()
        self.matching.media.attach(self.seen)
        self.matching.attach()

    def push(self, source: Source, begin: int = 0) -> int:
        """Pushes a source at once; returns its end, in milliseconds."""
        self.publisher.set_tracks(source.tracks.video, source.tracks.audio, source.tracks.metadata, continuous=False)
        for unit in source.units:
            self.publisher.push(replace(unit, dts=unit.dts + begin), 1.0)
        return begin + source.end

    def of(self, kind: Kind) -> list[AccessUnit]:
        return [u for u in self.seen.units if u.track.kind is kind]

    @property
    def tracks(self) -> Tracks:
        return next(item for item in reversed(self.seen.items) if isinstance(item, Tracks))


@asynccontextmanager
async def matching(workers: WorkerPool | None = None) -> AsyncIterator[Lab]:
    lab = Lab(workers or WorkerPool(load(environ={}).workers, Counter(WORKER_RESTARTS)))
    async with Tasks("lab") as tasks:
        tasks.start(lab.matching.run(), "run")
        yield lab


def pictures(lab: Lab) -> list[av.VideoFrame]:
    """All pictures, decoded with the configuration of the push."""
    decoder = av.CodecContext.create("h264", "r")
    assert MAIN.tracks.video is not None
    decoder.extradata = MAIN.tracks.video.config
    decoder.options = {"err_detect": "explode"}
    frames: list[av.VideoFrame] = []
    for unit in [*lab.of(Kind.VIDEO), None]:
        packet = None if unit is None else av.Packet(unit.payload)
        if packet is not None and unit is not None:
            packet.pts, packet.dts = unit.dts + unit.cts, unit.dts
        frames += decoder.decode(packet)  # type: ignore[attr-defined]
    return frames


BACKUPS = {
    "other size and sound": lambda: sources.source(
        *sources.pictures("480x480", "25"), *sources.tone(48_000), "-t", "3", *X264, "-g", "250", "-bf", "0",
        "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "1",
    ),
    "hevc": lambda: sources.source(
        *sources.pictures("640x360"), *sources.tone(), "-t", "3", "-c:v", "libx265", "-preset", "ultrafast",
        "-x265-params", "log-level=none", *AAC,
    ),
    "without sound": lambda: sources.h264("640x360", 3, audio=False),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BACKUPS))
async def test_an_input_is_converted_to_the_form_of_the_push(name: str) -> None:
    source = BACKUPS[name]()
    async with matching() as lab:
        lab.matching.set_expected_tracks(MAIN.tracks)
        end = lab.push(source)
        await until(lambda: all(lab.of(kind) and lab.of(kind)[-1].dts > end - 300 for kind in Kind))
        lab.hub.end("c1", EndReason.PUBLISHER_GONE)
        assert lab.seen.ended is EndReason.PUBLISHER_GONE
    assert (lab.tracks.video, lab.tracks.audio) == (MAIN.tracks.video, MAIN.tracks.audio)
    video, audio = lab.of(Kind.VIDEO), lab.of(Kind.AUDIO)
    shown = pictures(lab)
    assert len(shown) == len(video)
    assert {(frame.width, frame.height) for frame in shown} == {(320, 180)}
    given = {u.dts + u.cts for u in source.of(Kind.VIDEO)}
    assert {u.dts + u.cts for u in video} <= given, "shown when it was to be shown"
    assert all(0 < b.dts - a.dts < 100 for a, b in itertools.pairwise(video))
    keys = [u.dts for u in video if u.key]
    assert keys[0] == video[0].dts
    assert max(b - a for a, b in zip(keys, [*keys[1:], video[-1].dts], strict=True)) <= 2_100
    assert audio
    assert lab.tracks.audio is not None
    silent = [is_silent(lab.tracks.audio, u.payload) for u in audio[4:-4]]
    assert all(silent) if name == "without sound" else not any(silent)
    assert all(20 <= b.dts - a.dts <= 27 for a, b in itertools.pairwise(audio))
    assert abs(audio[-1].dts - video[-1].dts) < 200


async def test_an_input_in_the_form_of_the_push_is_used_unchanged() -> None:
    async with matching() as lab:
        lab.matching.set_expected_tracks(MAIN.tracks)
        lab.push(MAIN)
        assert lab.matching.passes
        assert [u.payload for u in lab.seen.units] == [u.payload for u in MAIN.units]


async def test_the_matching_follows_changes_of_the_push() -> None:
    source = BACKUPS["other size and sound"]()
    async with matching() as lab:
        end = lab.push(source)
        assert lab.matching.passes, "while nothing is known of the push"
        assert lab.tracks.video == source.tracks.video
        lab.matching.set_expected_tracks(MAIN.tracks)
        assert not lab.matching.passes
        await until(lambda: lab.tracks.video == MAIN.tracks.video)
        lab.matching.set_expected_tracks(source.tracks)
        assert lab.matching.passes
        lab.push(source, end)
        assert lab.tracks.video == source.tracks.video
        assert lab.of(Kind.VIDEO)[-1].payload == source.of(Kind.VIDEO)[-1].payload


async def test_without_workers_an_input_is_used_unchanged_and_the_reason_is_shown() -> None:
    settings = load(environ={"MILLRACE_WORKERS__MOST": "1"})
    workers = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
    source = BACKUPS["without sound"]()
    async with workers.start("tests.support.echo_worker", "other"), matching(workers) as lab:
        lab.matching.set_expected_tracks(MAIN.tracks)
        end = lab.push(source)
        await until(lambda: lab.matching.passes)
        assert lab.matching.error is not None
        assert "busy" in lab.matching.error
        lab.push(source, end)
        assert lab.tracks.video == source.tracks.video
