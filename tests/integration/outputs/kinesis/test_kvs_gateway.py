"""The whole gateway and Kinesis Video Streams: a real push, and a film out of a bucket, stored frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import boto3
import pytest

from tests.support import kvs
from tests.support.clients import push
from tests.support.gateway import Gateway, running
from tests.support.media import Film
from tests.support.putmedia import KvsDouble
from tests.support.tools import need
from tests.support.waiting import until

FILM = Film("kvs-gateway", seconds=4, size="320x180", bframes=2)
SHORT = Film("kvs-gateway-2", seconds=2, size="320x180")
BUCKET = "films"


@contextlib.asynccontextmanager
async def started(double: KvsDouble, moto: str, monkeypatch: pytest.MonkeyPatch, queue: str) -> AsyncIterator[Gateway]:
    """Runs a gateway that uses the doubles as AWS. They live on this loop, which must not block."""
    life = running(
        AWS_ENDPOINT_URL_S3=moto,
        AWS_ENDPOINT_URL_SQS=moto,
        MILLRACE_STREAM__LINGER="1",
        KVS_STREAM_ARN=double.streams["camera"].arn,
        MILLRACE_KVS__QUEUE=queue,
        MILLRACE_KVS__PREFIX="in/",
    )
    gateway = await asyncio.to_thread(life.__enter__)
    try:
        yield gateway
    finally:
        await asyncio.to_thread(life.__exit__, None, None, None)


async def test_a_push_and_a_film_from_a_bucket_are_stored(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need("ffmpeg")
    source = await asyncio.to_thread(kvs.reel, FILM)
    async with KvsDouble() as double:
        camera = double.add("camera")
        live = double.add("live")
        kvs.use(double, monkeypatch)
        queue = await asyncio.to_thread(_bucket_with_queue, moto_url)
        async with started(double, moto_url, monkeypatch, queue) as gateway:
            channel = await asyncio.to_thread(lambda: gateway.channel("kvs", isKvs=True, kvsStream="live"))
            with push(FILM, channel.push):
                await until(lambda: len(live.frames) == len(source.units), lambda: f"all: {len(live.frames)}", 40)
            kvs.assert_stored(live, source.units)

            s3 = boto3.client("s3", endpoint_url=moto_url)
            await asyncio.to_thread(s3.upload_file, str(FILM.path()), BUCKET, "a film.flv")
            asked = {"bucketName": BUCKET, "keyName": "a+film.flv"}
            reply = await asyncio.to_thread(gateway.api, "POST", "/processObject", asked)
            assert reply.status == 200, reply.text
            assert reply.json()["streamArn"] == camera.arn
            assert reply.json()["startFragmentNumber"]
            queued = await asyncio.to_thread(gateway.api, "POST", "/processObject?wait=0", asked)
            assert (queued.status, queued.json()["state"]) == (202, "SUBMITTED")
            (id,) = reply.json()["jobs"]
            canceled = await asyncio.to_thread(gateway.api, "DELETE", f"/jobs/{queued.json()['id']}")
            assert canceled.json()["state"] == "CANCELED"
            await until(lambda: gateway.api("GET", f"/jobs/{id}").json()["state"] == "COMPLETE", "the job ends", 30)
            # A film that is stored in the bucket needs no request.
            await asyncio.to_thread(s3.upload_file, str(SHORT.path()), BUCKET, "in/my clip (1).flv")
            source_name = f"s3://{BUCKET}/in/my clip (1).flv"
            await until(
                lambda: any(job["source"] == source_name and job["state"] == "COMPLETE" for job in _jobs(gateway)),
                lambda: f"the film of the event is sent: {_jobs(gateway)}",
                40,
            )
            assert len(_jobs(gateway)) == 3


def _jobs(gateway: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.api("GET", "/jobs").json()
    return found


def _bucket_with_queue(moto: str) -> str:
    """Makes a bucket that reports new objects; the URL of the queue."""
    place = {"endpoint_url": moto, "region_name": "eu-central-1"}
    s3, sqs = boto3.client("s3", **place), boto3.client("sqs", **place)
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    url: str = sqs.create_queue(QueueName="objects")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rules = [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": rules})
    return url
