"""Tries what Millrace needs of a bucket, because stores beside AWS lack parts of S3."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar, Final

import aiohttp
from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code
from gateway.ports.errors import StoreUnavailable

_BODY: Final = b"millrace"
_PART: Final = 5 * 1024 * 1024  # bytes: S3 accepts no smaller part, except the last one
_SECONDS: Final = 30.0  # for one try


class _Lacks(Exception):
    """The store answers, but not like S3. The message says what is wrong."""


class BucketCheck:
    """Writes, reads and deletes small objects whose names begin with `.millrace-check-`."""

    _headers: ClassVar = {"Content-Type": "text/plain", "If-None-Match": "*"}  # of an upload by a signed address

    def __init__(self, aws: AwsSession, bucket: str) -> None:
        self._aws, self._bucket = aws, bucket
        self._key = f".millrace-check-{uuid.uuid4()}"

    async def run(self) -> AsyncIterator[tuple[str, str]]:
        """Yields each try, and what is wrong; "" if it works. Without a stored object, nothing else is tried."""
        tries: dict[str, Callable[[Any], Awaitable[None]]] = {
            "put": self._put,
            "range": self._range,
            "multipart": self._multipart,
            "presigned put": self._presigned,
            "lifecycle": self._lifecycle,
            "delete": self._delete,
        }
        for name, attempt in tries.items():
            reason = await self._try(name, attempt)
            yield name, reason
            if reason and name == "put":
                return

    async def _try(self, name: str, attempt: Callable[[Any], Awaitable[None]]) -> str:
        try:
            async with self._aws.client_for("s3", f"bucket {self._bucket}", seconds=_SECONDS) as client:
                await attempt(client)
        except (StoreUnavailable, _Lacks, aiohttp.ClientError) as error:
            return str(error) or type(error).__name__
        return ""

    async def _put(self, client: Any) -> None:
        await client.put_object(Bucket=self._bucket, Key=self._key, Body=_BODY, ContentType="text/plain")

    async def _range(self, client: Any) -> None:
        found = await client.get_object(Bucket=self._bucket, Key=self._key, Range="bytes=2-4")
        body = await found["Body"].read()
        if body != _BODY[2:5]:
            raise _Lacks(f"bytes 2 to 4 were asked for, {len(body)} bytes came")

    async def _multipart(self, client: Any) -> None:
        where = {"Bucket": self._bucket, "Key": f"{self._key}-parts"}
        upload = await client.create_multipart_upload(**where)
        where["UploadId"] = upload["UploadId"]
        try:
            first = await client.upload_part(**where, PartNumber=1, Body=bytes(_PART))
            source = {"CopySource": {"Bucket": self._bucket, "Key": self._key}, "PartNumber": 2}
            copied = await client.upload_part_copy(**where, **source)
            parts = [
                {"PartNumber": 1, "ETag": first["ETag"]},
                {"PartNumber": 2, "ETag": copied["CopyPartResult"]["ETag"]},
            ]
            await client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        except BaseException:
            await client.abort_multipart_upload(**where)
            raise
        del where["UploadId"]
        size = (await client.head_object(**where))["ContentLength"]
        await client.delete_object(**where)
        if size != _PART + len(_BODY):
            raise _Lacks(f"an object of two parts has {size} bytes")

    async def _presigned(self, client: Any) -> None:
        """Uploads twice, as people upload films: the second upload must be refused."""
        key = f"{self._key}-upload"
        put = {"Bucket": self._bucket, "Key": key, "ContentType": "text/plain", "IfNoneMatch": "*"}
        url = await client.generate_presigned_url("put_object", put, ExpiresIn=60, HttpMethod="PUT")
        statuses = []
        tls = self._aws.tls or True
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session:
            for _ in range(2):
                async with session.put(url, data=_BODY, headers=self._headers, ssl=tls) as response:
                    statuses.append(response.status)
        await client.delete_object(Bucket=self._bucket, Key=key)
        if statuses[0] == 501:
            raise _Lacks("no conditional writes: browsers upload films to the gateway, not to the store")
        if statuses[0] != 200:
            raise _Lacks(f"an upload by a signed address got {statuses[0]}")
        if statuses[1] not in (409, 412):
            raise _Lacks("an upload may replace an object (no conditional writes): a repeated upload overwrites a film")

    async def _lifecycle(self, client: Any) -> None:
        try:
            await client.get_bucket_lifecycle_configuration(Bucket=self._bucket)
        except ClientError as error:
            if error_code(error) != "NoSuchLifecycleConfiguration":
                raise

    async def _delete(self, client: Any) -> None:
        """Deletes by the request for many objects, as retention does. If it fails, nothing stays in the bucket."""
        try:
            reply = await client.delete_objects(Bucket=self._bucket, Delete={"Objects": [{"Key": self._key}]})
        finally:
            await client.delete_object(Bucket=self._bucket, Key=self._key)
        if failed := reply.get("Errors"):
            raise _Lacks(f"objects are not deleted: {failed[0].get('Code', 'unknown')}")
