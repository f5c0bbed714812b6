"""Rewind, clips and export with media in a bucket: while live, after the push, and after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from gateway.adapters.aws.objects import S3Objects
from gateway.adapters.aws.session import AwsSession
from gateway.channels.channel import Channel as StoredChannel
from gateway.outputs.storage import rewind_deletion
from gateway.outputs.storage.rewind_deletion import RewindDeletion
from tests.support.clients import pull, push, take_of, until
from tests.support.gateway import Channel, Gateway, http
from tests.support.hls_rules import Playlist, check, parse
from tests.support.media import FRAMES_PER_SECOND, Film, Take, excerpt, framehash_command, parse_framehash
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("bucket-12", seconds=12, size="160x90")
MIDDLE = Film("bucket-9", seconds=9, size="160x90")
OTHER = Film("bucket-5", seconds=5, size="320x180", gop=30)
SHORT = Film("bucket-7", seconds=7, size="160x90")
BUCKET = "recordings-for-rewinding"
FIELDS = {"rewind": 1, "hls_time": "1", "hls_list_size": "3"}
AWS = {
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "AKIATEST",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class Cloud:
    """A gateway whose objects are in a bucket. `restart` stops it and starts another one on the same data."""

    settings: dict[str, str]
    gateway: Gateway
    s3: Any

    def restart(self) -> None:
        assert self.gateway.stop() == 0, self.gateway.log[-3000:]
        before = self.gateway
        (before.data / "ports.json").unlink(missing_ok=True)
        folder = Path(tempfile.mkdtemp(dir=before.folder))
        self.gateway = Gateway(folder, **self.settings, MILLRACE_DATA=str(before.data))
        self.gateway.data = before.data
        self.gateway.wait_ready()

    def keys(self, channel: Channel) -> list[str]:
        """The keys of a channel's objects."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{channel.id}/")
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def read(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())


@pytest.fixture(scope="module")
def cloud(moto_url: str) -> Iterator[Cloud]:
    need("ffmpeg")
    s3 = boto3.client(
        "s3", endpoint_url=moto_url, region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    settings = {
        **AWS,
        "AWS_ENDPOINT_URL": moto_url,
        "MILLRACE_OBJECTS": f"s3://{BUCKET}",
        "MILLRACE_STREAM__LINGER": "1",
    }
    with tempfile.TemporaryDirectory(prefix="millrace-bucket-") as folder:
        instance = Gateway(Path(folder), **settings)
        here = Cloud(settings, instance, s3)
        try:
            instance.wait_ready()
            yield here
        finally:
            assert here.gateway.stop() == 0, here.gateway.log[-3000:]


@contextlib.contextmanager
def on_air(channel: Channel, film: Film) -> Iterator[None]:
    """Pushes a film, and returns when its stream is over."""
    with push(film, channel.push) as pushing:
        channel.wait_live()
        channel.wait_playable("live.m3u8")
        yield
        pushing.wait(40)
    until(lambda: channel.session()["state"] == "idle", "the end")


def playlist(channel: Channel) -> Playlist:
    reply = http("GET", channel.url("live.m3u8?rewind=3600"))
    assert reply.status == 200, reply.text
    return check(parse(reply.text))


def uris(channel: Channel) -> list[str]:
    return [segment.uri for segment in playlist(channel).segments]


def digests(take: Take) -> list[str]:
    return [frame.digest for frame in take.video]


def hashes(channel: Channel) -> list[str]:
    """Returns the hashes of the frames of the whole rewind playlist of an ended stream."""
    with pull(channel.url("live.m3u8?rewind=3600"), seconds=None, before=("-live_start_index", "0")) as player:
        return digests(take_of(player))


def test_rewind_reads_the_bucket_also_after_a_restart(cloud: Cloud) -> None:
    channel = cloud.gateway.channel(**FIELDS)
    source = digests(FILM.hashes())
    with on_air(channel, FILM):
        until(lambda: len(uris(channel)) >= 9, "nine segments", 30)
        # The first of them left the memory of the packager and the disk.
        early = uris(channel)[0]
        until(lambda: len([k for k in cloud.keys(channel) if k.endswith(".ts")]) >= 8, "pieces in the bucket")
        whole = http("GET", channel.url(early))
        part = http("GET", channel.url(early), headers={"Range": "bytes=188-375"})
        assert whole.status == 200 and len(whole.body) % 188 == 0 and len(whole.body) > 1_000
        assert (part.status, part.body) == (206, whole.body[188:376])
        picture = http("GET", channel.url(f"rewind/{int(time.time()) - 6}.jpg"))
        assert (picture.status, picture.body[:2]) == (200, b"\xff\xd8")
        first = playlist(channel)
    assert hashes(channel) == source
    assert not list((cloud.gateway.data / "media").glob(f"{channel.id}/**/*.ts"))
    cloud.restart()
    channel = Channel(cloud.gateway, channel.item)
    with on_air(channel, SHORT):
        again = playlist(channel)
        assert again.sequence >= first.sequence
        stored = [segment.uri for segment in again.segments if segment.uri.startswith("vod/720p/")]
        assert len(stored) == 12, "the first publish is listed from its playlist in the bucket"
        for uri in (stored[0], stored[-1]):
            assert http("GET", channel.url(uri)).body == cloud.read(f"{channel.id}/{uri.removeprefix('vod/')}")
        oldest = http("GET", channel.url("status.json")).json()["oldest"]
        picture = http("GET", channel.url(f"rewind/{oldest // 1000 + 2}.jpg"))
        assert (picture.status, picture.body[:2]) == (200, b"\xff\xd8")
    assert hashes(channel) == source + digests(SHORT.hashes())


def test_clips_and_exports_read_the_bucket_until_their_media_are_deleted(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = cloud.gateway.channel(**FIELDS)
    films = [digests(film.hashes()) for film in (MIDDLE, OTHER)]

    def frames(data: bytes) -> Take:
        file = tmp_path / "movie.mp4"
        file.write_bytes(data)
        done = subprocess.run(framehash_command(file), check=True, capture_output=True, timeout=at_most(60))
        assert not done.stderr, done.stderr.decode()
        return parse_framehash(done.stdout.decode())

    def clip(**wanted: Any) -> list[str]:
        reply = cloud.gateway.api("POST", f"/videostream/{channel.id}/clips", wanted)
        assert reply.status == 201, f"{reply.text}\n{cloud.gateway.log[-3000:]}"
        made = reply.json()
        fetched = http("GET", made["url"])
        assert fetched.status == 200 and fetched.body == cloud.read(made["key"])
        return digests(frames(fetched.body))

    with on_air(channel, MIDDLE):
        until(lambda: len([k for k in cloud.keys(channel) if k.endswith(".ts")]) >= 6, "pieces in the bucket")
        # Most media are in the bucket; the last ones are only on the disk.
        live = clip(last=5)
        assert excerpt(live, films[0], least=5 * FRAMES_PER_SECOND - 1) + len(live) > 6 * FRAMES_PER_SECOND
    with on_air(channel, OTHER):
        pass

    def starts() -> list[float]:
        playlists = sorted(key for key in cloud.keys(channel) if key.endswith(".m3u8"))
        dates = [cloud.read(key).decode().partition("PROGRAM-DATE-TIME:")[2].split()[0] for key in playlists]
        return [datetime.fromisoformat(date).timestamp() for date in dates]

    first, second = starts()
    assert clip(**{"from": first + 75 / 30, "to": first + 213 / 30}) == films[0][75:213]
    reply = cloud.gateway.api("GET", f"/videostream/{channel.id}/export?from={first + 6}&to={second + 3}")
    assert reply.status == 200, reply.text
    take = frames(reply.body)
    assert digests(take) == films[0][180:] + films[1][:90]
    assert max(b.time - a.time for a, b in zip(take.video, take.video[1:], strict=False)) < 0.05, "the gap is closed"

    monkeypatch.setattr(rewind_deletion, "_PAUSE_SECONDS", 0)
    before = cloud.keys(channel)
    assert delete_old(cloud, channel, monkeypatch, time.time()) == 0
    assert delete_old(cloud, channel, monkeypatch, time.time() + 3_600 + 700) == len(before) - 2
    left = cloud.keys(channel)
    assert len(left) == 2 and all("/clips/" in key for key in left)
    reply = cloud.gateway.api("GET", f"/videostream/{channel.id}/export?from={first}&to={second}")
    assert (reply.status, "nothing" in reply.text) == (404, True)


def test_captions_are_in_the_bucket_until_their_session_is_deleted(cloud: Cloud) -> None:
    channel = cloud.gateway.channel(**FIELDS, isOnDemand=True)
    with on_air(channel, SHORT):
        said = cloud.gateway.api("POST", f"/videostream/{channel.id}/captions", {"text": "in the bucket"})
        assert said.status == 202
        until(lambda: any(key.endswith(".text.vtt") for key in cloud.keys(channel)), "captions in the bucket")
        until(lambda: len(uris(channel)) >= 6, "six segments", 30)
        reply = http("GET", channel.url("captions/text/live.m3u8?rewind=3600"))
        names = [name for name in reply.text.splitlines() if name.endswith(".vtt")]
        files = [http("GET", channel.url(f"captions/text/{name}")) for name in names]
        assert {file.status for file in files} == {200} and len(files) >= 6
        assert any("in the bucket" in file.text for file in files)

    def listed() -> list[str]:
        found = cloud.gateway.api("GET", f"/videostream/{channel.id}/recordings").json()
        return [recording["key"].partition("/")[2] for recording in found]

    until(lambda: len(uris(channel)) == len([k for k in cloud.keys(channel) if k.endswith(".ts")]), "all are stored")
    cloud.restart()
    channel = Channel(cloud.gateway, channel.item)
    [session] = listed()
    stored = [key for key in cloud.keys(channel) if key.endswith(".vtt")]
    assert stored
    master = session.replace(".m3u8", ".master.m3u8")
    head = cloud.s3.head_object(Bucket=BUCKET, Key=f"{channel.id}/{master}")
    assert "immutable" not in head["CacheControl"] and head["ContentType"].startswith("application/")
    assert "immutable" in cloud.s3.head_object(Bucket=BUCKET, Key=stored[0])["CacheControl"]
    assert session.replace(".m3u8", ".text.m3u8") in http("GET", channel.url(f"vod/{master}")).text
    subtitles = http("GET", channel.url(f"vod/{session.replace('.m3u8', '.text.m3u8')}")).text
    files = [http("GET", channel.url(f"vod/{line}")) for line in subtitles.splitlines() if line.endswith(".vtt")]
    assert {file.status for file in files} == {200} and len(files) == subtitles.count("#EXTINF")
    assert any("in the bucket" in file.text for file in files)
    path = f"/videostream/{channel.id}/recordings/{session}"
    assert cloud.gateway.api("DELETE", path).status == 200  # into the bin
    assert cloud.keys(channel) == []
    [entry] = cloud.gateway.api("GET", "/bin").json()
    assert cloud.gateway.api("POST", f"/bin/{entry['id']}/restore").status == 200
    assert {key for key in cloud.keys(channel) if key.endswith(".vtt")} == set(stored)
    assert cloud.gateway.api("DELETE", f"{path}?final=true").status == 200
    assert cloud.keys(channel) == []


def delete_old(cloud: Cloud, channel: Channel, monkeypatch: pytest.MonkeyPatch, now: float) -> int:
    """Runs one round of the deletion of this channel's media at a time."""
    for name, value in {**AWS, "AWS_ENDPOINT_URL": cloud.settings["AWS_ENDPOINT_URL"]}.items():
        monkeypatch.setenv(name, value)

    class Channels:
        async def list(self) -> list[StoredChannel]:
            return [StoredChannel(channel.item)]

    async def run() -> int:
        async with AwsSession() as session:
            return await RewindDeletion(S3Objects(session, BUCKET), Channels(), lambda: now).run_once()  # type: ignore[arg-type]

    return asyncio.run(run())


def test_a_session_in_a_bucket_is_replayed_renamed_downloaded_and_trimmed(cloud: Cloud) -> None:
    gateway = cloud.gateway
    channel = gateway.channel(isOnDemand=True, ondemand_time="2", videoname="Main stage")
    with push(OTHER, channel.push) as pushing:
        pushing.wait(30)
    replay = until(lambda: http("GET", channel.url("status.json")).json()["replay"], "a replay", 40)
    picture, film = (http("GET", channel.url(replay["page"] + file)) for file in ("poster.jpg", "video.mp4"))
    assert picture.body[:2] == b"\xff\xd8" and film.body[4:8] == b"ftyp"
    path = f"/videostream/{channel.id}/recordings"
    changed = gateway.api("PUT", f"{path}/vod-{replay['start']}.m3u8", {"title": "Opening"})
    assert changed.status == 200 and f"{channel.id}/vod-{replay['start']}.json" in cloud.keys(channel)
    assert "Opening" in http("GET", channel.url(replay["page"])).text
    body = {"session": replay["start"], "from": 1, "to": 4, "name": "The middle"}
    job = gateway.api("POST", f"{path}/trim", body).json()
    made = until(
        lambda: (
            (now := gateway.api("GET", f"/jobs/{job['id']}").json())["state"] not in ("SUBMITTED", "PROGRESSING")
            and now
        ),
        "a finished job",
        60,
    )
    assert made["state"] == "COMPLETE", made
    assert http("GET", made["outputs"]["hls"]).status == 200
