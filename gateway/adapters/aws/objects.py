"""Objects in an S3 bucket. Large files are uploaded in parts, so that memory is bounded."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import structlog
from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, ErrorMap, call, error_code, pages, unmapped
from gateway.channels.names import is_object_key
from gateway.lib.content_types import content_type
from gateway.lib.disk import open_file
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject, ObjectArchived, StoreUnavailable, TooLarge
from gateway.ports.stores import DirectUpload, Object

log = structlog.get_logger(__name__)

PAGE: Final = 1000  # objects in one listing response; S3's maximum
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
# For playlists, which change, and for objects that a client may upload again.
_ONE_MINUTE: Final = "public, max-age=60"

_CHUNK_BYTES: Final = 256 * 1024
_PART_BYTES: Final = 8 << 20
_MAX_PARTS: Final = 9_000  # S3 allows 10,000
_DELETE_SECONDS: Final = 60.0  # to delete 1,000 objects
_PART_SECONDS: Final = 120.0  # for one part of 8 MiB: at least 70 kB/s
_COPY_BYTES: Final = 1 << 30  # in one request; S3 allows 5 GiB
# Without a byte of an answer: AWS sends spaces while it copies or joins parts, other stores send nothing.
_COPY_SECONDS: Final = 300
_JOIN_SECONDS: Final = 120
_PROBE: Final = ".millrace-conditions"  # an empty object that exists for a moment
_ARCHIVED_CODES: Final = ("InvalidObjectState", "ObjectNotInActiveTierError")  # of a read, of a copy
_NOT_FOUND_CODES: Final = ("404", "NoSuchKey", "NotFound", "NoSuchUpload")
_RECORDING_KINDS: Final = (media_keys.MediaKind.VIDEO, media_keys.MediaKind.CLIP, media_keys.MediaKind.SEGMENT)

Parts: TypeAlias = list[dict[str, Any]]  # of an upload, as S3 wants them listed at its end


class S3Objects:
    """An ObjectStore in a bucket. It sets no ACL. The bucket policy controls reading.

    A failed multipart upload is aborted. If the process is killed, the bucket's lifecycle (`millrace storage apply`)
    removes the upload.

    storage_class: for recordings; "": the bucket's default.
    """

    def __init__(self, session: AwsSession, bucket: str, storage_class: str = "") -> None:
        self._session, self.bucket = session, bucket
        self._storage_class = storage_class
        self._label = f"bucket {bucket}"
        self._conditional: bool | None = None  # whether the store knows conditional writes; None: it was not tried

    async def put(self, key: str, file: Path) -> None:
        if not is_object_key(key):
            raise ValueError(f"{key!r} is not a valid object key")
        with await open_file(file, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            if size <= _PART_BYTES:
                body = await asyncio.to_thread(source.read)
                await self._call("put_object", _PART_SECONDS, Key=key, Body=body, **self._headers(key))
            else:
                await self._put_parts(key, source, max(_PART_BYTES, -(-size // _MAX_PARTS)))
        await asyncio.to_thread(file.unlink, missing_ok=True)

    async def head(self, key: str) -> Object:
        reply = await self._call("head_object", Key=key, errors=partial(_not_found, key))
        return Object(key, reply["ContentLength"], reply["LastModified"].timestamp())

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if end is not None and start >= end:
            await self.head(key)
            return
        same: dict[str, Any] = {}
        while True:
            bounds = f"bytes={start}-{'' if end is None else end - 1}"
            range_: dict[str, Any] = {"Range": bounds} if start or end is not None else {}
            try:
                reply = await self._call("get_object", Key=key, errors=partial(_unreadable, key), **range_, **same)
            except _NoBytes:
                return
            begin, remaining, body = start, int(reply["ContentLength"]), reply["Body"]
            if same and not reply.get("ContentRange", "").startswith(f"bytes {start}-"):
                body.close()
                raise StoreUnavailable(f"s3 ({self._label}) does not continue {key} where it broke off")
            same = {"IfMatch": reply["ETag"]} if "ETag" in reply else {}
            try:
                async with body:  # closes the connection if the caller stops reading
                    while remaining > 0:
                        async with self._client(_PART_SECONDS):  # for its time-out and its errors
                            chunk = await body.read(min(_CHUNK_BYTES, remaining))
                        if not chunk:
                            raise StoreUnavailable(f"s3 ({self._label}) closed the connection while sending {key}")
                        remaining -= len(chunk)
                        start += len(chunk)
                        yield chunk
                return
            except StoreUnavailable:  # the rest of the same object follows, as long as something of it comes
                if start == begin or not same:
                    raise

    async def list(self, prefix: str) -> AsyncIterator[Object]:
        ask = partial(self._call, "list_objects_v2", Prefix=prefix, MaxKeys=PAGE)
        async for reply in pages(ask, "ContinuationToken", "NextContinuationToken"):
            for item in reply.get("Contents", ()):
                yield Object(item["Key"], item["Size"], item["LastModified"].timestamp())
            token = reply.get("NextContinuationToken")
            if not reply.get("IsTruncated", token):  # some stores give a token although nothing follows
                return
            if not token:
                raise StoreUnavailable(f"s3 ({self._label}) does not say how its list continues")

    async def delete(self, key: str) -> None:
        await self._call("delete_object", Key=key)

    async def delete_many(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        reply = await self._call("delete_objects", _DELETE_SECONDS, Delete=wanted)
        if failed := reply.get("Errors"):
            code, count = failed[0].get("Code", "unknown"), len(failed)
            raise StoreUnavailable(f"s3 ({self._label}) did not delete {count} of {len(keys)} objects: {code}")

    async def move(self, key: str, to: str) -> int:
        source = await self._call("head_object", Key=key, errors=partial(_not_found, key))
        origin = {"Bucket": self.bucket, "Key": key}
        size: int = source["ContentLength"]
        kept = {"StorageClass": source["StorageClass"]} if "StorageClass" in source else {}
        if size <= _COPY_BYTES:
            errors = partial(_archived, key)
            await self._call("copy_object", wait=_COPY_SECONDS, errors=errors, Key=to, CopySource=origin, **kept)
        else:
            headers = {name: source[name] for name in ("ContentType", "CacheControl") if name in source}
            await self._copy_parts(origin, to, size, headers | kept)
        await self.delete(key)
        return size

    async def fetch(self, key: str, to: Path, max_bytes: int = 0) -> None:
        size = (await self.head(key)).size
        if max_bytes and size > max_bytes:
            raise TooLarge(size, max_bytes, key)
        with await open_file(to, "wb") as target:
            async for chunk in self.read(key):
                if max_bytes and target.tell() + len(chunk) > max_bytes:  # the object was replaced after `head`
                    raise TooLarge(target.tell() + len(chunk), max_bytes, key)
                await asyncio.to_thread(target.write, chunk)

    async def upload(self, key: str, seconds: int) -> DirectUpload | None:
        if not self._session.browsers_reach_s3 or not await self._takes_conditions():
            return None
        kind = content_type(key)
        async with self._client() as client:
            # The signature covers the condition: S3 answers 412 to a second upload. S3 supports conditional writes in
            # all regions.
            put = {"Bucket": self.bucket, "Key": key, "ContentType": kind, "IfNoneMatch": "*"}
            url: str = await client.generate_presigned_url("put_object", put, ExpiresIn=seconds, HttpMethod="PUT")
        return DirectUpload(url, "PUT", {"Content-Type": kind, "If-None-Match": "*"})

    async def check(self) -> None:
        await self._call("head_bucket")

    # ---- details ----

    async def _takes_conditions(self) -> bool:
        """Whether the store may know conditional writes. Backblaze refuses each upload with a condition.

        Other stores than that of AWS are tried once.
        """
        if self._conditional is None and self._session.has_other_store:
            try:
                await self._call("put_object", Key=_PROBE, Body=b"", IfNoneMatch="*", errors=_not_implemented)
                self._conditional = True
                await self.delete(_PROBE)
            except _NotImplementedThere:
                self._conditional = False
            except StoreUnavailable as error:  # the next upload tries again
                log.debug("a store was not tried", store=self._label, reason=str(error))
        return self._conditional is not False

    async def _put_parts(self, key: str, source: BinaryIO, size: int) -> None:
        """Uploads the parts in order. Only one part is in memory. Other uploads can run between two parts."""
        total = os.fstat(source.fileno()).st_size
        async with self._parts(key, total, self._headers(key)) as (arguments, parts):
            while body := await asyncio.to_thread(source.read, size):
                number = len(parts) + 1
                reply = await self._call("upload_part", _PART_SECONDS, **arguments, PartNumber=number, Body=body)
                parts.append(_part(number, reply))

    async def _copy_parts(self, origin: dict[str, str], to: str, size: int, headers: dict[str, Any]) -> None:
        """Copies an object that is too large for one request, within the bucket."""
        errors = partial(_archived, origin["Key"])
        async with self._parts(to, size, headers) as (arguments, parts):
            for first in range(0, size, _COPY_BYTES):
                bounds = f"bytes={first}-{min(first + _COPY_BYTES, size) - 1}"
                number = len(parts) + 1
                source: dict[str, Any] = {"CopySource": origin, "CopySourceRange": bounds}
                source |= {"PartNumber": number}
                reply = await self._call("upload_part_copy", wait=_COPY_SECONDS, errors=errors, **arguments, **source)
                parts.append(_part(number, reply["CopyPartResult"]))

    @contextlib.asynccontextmanager
    async def _parts(self, key: str, size: int, headers: dict[str, Any]) -> AsyncIterator[tuple[dict[str, Any], Parts]]:
        """Stores an object in parts: yields the arguments of the upload, and the list for its parts."""
        upload = await self._call("create_multipart_upload", Key=key, **headers)
        arguments = {"Key": key, "UploadId": upload["UploadId"]}
        parts: Parts = []
        try:
            yield arguments, parts
            await self._join(arguments, parts, size)
        except BaseException:
            await self._abort(arguments)
            raise

    async def _join(self, arguments: dict[str, Any], parts: Parts, size: int) -> None:
        """Completes an upload of `size` bytes."""
        found = {"Parts": parts}
        try:
            await self._call("complete_multipart_upload", wait=_JOIN_SECONDS, **arguments, MultipartUpload=found)
        except StoreUnavailable as error:
            # botocore repeats a request without an answer, and most stores beside AWS then have no such upload.
            gone = isinstance(error.__cause__, ClientError) and error_code(error.__cause__) == "NoSuchUpload"
            if not gone or not await self._has(arguments["Key"], size):
                raise

    async def _has(self, key: str, size: int) -> bool:
        try:
            return (await self.head(key)).size == size
        except NoSuchObject:
            return False

    async def _abort(self, arguments: dict[str, Any]) -> None:
        """Aborts an upload, because S3 charges for its parts until then."""
        try:
            await self._call("abort_multipart_upload", **arguments)
        except StoreUnavailable as error:
            log.info("a multipart upload could not be aborted", object=arguments["Key"], reason=str(error))

    def _headers(self, key: str) -> dict[str, Any]:
        media_key = media_keys.parse(key)
        immutable = media_key is not None and not key.endswith(".m3u8")
        headers = {"ContentType": content_type(key), "CacheControl": _IMMUTABLE if immutable else _ONE_MINUTE}
        if self._storage_class and media_key is not None and media_key.kind in _RECORDING_KINDS:
            headers["StorageClass"] = self._storage_class
        return headers

    async def _call(
        self, operation: str, seconds: float = 0, *, wait: int = 0, errors: ErrorMap = unmapped, **parameters: Any
    ) -> Any:
        return await call(self._client(seconds, errors, wait), operation, Bucket=self.bucket, **parameters)

    def _client(
        self, seconds: float = 0, errors: ErrorMap = unmapped, wait: int = 0
    ) -> contextlib.AbstractAsyncContextManager[Any]:
        return self._session.client_for("s3", self._label, seconds=seconds, wait=wait, errors=errors)


def _part(number: int, reply: dict[str, Any]) -> dict[str, Any]:
    """Returns a part of a finished upload as S3 wants it listed."""
    checksums = {name for name in reply if name.startswith("Checksum")} - {"ChecksumType"}
    return {"PartNumber": number, **{name: reply[name] for name in ("ETag", *checksums)}}


class _NotImplementedThere(Exception):
    """The store has not what the request needs."""


def _not_implemented(error: ClientError) -> _NotImplementedThere | None:
    return _NotImplementedThere() if error_code(error) == "NotImplemented" else None


class _NoBytes(Exception):
    """The object has no bytes in the requested range."""


def _not_found(key: str, error: ClientError) -> NoSuchObject | None:
    """Returns NoSuchObject if there is no object `key`, otherwise None. See ErrorMap."""
    return NoSuchObject(key) if error_code(error) in _NOT_FOUND_CODES else None


def _archived(key: str, error: ClientError) -> ObjectArchived | None:
    """Returns ObjectArchived if the bucket has archived the object, otherwise None. See ErrorMap."""
    return ObjectArchived(key) if error_code(error) in _ARCHIVED_CODES else None


def _unreadable(key: str, error: ClientError) -> Exception | None:
    """Returns _NoBytes if the object has no bytes in the range, otherwise as `_archived` and `_not_found`."""
    if error_code(error) == "InvalidRange":
        return _NoBytes()
    return _archived(key, error) or _not_found(key, error)
