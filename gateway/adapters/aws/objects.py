"""Objects in an S3 bucket: finished files go up whole, in parts where they are large, with bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import structlog
from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code
from gateway.hub.errors import NoSuchObject, StoreAway, TooLarge
from gateway.hub.names import is_object_key
from gateway.hub.ports import Object, Upload
from gateway.lib.content_types import content_type
from gateway.sinks import naming

log = structlog.get_logger(__name__)

PAGE: Final = 1000  # objects of one answer to a listing; the service gives no more
_FOREVER: Final = "public, max-age=31536000, immutable"
_SHORTLY: Final = "public, max-age=60"  # playlists, which grow; and what a client may name twice

_PIECE: Final = 256 * 1024
_PART: Final = 8 << 20
_MOST_PARTS: Final = 9_000  # of 10,000
_PART_SECONDS: Final = 120.0  # for one part: 70 kB a second at least
_GONE: Final = ("404", "NoSuchKey", "NotFound", "NoSuchUpload")
_RECORDED: Final = (naming.KeptKind.VIDEO, naming.KeptKind.SEGMENT)


class S3Objects:
    """An ObjectStore over a bucket. No ACL is set: who may read is the bucket's matter.

    storage_class: of recordings, "" for the bucket's own. An upload in parts that fails is aborted; one that a killed
    process left is removed by the bucket's lifecycle (`millrace storage apply`).
    """

    def __init__(self, session: AwsSession, bucket: str, storage_class: str = "") -> None:
        self._session, self.bucket = session, bucket
        self._storage_class = storage_class
        self._what = f"bucket {bucket}"

    async def put(self, key: str, file: Path) -> None:
        if not is_object_key(key):
            raise ValueError(f"{key!r} is no key of an object")
        source = await asyncio.to_thread(file.open, "rb")
        try:
            size = os.fstat(source.fileno()).st_size
            if size <= _PART:
                body = await asyncio.to_thread(source.read)
                async with self._calling(_PART_SECONDS) as client:
                    await client.put_object(Bucket=self.bucket, Key=key, Body=body, **self._headers(key))
            else:
                await self._put_parts(key, source, max(_PART, -(-size // _MOST_PARTS)))
        finally:
            source.close()
        await asyncio.to_thread(file.unlink, missing_ok=True)

    async def head(self, key: str) -> Object:
        async with self._calling() as client:
            try:
                told = await client.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                raise self._absent(error, key) from None
        return Object(key, told["ContentLength"], told["LastModified"].timestamp())

    async def read(self, key: str, first: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if end is not None and first >= end:
            await self.head(key)
            return
        span = {"Range": f"bytes={first}-{'' if end is None else end - 1}"} if first or end is not None else {}
        async with self._calling() as client:
            try:
                told = await client.get_object(Bucket=self.bucket, Key=key, **span)
            except ClientError as error:
                if error_code(error) == "InvalidRange":
                    return
                raise self._absent(error, key) from None
        left: int = told["ContentLength"]
        body = told["Body"]
        async with body:  # a reader that goes closes the connection
            while left > 0:
                async with self._calling(_PART_SECONDS):
                    piece = await body.read(min(_PIECE, left))
                if not piece:
                    raise StoreAway(f"s3 ({self._what}) broke off in the middle of {key}")
                left -= len(piece)
                yield piece

    async def list(self, prefix: str) -> AsyncIterator[Object]:
        page: dict[str, Any] = {}
        while True:
            async with self._calling() as client:
                told = await client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=PAGE, **page)
            for item in told.get("Contents", ()):
                yield Object(item["Key"], item["Size"], item["LastModified"].timestamp())
            if not told.get("IsTruncated"):
                return
            page = {"ContinuationToken": told["NextContinuationToken"]}

    async def delete(self, key: str) -> None:
        async with self._calling() as client:
            await client.delete_object(Bucket=self.bucket, Key=key)

    async def fetch(self, key: str, to: Path, most: int = 0) -> None:
        size = (await self.head(key)).size
        if most and size > most:
            raise TooLarge(size, most, key)
        with await asyncio.to_thread(to.open, "wb") as target:
            async for piece in self.read(key):
                if most and target.tell() + len(piece) > most:  # it was replaced since
                    raise TooLarge(target.tell() + len(piece), most, key)
                await asyncio.to_thread(target.write, piece)

    async def upload(self, key: str, seconds: int) -> Upload | None:
        kind = content_type(key)
        async with self._calling() as client:
            url: str = await client.generate_presigned_url(
                "put_object",
                Params={"Bucket": self.bucket, "Key": key, "ContentType": kind},
                ExpiresIn=seconds,
                HttpMethod="PUT",
            )
        return Upload(url, "PUT", {"Content-Type": kind})

    async def check(self) -> None:
        async with self._calling() as client:
            await client.head_bucket(Bucket=self.bucket)

    # ---- details ----

    async def _put_parts(self, key: str, source: BinaryIO, size: int) -> None:
        """Part after part: memory is one of them, and another stream's upload has its turn in between."""
        async with self._calling() as client:
            made = await client.create_multipart_upload(Bucket=self.bucket, Key=key, **self._headers(key))
        whole = {"Bucket": self.bucket, "Key": key, "UploadId": made["UploadId"]}
        try:
            parts: list[dict[str, Any]] = []
            while body := await asyncio.to_thread(source.read, size):
                number = len(parts) + 1
                async with self._calling(_PART_SECONDS) as client:
                    told = await client.upload_part(**whole, PartNumber=number, Body=body)
                sums = {name: told[name] for name in told if name.startswith("Checksum") and name != "ChecksumType"}
                parts.append({"PartNumber": number, "ETag": told["ETag"], **sums})
            async with self._calling(_PART_SECONDS) as client:
                await client.complete_multipart_upload(**whole, MultipartUpload={"Parts": parts})
        except BaseException:
            await self._abort(whole)
            raise

    async def _abort(self, whole: dict[str, Any]) -> None:
        """What was sent costs money until it is aborted."""
        try:
            async with self._calling() as client:
                await client.abort_multipart_upload(**whole)
        except StoreAway as error:
            log.info("an upload in parts could not be aborted", object=whole["Key"], reason=str(error))

    def _headers(self, key: str) -> dict[str, str]:
        kept = naming.parse(key)
        named_once = kept is not None and kept.kind is not naming.KeptKind.ONDEMAND
        headers = {"ContentType": content_type(key), "CacheControl": _FOREVER if named_once else _SHORTLY}
        if self._storage_class and kept is not None and kept.kind in _RECORDED:
            headers["StorageClass"] = self._storage_class
        return headers

    def _calling(self, seconds: float | None = None) -> contextlib.AbstractAsyncContextManager[Any]:
        return self._session.calling("s3", self._what, seconds=seconds)

    def _absent(self, error: ClientError, key: str) -> Exception:
        return NoSuchObject(key) if error_code(error) in _GONE else error
