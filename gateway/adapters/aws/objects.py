"""Objects in an S3 bucket. Finished files are uploaded whole, large ones in parts, with bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import structlog
from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code
from gateway.channels.names import is_object_key
from gateway.lib.content_types import content_type
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject, StoreUnavailable, TooLarge
from gateway.ports.stores import DirectUpload, Object

log = structlog.get_logger(__name__)

PAGE: Final = 1000  # objects in one answer to a listing; S3's maximum
_FOREVER: Final = "public, max-age=31536000, immutable"
# For playlists, which grow, and for objects that a client may upload again under the same key.
_SHORTLY: Final = "public, max-age=60"

_PIECE: Final = 256 * 1024
_PART: Final = 8 << 20
_MAX_PARTS: Final = 9_000  # S3 allows 10,000
_DELETE_SECONDS: Final = 60.0  # for 1,000 objects
_PART_SECONDS: Final = 120.0  # for one part of 8 MiB: at least 70 kB/s
_GONE: Final = ("404", "NoSuchKey", "NotFound", "NoSuchUpload")
_RECORDED: Final = (media_keys.MediaKind.VIDEO, media_keys.MediaKind.SEGMENT)


class S3Objects:
    """An ObjectStore in a bucket. It sets no ACL: the bucket decides who may read.

    storage_class: for recordings; "" means the bucket's default. A multipart upload that fails is aborted. The bucket's
    lifecycle (`millrace storage apply`) removes one that a killed process left.
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
                await self._put_parts(key, source, max(_PART, -(-size // _MAX_PARTS)))
        finally:
            source.close()
        await asyncio.to_thread(file.unlink, missing_ok=True)

    async def head(self, key: str) -> Object:
        async with self._calling() as client:
            try:
                reply = await client.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                raise self._absent(error, key) from None
        return Object(key, reply["ContentLength"], reply["LastModified"].timestamp())

    async def read(self, key: str, first: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if end is not None and first >= end:
            await self.head(key)
            return
        span = {"Range": f"bytes={first}-{'' if end is None else end - 1}"} if first or end is not None else {}
        async with self._calling() as client:
            try:
                reply = await client.get_object(Bucket=self.bucket, Key=key, **span)
            except ClientError as error:
                if error_code(error) == "InvalidRange":
                    return
                raise self._absent(error, key) from None
        left: int = reply["ContentLength"]
        body = reply["Body"]
        async with body:  # closes the connection when the reader stops early
            while left > 0:
                async with self._calling(_PART_SECONDS):
                    piece = await body.read(min(_PIECE, left))
                if not piece:
                    raise StoreUnavailable(f"s3 ({self._what}) broke off in the middle of {key}")
                left -= len(piece)
                yield piece

    async def list(self, prefix: str) -> AsyncIterator[Object]:
        page: dict[str, Any] = {}
        while True:
            async with self._calling() as client:
                reply = await client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=PAGE, **page)
            for item in reply.get("Contents", ()):
                yield Object(item["Key"], item["Size"], item["LastModified"].timestamp())
            if not reply.get("IsTruncated"):
                return
            page = {"ContinuationToken": reply["NextContinuationToken"]}

    async def delete(self, key: str) -> None:
        async with self._calling() as client:
            await client.delete_object(Bucket=self.bucket, Key=key)

    async def delete_many(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        async with self._calling(_DELETE_SECONDS) as client:
            reply = await client.delete_objects(Bucket=self.bucket, Delete=wanted)
        if failed := reply.get("Errors"):
            code, count = failed[0].get("Code", "unknown"), len(failed)
            raise StoreUnavailable(f"s3 ({self._what}) deletes {count} of {len(keys)} objects not: {code}")

    async def fetch(self, key: str, to: Path, most: int = 0) -> None:
        size = (await self.head(key)).size
        if most and size > most:
            raise TooLarge(size, most, key)
        with await asyncio.to_thread(to.open, "wb") as target:
            async for piece in self.read(key):
                if most and target.tell() + len(piece) > most:  # the object was replaced after `head`
                    raise TooLarge(target.tell() + len(piece), most, key)
                await asyncio.to_thread(target.write, piece)

    async def upload(self, key: str, seconds: int) -> DirectUpload | None:
        kind = content_type(key)
        async with self._calling() as client:
            url: str = await client.generate_presigned_url(
                "put_object",
                # The condition is signed too: S3 answers 412 to a second upload. S3 supports conditional writes in all
                # regions.
                Params={"Bucket": self.bucket, "Key": key, "ContentType": kind, "IfNoneMatch": "*"},
                ExpiresIn=seconds,
                HttpMethod="PUT",
            )
        return DirectUpload(url, "PUT", {"Content-Type": kind, "If-None-Match": "*"})

    async def check(self) -> None:
        async with self._calling() as client:
            await client.head_bucket(Bucket=self.bucket)

    # ---- details ----

    async def _put_parts(self, key: str, source: BinaryIO, size: int) -> None:
        """Uploads one part after another. Memory holds one part, and other streams' uploads can run in between."""
        async with self._calling() as client:
            made = await client.create_multipart_upload(Bucket=self.bucket, Key=key, **self._headers(key))
        whole = {"Bucket": self.bucket, "Key": key, "UploadId": made["UploadId"]}
        try:
            parts: list[dict[str, Any]] = []
            while body := await asyncio.to_thread(source.read, size):
                number = len(parts) + 1
                async with self._calling(_PART_SECONDS) as client:
                    reply = await client.upload_part(**whole, PartNumber=number, Body=body)
                sums = {name: reply[name] for name in reply if name.startswith("Checksum") and name != "ChecksumType"}
                parts.append({"PartNumber": number, "ETag": reply["ETag"], **sums})
            async with self._calling(_PART_SECONDS) as client:
                await client.complete_multipart_upload(**whole, MultipartUpload={"Parts": parts})
        except BaseException:
            await self._abort(whole)
            raise

    async def _abort(self, whole: dict[str, Any]) -> None:
        """Aborts an upload, because S3 bills the parts until then."""
        try:
            async with self._calling() as client:
                await client.abort_multipart_upload(**whole)
        except StoreUnavailable as error:
            log.info("an upload in parts could not be aborted", object=whole["Key"], reason=str(error))

    def _headers(self, key: str) -> dict[str, str]:
        kept = media_keys.parse(key)
        named_once = kept is not None and kept.kind is not media_keys.MediaKind.ONDEMAND
        headers = {"ContentType": content_type(key), "CacheControl": _FOREVER if named_once else _SHORTLY}
        if self._storage_class and kept is not None and kept.kind in _RECORDED:
            headers["StorageClass"] = self._storage_class
        return headers

    def _calling(self, seconds: float | None = None) -> contextlib.AbstractAsyncContextManager[Any]:
        return self._session.calling("s3", self._what, seconds=seconds)

    def _absent(self, error: ClientError, key: str) -> Exception:
        return NoSuchObject(key) if error_code(error) in _GONE else error
