"""S3 as the store of recordings, and failures of the service."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError

from gateway.__main__ import main
from gateway.adapters.aws import lifecycle, session
from gateway.adapters.aws import objects as s3
from gateway.adapters.aws.bucket_check import BucketCheck
from gateway.adapters.aws.objects import S3Objects
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.stores import open_stores
from gateway.outputs.storage import archive as archiving
from gateway.ports import media_keys
from gateway.ports.errors import ObjectArchived, StoreUnavailable
from gateway.settings import SettingsError, load
from tests.integration.adapters.conftest import BUCKET
from tests.support.authority import Authority
from tests.support.recording import RunningArchive, record, settings, stream_of
from tests.support.segmented import Timetable
from tests.support.served_app import served_app
from tests.support.time_outs import at_most

MS = 1_767_323_045_678


def client():
    return boto3.client("s3", region_name="eu-central-1")


def stored() -> list[str]:
    return sorted(o["Key"] for o in client().list_objects_v2(Bucket=BUCKET).get("Contents", ()))


def made(folder: Path, data: bytes = b"data") -> Path:
    file = folder / "finished"
    file.write_bytes(data)
    return file


@pytest.mark.parametrize(
    ("key", "kind", "cache"),
    [
        (media_keys.video_key("c1", MS), "video/mp4", "max-age=31536000"),
        (media_keys.segment_key("c1", MS), "video/mp2t", "max-age=31536000"),
        (media_keys.playlist_key("c1", MS), "application/vnd.apple.mpegurl", "max-age=60"),
        ("c1/images/2026/1/2/capture-2026-01-02_03-04-05.jpg", "image/jpeg", "max-age=31536000"),
        ("film/film.m3u8", "application/vnd.apple.mpegurl", "max-age=60"),
        ("uploads/film.bin", "application/octet-stream", "max-age=60"),
    ],
)
async def test_objects_have_the_right_types_and_no_acl(aws, tmp_path, key, kind, cache):
    async with AwsSession() as opened:
        await S3Objects(opened, BUCKET).put(key, made(tmp_path))
    head = client().head_object(Bucket=BUCKET, Key=key)
    assert head["ContentType"] == kind
    assert cache in head["CacheControl"]
    grants = client().get_object_acl(Bucket=BUCKET, Key=key)["Grants"]
    assert [g["Grantee"]["Type"] for g in grants] == ["CanonicalUser"]


async def test_recordings_have_the_storage_class_that_is_set_and_playlists_have_not(aws, tmp_path):
    async with AwsSession() as opened:
        store = S3Objects(opened, BUCKET, "STANDARD_IA")
        for key in (
            media_keys.video_key("c1", MS),
            media_keys.segment_key("c1", MS),
            media_keys.playlist_key("c1", MS),
        ):
            await store.put(key, made(tmp_path))
    classes = [client().head_object(Bucket=BUCKET, Key=k).get("StorageClass", "STANDARD") for k in stored()]
    assert classes == ["STANDARD_IA", "STANDARD_IA", "STANDARD"]


async def test_an_object_that_is_too_large_for_one_copy_is_moved_in_parts(aws, tmp_path, monkeypatch):
    monkeypatch.setattr(s3, "_COPY_BYTES", 6 << 20)
    data = os.urandom(1 << 20) * 13
    key, to = media_keys.video_key("c1", MS), "millrace-bin/files/1/large.mp4"
    async with AwsSession() as opened:
        store = S3Objects(opened, BUCKET, "STANDARD_IA")
        await store.put(key, made(tmp_path, data))
        before = client().head_object(Bucket=BUCKET, Key=key)
        await store.move(key, to)
        assert b"".join([piece async for piece in store.read(to)]) == data
    after = client().head_object(Bucket=BUCKET, Key=to)
    for name in ("ContentType", "CacheControl", "StorageClass"):
        assert after[name] == before[name]
    assert after["ETag"].endswith('-3"')
    assert stored() == [to]


@pytest.mark.parametrize("copy", [1 << 30, 5 << 20])
async def test_an_object_that_the_bucket_has_archived_is_no_outage(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: int
) -> None:
    monkeypatch.setattr(s3, "_COPY_BYTES", copy)
    key = media_keys.video_key("c1", MS)
    client().put_object(Bucket=BUCKET, Key=key, Body=bytes(6 << 20), StorageClass="DEEP_ARCHIVE")
    async with AwsSession() as opened:
        store = S3Objects(opened, BUCKET)
        with pytest.raises(ObjectArchived, match="restore it there first"):
            await store.fetch(key, tmp_path / "film.mp4")
        if copy > 6 << 20:  # moto copies parts of such objects
            with pytest.raises(ObjectArchived):
                await store.move(key, "bin/film.mp4")


async def test_a_large_file_is_uploaded_part_by_part(aws, tmp_path, monkeypatch):
    data = os.urandom(1 << 20) * 20
    file = made(tmp_path, data)
    async with AwsSession() as opened:
        store = S3Objects(opened, BUCKET)
        real = await opened.client("s3")
        sizes, at_once = [], [0]

        async def upload_part(**arguments):
            at_once[0] += 1
            assert at_once[0] == 1  # memory is one part
            sizes.append(len(arguments["Body"]))
            answer = await type(real).upload_part(real, **arguments)
            at_once[0] -= 1
            return answer

        monkeypatch.setattr(real, "upload_part", upload_part)
        await store.put("c1/large.mp4", file)
        assert not file.exists()
        assert sizes == [8 << 20, 8 << 20, 4 << 20]
        assert client().head_object(Bucket=BUCKET, Key="c1/large.mp4")["ContentLength"] == len(data)
        digest = hashlib.sha256()
        async for piece in store.read("c1/large.mp4"):
            digest.update(piece)
        assert digest.digest() == hashlib.sha256(data).digest()


async def test_an_upload_in_parts_that_fails_is_aborted_and_the_file_stays(aws, tmp_path, monkeypatch):
    file = made(tmp_path, bytes(20 << 20))
    async with AwsSession() as opened:
        store = S3Objects(opened, BUCKET)
        real = await opened.client("s3")
        parts = []

        async def upload_part(**arguments):
            parts.append(arguments["PartNumber"])
            if len(parts) == 2:
                raise OSError("broken pipe")
            return await type(real).upload_part(real, **arguments)

        monkeypatch.setattr(real, "upload_part", upload_part)
        with pytest.raises(StoreUnavailable):
            await store.put("c1/large.mp4", file)
    assert file.exists()
    assert stored() == []
    assert client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


@pytest.mark.parametrize("has_all", [True, False])
async def test_an_upload_that_is_gone_at_its_end_is_complete_if_the_store_has_all_of_it(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_all: bool
) -> None:
    """botocore repeats a request without an answer. MinIO and Ceph then have no such upload any more, unlike AWS."""
    file = made(tmp_path, bytes(20 << 20))
    client().put_object(Bucket=BUCKET, Key="c1/large.mp4", Body=b"an earlier one")
    async with AwsSession() as opened:
        store = S3Objects(opened, BUCKET)
        real = await opened.client("s3", wait=s3._JOIN_SECONDS)

        async def complete(**arguments: Any) -> None:
            if has_all:
                await type(real).complete_multipart_upload(real, **arguments)
            raise ClientError({"Error": {"Code": "NoSuchUpload"}}, "CompleteMultipartUpload")

        monkeypatch.setattr(real, "complete_multipart_upload", complete)
        with contextlib.nullcontext() if has_all else pytest.raises(StoreUnavailable, match="NoSuchUpload"):
            await store.put("c1/large.mp4", file)
    assert file.exists() is not has_all
    assert (client().head_object(Bucket=BUCKET, Key="c1/large.mp4")["ContentLength"] == 20 << 20) is has_all


async def test_a_store_may_think_for_a_while_when_it_joins_or_copies(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = (b"?uploadId=", b"x-amz-copy-source")
    forwarded: list[asyncio.Task[Any] | None] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        forwarded.append(asyncio.current_task())
        answers, upstream = await asyncio.open_connection("127.0.0.1", int(aws.rpartition(":")[2]))
        thinking = False

        async def ask() -> None:
            nonlocal thinking
            while data := await reader.read(65536):
                thinking = thinking or any(mark in data for mark in slow)
                upstream.write(data)
            upstream.close()

        async def answer() -> None:
            nonlocal thinking
            while data := await answers.read(65536):
                if thinking:
                    await asyncio.sleep(1.5)
                thinking = False
                writer.write(data)
            writer.close()

        await asyncio.gather(ask(), answer())

    monkeypatch.setattr(session, "_TRANSFERS", session._TRANSFERS.merge(Config(read_timeout=1)))
    async with await asyncio.start_server(forward, "127.0.0.1", 0) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with AwsSession() as opened:
            store = S3Objects(opened, BUCKET)
            await store.put("c1/large.mp4", made(tmp_path, bytes(9 << 20)))
            await store.move("c1/large.mp4", "c1/moved.mp4")
        await asyncio.gather(*filter(None, forwarded))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", aws)
    assert stored() == ["c1/moved.mp4"]


async def test_a_store_has_a_certificate_of_an_own_authority(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    forwarded: list[asyncio.Task[Any] | None] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        forwarded.append(asyncio.current_task())
        answers, upstream = await asyncio.open_connection("127.0.0.1", int(aws.rpartition(":")[2]))

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    target.write(data)
            target.close()

        await asyncio.gather(pass_on(reader, upstream), pass_on(answers, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", 0, ssl=authority.server("127.0.0.1")) as server:
        other = {"ENDPOINT": f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", "PATH_STYLE": "true"}
        environ = {f"MILLRACE_S3__{name}": value for name, value in other.items()}
        environ |= {"MILLRACE_DATA": str(tmp_path), "MILLRACE_OBJECTS": f"s3://{BUCKET}"}
        environ["MILLRACE_TLS__CA"] = str(authority.file)
        async with open_stores(load(environ=environ)) as stores:
            await stores.objects.put("a/b.ts", made(tmp_path))
            assert stores.aws is not None
            found = [reason async for name, reason in BucketCheck(stores.aws, BUCKET).run() if name != "lifecycle"]
            assert found == [""] * 5
        del environ["MILLRACE_TLS__CA"]
        async with open_stores(load(environ=environ)) as stores:
            with pytest.raises(StoreUnavailable, match="certificate is not trusted: unable to get local issuer"):
                await stores.objects.check()
        await asyncio.gather(*filter(None, forwarded))


async def test_an_upload_in_parts_that_is_cancelled_is_aborted(aws, tmp_path, monkeypatch):
    file = made(tmp_path, bytes(20 << 20))
    async with AwsSession() as opened:
        store = S3Objects(opened, BUCKET)
        real = await opened.client("s3")
        begun = asyncio.Event()

        async def upload_part(**arguments):
            begun.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(real, "upload_part", upload_part)
        putting = asyncio.ensure_future(store.put("c1/large.mp4", file))
        await begun.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
    assert file.exists()
    assert client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


async def test_a_client_can_upload_once_with_a_presigned_address(aws):
    async with AwsSession() as opened:
        store = S3Objects(opened, BUCKET)
        upload = await store.upload("uploads/Ein Film.mp4", 60)
        assert upload is not None
        request = urllib.request.Request(upload.url, b"film", upload.headers, method=upload.method)
        await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=at_most(10)).close())
        assert (await store.head("uploads/Ein Film.mp4")).size == 4
        again = urllib.request.Request(upload.url, b"another", upload.headers, method=upload.method)
        with pytest.raises(urllib.error.HTTPError, match="412"):
            await asyncio.to_thread(urllib.request.urlopen, again, timeout=10)
        assert (await store.head("uploads/Ein Film.mp4")).size == 4, "an address is good for one upload"
    assert "if-none-match" in urllib.parse.unquote(upload.url).partition("X-Amz-SignedHeaders=")[2].partition("&")[0]
    assert "X-Amz-Signature" in upload.url
    assert "X-Amz-Expires=60" in upload.url


@pytest.mark.parametrize(
    ("status", "code", "direct", "puts"),
    [
        (501, "NotImplemented", False, 1),  # Backblaze: a condition is "a header … not implemented"
        (200, "", True, 1),
        (412, "PreconditionFailed", True, 2),
        (503, "SlowDown", True, 4),
    ],
)
async def test_a_store_without_conditional_writes_gets_uploads_from_the_gateway(
    aws: str, monkeypatch: pytest.MonkeyPatch, status: int, code: str, direct: bool, puts: int
) -> None:
    asked: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, request.headers.get("If-None-Match", "")))
        if request.method == "DELETE" or not code:
            return web.Response(status=204 if request.method == "DELETE" else 200)
        return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>", content_type="application/xml")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with served_app(app) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        async with AwsSession() as opened:
            store = S3Objects(opened, BUCKET)
            assert [await store.upload(f"{n}.mp4", 60) is not None for n in range(2)] == [direct] * 2
    assert [condition for method, condition in asked if method == "PUT"] == ["*"] * puts


async def test_uploads_to_aws_need_no_probe(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    async with AwsSession() as opened:
        upload = await S3Objects(opened, BUCKET).upload("a.mp4", 60)  # nothing answers there
    assert upload is not None and ".amazonaws.com/" in upload.url


async def test_s3_can_have_an_endpoint_of_its_own(aws, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", aws)
    async with open_stores(
        load(environ={"MILLRACE_DATA": str(tmp_path), "MILLRACE_OBJECTS": f"s3://{BUCKET}"})
    ) as stores:
        await stores.objects.put("a/b.ts", made(tmp_path))
        assert stores.media is None
        assert await stores.channels.list() == []  # SQLite beside S3
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    assert stored() == ["a/b.ts"]


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "MILLRACE_S3__ENDPOINT"])
async def test_another_store_gets_no_checksums_that_it_may_not_know(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Those that boto adds since 2025: Backblaze and R2 refused each upload with them."""
    sent: list[set[str]] = []
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    environ = {"MILLRACE_DATA": str(tmp_path), "MILLRACE_OBJECTS": f"s3://{BUCKET}"}
    if variable.startswith("AWS"):
        monkeypatch.setenv(variable, aws)
    else:
        environ[variable] = aws
    async with open_stores(load(environ=environ)) as stores:
        assert stores.aws is not None
        events = (await stores.aws.client("s3")).meta.events
        events.register("before-send.s3", lambda request, **_: sent.append({name.lower() for name in request.headers}))
        await stores.objects.put("a/b.ts", made(tmp_path))
        await stores.objects.delete_many(["a/b.ts"])
    assert [name for names in sent for name in names if "checksum" in name or "trailer" in name] == []
    assert ["content-md5" in names for names in sent] == [False, True]


@pytest.mark.parametrize("call", ["head", "put", "read", "list", "delete", "fetch", "check"])
async def test_an_unreachable_service_raises_store_unavailable(aws, tmp_path, monkeypatch, call):
    monkeypatch.setattr(session, "CALL_TIMEOUT", 1.0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    file = made(tmp_path)
    async with AwsSession() as opened:
        store = S3Objects(opened, BUCKET)
        with pytest.raises(StoreUnavailable):
            match call:
                case "put":
                    await store.put("a/b", file)
                case "read" | "list":
                    async for _ in getattr(store, call)("a/b"):
                        pass
                case "fetch":
                    await store.fetch("a/b", tmp_path / "to")
                case "check":
                    await store.check()
                case _:
                    await getattr(store, call)("a/b")
    assert file.exists()


async def test_a_missing_bucket_raises_store_unavailable(aws, tmp_path):
    async with AwsSession() as opened:
        store = S3Objects(opened, "no-such-bucket-anywhere")
        for call in (store.check(), store.put("a/b", made(tmp_path))):
            with pytest.raises(StoreUnavailable, match="no-such-bucket"):
                await call


@pytest.mark.parametrize(
    ("truncated", "token"), [("false", "<NextContinuationToken>c1/a</NextContinuationToken>"), ("true", "")]
)
async def test_a_list_of_another_store_ends(
    aws: str, monkeypatch: pytest.MonkeyPatch, truncated: str, token: str
) -> None:
    """Some give a token although nothing follows; others give none although something does."""
    item = "<Contents><Key>c1/a</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
    requests: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        requests.append(request.query_string)
        text = f"<ListBucketResult>{item}<IsTruncated>{truncated}</IsTruncated>{token}</ListBucketResult>"
        return web.Response(text=text if len(requests) < 5 else "", content_type="application/xml")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with served_app(app) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        async with AwsSession() as opened:
            listed = S3Objects(opened, BUCKET).list("c1/")
            assert (await anext(listed)).key == "c1/a"
            with pytest.raises(StopAsyncIteration if token else StoreUnavailable):
                await anext(listed)
    assert len(requests) == 1


async def test_slow_readers_delay_no_other_call(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer who downloads a recording slowly holds a connection to the store for minutes."""
    client().put_object(Bucket=BUCKET, Key="c1/a.mp4", Body=bytes(8 << 20))
    monkeypatch.setattr(session, "CALL_TIMEOUT", at_most(3))
    async with AwsSession() as opened:
        store = S3Objects(opened, BUCKET)
        readers = [store.read("c1/a.mp4") for _ in range(60)]
        for reader in readers:
            await anext(reader)
        assert (await store.head("c1/a.mp4")).size == 8 << 20
        for reader in readers:
            await reader.aclose()  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def breaking_store(
    data: bytes, most: int, monkeypatch: pytest.MonkeyPatch, *, has_ranges: bool = True
) -> AsyncIterator[list[str]]:
    """A store that closes each connection after `most` bytes of an object. Yields the ranges that were requested."""
    ranges: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head.splitlines()[1:])}
        if head.startswith("GET"):
            ranges.append(headers.get("range", ""))
            assert headers.get("if-match") in (None, '"tag"')
        start = int(headers.get("range", "bytes=0-")[6:-1]) if has_ranges else 0
        status = (
            f"206 Partial Content\r\nContent-Range: bytes {start}-{len(data) - 1}/{len(data)}" if start else "200 OK"
        )
        date = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT"
        length = f"Content-Length: {len(data) - start}"
        writer.write(f'HTTP/1.1 {status}\r\n{length}\r\n{date}\r\nETag: "tag"\r\nConnection: close\r\n\r\n'.encode())
        if head.startswith("GET"):
            writer.write(data[start : start + most])
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield ranges


async def test_a_download_continues_where_its_connection_broke(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, to = os.urandom(250_000), tmp_path / "film.mp4"
    async with breaking_store(data, 100_000, monkeypatch) as ranges, AwsSession() as opened:
        store = S3Objects(opened, BUCKET)
        await store.fetch("c1/a.mp4", to)
        assert ranges == ["", "bytes=100000-", "bytes=200000-"]
        assert b"".join([chunk async for chunk in store.read("c1/a.mp4", 120_000)]) == data[120_000:]
    assert to.read_bytes() == data
    async with breaking_store(data, 0, monkeypatch) as ranges, AwsSession() as opened:
        with pytest.raises(StoreUnavailable):
            await S3Objects(opened, BUCKET).fetch("c1/a.mp4", to)
    assert ranges == [""]
    async with breaking_store(data, 100_000, monkeypatch, has_ranges=False), AwsSession() as opened:
        with pytest.raises(StoreUnavailable, match="does not continue"):
            await S3Objects(opened, BUCKET).fetch("c1/a.mp4", to)


EXPIRED = {"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "b", "Expiration": "2020-01-01T00:00:00Z"}


@pytest.mark.parametrize("program", [f"echo '{json.dumps(EXPIRED)}'", "false"])
async def test_credentials_that_cannot_be_renewed_raise_store_unavailable(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    script, config = tmp_path / "credentials.sh", tmp_path / "config"
    script.write_text(program)
    config.write_text(f"[default]\ncredential_process = sh {script}\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    async with AwsSession() as opened:
        with pytest.raises(StoreUnavailable, match=r"[Cc]redential"):
            await S3Objects(opened, BUCKET).put("c1/a.mp4", made(tmp_path))


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_connection_that_breaks_within_an_object_raises_store_unavailable(
    aws: str, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(100))
        await writer.drain()
        getattr(writer.transport, end)()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with AwsSession() as opened:
            with pytest.raises(StoreUnavailable, match=f"bucket {BUCKET}"):
                async for _ in S3Objects(opened, BUCKET).read("c1/a.mp4"):
                    pass


async def test_recordings_survive_an_outage_of_the_bucket_and_a_restart(aws, tmp_path, monkeypatch):
    monkeypatch.setattr(archiving.Backoff, "next", lambda self: 0.05)
    monkeypatch.setattr(session, "CALL_TIMEOUT", 0.5)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", away)
    async with AwsSession() as opened, RunningArchive(tmp_path, S3Objects(opened, BUCKET)).open() as studio:
        stream = stream_of(ondemand_time=4)
        await record(studio.on_demand(stream), stream, Timetable(seconds=10))
        files, _ = studio.archive.waiting
        assert files == 4
        assert studio.events == []
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", aws)
    monkeypatch.setattr(session, "CALL_TIMEOUT", 6.0)
    async with AwsSession() as opened, RunningArchive(tmp_path, S3Objects(opened, BUCKET)).open() as studio:
        async with asyncio.timeout(at_most(20)):
            while not studio.events:
                await asyncio.sleep(0.02)
        assert stored() == [*[f"c1/720p/{1700000000000 + n}.ts" for n in range(3)], "c1/vod-1700000000000.m3u8"]
        assert studio.archive.waiting == (0, 0)
        assert [e.data["kind"] for e in studio.events] == ["ondemand"]


# ---- lifecycle ----

FOREIGN = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}


def test_lifecycle_rules_follow_the_settings():
    classes, uploads = lifecycle.rules(settings(cold_after_days=30, archive_after_days=180, archive_class="GLACIER"))
    assert [(t["Days"], t["StorageClass"]) for t in classes["Transitions"]] == [(30, "STANDARD_IA"), (180, "GLACIER")]
    assert uploads["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert [r["ID"] for r in lifecycle.rules(settings())] == ["millrace-unfinished-uploads"]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"cold_after_days": 7}, "after 30 days"), ({"cold_after_days": 60, "archive_after_days": 30}, "more days than")],
)
def test_lifecycle_days_that_s3_would_refuse_raise_an_error(options, words):
    with pytest.raises(ValueError, match=words):
        lifecycle.rules(settings(**options))


def test_the_command_replaces_its_own_lifecycle_rules_and_keeps_the_others(aws, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MILLRACE_DATA", str(tmp_path))
    monkeypatch.setenv("MILLRACE_OBJECTS", f"s3://{BUCKET}")
    client().put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [FOREIGN]})
    monkeypatch.setenv("MILLRACE_RECORDING__COLD_AFTER_DAYS", "30")
    assert main(["storage", "apply"]) == 0
    assert "after 30 days to STANDARD_IA" in capsys.readouterr().out
    monkeypatch.setenv("MILLRACE_RECORDING__COLD_AFTER_DAYS", "60")
    assert main(["storage", "apply"]) == 0
    capsys.readouterr()
    assert main(["storage", "show", "--json"]) == 0
    rules = {r["ID"]: r for r in json.loads(capsys.readouterr().out)}
    assert set(rules) == {"theirs", "millrace-storage-classes", "millrace-unfinished-uploads"}
    assert rules["theirs"]["Expiration"] == {"Days": 3}
    assert rules["millrace-storage-classes"]["Transitions"][0]["Days"] == 60


def test_the_command_reports_a_bucket_without_lifecycle_rules(aws, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MILLRACE_DATA", str(tmp_path))
    monkeypatch.setenv("MILLRACE_OBJECTS", f"s3://{BUCKET}")
    assert main(["storage", "show"]) == 0
    assert "no lifecycle rules" in capsys.readouterr().out


def test_the_command_refuses_a_folder_and_invalid_days(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MILLRACE_DATA", str(tmp_path))
    assert main(["storage", "show"]) == 1
    assert "a folder has no lifecycle rules" in capsys.readouterr().err
    monkeypatch.setenv("MILLRACE_OBJECTS", f"s3://{BUCKET}")
    monkeypatch.setenv("MILLRACE_RECORDING__COLD_AFTER_DAYS", "3")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert main(["storage", "apply"]) == 2
    assert "30 days" in capsys.readouterr().err


def test_content_types_agree_with_those_of_the_gateways_listener():
    from gateway.lib.content_types import content_type
    from gateway.playback import recording_files

    assert s3.content_type is recording_files.content_type is content_type
    assert content_type("c1/720p/1.TS") == "video/mp2t"
    assert content_type("c1/unknown") == "application/octet-stream"


async def test_another_store_than_that_of_aws_has_its_address_and_keys_in_the_settings(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    other = {"ENDPOINT": aws, "PATH_STYLE": "true", "ACCESS_KEY": "AKIAOTHER", "SECRET_KEY": "of another store"}
    environ = {"MILLRACE_DATA": str(tmp_path), "MILLRACE_OBJECTS": f"s3://{BUCKET}"}
    environ |= {f"MILLRACE_S3__{name}": value for name, value in other.items()}
    (tmp_path / "a.mp4").write_bytes(b"x" * 100)
    async with open_stores(load(environ=environ)) as stores:
        await stores.objects.put("foyer/mp4/a.mp4", tmp_path / "a.mp4")
        assert b"".join([part async for part in stores.objects.read("foyer/mp4/a.mp4", 98)]) == b"xx"
        assert stores.aws is not None
        address = await signed(stores.aws, BUCKET, "uploads/film.mp4")
        assert address.startswith(f"{aws}/{BUCKET}/uploads/film.mp4?")
        assert "AKIAOTHER" in address
    with pytest.raises(SettingsError, match=r"s3\.access_key and s3\.secret_key belong together"):
        load(environ={**environ, "MILLRACE_S3__SECRET_KEY": ""})


@pytest.mark.parametrize(
    ("path_style", "endpoint", "address"),
    [
        ("true", "https://store.example:9000", "https://store.example:9000/films/a.mp4?"),
        ("false", "https://store.example:9000", "https://films.store.example:9000/a.mp4?"),
        ("false", "http://minio:9000", "http://minio:9000/films/a.mp4?"),
        ("false", "http://192.0.2.7:9000", "http://192.0.2.7:9000/films/a.mp4?"),
    ],
)
async def test_the_bucket_is_in_the_path_or_in_the_host_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path_style: str, endpoint: str, address: str
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    other = {"ENDPOINT": endpoint, "ACCESS_KEY": "a", "SECRET_KEY": "b", "PATH_STYLE": path_style}
    environ = {"MILLRACE_DATA": str(tmp_path), "MILLRACE_OBJECTS": "s3://films"}
    environ |= {f"MILLRACE_S3__{name}": value for name, value in other.items()}
    async with open_stores(load(environ=environ)) as stores:
        assert stores.aws is not None
        assert (await signed(stores.aws, "films", "a.mp4")).startswith(address)


async def signed(aws: AwsSession, bucket: str, key: str) -> str:
    """Returns the signed address of an object."""
    url: str = await (await aws.client("s3")).generate_presigned_url("get_object", {"Bucket": bucket, "Key": key})
    return url


FLEET = yaml.safe_load((Path(__file__).parents[3] / "deploy" / "compose.fleet.yaml").read_text())


@pytest.mark.parametrize(
    ("endpoint", "reached"),
    [
        (FLEET["services"]["one"]["environment"]["MILLRACE_S3__ENDPOINT"], False),
        ("http://minio.storage.svc.cluster.local:9000", False),
        ("https://minio:9000", False),
        ("https://10.0.0.7:9000", False),
        ("https://store.example:9000", True),
        ("", True),
    ],
)
async def test_browsers_upload_only_to_a_store_that_they_may_reach(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, reached: bool
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    s3_settings = {"ENDPOINT": endpoint, "REGION": "eu-central-1", "ACCESS_KEY": "a", "SECRET_KEY": "b"}
    given = load(environ={f"MILLRACE_S3__{name}": value for name, value in s3_settings.items()})
    async with AwsSession(given.s3) as opened:
        assert (await S3Objects(opened, BUCKET).upload("a.mp4", 60) is not None) is reached
