"""Captions of a film whose files are in a bucket."""

from __future__ import annotations

import boto3

from gateway.adapters.aws.objects import S3Objects
from gateway.adapters.aws.session import AwsSession
from gateway.ports.films import Film, FilmState
from tests.integration.adapters.conftest import BUCKET
from tests.support.studio import bench

MASTER = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nastream.m3u8\n"


def client():
    return boto3.client("s3", region_name="eu-central-1")


def body(key: str) -> bytes:
    return client().get_object(Bucket=BUCKET, Key=key)["Body"].read()


async def test_captions_are_objects_of_the_film_and_go_with_it(aws, tmp_path):
    for name, data in (("a.m3u8", MASTER), ("astream.m3u8", b"#EXTM3U\n"), ("astream_00001.ts", b"x")):
        client().put_object(Bucket=BUCKET, Key=f"a/{name}", Body=data)
    async with AwsSession() as opened, bench(tmp_path, run=False, objects=S3Objects(opened, BUCKET)) as at:
        await at.studio.films.store.add(
            Film("a", "A", 1.0, state=FilmState.READY, files={"hls": "a/a.m3u8"}, duration=9)
        )
        await at.studio.captions.add("a", "en", "English", b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n")
        assert b'URI="acc_en.m3u8"' in body("a/a.m3u8") and b"acc_en.vtt" in body("a/acc_en.m3u8")
        assert b"Hello" in body("a/acc_en.vtt")
        head = client().head_object(Bucket=BUCKET, Key="a/acc_en.vtt")
        assert head["ContentType"] == "text/vtt; charset=utf-8"
        await at.studio.captions.remove("a", "en")
        assert body("a/a.m3u8") == MASTER
        await at.studio.captions.add("a", "en", "English", b"WEBVTT\n\n00:01.000 --> 00:02.000\nAgain\n")
        assert await at.studio.films.delete("a")
    keys = [found["Key"] for found in client().list_objects_v2(Bucket=BUCKET, Prefix="a/").get("Contents", ())]
    assert keys == []
