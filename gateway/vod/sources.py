"""Sources: which films a job may be made of, where they are, and how they come onto this machine."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from gateway.hub.errors import InvalidField, NoSuchObject, StoreUnusable
from gateway.hub.names import is_object_key
from gateway.hub.ports import Object, ObjectStore
from gateway.vod.naming import Names, names_of

FIELD: Final = "source"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_EXPECTED: Final = "expected the key of an object, s3://bucket/key, or a file below a folder of vod.sources"


@dataclass(frozen=True, slots=True)
class Source:
    """A film. text: as it is stored; names: of what it becomes; in a store under `key`, or a file."""

    text: str
    names: Names
    store: ObjectStore | None = None
    key: str = ""
    path: Path | None = None


class Sources:
    """Reads what somebody asks for and nothing else: never a file of this machine outside the folders given.

    objects: the store of this gateway, s3://`bucket` where it is one. buckets: opens another bucket; None: there is no
    AWS here. folders: local folders whose films may be used.
    """

    def __init__(
        self,
        objects: ObjectStore,
        bucket: str = "",
        buckets: Callable[[str], ObjectStore] | None = None,
        folders: Sequence[Path] = (),
    ) -> None:
        self._objects = objects
        self._bucket = bucket
        self._buckets = buckets
        self._folders = tuple(folders)

    def parse(self, text: str) -> Source:
        """What `text` names; whether it is there `check` tells. Raises InvalidField."""
        if text.startswith("s3://"):
            return self._in_bucket(text)
        if text.startswith(("/", "file://")):
            return self._in_folder(text.removeprefix("file://"))
        return Source(text, self._names(text), self._objects, text)

    def of_event(self, bucket: str, key: str) -> Source:
        """An object that a bucket told of. Raises InvalidField."""
        return self.parse(f"s3://{bucket}/{key}")

    async def check(self, source: Source) -> Object:
        """The film as it is now. Raises InvalidField where there is none, StoreAway."""
        if source.path is not None:
            try:
                status = await asyncio.to_thread(source.path.stat)
            except OSError as error:
                raise InvalidField(FIELD, error.strerror or "cannot be read") from None
            return Object(str(source.path), status.st_size, status.st_mtime)
        assert source.store is not None
        try:
            return await source.store.head(source.key)
        except NoSuchObject:
            raise InvalidField(FIELD, "there is no such object") from None

    async def fetch(self, source: Source, folder: Path) -> Path:
        """The film as a local file, copied into `folder` where it is none. Raises NoSuchObject, StoreAway, OSError."""
        if source.path is not None:
            return source.path
        assert source.store is not None
        # Only the suffix is the film's own: some of libav's demuxers look at it.
        to = folder / f"film{PurePosixPath(source.key).suffix[:10]}"
        await source.store.fetch(source.key, to)
        return to

    def _in_bucket(self, text: str) -> Source:
        bucket, _, key = text.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket) or not key:
            raise InvalidField(FIELD, _EXPECTED)
        names = self._names(key)
        if bucket == self._bucket:
            return Source(text, names, self._objects, key)
        if self._buckets is None:
            raise InvalidField(FIELD, "this gateway knows no buckets: it has no AWS store")
        try:
            return Source(text, names, self._buckets(bucket), key)
        except StoreUnusable as error:
            raise InvalidField(FIELD, str(error)) from None

    def _in_folder(self, text: str) -> Source:
        try:
            path = Path(text).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            path = None
        for folder in self._folders:
            real = folder.resolve()
            if path is not None and path.is_relative_to(real) and path.is_file() and os.access(path, os.R_OK):
                return Source(str(path), self._names(path.relative_to(real).as_posix()), path=path)
        # The same words whether it exists or not: nobody learns here which files there are.
        raise InvalidField(FIELD, "no film below a folder of vod.sources")

    @staticmethod
    def _names(key: str) -> Names:
        if not is_object_key(key):
            raise InvalidField(FIELD, _EXPECTED)
        try:
            names = names_of(key)
        except ValueError as error:
            raise InvalidField(FIELD, str(error)) from None
        if not is_object_key(names.key(names.segment(99_999))):
            raise InvalidField(FIELD, "the name is too long")
        return names
