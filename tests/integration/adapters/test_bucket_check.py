"""What a store beside AWS lacks is found by trying, and nothing stays in the bucket."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from gateway.adapters.aws import bucket_check
from gateway.adapters.aws.bucket_check import BucketCheck
from gateway.adapters.aws.session import AwsSession
from tests.integration.adapters.conftest import BUCKET, _client


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
        """A store without ranges, parts, conditional writes and rules."""

        def __init__(self, client):
            self._client = client

        def __getattr__(self, name):
            return getattr(self._client, name)

        async def get_object(self, **parameters):
            return await self._client.get_object(**{**parameters, "Range": "bytes=0-"})

        async def create_multipart_upload(self, **parameters):
            raise ClientError({"Error": {"Code": "NotImplemented"}}, "CreateMultipartUpload")

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
    assert [name for name, reason in reasons.items() if not reason] == ["put", "delete"]
    assert "8 bytes came" in reasons["range"]
    assert "NotImplemented" in reasons["multipart"]
    assert "no conditional writes" in reasons["presigned put"]
    assert "MethodNotAllowed" in reasons["lifecycle"]
