"""POST /processObject: a film out of a bucket into Kinesis Video Streams, at its own pace."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio

from gateway.adapters.aws.kvs import AwsKvs
from gateway.adapters.aws.objects import S3Objects
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.local.jobs import SqliteJobs
from gateway.lib import process
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.outputs.kinesis.kvs_jobs import KvsJobs
from gateway.outputs.kinesis.kvs_streams import KvsStreams
from gateway.ports.errors import NoSuchObject
from gateway.ports.events import Events
from gateway.ports.job_queue import JobQueue
from gateway.ports.jobs import KVS, JobState, StoredJob
from gateway.ports.stores import ObjectStore
from gateway.vod.object_player import ObjectPlayer
from gateway.workers.worker_pool import WorkerPool
from tests.support import kvs
from tests.support.admin import Admin, admin
from tests.support.elementary import played
from tests.support.kvs import until
from tests.support.putmedia import Fault, KvsDouble, VideoStream
from tests.support.tools import need

BUCKET = "films"
PACE = 6.0


@dataclass
class Rig:
    """The API with everything behind it. folder: of temporary files."""

    double: KvsDouble
    api: Admin
    desk: JobQueue
    jobs: KvsJobs
    streams: KvsStreams
    folder: Path

    @property
    def lobby(self) -> VideoStream:
        return self.double.streams["lobby"]

    async def process(self, key: str, *, status: int = 200) -> Any:
        return await self.api.json("POST", "/processObject", {"bucketName": BUCKET, "keyName": key}, status=status)

    async def over(self, id: str) -> StoredJob:
        """The job once it has finished."""
        async with asyncio.timeout(40):
            while not (job := await self.desk.store.get(id)).state.finished:
                await asyncio.sleep(0.05)
        return job

    @property
    def files(self) -> list[str]:
        return [f.name for f in self.folder.iterdir()] if self.folder.exists() else []


def s3() -> Any:
    return boto3.client("s3", region_name="eu-central-1")


def put(key: str, data: bytes | Path) -> None:
    body = data.read_bytes() if isinstance(data, Path) else data
    s3().put_object(Bucket=BUCKET, Key=key, Body=body)


@pytest_asyncio.fixture
async def rig(moto_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    need("ffmpeg", "ffprobe")
    async with KvsDouble() as double:
        double.add("lobby")
        kvs.use(double, monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_url)
        await asyncio.to_thread(
            lambda: s3().create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        )
        settings = kvs.settings(role=kvs.ROLE, object_bytes=50_000_000, object_seconds=100)
        async with contextlib.AsyncExitStack() as stack:
            session = await stack.enter_async_context(AwsSession())
            streams = await stack.enter_async_context(KvsStreams(AwsKvs(session, settings.role), settings))
            store = await stack.enter_async_context(SqliteJobs(tmp_path / "jobs.db"))
            desk = JobQueue(store, Events())

            async def bucket(name: str) -> ObjectStore:
                return S3Objects(session, name)

            player = ObjectPlayer(
                bucket,
                WorkerPool(kvs.WORKERS, Counter(WORKER_RESTARTS)),
                tmp_path / "tmp",
                settings,
                PACE,
            )
            tasks = await stack.enter_async_context(Tasks("kvs"))
            jobs = KvsJobs(streams, player, desk, tasks)
            api = await stack.enter_async_context(admin(tmp_path, kvs=jobs))
            yield Rig(double, api, desk, jobs, streams, tmp_path / "tmp")
        await asyncio.to_thread(_empty)


def _empty() -> None:
    for item in s3().list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3().delete_object(Bucket=BUCKET, Key=item["Key"])
    s3().delete_bucket(Bucket=BUCKET)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder = tmp_path_factory.mktemp("objects")

    def make(name: str, *arguments: str, seconds: int = 8, size: str = "640x360", sound: bool = True) -> Path:
        need("ffmpeg")
        path = folder / name
        if not path.exists():
            command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=30"]
            if sound:
                command += ["-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4:sample_rate=48000"]
            command += ["-t", str(seconds), "-c:v", "libx264", "-preset", "ultrafast", *arguments, str(path)]
            subprocess.run(command, check=True, timeout=60)
        return path

    return make


def probe(path: Path) -> dict[str, str]:
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries",
         "stream=profile,pix_fmt,width,height,has_b_frames", "-of", "default=nw=1", str(path)],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    return dict(line.split("=") for line in done.stdout.splitlines())


async def test_an_object_is_played_into_kinesis_and_the_answer_comes_with_the_first_fragment(
    rig: Rig, film: Callable[..., Path], tmp_path: Path
) -> None:
    source = film("plain.mp4", "-bf", "3", "-g", "250")
    put("plain.mp4", source)
    before = time.time()
    said = await rig.process("plain.mp4")
    assert said["streamArn"] == rig.lobby.arn
    assert said["startFragmentNumber"].isdigit()
    assert len(rig.lobby.stored) < 4, "it goes on in the background"
    job = await rig.over(said["jobs"][0])
    assert (job.kind, job.state, job.source) == (KVS, JobState.COMPLETE, "s3://films/plain.mp4")
    assert job.outputs["startFragmentNumber"] == said["startFragmentNumber"]
    assert rig.files == []
    assert [str(b) for c in rig.double.connections for b in c.broken] == []
    assert [c for c in rig.double.calls if c != "DescribeStream"][:3] == ["GetDataEndpoint", "AssumeRole", "PutMedia"]
    (file,) = kvs.written(rig.lobby, tmp_path)
    assert probe(file) == {
        "profile": "Constrained Baseline", "pix_fmt": "yuv420p", "width": "640", "height": "360", "has_b_frames": "0",
    }  # fmt: skip
    ours, theirs = played(file), played(source)
    assert len(ours.pictures) == len(theirs.pictures)
    assert abs(len(ours.sounds) - len(theirs.sounds)) <= 2
    spans = [f.latest - f.time for f in rig.lobby.stored.values()]
    assert max(spans) <= 2_100
    assert abs(min(rig.lobby.stored) / 1000 - before) < 20, "fragments have the time of day"


@pytest.mark.parametrize(
    ("name", "size", "arguments", "expected"),
    [
        ("hd.mp4", "1280x720", ("-pix_fmt", "yuv444p"), ("640", "360")),
        ("tall.mp4", "360x640", ("-pix_fmt", "yuv420p10le"), ("270", "480")),
        ("small.mkv", "201x101", ("-pix_fmt", "yuv444p"), ("200", "100")),
    ],
)
async def test_the_picture_keeps_its_aspect_inside_the_box(
    rig: Rig, film: Callable[..., Path], tmp_path: Path, name: str, size: str, arguments: tuple[str, ...], expected: Any
) -> None:
    put(name, film(name, *arguments, size=size, seconds=3))
    said = await rig.process(name)
    assert (await rig.over(said["jobs"][0])).state is JobState.COMPLETE
    (file,) = kvs.written(rig.lobby, tmp_path)
    found = probe(file)
    assert (found["width"], found["height"]) == expected
    assert found["pix_fmt"] == "yuv420p"


async def test_a_film_without_sound_is_played(rig: Rig, film: Callable[..., Path]) -> None:
    put("silent.mp4", film("silent.mp4", sound=False, seconds=3))
    said = await rig.process("silent.mp4")
    assert (await rig.over(said["jobs"][0])).state is JobState.COMPLETE
    assert {f.track for f in rig.lobby.frames} == {1}


async def test_keys_with_blanks_are_found_as_they_are_and_as_events_write_them(
    rig: Rig, film: Callable[..., Path]
) -> None:
    put("my clip (1)+ä.mp4", film("short.mp4", seconds=2))
    for key in ("my clip (1)+ä.mp4", "my+clip+%281%29%2B%C3%A4.mp4"):
        said = await rig.process(key)
        job = await rig.over(said["jobs"][0])
        assert (job.state, job.source) == (JobState.COMPLETE, "s3://films/my clip (1)+ä.mp4")


async def test_the_records_of_an_event_are_jobs_that_follow_each_other(rig: Rig, film: Callable[..., Path]) -> None:
    short = film("short.mp4", seconds=2)
    put("a b.mp4", short)
    put("c.mp4", short)
    records = [
        {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": BUCKET}, "object": {"key": key}}}
        for key in ("a+b.mp4", "gone.mp4", "c.mp4")
    ]
    records.append({"eventName": "ObjectRemoved:Delete", "s3": {}})
    said = await rig.api.json("POST", "/processObject", {"Records": records})
    assert len(said["jobs"]) == 2
    jobs = [await rig.over(id) for id in said["jobs"]]
    assert [j.source for j in jobs] == ["s3://films/a b.mp4", "s3://films/c.mp4"]
    assert all(j.state is JobState.COMPLETE for j in jobs)
    assert [str(b) for c in rig.double.connections for b in c.broken] == []


async def test_two_runs_of_one_film_have_growing_times(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    await rig.over((await rig.process("short.mp4"))["jobs"][0])
    last = max(rig.lobby.stored)
    await rig.over((await rig.process("short.mp4"))["jobs"][0])
    assert max(rig.lobby.stored) > last


async def test_a_stream_is_free_once_its_job_is_said_to_be_over(
    rig: Rig, film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    change, again = rig.desk.store.change, []

    async def change_and_ask_at_once(job: StoredJob) -> None:
        await change(job)
        if job.state.finished and not again:
            again.append(await rig.process("short.mp4"))

    monkeypatch.setattr(rig.desk.store, "change", change_and_ask_at_once)
    await rig.process("short.mp4")
    await until(lambda: again, "it is asked for again")
    assert (await rig.over(again[0]["jobs"][0])).state is JobState.COMPLETE


async def test_a_stream_in_use_is_a_conflict(rig: Rig, film: Callable[..., Path]) -> None:
    put("plain.mp4", film("plain.mp4", "-bf", "3", "-g", "250"))
    said = await rig.process("plain.mp4")
    again = await rig.process("plain.mp4", status=409)
    assert "in use" in again["error"]
    assert (await rig.over(said["jobs"][0])).state is JobState.COMPLETE


@pytest.mark.parametrize(
    "body",
    [
        {}, {"bucketName": "films"}, {"bucketName": "films", "keyName": ""}, {"bucketName": "Films!", "keyName": "a"},
        {"bucketName": "films", "keyName": 3}, {"Records": []}, {"Records": [{"eventName": "ObjectRemoved:Delete"}]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {}, "object": {}}}]}, {"Records": "x"},
    ],
)  # fmt: skip
async def test_a_bad_body_is_refused_with_its_field(rig: Rig, body: Any) -> None:
    said = await rig.api.json("POST", "/processObject", body, status=400)
    assert said["field"] in ("bucketName", "keyName", "Records")


async def test_an_object_that_is_not_there_is_told(rig: Rig) -> None:
    assert "nothing.mp4" in (await rig.process("nothing.mp4", status=404))["error"]
    with pytest.raises(NoSuchObject), rig.streams.claim("lobby", "this test"):
        raise NoSuchObject("the stream is free again")


async def test_an_object_beyond_the_bound_is_refused(rig: Rig) -> None:
    put("large.mp4", b"0" * 50_000_001)
    await rig.process("large.mp4", status=413)
    assert rig.files == []


async def test_what_is_no_film_is_told(rig: Rig) -> None:
    put("words.mp4", b"this is no film at all\n" * 50)
    said = await rig.process("words.mp4", status=422)
    assert "text" in said["error"]
    (job,) = await rig.desk.store.newest(5)
    assert (job.state, rig.files) == (JobState.ERROR, [])


async def test_an_object_that_lasts_longer_than_it_may_is_told(rig: Rig, film: Callable[..., Path]) -> None:
    put("days.mp4", film("days.mp4", seconds=120, size="64x64", sound=False))
    said = await rig.process("days.mp4", status=422)
    words = "it lasts longer than 100 s (kvs.object_seconds)"
    assert said["error"] == f"the object cannot be played: {words}"
    (job,) = await rig.desk.store.newest(5)
    assert (job.state, job.error, rig.files) == (JobState.ERROR, words, [])


async def test_kinesis_away_is_told_with_its_reason(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    rig.double.down = True
    said = await rig.process("short.mp4", status=502)
    assert "503" in said["error"] or "ServiceUnavailable" in said["error"] or "InternalFailure" in said["error"]
    (job,) = await rig.desk.store.newest(5)
    await rig.over(job.id)
    assert rig.files == []


async def test_a_stream_that_is_missing_is_told(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    del rig.double.streams["lobby"]
    assert "ResourceNotFoundException" in (await rig.process("short.mp4", status=502))["error"]


async def test_a_break_in_the_middle_loses_nothing(rig: Rig, film: Callable[..., Path], tmp_path: Path) -> None:
    source = film("plain.mp4", "-bf", "3", "-g", "250")
    put("plain.mp4", source)
    begun = asyncio.Event()
    rig.lobby.faults = [Fault(reset=300_000, allowed=begun)]
    said = await rig.process("plain.mp4")
    begun.set()
    job = await rig.over(said["jobs"][0])
    assert job.state is JobState.COMPLETE
    (file,) = kvs.written(rig.lobby, tmp_path)
    assert len(played(file).pictures) == len(played(source).pictures)


async def test_a_job_can_be_cancelled(rig: Rig, film: Callable[..., Path]) -> None:
    put("long.mp4", film("long.mp4", seconds=60, size="64x64"))
    said = await rig.process("long.mp4")
    await rig.desk.cancel(said["jobs"][0])
    await until(lambda: rig.lobby.open == 0 and rig.files == [], "nothing of it is left")
    assert (await rig.desk.store.get(said["jobs"][0])).state is JobState.CANCELED
    await until(lambda: not rig.streams._claims, "the stream is free")


async def test_what_a_killed_process_left_is_removed(rig: Rig, film: Callable[..., Path]) -> None:
    rig.folder.mkdir()
    (rig.folder / "0123456789abcdef.mp4").write_bytes(b"left")
    left, _ = await rig.desk.submit(KVS, "s3://films/left.mp4", detail={"owner": "elsewhere/1/x"})
    begun = await rig.desk.begin(left, f"{process.owner().partition('/')[0]}/999999999/dead")
    put("short.mp4", film("short.mp4", seconds=2))
    await rig.over((await rig.process("short.mp4"))["jobs"][0])
    assert rig.files == []
    assert (await rig.desk.store.get(begun.id)).state is JobState.ERROR
