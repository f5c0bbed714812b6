"""Recordings of the original system, on disk or in a bucket after a migration: listed, played, cut and deleted."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import boto3
import pytest

from tests.support.gateway import Channel, Gateway, http, running
from tests.support.media import FRAMES_PER_SECOND, Film, framehash_command, parse_framehash
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("original-recordings", seconds=8, gop=60)
BUCKET = "video-streaming-assets"
SESSION_MS = 1_670_544_000_000  # 2022-12-09 08:00 in the original's zone
MOTION = "2022-3-9_01-02-03-004_all-35_"


class Store(Protocol):
    def put(self, key: str, file: Path) -> None: ...

    def keys(self, channel: str) -> list[str]: ...


@dataclass
class Disk:
    media: Path

    def put(self, key: str, file: Path) -> None:
        (self.media / key).parent.mkdir(parents=True, exist_ok=True)
        (self.media / key).write_bytes(file.read_bytes())

    def keys(self, channel: str) -> list[str]:
        return [str(p.relative_to(self.media)) for p in (self.media / channel).rglob("*") if p.is_file()]


@dataclass
class Bucket:
    s3: Any

    def put(self, key: str, file: Path) -> None:
        # The original stored every MP4 and picture with this type.
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes(), ContentType="video/MP2T")

    def keys(self, channel: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{channel}/")
        return [item["Key"] for item in found.get("Contents", ())]


@pytest.fixture(scope="module", params=["disk", "bucket"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[Gateway, Store]]:
    need("ffmpeg", "ffprobe")
    if request.param == "disk":
        with running() as gateway:
            yield gateway, Disk(gateway.data / "media")
        return
    url = request.getfixturevalue("moto_url")
    account = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "test"}
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    s3 = boto3.client("s3", endpoint_url=url, region_name="eu-central-1", **keys)
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    with running(**account, AWS_ENDPOINT_URL=url, MILLRACE_OBJECTS=f"s3://{BUCKET}") as gateway:
        yield gateway, Bucket(s3)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recordings of the original system, which are made in real time once for both stores."""
    folder = tmp_path_factory.mktemp("original")
    recorded(folder)
    on_demand(folder)
    return folder


def recorded(folder: Path) -> None:
    """Records like the ffmpeg of the original: two MP4 recordings and their list, in its time zone."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-re", "-i", str(FILM.path()), "-c:v", "copy", "-c:a", "copy"]
    command += ["-f", "segment", "-segment_time", "4", "-segment_list", "vod-index.m3u8", "-reset_timestamps", "1"]
    command += ["-segment_format_options", "movflags=+faststart", "-strftime", "1"]
    command += ["capture-%03d-%Y-%m-%d_%H-%M-%S.mp4"]
    subprocess.run(command, cwd=folder, check=True, timeout=at_most(60), env=os.environ | {"TZ": "Asia/Shanghai"})


def on_demand(folder: Path) -> None:
    """Its on-demand session: segments with numbers, and the playlist without dates that `sync_m3u8` wrote."""
    (folder / "720p").mkdir()
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(FILM.path()), "-c", "copy", "-f", "hls"]
    command += ["-hls_time", "4", "-hls_list_size", "0", "-start_number", str(SESSION_MS)]
    command += ["-hls_segment_filename", "720p/%03d.ts", "720p/index.m3u8"]
    subprocess.run(command, cwd=folder, check=True, timeout=at_most(60))
    live = (folder / "720p" / "index.m3u8").read_text()
    entries = re.findall(r"(#EXTINF:[^\n]*)\n(\d{13}\.ts)", live)
    text = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:{SESSION_MS}\n"
    text += "".join(f"{extinf}\n720p/{name}\n" for extinf, name in entries) + "#EXT-X-ENDLIST\n"
    (folder / f"vod-{SESSION_MS}.m3u8").write_text(text)


def frames(source: str | Path) -> list[str]:
    done = subprocess.run(framehash_command(source), check=True, capture_output=True, timeout=at_most(60))
    return [frame.digest for frame in parse_framehash(done.stdout.decode()).video]


def clip(gateway: Gateway, channel: Channel, start: datetime, seconds: float) -> list[str]:
    body = {"from": start.isoformat(), "to": (start + timedelta(seconds=seconds)).isoformat()}
    made = gateway.api("POST", f"/videostream/{channel.id}/clips", body)
    assert made.status == 201, made.text
    return frames(made.json()["url"])


def test_original_recordings_can_be_listed_played_cut_and_deleted(
    place: tuple[Gateway, Store], original: Path, tmp_path: Path
) -> None:
    gateway, store = place
    channel = gateway.channel(isOnDemand=False)
    source = [frame.digest for frame in FILM.hashes().video]
    pieces = sorted(original.glob("capture-*.mp4"))
    session = [original / f"vod-{SESSION_MS}.m3u8", *sorted((original / "720p").glob("*.ts"))]
    day = datetime.now(UTC) + timedelta(hours=8)
    folder = f"{channel.id}/mp4/{day.year}/{day.month}/{day.day}"
    for file in (*pieces, original / "vod-index.m3u8"):
        store.put(f"{folder}/{file.name}", file)
    for file in session:
        store.put(f"{channel.id}/{file.relative_to(original)}", file)
    still = tmp_path / "still.jpeg"
    still.write_bytes(b"\xff\xd8\xff")
    store.put(f"{channel.id}/motion/mp4/2022/3/9/{MOTION}.mp4", pieces[0])
    store.put(f"{channel.id}/motion/images/2022/3/9/{MOTION}.jpeg", still)

    listed = gateway.api("GET", f"/videostream/{channel.id}/recordings").json()
    assert [item["kind"] for item in listed] == ["video", "video", "ondemand", "motion"]
    videos, ondemand, motion = listed[1::-1], listed[2], listed[3]
    assert [item["key"] for item in videos] == [f"{folder}/{file.name}" for file in pieces]
    assert [round(item["seconds"]) for item in listed] == [4, 4, 8, 4]
    began = [datetime.fromisoformat(item["start"]) for item in videos]
    assert abs(datetime.now(UTC) - began[0]) < timedelta(minutes=2)
    assert (ondemand["start"], motion["start"]) == ("2022-12-09T00:00:00.000Z", "2022-03-08T17:02:03.000Z")
    assert motion["poster"].endswith(f"/vod/motion/images/2022/3/9/{MOTION}.jpeg")

    assert [digest for item in videos for digest in frames(item["url"])] == source
    assert frames(ondemand["url"]) == source
    assert http("GET", videos[0]["url"]).headers["content-type"] == "video/mp4"
    for item in listed:
        page = http("GET", item["url"] + "/")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    index = channel.url(f"vod/{folder.partition('/')[2]}/vod-index.m3u8")
    assert http("GET", index).body == (original / "vod-index.m3u8").read_bytes()

    second = FRAMES_PER_SECOND
    assert clip(gateway, channel, began[0] + timedelta(seconds=1), 2) == source[second : 3 * second]

    for item in (videos[0], ondemand, motion):
        path = item["key"].partition("/")[2]
        assert gateway.api("DELETE", f"/videostream/{channel.id}/recordings/{path}").status == 200
    left = {f"{folder}/{pieces[1].name}", f"{folder}/vod-index.m3u8"}
    assert {key for key in store.keys(channel.id) if "/clips/" not in key} == left
    assert gateway.api("DELETE", f"/videostream/{channel.id}?media=delete").status == 200
    assert store.keys(channel.id) == []
