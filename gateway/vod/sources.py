"""The sources of VOD jobs: checks, finds and fetches them."""

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from gateway.channels.names import is_object_key
from gateway.ports.errors import InvalidField, NoSuchObject, StoreUnusable
from gateway.ports.media_keys import Trim, parse_trim
from gateway.ports.stores import Object, ObjectStore
from gateway.ports.vod_names import VodNames, names_of

FIELD: Final = "source"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_UPLOAD = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[a-z0-9]{2,4}", re.ASCII)
_EXPECTED: Final = "expected the key of an object, s3://bucket/key, or a file below a folder of vod.sources"


def is_upload(key: str) -> bool:
    """Whether this is the key of an upload by `POST /uploads`."""
    return _UPLOAD.fullmatch(key) is not None


@dataclass(frozen=True, slots=True)
class VodSource:
    """A source file, either in a store under `key`, or a local file at `path`.

    text: the source in the job. names: of the output files. trim: the part of a recorded session that it is.
    """

    text: str
    names: VodNames
    store: ObjectStore | None = None
    key: str = ""
    path: Path | None = None
    trim: Trim | None = None


class TrimSource(Protocol):
    """The media of recorded sessions."""

    async def save(self, trim: Trim, file: Path) -> None:
        """Writes the media of a trim to a new file. Raises InvalidField, StoreUnavailable, OSError."""


@dataclass(frozen=True, slots=True)
class VodSources:
    """Finds and fetches sources. It never reads local files outside the allowed folders.

    objects: the store of this gateway. bucket: its name, if it is an S3 bucket.
    buckets: opens another bucket; None without AWS. folders: allowed local folders.
    trims: joins parts of recorded sessions; None: they are no sources.
    """

    objects: ObjectStore
    bucket: str = ""
    buckets: Callable[[str], ObjectStore] | None = None
    folders: Sequence[Path] = ()
    trims: TrimSource | None = None

    def parse(self, text: str) -> VodSource:
        """Returns the source for `text`. Does not check whether an object exists; see `check`.

        Raises InvalidField.
        """
        if text.startswith("s3://"):
            return self._in_bucket(text)
        if text.startswith(("/", "file://")):
            return self._in_folder(text.removeprefix("file://"))
        trim = parse_trim(text) if self.trims is not None else None
        return VodSource(text, self._names(text), self.objects, text, trim=trim)

    def find(self, text: str) -> VodSource | None:
        """Returns the source like `parse`; None if it is not usable any more."""
        try:
            return self.parse(text)
        except InvalidField:
            return None

    async def check(self, source: VodSource) -> Object:
        """Returns size and time of the source. Raises InvalidField if it does not exist, or StoreUnavailable."""
        if source.path is not None:
            try:
                status = await asyncio.to_thread(source.path.stat)
            except OSError as error:
                raise InvalidField(FIELD, error.strerror or "cannot be read") from None
            return Object(str(source.path), status.st_size, status.st_mtime)
        assert source.store is not None
        try:
            return await source.store.head(source.trim.playlist if source.trim is not None else source.key)
        except NoSuchObject:
            raise InvalidField(FIELD, "there is no such object") from None

    async def fetch(self, source: VodSource, folder: Path) -> Path:
        """Returns the path of the source; copies an object into `folder` first.

        Raises NoSuchObject, StoreUnavailable, OSError, and InvalidField for a trim without media.
        """
        if source.path is not None:
            return source.path
        if source.trim is not None and self.trims is not None:
            await self.trims.save(source.trim, folder / "film.mp4")
            return folder / "film.mp4"
        assert source.store is not None
        # The file keeps the suffix of the key, because some of libav's demuxers use the suffix.
        target = folder / f"film{PurePosixPath(source.key).suffix[:10]}"
        await source.store.fetch(source.key, target)
        return target

    def _in_bucket(self, text: str) -> VodSource:
        bucket, _, key = text.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket) or not key:
            raise InvalidField(FIELD, _EXPECTED)
        names = self._names(key)
        if bucket == self.bucket:
            return VodSource(text, names, self.objects, key)
        if self.buckets is None:
            raise InvalidField(FIELD, "this gateway knows no buckets: it has no AWS store")
        try:
            return VodSource(text, names, self.buckets(bucket), key)
        except StoreUnusable as error:
            raise InvalidField(FIELD, str(error)) from None

    def _in_folder(self, text: str) -> VodSource:
        try:
            path = Path(text).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            path = None
        for folder in self.folders:
            resolved = folder.resolve()
            if path is not None and path.is_relative_to(resolved) and path.is_file() and os.access(path, os.R_OK):
                return VodSource(str(path), self._names(path.relative_to(resolved).as_posix()), path=path)
        # The message does not depend on whether the file exists, so that callers cannot probe for files.
        raise InvalidField(FIELD, "no film below a folder of vod.sources")

    @staticmethod
    def _names(key: str) -> VodNames:
        if not is_object_key(key):
            raise InvalidField(FIELD, _EXPECTED)
        try:
            names = names_of(key)
        except ValueError as error:
            raise InvalidField(FIELD, str(error)) from None
        # The last segments have the longest file names.
        if not is_object_key(names.key(names.segment(99_999))):
            raise InvalidField(FIELD, "the name is too long")
        return names
