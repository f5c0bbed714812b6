"""Films in a bucket become jobs: S3, SQS and DynamoDB on a moto server, with real workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from gateway.adapters.aws.s3_events import ObjectHandler, ObjectRule, object_handler
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.aws.sqs_reader import SqsReader
from gateway.adapters.stores import open_stores
from gateway.channels.media_types import CONTENT_TYPES, PICTURE_TYPES
from gateway.channels.stream_key import SigningSecrets
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.outputs.storage.recording_index import RecordingIndex
from gateway.ports.errors import StoreUnavailable
from gateway.ports.events import Events
from gateway.ports.job_queue import JobQueue
from gateway.ports.jobs import JobState, StoredJob
from gateway.vod.bin import Bin
from gateway.vod.films import Films
from gateway.vod.sources import VodSources
from gateway.vod.vod_service import VodService
from gateway.workers.worker_pool import WorkerPool
from tests.integration.adapters.conftest import BUCKET
from tests.support import films
from tests.support.command_line import run
from tests.support.studio import settings
from tests.support.time_outs import at_most
from tests.unit.deploy.test_aws_templates import data

REGION = "eu-central-1"
TABLE = "video-jobs"


@dataclass
class Cloud:
    """A gateway's VOD service on the AWS doubles, and clients of these doubles."""

    studio: VodService
    s3: Any
    sqs: Any
    queue: str

    def send(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=body)

    def waiting(self) -> int:
        """Returns the number of messages in the queue, including received ones."""
        return left(self.sqs, self.queue)

    async def jobs(self, count: int, *, finished: bool = True) -> list[StoredJob]:
        """Returns all jobs once there are `count` of them and the queue is empty."""
        async with asyncio.timeout(at_most(60)):
            while True:
                found = await self.studio.queue.store.newest(100)
                if (
                    len(found) >= count
                    and not self.waiting()
                    and (not finished or all(j.state.finished for j in found))
                ):
                    return found
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def cloud(folder: Path, *, run: bool = True) -> AsyncIterator[Cloud]:
    """Runs the service on a bucket that reports new objects as in deploy/aws. run: whether it executes jobs."""
    s3, sqs = boto3.client("s3", region_name=REGION), boto3.client("sqs", region_name=REGION)
    boto3.client("dynamodb", region_name=REGION).create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    queue = sqs.create_queue(QueueName="films")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3.put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": list(_notifications(arn))}
    )
    chosen = settings(
        folder,
        MILLRACE_OBJECTS=f"s3://{BUCKET}",
        MILLRACE_VOD__JOBS=f"dynamodb://{TABLE}",
        MILLRACE_VOD__QUEUE=queue,
    )
    async with open_stores(chosen) as stores, Tasks("cloud") as tasks:
        assert stores.aws is not None
        sources = VodSources(stores.objects, stores.bucket, stores.buckets, chosen.vod.sources)
        jobs = JobQueue(stores.jobs, Events())
        studio = VodService(
            chosen.vod,
            data=folder,
            queue=jobs,
            films=Films(
                stores.films,
                sources,
                jobs,
                Bin(sources.objects, 0, folder / "tmp", RecordingIndex(sources.objects).files_of),
            ),
            workers=WorkerPool(chosen.workers, Counter(WORKER_RESTARTS)),
            secrets=SigningSecrets("s"),
        )
        rules = [ObjectRule(studio.submit_object)]
        reader = SqsReader(stores.aws, chosen.vod.queue, object_handler(rules))
        if run:
            tasks.start(studio.runner.run())
        tasks.start(reader.run())
        yield Cloud(studio, s3, sqs, queue)


def _notifications(queue: str) -> Iterator[dict[str, Any]]:
    """Yields the notifications of the bucket in deploy/aws, for a queue."""
    media = data().of_type("AWS::S3::Bucket")["Media"]
    for told in media["NotificationConfiguration"]["QueueConfigurations"]:
        rules = told["Filter"]["S3Key"]["Rules"]
        yield {"QueueArn": queue, "Events": [told["Event"]], "Filter": {"Key": {"FilterRules": rules}}}


@pytest.fixture
def film() -> bytes:
    return films.plain().read_bytes()


async def test_an_uploaded_film_becomes_hls_in_its_bucket(aws: str, tmp_path: Path, film: bytes) -> None:
    async with cloud(tmp_path) as at:
        await asyncio.to_thread(at.s3.put_object, Bucket=BUCKET, Key="new films/ä 1.mp4", Body=film)
        (job,) = await at.jobs(1)
        assert (job.state, job.source) == (JobState.COMPLETE, f"s3://{BUCKET}/new films/ä 1.mp4")
        base = "ä 1"
        keys = {o["Key"] for o in at.s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
        assert keys == {
            "new films/ä 1.mp4",
            *(f"new films/ä 1/{name}" for name in (f"{base}.m3u8", f"{base}stream.m3u8", f"{base}stream_00001.ts")),
            *(f"new films/ä 1/{name}" for name in (f"{base}.0000000.jpg", "thumbnail.0000000.jpg")),
            *(f"new films/ä 1/{name}" for name in ("thumbnails.vtt", "thumbnails.jpg")),
        }
        told = at.s3.head_object(Bucket=BUCKET, Key=f"new films/ä 1/{base}stream_00001.ts")
        assert told["ContentType"] == "video/mp2t"


async def test_an_upload_by_a_presigned_address_becomes_a_job(aws: str, tmp_path: Path, film: bytes) -> None:
    import requests

    async with cloud(tmp_path) as at:
        key, upload = await at.studio.uploads.offer("Holiday.MP4", "http://unused")
        assert key.endswith(".mp4") and upload.method == "PUT"
        answer = await asyncio.to_thread(requests.put, upload.url, data=film, headers=upload.headers, timeout=30)
        assert answer.status_code == 200
        (job,) = await at.jobs(1)
        assert job.state is JobState.COMPLETE and job.outputs["hls"] == f"{key[:-4]}/{key[:-4]}.m3u8"


async def test_every_file_that_may_be_uploaded_becomes_a_job(aws: str, tmp_path: Path) -> None:
    """Pictures have no job, and segments of recordings are not reported."""
    async with cloud(tmp_path, run=False) as at:
        keys = {}
        for suffix in [*CONTENT_TYPES, *PICTURE_TYPES]:
            keys[suffix], _ = await at.studio.uploads.offer(f"Holiday.{suffix}", "http://unused")
            await asyncio.to_thread(at.s3.put_object, Bucket=BUCKET, Key=keys[suffix], Body=b"-")
        for key in ("c1/720p/1767323045000.ts", "film/filmstream_00001.ts", "song.mp3"):
            await asyncio.to_thread(at.s3.put_object, Bucket=BUCKET, Key=key, Body=b"-")
        found = await at.jobs(len(CONTENT_TYPES), finished=False)
        assert sorted(job.source for job in found) == sorted(f"s3://{BUCKET}/{keys[s]}" for s in CONTENT_TYPES)


async def test_deleting_a_film_deletes_its_upload_but_no_foreign_object(aws: str, tmp_path: Path, film: bytes) -> None:
    async with cloud(tmp_path) as at:
        key, _ = await at.studio.uploads.offer("Holiday.mp4", "http://unused")
        for name in (key, "theirs.mp4"):
            await asyncio.to_thread(at.s3.put_object, Bucket=BUCKET, Key=name, Body=film)
        await at.jobs(2)
        for name in (key, "theirs.mp4"):
            assert await at.studio.films.delete(name.removesuffix(".mp4"))
        assert [o["Key"] for o in at.s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["theirs.mp4"]


async def test_a_repeated_event_makes_one_job_and_a_new_film_makes_another(
    aws: str, tmp_path: Path, film: bytes
) -> None:
    async with cloud(tmp_path) as at:
        at.s3.put_object(Bucket=BUCKET, Key="a.mp4", Body=film)
        for _ in range(3):
            at.send(event("a.mp4"))
        assert len(await at.jobs(1)) == 1
        await asyncio.sleep(1.1)  # S3 reports times in whole seconds
        at.s3.put_object(Bucket=BUCKET, Key="a.mp4", Body=film)
        assert len(await at.jobs(2)) == 2


async def test_an_upload_in_parts_makes_one_job(aws: str, tmp_path: Path, film: bytes) -> None:
    """The double also sends an event for each part."""
    async with cloud(tmp_path) as at:
        data = film + bytes(6 << 20)
        upload = at.s3.create_multipart_upload(Bucket=BUCKET, Key="a.mp4")["UploadId"]
        parts = []
        for number, piece in ((1, data[: 5 << 20]), (2, data[5 << 20 :])):
            told = at.s3.upload_part(Bucket=BUCKET, Key="a.mp4", UploadId=upload, PartNumber=number, Body=piece)
            parts.append({"ETag": told["ETag"], "PartNumber": number})
        at.s3.complete_multipart_upload(Bucket=BUCKET, Key="a.mp4", UploadId=upload, MultipartUpload={"Parts": parts})
        assert [job.state for job in await at.jobs(1)] == [JobState.COMPLETE]


async def test_other_objects_and_recordings_make_no_jobs(aws: str, tmp_path: Path, film: bytes) -> None:
    async with cloud(tmp_path) as at:
        for key in ("a.txt", "a.mov", "c1/mp4/2026/1/2/capture-2026-01-02_03-04-05-1767323045000.mp4"):
            at.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        at.send(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET}))
        at.s3.put_object(Bucket=BUCKET, Key="b.MP4", Body=film)
        (job,) = await at.jobs(1)
        assert job.source.endswith("/b.MP4")


async def test_messages_that_are_not_events_are_dropped(aws: str, tmp_path: Path) -> None:
    async with cloud(tmp_path) as at:
        for body in ("not json", "[1]", '{"Records": [{"s3": 1}]}'):
            at.send(body)
        await asyncio.sleep(0.3)
        assert await at.jobs(0) == []


def event(key: str) -> str:
    return json.dumps(
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": BUCKET}, "object": {"key": key}}}]}
    )


@contextlib.asynccontextmanager
async def reading(take: ObjectHandler) -> AsyncIterator[tuple[Any, str]]:
    """Runs a reader on a queue of its own, which retries without a pause."""
    sqs = boto3.client("sqs", region_name=REGION)
    queue = sqs.create_queue(QueueName="alone")["QueueUrl"]
    async with AwsSession() as session, Tasks("reader") as tasks:
        tasks.start(SqsReader(session, queue, object_handler([ObjectRule(take, [".mp4"])]), retry_seconds=0).run())
        yield sqs, queue


def left(sqs: Any, queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(int(told[name]) for name in names)


async def test_a_message_is_kept_until_its_job_is_stored(aws: str) -> None:
    tries = 0
    stored = asyncio.Event()

    async def take(bucket: str, key: str) -> None:
        nonlocal tries
        tries += 1
        assert left(sqs, queue) == 1
        if tries < 8:  # more attempts than the queue allows after a fault of the gateway
            raise StoreUnavailable("dynamodb does not answer")
        stored.set()

    async with reading(take) as (sqs, queue):
        sqs.send_message(QueueUrl=queue, MessageBody=event("a.mp4"))
        async with asyncio.timeout(at_most(20)):
            await stored.wait()
            while left(sqs, queue):
                await asyncio.sleep(0.05)


async def test_an_event_that_causes_an_internal_error_is_tried_five_times(aws: str) -> None:
    tries: list[str] = []

    async def take(bucket: str, key: str) -> None:
        tries.append(key)
        if key == "bad.mp4":
            raise RuntimeError("a fault of ours")

    async with reading(take) as (sqs, queue):
        sqs.send_message(QueueUrl=queue, MessageBody=event("bad.mp4"))
        sqs.send_message(QueueUrl=queue, MessageBody=event("good.mp4"))
        async with asyncio.timeout(at_most(20)):
            while left(sqs, queue):
                await asyncio.sleep(0.05)
    assert tries.count("bad.mp4") == 5 and tries.count("good.mp4") == 1


def test_the_command_reads_from_a_bucket_and_writes_to_one(aws: str, tmp_path: Path, film: bytes) -> None:
    s3 = boto3.client("s3", region_name=REGION)
    s3.put_object(Bucket=BUCKET, Key="in/a.mp4", Body=film)
    paths = (f"s3://{BUCKET}/in/a.mp4", "--out", f"s3://{BUCKET}/out/")
    done = run("vod", *paths, "--json", env={**os.environ, "MILLRACE_VOD__PRESET": "superfast"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"]["hls"] == f"s3://{BUCKET}/out/a/a.m3u8"
    keys = {o["Key"] for o in s3.list_objects_v2(Bucket=BUCKET, Prefix="out/")["Contents"]}
    assert {"out/a/a.m3u8", "out/a/astream.m3u8", "out/a/astream_00001.ts"} < keys


def test_the_command_reports_a_missing_object_in_one_line(aws: str, tmp_path: Path) -> None:
    failed = run("vod", f"s3://{BUCKET}/none.mp4", "--out", str(tmp_path / "out"))
    assert failed.returncode == 1 and len(failed.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
