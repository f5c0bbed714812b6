"""What a store beside AWS lacks is found by trying, and nothing stays in the bucket."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from botocore.exceptions import ClientError

from gateway.adapters.aws import bucket_check, lifecycle
from gateway.adapters.aws.bucket_check import BucketCheck
from gateway.adapters.aws.objects import S3Objects
from gateway.adapters.aws.session import AwsSession
from gateway.settings import load
from tests.integration.adapters.conftest import BUCKET, _client
from tests.support.served_app import served_app


async def found(bucket: str = BUCKET) -> dict[str, str]:
    async with AwsSession() as aws:
        return {name: reason async for name, reason in BucketCheck(aws, bucket).run()}


async def test_a_whole_store_works(aws: str) -> None:
    assert await found() == dict.fromkeys(["put", "range", "multipart", "presigned put", "lifecycle", "delete"], "")
    assert "Contents" not in _client("s3", aws).list_objects_v2(Bucket=BUCKET)


async def test_a_missing_bucket_is_one_finding(aws: str) -> None:
    assert await found("of-nobody") == {"put": "s3 (bucket of-nobody) rejected the request: NoSuchBucket"}


async def test_what_a_store_lacks_is_named(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking:
        """A store without ranges, parts, conditional writes, rules and requests that delete several objects."""

        def __init__(self, client):
            self._client = client

        def __getattr__(self, name):
            return getattr(self._client, name)

        async def get_object(self, **parameters):
            return await self._client.get_object(**{**parameters, "Range": "bytes=0-"})

        async def create_multipart_upload(self, **parameters):
            raise ClientError({"Error": {"Code": "NotImplemented"}}, "CreateMultipartUpload")

        async def delete_objects(self, **parameters):
            raise ClientError({"Error": {"Code": "MissingContentMD5"}}, "DeleteObjects")

        async def get_bucket_lifecycle_configuration(self, **parameters):
            raise ClientError({"Error": {"Code": "MethodNotAllowed"}}, "GetBucketLifecycleConfiguration")

        async def generate_presigned_url(self, operation, put, **parameters):
            del put["IfNoneMatch"]
            return await self._client.generate_presigned_url(operation, put, **parameters)

    class Session(AwsSession):
        async def client(self, *arguments, **parameters):
            return Lacking(await super().client(*arguments, **parameters))

    monkeypatch.setattr(bucket_check.BucketCheck, "_headers", {"Content-Type": "text/plain"}, raising=True)
    async with Session() as session:
        reasons = {name: reason async for name, reason in BucketCheck(session, BUCKET).run()}
    assert [name for name, reason in reasons.items() if not reason] == ["put"]
    assert "8 bytes came" in reasons["range"]
    assert "NotImplemented" in reasons["multipart"]
    assert "no conditional writes" in reasons["presigned put"]
    assert "MethodNotAllowed" in reasons["lifecycle"]
    assert "MissingContentMD5" in reasons["delete"]
    assert "Contents" not in _client("s3", aws).list_objects_v2(Bucket=BUCKET)


@contextlib.asynccontextmanager
async def strict_store(refusal: str = "") -> AsyncIterator[tuple[AwsSession, list[str]]]:
    """A store that requires Content-MD5 where S3 requires any checksum, and does not know CRC32.

    Yields a session with it, and the keys that one request deletes. refusal: the code for each of these keys.
    """
    deleted: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        body = await request.read()
        if request.method in ("DELETE", "PUT") and not request.query:
            return web.Response()
        if request.method == "GET":
            return web.Response(status=404, text="<Error><Code>NoSuchLifecycleConfiguration</Code></Error>")
        if not {"delete", "lifecycle"} & request.query.keys():
            return web.Response(status=501, text="<Error><Code>NotImplemented</Code></Error>")
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        if request.headers.get("Content-MD5") != digest:
            return web.Response(status=400, text="<Error><Code>MissingContentMD5</Code></Error>")
        if [name for name in request.headers if name.lower().startswith("x-amz-checksum")]:
            return web.Response(status=400, text="<Error><Code>InvalidRequest</Code></Error>")
        keys = re.findall("<Key>(.*?)</Key>", body.decode())
        if refusal:
            errors = "".join(f"<Error><Key>{key}</Key><Code>{refusal}</Code></Error>" for key in keys)
            return web.Response(text=f"<DeleteResult>{errors}</DeleteResult>")
        deleted.extend(keys)
        return web.Response(text="<DeleteResult/>")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    async with served_app(app) as port:
        given = {"ENDPOINT": f"http://127.0.0.1:{port}", "ACCESS_KEY": "a", "SECRET_KEY": "b"}
        settings = load(environ={f"MILLRACE_S3__{name}": value for name, value in given.items()})
        async with AwsSession(settings.s3) as opened:
            yield opened, deleted


async def test_a_store_that_requires_content_md5_deletes_many_objects_and_takes_rules(aws: str) -> None:
    async with strict_store() as (opened, deleted):
        await S3Objects(opened, BUCKET).delete_many(["a.ts", "b.ts"])
        assert deleted == ["a.ts", "b.ts"]
        assert await lifecycle.apply(opened, BUCKET, load(environ={}).recording)
        reasons = {name: reason async for name, reason in BucketCheck(opened, BUCKET).run()}
    assert reasons["delete"] == ""


async def test_objects_that_a_store_keeps_are_a_finding(aws: str) -> None:
    async with strict_store("AccessDenied") as (opened, _):
        reasons = {name: reason async for name, reason in BucketCheck(opened, BUCKET).run()}
    assert reasons["delete"] == "objects are not deleted: AccessDenied"
