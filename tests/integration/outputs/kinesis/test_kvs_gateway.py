"""The whole gateway and Kinesis Video Streams: a real push, and a film out of a bucket, stored frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

import boto3
import pytest

from tests.support import kvs
from tests.support.clients import push
from tests.support.gateway import Gateway, running
from tests.support.kvs import until
from tests.support.media import Film
from tests.support.putmedia import KvsDouble
from tests.support.tools import need

FILM = Film("kvs-gateway", seconds=8, size="320x180", bframes=2)
BUCKET = "films"


@contextlib.asynccontextmanager
async def started(double: KvsDouble, moto: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """A gateway that finds the doubles where AWS would be; they live on this loop, which must not stand still."""
    kvs.use(double, monkeypatch)
    life = running(AWS_ENDPOINT_URL_S3=moto, KVS_STREAM_ARN=double.streams["camera"].arn)
    gateway = await asyncio.to_thread(life.__enter__)
    try:
        yield gateway
    finally:
        await asyncio.to_thread(life.__exit__, None, None, None)


async def test_a_push_and_a_film_are_stored(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need("ffmpeg")
    source = await asyncio.to_thread(kvs.reel, FILM)
    async with KvsDouble() as double:
        camera = double.add("camera")
        live = double.add("live")
        async with started(double, moto_url, monkeypatch) as gateway:
            channel = await asyncio.to_thread(lambda: gateway.channel("kvs", isKvs=True, kvsStream="live"))
            with push(FILM, channel.push):
                await until(lambda: len(live.frames) == len(source.units), lambda: f"all: {len(live.frames)}", 40)
            kvs.assert_stored(live, source.units)

            s3 = boto3.client("s3", endpoint_url=moto_url)
            await asyncio.to_thread(s3.create_bucket, Bucket=BUCKET, CreateBucketConfiguration=_PLACE)
            await asyncio.to_thread(s3.upload_file, str(FILM.path()), BUCKET, "a film.flv")
            asked = {"bucketName": BUCKET, "keyName": "a+film.flv"}
            reply = await asyncio.to_thread(gateway.api, "POST", "/processObject", asked)
            assert reply.status == 200, reply.text
            assert reply.json()["streamArn"] == camera.arn
            assert reply.json()["startFragmentNumber"]
            queued = await asyncio.to_thread(gateway.api, "POST", "/processObject?wait=0", asked)
            assert (queued.status, queued.json()["state"]) == (202, "SUBMITTED")
            ids = [*reply.json()["jobs"], queued.json()["id"]]
            for id in ids:
                await until(functools.partial(_is_complete, gateway, id), "the job ends", 30)


_PLACE = {"LocationConstraint": "eu-central-1"}


def _is_complete(gateway: Gateway, id: str) -> bool:
    return bool(gateway.api("GET", f"/jobs/{id}").json()["state"] == "COMPLETE")
