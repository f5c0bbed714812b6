"""POST /processObject plays a film from a bucket into Kinesis Video Streams, at the film's speed."""

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
from gateway.adapters.aws.s3_events import ObjectRule, object_handler
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.aws.sqs_reader import SqsReader
from gateway.adapters.local.stores import SqliteJobs
from gateway.api.jobs import KVS_JOBS
from gateway.lib import process
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.outputs.kinesis import kvs_jobs
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
from tests.support.at_night import at_night
from tests.support.elementary import played
from tests.support.putmedia import Fault, KvsDouble, VideoStream
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.support.waiting import until

BUCKET = "films"
PACE = 6.0


@dataclass
class Rig:
    """The API with all its services. `folder` has temporary files."""

    double: KvsDouble
    api: Admin
    desk: JobQueue
    jobs: KvsJobs
    streams: KvsStreams
    folder: Path
    session: AwsSession

    @property
    def lobby(self) -> VideoStream:
        return self.double.streams["lobby"]

    async def process(self, key: str, *, status: int = 200) -> Any:
        return await self.api.json("POST", "/processObject", {"bucketName": BUCKET, "keyName": key}, status=status)

    async def over(self, id: str) -> StoredJob:
        """Returns the job once it has finished."""
        async with asyncio.timeout(at_most(40)):
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
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", moto_url)
        monkeypatch.setattr(kvs_jobs, "_POLL_SECONDS", 0.2)
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
            jobs = KvsJobs(streams, player, desk, most=3)
            tasks.start(jobs.run())
            api = await stack.enter_async_context(admin(tmp_path, services={KVS_JOBS: jobs}))
            yield Rig(double, api, desk, jobs, streams, tmp_path / "tmp", session)
        await asyncio.to_thread(_empty)


@contextlib.asynccontextmanager
async def bucket_events(rig: Rig, prefix: str = "") -> AsyncIterator[Callable[[], int]]:
    """Lets the bucket report to a queue that is read. Yields a function that counts the messages left there."""
    sqs = boto3.client("sqs", region_name="eu-central-1")
    url = sqs.create_queue(QueueName="objects")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rules = [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]
    s3().put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": rules}
    )  # S3 sends its test event
    reader = SqsReader(
        rig.session,
        url,
        object_handler([ObjectRule(rig.jobs.submit_object, prefix=prefix)]),
        retry_seconds=0,
        room=rig.jobs.wait_for_room,
    )

    def left() -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        return sum(int(n) for n in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values())

    try:
        async with Tasks("events") as tasks:
            tasks.start(reader.run())
            yield left
    finally:
        s3().put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={})
        sqs.delete_queue(QueueUrl=url)


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
            command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=15"]
            if sound:
                command += ["-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4:sample_rate=48000"]
            command += ["-t", str(seconds), "-c:v", "libx264", "-preset", "ultrafast", *arguments, str(path)]
            subprocess.run(command, check=True, timeout=at_most(60))
        return path

    return make


def probe(path: Path) -> dict[str, str]:
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries",
         "stream=profile,pix_fmt,width,height,has_b_frames", "-of", "default=nw=1", str(path)],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    return dict(line.split("=") for line in done.stdout.splitlines())


async def test_an_object_is_sent_and_the_answer_comes_with_the_first_fragment(
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
        ("tall.mp4", "360x640", ("-pix_fmt", "yuv420p10le"), ("270", "480")),
        *at_night(
            ("hd.mp4", "1280x720", ("-pix_fmt", "yuv444p"), ("640", "360")),
            ("small.mkv", "201x101", ("-pix_fmt", "yuv444p"), ("200", "100")),
        ),
    ],
)
async def test_the_picture_keeps_its_aspect_ratio_inside_the_maximum_size(
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


@pytest.mark.nightly
async def test_keys_with_blanks_are_found_in_plain_and_in_url_encoded_form(rig: Rig, film: Callable[..., Path]) -> None:
    put("my clip (1)+ä.mp4", film("short.mp4", seconds=2))
    for key in ("my clip (1)+ä.mp4", "my+clip+%281%29%2B%C3%A4.mp4"):
        said = await rig.process(key)
        job = await rig.over(said["jobs"][0])
        assert (job.state, job.source) == (JobState.COMPLETE, "s3://films/my clip (1)+ä.mp4")


async def test_the_records_of_an_event_become_consecutive_jobs(rig: Rig, film: Callable[..., Path]) -> None:
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


async def test_the_timestamps_grow_from_one_run_of_a_film_to_the_next(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    await rig.over((await rig.process("short.mp4"))["jobs"][0])
    last = max(rig.lobby.stored)
    await rig.over((await rig.process("short.mp4"))["jobs"][0])
    assert max(rig.lobby.stored) > last


async def test_a_request_waits_while_the_stream_is_in_use(rig: Rig, film: Callable[..., Path]) -> None:
    put("plain.mp4", film("plain.mp4", "-bf", "3", "-g", "250"))
    first = await rig.process("plain.mp4")
    assert (await rig.desk.store.get(first["jobs"][0])).state is JobState.PROGRESSING
    second = await rig.process("plain.mp4")
    assert second["startFragmentNumber"].isdigit() and second["startFragmentNumber"] != first["startFragmentNumber"]
    assert (await rig.desk.store.get(first["jobs"][0])).state is JobState.COMPLETE
    assert (await rig.over(second["jobs"][0])).state is JobState.COMPLETE
    assert [str(b) for c in rig.double.connections for b in c.broken] == []


async def test_with_wait_0_the_answer_contains_the_job_at_once(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    with rig.streams.claim("lobby", "a live channel"):
        body = {"bucketName": BUCKET, "keyName": "short.mp4"}
        said = await rig.api.json("POST", "/processObject?wait=0", body, status=202)
        assert (said["state"], said["kind"], said["source"]) == ("SUBMITTED", KVS, "s3://films/short.mp4")
        assert said["startFragmentNumber"] is None and said["jobs"] == [said["id"]]
        assert (await rig.api.json("POST", "/processObject?wait=0", {**body, "keyName": "no"}, status=404))["error"]
        assert (await rig.api.json("POST", "/processObject?wait=soon", body, status=400))["field"] == "wait"
    done = await rig.over(said["id"])
    assert done.state is JobState.COMPLETE and done.outputs["startFragmentNumber"].isdigit()


async def test_the_number_of_waiting_jobs_is_limited(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    body = {"bucketName": BUCKET, "keyName": "short.mp4"}
    with rig.streams.claim("lobby", "a live channel"):
        ids = [(await rig.api.json("POST", "/processObject?wait=0", body, status=202))["id"] for _ in range(3)]
        refused = await rig.api.json("POST", "/processObject?wait=0", body, status=503)
        assert "wait already" in refused["error"]
        for id in ids[1:]:
            await rig.desk.cancel(id)  # the canceled jobs do not begin
    assert (await rig.over(ids[0])).state is JobState.COMPLETE
    assert [(await rig.desk.store.get(id)).state for id in ids[1:]] == [JobState.CANCELED] * 2


async def test_a_waiting_job_is_sent_after_an_outage_of_kinesis(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    rig.double.down = True
    body = {"bucketName": BUCKET, "keyName": "short.mp4"}
    said = await rig.api.json("POST", "/processObject?wait=0", body, status=202)
    calls = len(rig.double.calls)
    await until(lambda: len(rig.double.calls) > calls + 1, "it was refused and asks again")
    rig.double.down = False
    assert (await rig.over(said["id"])).state is JobState.COMPLETE


async def test_a_job_that_never_began_is_taken_over_from_another_process(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    waiting, _ = await rig.desk.submit(KVS, "s3://films/short.mp4", id="1700000000000-left")
    said = await rig.process("short.mp4")
    assert (await rig.over(waiting.id)).state is JobState.COMPLETE
    assert (await rig.over(said["jobs"][0])).state is JobState.COMPLETE


async def test_a_retiring_process_finishes_its_job_and_begins_no_other(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    body = {"bucketName": BUCKET, "keyName": "short.mp4"}
    first = await rig.process("short.mp4")
    second = await rig.api.json("POST", "/processObject?wait=0", body, status=202)
    rig.jobs.retire()
    assert (await rig.over(first["jobs"][0])).state is JobState.COMPLETE
    await until(lambda: not rig.streams._claims, "the stream is free")
    assert (await rig.desk.store.get(second["id"])).state is JobState.SUBMITTED


async def test_a_job_waits_for_a_stream_in_use_by_another_gateway(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    theirs, _ = await rig.desk.submit(KVS, "s3://films/theirs.mp4", id="1700000000000-them", detail={"stream": "lobby"})
    theirs = await rig.desk.begin(theirs, "elsewhere/1/x")
    said = await rig.api.json(
        "POST", "/processObject?wait=0", {"bucketName": BUCKET, "keyName": "short.mp4"}, status=202
    )
    await asyncio.sleep(0.3)  # checks that nothing happens, for which there is no event
    assert (await rig.desk.store.get(said["id"])).state is JobState.SUBMITTED
    await rig.desk.complete(theirs, {})
    assert (await rig.over(said["id"])).state is JobState.COMPLETE


async def test_new_objects_of_a_bucket_become_jobs_except_media_of_millrace(
    rig: Rig, film: Callable[..., Path]
) -> None:
    short = film("short.mp4", seconds=2)
    async with bucket_events(rig, "in/") as left:
        for key in (
            "elsewhere.mp4",
            "in/mp4/2026/1/2/capture-2026-01-02_03-04-05-1767323045000.mp4",
            "in/720p/1767323045000.ts",
            "in/images/2026/1/2/capture-2026-01-02_03-04-05.jpg",
            "in/clip/clip.m3u8",
            "in/clip/clip.0000000.jpg",
        ):
            put(key, b"x")
        put("in/my clip (1)+ä.mp4", short)
        async with asyncio.timeout(at_most(20)):
            while not (jobs := await rig.desk.store.newest(10)) or left():
                await asyncio.sleep(0.05)
    (job,) = jobs
    assert job.source == "s3://films/in/my clip (1)+ä.mp4"
    assert (await rig.over(job.id)).state is JobState.COMPLETE


async def test_a_repeated_event_makes_one_job(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    for _ in range(3):
        await rig.jobs.submit_object(BUCKET, "short.mp4")
    (job,) = await rig.desk.store.newest(10)
    assert (await rig.over(job.id)).state is JobState.COMPLETE
    await rig.jobs.submit_object(BUCKET, "short.mp4")
    assert len(await rig.desk.store.newest(10)) == 1


async def test_events_stay_in_their_queue_while_too_many_jobs_wait(rig: Rig, film: Callable[..., Path]) -> None:
    short = film("short.mp4", seconds=2)
    for key in ("a.mp4", "b.mp4", "c.mp4", "d.mp4"):
        put(key, short)
    with rig.streams.claim("lobby", "a live channel"):
        for key in ("a.mp4", "b.mp4", "c.mp4"):
            await rig.jobs.submit_object(BUCKET, key)
        async with bucket_events(rig) as left:
            put("d.mp4", short)
            assert left() and len(await rig.desk.store.newest(10)) == 3
            for job in await rig.desk.store.newest(10):
                await rig.desk.cancel(job.id)
            async with asyncio.timeout(at_most(20)):
                while len(await rig.desk.store.newest(10)) < 4 or left():
                    await asyncio.sleep(0.05)


async def test_an_object_of_an_event_that_is_too_large_is_a_failed_job(rig: Rig) -> None:
    put("large.mp4", b"0" * 50_000_001)
    await rig.jobs.submit_object(BUCKET, "large.mp4")
    await rig.jobs.submit_object(BUCKET, "gone.mp4")
    (job,) = await rig.desk.store.newest(10)
    assert job.state is JobState.ERROR and "50000000" in (job.error or "")


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


async def test_a_missing_object_gives_404(rig: Rig) -> None:
    assert "nothing.mp4" in (await rig.process("nothing.mp4", status=404))["error"]
    with pytest.raises(NoSuchObject), rig.streams.claim("lobby", "this test"):
        raise NoSuchObject("the stream is free again")


async def test_a_too_large_object_is_refused(rig: Rig) -> None:
    put("large.mp4", b"0" * 50_000_001)
    await rig.process("large.mp4", status=413)
    assert rig.files == []


async def test_an_object_that_is_not_media_gives_422(rig: Rig) -> None:
    put("words.mp4", b"this is no film at all\n" * 50)
    said = await rig.process("words.mp4", status=422)
    assert "text" in said["error"]
    (job,) = await rig.desk.store.newest(5)
    assert (job.state, rig.files) == (JobState.ERROR, [])


async def test_an_object_beyond_the_maximum_duration_gives_422(rig: Rig, film: Callable[..., Path]) -> None:
    put("days.mp4", film("days.mp4", seconds=120, size="64x64", sound=False))
    said = await rig.process("days.mp4", status=422)
    words = "it lasts longer than 100 s (kvs.object_seconds)"
    assert said["error"] == f"the object cannot be played: {words}"
    (job,) = await rig.desk.store.newest(5)
    assert (job.state, job.error, rig.files) == (JobState.ERROR, words, [])


async def test_an_outage_of_kinesis_gives_502_with_its_reason(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    rig.double.down = True
    said = await rig.process("short.mp4", status=502)
    assert "503" in said["error"] or "ServiceUnavailable" in said["error"] or "InternalFailure" in said["error"]
    (job,) = await rig.desk.store.newest(5)
    await rig.over(job.id)
    assert rig.files == []


@pytest.mark.nightly
async def test_a_missing_stream_gives_502_with_its_reason(rig: Rig, film: Callable[..., Path]) -> None:
    put("short.mp4", film("short.mp4", seconds=2))
    del rig.double.streams["lobby"]
    assert "ResourceNotFoundException" in (await rig.process("short.mp4", status=502))["error"]


async def test_a_broken_connection_in_the_middle_loses_nothing(
    rig: Rig, film: Callable[..., Path], tmp_path: Path
) -> None:
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


async def test_files_and_jobs_of_a_killed_process_are_cleaned_up(rig: Rig, film: Callable[..., Path]) -> None:
    rig.folder.mkdir()
    (rig.folder / "0123456789abcdef.mp4").write_bytes(b"left")
    left, _ = await rig.desk.submit(KVS, "s3://films/left.mp4", detail={"owner": "elsewhere/1/x"})
    begun = await rig.desk.begin(left, f"{process.owner().partition('/')[0]}/999999999/dead")
    put("short.mp4", film("short.mp4", seconds=2))
    await rig.over((await rig.process("short.mp4"))["jobs"][0])
    assert rig.files == []
    assert (await rig.desk.store.get(begun.id)).state is JobState.ERROR
