"""Jobs and uploads over the admin API: the real application, real stores, real workers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.api import schemas
from gateway.api.context import AddressDefaults
from gateway.api.jobs import VOD_SERVICE
from gateway.channels.stream_key import SigningSecrets, Verdict
from gateway.ports.jobs import JobState
from gateway.ports.stores import DirectUpload
from gateway.vod import uploads
from tests.support import films
from tests.support.admin import PORTS, SECRET, Admin, admin
from tests.support.studio import Bench, bench
from tests.support.time_outs import at_most


@contextlib.asynccontextmanager
async def running(
    folder: Path, *, address_defaults: AddressDefaults | None = None, **environ: str
) -> AsyncIterator[tuple[Admin, Bench]]:
    async with (
        bench(folder, **environ) as at,
        admin(folder, services={VOD_SERVICE: at.studio}, address_defaults=address_defaults) as api,
    ):
        yield api, at


async def put(api: Admin, url: str, data: bytes, **headers: str) -> int:
    parts = urlsplit(url)
    response = await api.client.request("PUT", f"{parts.path}?{parts.query}", data=data, headers=headers)
    await response.read()
    return response.status


async def test_a_job_is_accepted_shown_and_listed(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, at):
        at.put(films.plain(), "films/a b.mp4")
        response = await api.call("POST", "/jobs", {"source": "films/a b.mp4"})
        assert response.status == 202
        job = await response.json()
        assert response.headers["Location"] == f"/jobs/{job['id']}"
        assert {
            "id",
            "kind",
            "state",
            "progress",
            "source",
            "outputs",
            "error",
            "warning",
            "created",
            "updated",
        } == job.keys()
        assert (job["state"], job["progress"], job["outputs"], job["error"]) == ("SUBMITTED", 0, {}, None)
        await at.finished(job["id"])
        done = await api.json("GET", f"/jobs/{job['id']}")
        assert (done["state"], done["progress"], done["source"]) == ("COMPLETE", 100, "films/a b.mp4")
        base = "http://127.0.0.1:8080/vod/films/a%20b"
        assert done["outputs"] == {
            "hls": f"{base}/a%20b.m3u8",
            "poster": f"{base}/a%20b.0000000.jpg",
            "thumbnail": f"{base}/thumbnail.0000000.jpg",
        }
        assert await api.json("GET", "/jobs") == [done]
        for value in (job, done):
            schemas.Job.model_validate(value)


async def test_addresses_of_protected_films_carry_a_play_sign(tmp_path: Path) -> None:
    async with running(tmp_path, address_defaults=AddressDefaults(lambda: PORTS, play_auth="sign")) as (api, at):
        at.put(films.plain(), "a.mp4")
        job = await api.json("POST", "/jobs", {"source": "a.mp4"}, status=202)
        await at.finished(job["id"])
        done = await api.json("GET", f"/jobs/{job['id']}")
        assert "/vod/a/a.m3u8?sign=" in done["outputs"]["hls"]


async def test_a_film_below_a_channels_id_is_shown_with_the_channels_sign(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, at):
        id = (await api.create(playAuth="sign"))["id"]
        at.put(films.plain(), f"{id}/a.mp4")
        job = await api.json("POST", "/jobs", {"source": f"{id}/a.mp4"}, status=202)
        await at.finished(job["id"])
        for _ in range(2):
            (done,) = await api.json("GET", "/jobs")
            address, _, sign = done["outputs"]["hls"].partition("?sign=")
            assert address.endswith(f"/vod/{id}/a/a.m3u8")
            assert SigningSecrets(SECRET).verify_play(id, sign, time.time()) is Verdict.VALID
            await api.call("DELETE", f"/videostream/{id}")  # the video stays with the channel


@pytest.mark.parametrize(
    "source",
    [None, "", 5, ["a.mp4"], "missing.mp4", "/etc/passwd", "file:///etc/passwd", "../../etc/passwd.mp4", "s3://b/a.mp4",
     "s3://", "a", "a\u0000.mp4", "x" * 3000 + ".mp4"],
)  # fmt: skip
async def test_an_unusable_source_is_refused_with_its_field(source: object, tmp_path: Path) -> None:
    async with running(tmp_path) as (api, _):
        body = {} if source is None else {"source": source}
        refused = await api.json("POST", "/jobs", body, status=400)
        assert refused["field"] == "source"


async def test_jobs_are_listed_page_by_page(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, at):
        for n in range(3):
            (at.root / f"{n}.mp4").write_text("text, not a film")
            await at.finished((await api.json("POST", "/jobs", {"source": f"{n}.mp4"}, status=202))["id"])
        first = await api.json("GET", "/jobs?limit=2")
        assert [job["source"] for job in first] == ["2.mp4", "1.mp4"]
        assert [job["source"] for job in await api.json("GET", f"/jobs?limit=2&before={first[-1]['id']}")] == ["0.mp4"]
        assert (await api.json("GET", "/jobs?limit=0", status=400))["field"] == "limit"
        assert (await api.json("GET", "/jobs?before=%20", status=400))["field"] == "before"
        assert all(job["state"] == "ERROR" and job["error"] == "it is text, not media" for job in first)


async def test_a_job_is_cancelled_once(tmp_path: Path) -> None:
    async with running(tmp_path, MILLRACE_VOD__PRESET="slow") as (api, at):
        at.put(films.silent("slow.mkv", "testsrc2=size=640x360:rate=30", *films.H264, seconds=12), "a.mkv")
        job = await api.json("POST", "/jobs", {"source": "a.mkv"}, status=202)
        await at.at_work(job["id"])
        assert (await api.json("DELETE", f"/jobs/{job['id']}"))["state"] == "CANCELED"
        assert "CANCELED" in (await api.json("DELETE", f"/jobs/{job['id']}", status=409))["error"]
        async with asyncio.timeout(at_most(10)):
            while at.pids():
                await asyncio.sleep(0.02)
        assert (await api.json("GET", f"/jobs/{job['id']}"))["state"] == "CANCELED"


@pytest.mark.parametrize("id", ["nothing", "a%20b", "x" * 200, "..%2e"])
async def test_an_unknown_job_is_not_found(id: str, tmp_path: Path) -> None:
    async with running(tmp_path) as (api, _):
        assert (await api.call("GET", f"/jobs/{id}")).status == 404
        assert (await api.call("DELETE", f"/jobs/{id}")).status == 404


async def test_jobs_need_the_token(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, _):
        for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("POST", "/uploads"), ("DELETE", "/jobs/1")):
            assert (await api.call(method, path, {}, token=None)).status == 401


# ---- uploads ----


async def test_an_upload_leaves_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: real._replace(free=499_999_999))
    async with running(tmp_path) as (api, at):
        offer = await api.json("POST", "/uploads", {"name": "a.mp4"})
        assert await put(api, offer["url"], films.plain().read_bytes()) == 507
        assert at.scratch() == [] and list(at.root.iterdir()) == []


async def test_an_upload_starts_a_job_automatically(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, at):
        offer = await api.json("POST", "/uploads", {"name": "My Holiday.MP4"})
        schemas.Upload.model_validate(offer)
        assert offer["method"] == "PUT" and offer["headers"] == {"Content-Type": "video/mp4"}
        assert offer["key"].endswith(".mp4") and "Holiday" not in offer["key"]
        assert await put(api, offer["url"], films.plain().read_bytes(), **offer["headers"]) == 201
        (job,) = await at.store.newest(10)
        assert job.source == offer["key"]
        assert (await at.finished(job.id)).state is JobState.COMPLETE
        assert at.scratch() == []


async def test_a_picture_is_stored_and_starts_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_MAX_PICTURE_BYTES", 100)
    async with running(tmp_path) as (api, at):
        offer = await api.json("POST", "/uploads", {"name": "Back soon.PNG"})
        assert offer["key"].endswith(".png") and offer["headers"] == {"Content-Type": "image/png"}
        parts = urlsplit(offer["url"])
        assert await put(api, offer["url"], bytes(101)) == 413
        response = await api.client.put(f"{parts.path}?{parts.query}", data=b"a picture")
        answer = await response.json()
        assert (response.status, answer) == (201, {"key": offer["key"], "job": None})
        schemas.Uploaded.model_validate(answer)
        assert (at.root / offer["key"]).read_bytes() == b"a picture"
        assert await put(api, offer["url"], b"another") == 409
        assert await at.store.newest(10) == []
        assert await api.json("GET", "/films") == []
        assert "png" in (await api.json("POST", "/uploads", {"name": "a.bmp"}, status=400))["error"]


async def test_an_upload_address_works_once(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, at):
        offer = await api.json("POST", "/uploads", {"name": "a.mp4"})
        assert await put(api, offer["url"], b"one") == 201
        assert await put(api, offer["url"], b"two") == 409
        assert (at.root / offer["key"]).read_bytes() == b"one"


async def test_an_upload_address_accepts_only_one_of_several_simultaneous_uploads(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, at):
        offer = await api.json("POST", "/uploads", {"name": "a.mp4"})
        sent, gate = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"first, "
            sent.set()
            await gate.wait()
            yield b"whole"

        parts = urlsplit(offer["url"])
        first = asyncio.ensure_future(api.client.put(f"{parts.path}?{parts.query}", data=slow()))
        await sent.wait()
        async with asyncio.timeout(at_most(10)):
            while not at.scratch():
                await asyncio.sleep(0.01)
        assert [await put(api, offer["url"], b"other") for _ in range(3)] == [409] * 3
        gate.set()
        assert (await first).status == 201
        assert (at.root / offer["key"]).read_bytes() == b"first, whole"
        assert len(await at.store.newest(10)) == 1


async def test_a_used_upload_address_stays_invalid_after_its_film_is_deleted(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, at):
        offer = await api.json("POST", "/uploads", {"name": "a.mp4"})
        assert await put(api, offer["url"], b"one") == 201
        (at.root / offer["key"]).unlink()
        assert await put(api, offer["url"], b"two") == 409


async def test_an_upload_address_works_again_after_a_failed_upload(tmp_path: Path) -> None:
    async with running(tmp_path, MILLRACE_VOD__UPLOAD_BYTES="10") as (api, _):
        offer = await api.json("POST", "/uploads", {"name": "a.mp4"})
        parts = urlsplit(offer["url"])

        async def long() -> AsyncIterator[bytes]:
            yield bytes(100)

        assert (await api.client.put(f"{parts.path}?{parts.query}", data=long())).status == 413
        assert await put(api, offer["url"], b"short") == 201


@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
async def test_an_empty_upload_is_refused_and_its_address_works_again(tmp_path: Path, name: str) -> None:
    async with running(tmp_path) as (api, at):
        offer = await api.json("POST", "/uploads", {"name": name})
        assert await put(api, offer["url"], b"") == 400
        assert list(at.root.iterdir()) == [] and await at.store.newest(10) == []
        assert await put(api, offer["url"], b"data") == 201


async def test_a_manipulated_upload_address_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, at):
        offer = await api.json("POST", "/uploads", {"name": "a.mp4"})
        other = await api.json("POST", "/uploads", {"name": "a.mp4"})
        url, key = offer["url"], offer["key"]
        wrong = [
            url.replace("sign=", "sign=0"), url.partition("?")[0], url.replace("expires=1", "expires=2"),
            url.replace(key, other["key"]), url.replace(key, "..%2fa.mp4"), url.replace(key, "a.mp4"),
            url.replace("expires=", "expires=9"),
        ]  # fmt: skip
        for bad in wrong:
            assert await put(api, bad, b"data") in (403, 404), bad
        assert list(at.root.iterdir()) == [] and await at.store.newest(10) == []


async def test_an_upload_address_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.vod.uploads.UPLOAD_SECONDS", 1)
    async with running(tmp_path) as (api, _):
        offer = await api.json("POST", "/uploads", {"name": "a.mp4"})
        await asyncio.sleep(2.1)
        assert await put(api, offer["url"], b"data") == 403


async def test_a_too_large_film_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(100)

    async with running(tmp_path, MILLRACE_VOD__UPLOAD_BYTES="1000") as (api, at):
        offer = await api.json("POST", "/uploads", {"name": "a.mp4"})
        assert await put(api, offer["url"], bytes(1001)) == 413
        parts = urlsplit(offer["url"])
        response = await api.client.put(f"{parts.path}?{parts.query}", data=endless())  # without Content-Length
        assert response.status == 413
        assert list(at.root.iterdir()) == [] and at.scratch() == []
        assert await put(api, offer["url"], bytes(1000)) == 201


async def test_an_interrupted_upload_leaves_no_file(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, at):
        offer = await api.json("POST", "/uploads", {"name": "a.mp4"})
        parts = urlsplit(offer["url"])
        reader, writer = await asyncio.open_connection(api.client.host, api.client.port)
        writer.write(
            f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode() + bytes(500)
        )
        await writer.drain()
        async with asyncio.timeout(at_most(10)):
            while not at.scratch():
                await asyncio.sleep(0.01)
            writer.close()
            while at.scratch():
                await asyncio.sleep(0.01)
        assert list(at.root.iterdir()) == [] and await at.store.newest(10) == []
        assert reader is not None


@pytest.mark.parametrize("name", [None, "", 5, "a.txt", "a", "a.m3u8", "mp4", "a.mp4.exe"])
async def test_a_name_that_is_not_a_film_name_is_refused(name: object, tmp_path: Path) -> None:
    async with running(tmp_path) as (api, _):
        refused = await api.json("POST", "/uploads", {} if name is None else {"name": name}, status=400)
        assert refused["field"] == "name"


async def test_an_object_store_with_its_own_upload_addresses_provides_them(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, at):

        async def upload(key: str, seconds: int) -> DirectUpload:
            return DirectUpload(f"https://bucket.example/{key}?signed", "PUT", {"Content-Type": "video/quicktime"})

        at.studio.uploads._objects.upload = upload  # type: ignore[method-assign]
        offer = await api.json("POST", "/uploads", {"name": "a.mov"})
        assert offer["url"] == f"https://bucket.example/{offer['key']}?signed"
