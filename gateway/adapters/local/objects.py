"""Objects in a folder. A key is the path of a file below it. Every visible file is complete."""

import asyncio
import contextlib
import errno
import itertools
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.channels.names import is_object_key
from gateway.lib.disk import sync_folder
from gateway.ports.errors import NoSuchObject, StoreUnavailable, TooLarge
from gateway.ports.stores import DirectUpload, Object

_CHUNK_BYTES: Final = 256 * 1024
_PAGE_OBJECTS: Final = 500  # objects that one call in a thread returns
_DELETE_BATCH: Final = 100  # objects that one call in a thread deletes; other work can run between two calls


class LocalObjects:
    """An ObjectStore in a folder, which is created on first use. All disk access runs in threads.

    Files whose names begin with "." are incomplete. They are not listed.

    A rename publishes the finished file. When `put` returns, the file and its folder are synced to disk. A file from
    another file system is first copied to a hidden name in its new folder. A symbolic link must point inside the
    folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    async def put(self, key: str, file: Path) -> None:
        await asyncio.to_thread(self._put, key, file)

    async def head(self, key: str) -> Object:
        return await asyncio.to_thread(self._head, key)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, self._open, key)
        try:
            descriptor, status = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise
        offset, end = start, status.st_size if end is None else min(end, status.st_size)
        pending_read: asyncio.Future[bytes] | None = None
        try:
            while offset < end:
                pending_read = loop.run_in_executor(None, os.pread, descriptor, min(_CHUNK_BYTES, end - offset), offset)
                chunk = await asyncio.shield(pending_read)
                if not chunk:
                    raise StoreUnavailable(f"{key} became shorter while it was read")
                offset += len(chunk)
                yield chunk
        finally:
            if pending_read is None or pending_read.done():
                os.close(descriptor)
            else:  # cancelled: the thread still reads, so the descriptor must not be reused for another file
                pending_read.add_done_callback(lambda _: os.close(descriptor))

    async def list(self, prefix: str) -> AsyncIterator[Object]:
        entries = self._walk(prefix)
        while page := await asyncio.to_thread(list, islice(entries, _PAGE_OBJECTS)):
            for found in page:
                yield found

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._delete, key)

    async def delete_many(self, keys: Sequence[str]) -> None:
        for index in range(0, len(keys), _DELETE_BATCH):
            await asyncio.to_thread(self._delete_some, keys[index : index + _DELETE_BATCH])

    async def move(self, key: str, to: str) -> int:
        return await asyncio.to_thread(self._move, key, to)

    async def fetch(self, key: str, to: Path, max_bytes: int = 0) -> None:
        await asyncio.to_thread(self._fetch, key, to, max_bytes)

    async def upload(self, key: str, seconds: int) -> DirectUpload | None:
        return None

    async def check(self) -> None:
        def check_folder() -> None:
            try:
                self.root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._unavailable(error) from None
            if not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
                raise StoreUnavailable(f"the media folder {self.root} cannot be written")

        await asyncio.to_thread(check_folder)

    # ---- in threads ----

    def _put(self, key: str, file: Path) -> None:
        target = self._path(key)
        for attempt in range(3):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._check_inside_root(target.parent)
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
                try:
                    os.replace(file, target)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    _move_across_disks(file, target)
                sync_folder(target.parent)
                return
            except FileNotFoundError:
                # Retention may have removed the empty folder since then.
                if attempt == 2 or not file.exists():
                    raise

    def _head(self, key: str) -> Object:
        descriptor, status = self._open(key)
        os.close(descriptor)
        return Object(key, status.st_size, status.st_mtime)

    def _open(self, key: str) -> tuple[int, os.stat_result]:
        if not is_object_key(key):
            raise NoSuchObject(key)
        path = self._path(key)
        try:
            self._check_inside_root(path)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not block the thread
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchObject(key) from None
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO):
                raise NoSuchObject(key) from None
            raise self._unavailable(error) from None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise NoSuchObject(key)
        return descriptor, status

    def _walk(self, prefix: str) -> Iterator[Object]:
        # The walk starts in the folder of the prefix. The rest of the prefix is a filter.
        folder = prefix.rpartition("/")[0]
        if folder and not is_object_key(folder):
            return
        start = self.root / folder
        try:
            self._check_inside_root(start)
        except FileNotFoundError:
            return
        for directory, folders, files in os.walk(start, onerror=self._listing_failed):
            base = Path(directory).relative_to(self.root).as_posix()
            base = "" if base == "." else base + "/"
            folders[:] = sorted(f for f in folders if not f.startswith(".") and _may_contain(f"{base}{f}/", prefix))
            for name in sorted(files):
                key = base + name
                if not key.startswith(prefix) or not is_object_key(key):
                    continue
                with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                    status = os.lstat(os.path.join(directory, name))
                    if stat.S_ISREG(status.st_mode):
                        yield Object(key, status.st_size, status.st_mtime)

    def _listing_failed(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise self._unavailable(error) from None

    def _delete(self, key: str) -> None:
        if not is_object_key(key):
            return
        path = self._path(key)
        try:
            self._check_inside_root(path.parent)
            path.unlink(missing_ok=True)  # a moved file has left its folders
            folder = path.parent
            while folder != self.root:
                folder.rmdir()
                folder = folder.parent
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR):
                raise self._unavailable(error) from None

    def _delete_some(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._delete(key)

    def _move(self, key: str, to: str) -> int:
        size = self._head(key).size
        try:
            self._put(to, self._path(key))
        except FileNotFoundError:
            raise NoSuchObject(key) from None
        except OSError as error:
            raise self._unavailable(error) from None
        self._delete(key)  # its empty folders
        return size

    def _fetch(self, key: str, to: Path, max_bytes: int) -> None:
        descriptor, status = self._open(key)
        with os.fdopen(descriptor, "rb") as source:
            if max_bytes and status.st_size > max_bytes:
                raise TooLarge(status.st_size, max_bytes, key)
            with to.open("wb") as target:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)

    def _path(self, key: str) -> Path:
        if not is_object_key(key):
            raise ValueError(f"{key!r} is not a valid object key")
        return self.root / key

    def _check_inside_root(self, path: Path) -> None:
        """Raises FileNotFoundError if a symbolic link on `path` leaves the folder. Without links, this is fast."""
        below = itertools.takewhile(lambda part: part != self.root, (path, *path.parents))
        if not any(part.is_symlink() for part in below):
            return
        # `Path.resolve` raises RuntimeError for a loop of links, not OSError.
        if not Path(os.path.realpath(path, strict=True)).is_relative_to(self.root.resolve(strict=True)):
            raise FileNotFoundError(errno.ENOENT, "a symbolic link points outside the media folder", str(path))

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"the media folder {self.root} is not available: {error.strerror or error}")


def _close_opened(opening: asyncio.Future[tuple[int, os.stat_result]]) -> None:
    """Closes a file that was opened after its reader was cancelled."""
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result()[0])


def _may_contain(folder: str, prefix: str) -> bool:
    return folder.startswith(prefix) or prefix.startswith(folder)


def _move_across_disks(file: Path, target: Path) -> None:
    """Moves a file from another file system. Copies it to a hidden name first, so that readers see no partial file."""
    hidden = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with file.open("rb") as source, hidden.open("xb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(hidden, target)
    finally:
        hidden.unlink(missing_ok=True)
    file.unlink()
