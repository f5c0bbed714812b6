"""A store that is compatible with S3, the Versity gateway: what doctor says of it, and all media of the real program.

Go builds the store for one to three minutes, so these tests run at night.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from gateway.adapters.aws.bucket_check import BucketCheck
from gateway.adapters.stores import open_aws
from gateway.settings import load
from tests.support.clients import pull, push, take_of, until
from tests.support.command_line import run
from tests.support.gateway import Channel, Gateway, http, running
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.support.versity import ACCESS_KEY, BUCKET, SECRET_KEY, Versity, versity

pytestmark = pytest.mark.nightly

FILM = Film("compatible", seconds=8)
WORKS = dict.fromkeys(["put", "range", "multipart", "presigned put", "delete"], "")
# The only part of S3 that Millrace uses and this store lacks. Nothing but `millrace storage` needs it.
LACKS = {"lifecycle": f"s3 (bucket {BUCKET}) rejected the request: NotImplemented"}


async def found(store: Versity, bucket: str = BUCKET, **other: str) -> dict[str, str]:
    settings = load(environ=store.settings(**other))
    async with open_aws(settings.objects, settings.s3) as aws:
        return {name: reason async for name, reason in BucketCheck(aws, bucket).run()}


# ---- doctor ----


async def test_the_check_names_the_one_thing_that_the_store_lacks(store: Versity) -> None:
    assert await found(store) == WORKS | LACKS
    assert store.stored() == []


async def test_a_wrong_secret_and_a_missing_bucket_are_one_finding(store: Versity) -> None:
    refused = "s3 (bucket {}) rejected the request: {}"
    assert await found(store, SECRET_KEY="wrong") == {"put": refused.format(BUCKET, "SignatureDoesNotMatch")}
    assert list(await found(store, ACCESS_KEY="nobody")) == ["put"]
    assert await found(store, bucket="of-nobody") == {"put": refused.format("of-nobody", "NoSuchBucket")}


async def test_a_wrong_region_is_found(store: Versity) -> None:
    """The client of AWS corrects the region of its own requests, but nobody corrects that of a signed address."""
    reasons = await found(store, REGION="eu-central-1")
    assert reasons == WORKS | LACKS | {"presigned put": "an upload by a signed address got 400"}


async def test_the_bucket_may_be_a_part_of_the_host_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the store's own name server knows these names, so the test answers for it."""
    asked = set()

    async def resolve(self: ThreadedResolver, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        asked.add(host)
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=0, flags=0)]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    (tmp_path / "buckets" / BUCKET).mkdir(parents=True)
    keys = {"ROOT_ACCESS_KEY_ID": ACCESS_KEY, "ROOT_SECRET_ACCESS_KEY": SECRET_KEY}
    with versity(tmp_path / "buckets", keys | {"VGW_VIRTUAL_DOMAIN": "store.example"}) as store:
        endpoint = store.url.replace("127.0.0.1", "store.example")
        assert await found(store, ENDPOINT=endpoint, PATH_STYLE="false") == WORKS | LACKS
    assert asked == {f"{BUCKET}.store.example"}


def test_doctor_tries_the_store_of_the_settings(store: Versity, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "AWS_"))}
    env = kept | store.settings() | {"MILLRACE_DATA": str(tmp_path), "AWS_CONFIG_FILE": os.devnull}
    done = run("doctor", "--json", env=env)
    states = {one["name"]: one["state"] for one in json.loads(done.stdout) if one["name"].startswith("bucket")}
    assert states == {f"bucket, {name}": "ok" for name in WORKS} | {"bucket, lifecycle": "warning"}


# ---- the real program ----


@pytest.fixture(scope="module")
def media(versity_server: Versity) -> Iterator[tuple[Gateway, Versity]]:
    """Yields a gateway whose objects are in a bucket of its own."""
    need("ffmpeg")
    (versity_server.folder / "media").mkdir()
    settings = versity_server.settings() | {"MILLRACE_OBJECTS": "s3://media", "MILLRACE_STREAM__LINGER": "1"}
    with running(**settings) as gateway:
        yield gateway, versity_server


def recordings(channel: Channel, kind: str) -> list[dict[str, Any]]:
    reply = channel.gateway.api("GET", f"/videostream/{channel.id}/recordings?kind={kind}")
    assert reply.status == 200, reply.text
    return list(reply.json())


def pictures(url: str) -> list[str]:
    with pull(url, seconds=None) as player:
        return [frame.digest for frame in take_of(player).video]


def test_recordings_are_uploaded_played_cut_and_deleted(media: tuple[Gateway, Versity]) -> None:
    gateway, store = media
    channel = gateway.channel(isVideo=True, video_time="60", isOnDemand=True, ondemand_time="2")
    source = [frame.digest for frame in FILM.hashes().video]
    with push(FILM, channel.push) as pushing:
        pushing.wait(40)
    (video,) = until(lambda: recordings(channel, "video"), "the MP4 file is in the store", 30)
    (session,) = until(lambda: recordings(channel, "ondemand"), "the session is in the store", 30)
    assert {video["key"], session["key"]} <= set(store.stored("media"))
    assert not list((gateway.data / "media").rglob("*.mp4")), "no copy stays on the disk"
    assert pictures(video["url"]) == source
    assert pictures(session["url"]) == source
    whole = http("GET", video["url"])
    part = http("GET", video["url"], headers={"Range": "bytes=1000-1999"})
    assert (part.status, part.body) == (206, whole.body[1000:2000])

    clip = gateway.api("POST", f"/videostream/{channel.id}/clips", {"last": 3})
    assert clip.status == 201, clip.text
    assert len(pictures(clip.json()["url"])) >= 3 * 25 - 1
    assert clip.json()["key"] in store.stored("media")

    for one in (video, session):
        path = one["key"].removeprefix(f"{channel.id}/")
        assert gateway.api("DELETE", f"/videostream/{channel.id}/recordings/{path}?final=true").status == 200
    left = [key for key in store.stored("media") if key.startswith(channel.id)]
    assert left == [clip.json()["key"]]


def test_a_film_is_uploaded_once_converted_and_deleted(media: tuple[Gateway, Versity]) -> None:
    gateway, store = media
    film = FILM.path().read_bytes()
    offer = gateway.api("POST", "/uploads", {"name": "holiday.flv"}).json()
    assert urllib.parse.urlsplit(offer["url"]).netloc != urllib.parse.urlsplit(store.url).netloc
    assert [send(offer, film), send(offer, b"another film")] == [201, 409]

    (job,) = (job for job in gateway.api("GET", "/jobs").json() if job["source"] == offer["key"])
    done = until(lambda: ended(gateway, job["id"]), "the job ends", 90)
    assert done["state"] == "COMPLETE", done
    (listed,) = gateway.api("GET", "/films").json()
    assert len(pictures(listed["hls"])) == len(FILM.hashes().video)

    assert gateway.api("DELETE", f"/films/{listed['key']}").status in (200, 202)
    kept = f"{listed['key']}/"
    until(lambda: not [key for key in store.stored("media") if key.startswith(kept)], "the film's files are gone")


def send(offer: dict[str, Any], body: bytes) -> int:
    """Uploads as a browser does, and returns the status code."""
    request = urllib.request.Request(offer["url"], data=body, headers=offer["headers"], method=offer["method"])
    try:
        with urllib.request.urlopen(request, timeout=at_most(30)) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def ended(gateway: Gateway, job: str) -> dict[str, Any] | None:
    found: dict[str, Any] = gateway.api("GET", f"/jobs/{job}").json()
    return found if found["state"] in ("COMPLETE", "ERROR", "CANCELED") else None
