"""Publishes a VOD: media first, playlists last, so that viewers never get an incomplete one. Then removes old files."""

import asyncio
import errno
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from gateway.ports.errors import NoSuchObject, StoreUnavailable
from gateway.ports.stores import ObjectStore
from gateway.ports.vod_names import VodNames
from gateway.vod.film_files import list_files
from gateway.vod.store_wait import wait_for_store
from gateway.workers.package_protocol import PackageResult

log = structlog.get_logger(__name__)

_CLEANUP_SECONDS: Final = 20.0  # maximum seconds for the removal of files after a failure


def outputs(names: VodNames, result: PackageResult) -> dict[str, str]:
    """Returns the object keys for players and pages, by the names "hls", "poster" and "thumbnail"."""
    found = {"hls": names.key(names.master)}
    if result.poster:
        found |= {"poster": names.key(names.poster), "thumbnail": names.key(names.thumbnail)}
    return found


async def publish(
    store: ObjectStore, names: VodNames, folder: Path, result: PackageResult, uploaded: Collection[str] = ()
) -> dict[str, str]:
    """Moves the files of `folder` into the store and returns their `outputs`.

    uploaded: languages of captions that stay, also if the video has some in this language.

    Waits for an unavailable store, at most 900 s for each file; then raises StoreUnavailable. Raises OSError for a disk
    error.
    """
    first = not await _exists(store, names.key(names.master))
    kept = {file for language in uploaded for file in _of_captions(names, language)}
    files = [file for file in _in_order(names, result) if file not in kept]
    stored: list[str] = []
    try:
        for file in files:
            stored.append(names.key(file))
            await wait_for_store(partial(store.put, stored[-1], folder / file), object=stored[-1])
    except BaseException:
        if first:  # no viewer has used it, so its files are removed
            with suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_CLEANUP_SECONDS):
                    for key in stored:
                        await store.delete(key)
        raise
    current = kept.union(files)
    for file in await list_files(store, names):
        if file not in current:
            await store.delete(names.key(file))
    return outputs(names, result)


async def _exists(store: ObjectStore, key: str) -> bool:
    with suppress(NoSuchObject, StoreUnavailable):
        await store.head(key)
        return True
    return False


def _in_order(names: VodNames, result: PackageResult) -> Iterator[str]:
    """Yields the file names in the order of publication."""
    yield from (names.segment(number) for number in range(1, result.segments + 1))
    if result.poster:
        yield names.poster
        yield names.thumbnail
    if result.previews:
        yield names.preview_pictures
        yield names.preview
    for each in result.captions:
        yield from _of_captions(names, each.language)
    yield names.playlist
    yield names.master


def _of_captions(names: VodNames, language: str) -> tuple[str, str]:
    return names.captions(language), names.captions_playlist(language)


def replace_folder(made: Path, target: Path, names: VodNames) -> None:
    """Replaces the folder `target` by the folder `made`. Both must be on the same file system.

    Raises OSError, or FileExistsError like `check_replaceable`; `target` is then unchanged.
    """
    check_replaceable(target, names)
    old = target.with_name(f".{target.name}.{secrets.token_hex(6)}.old")
    try:
        os.rename(target, old)
    except FileNotFoundError:
        os.rename(made, target)
        return
    try:
        os.rename(made, target)
    except OSError:
        os.rename(old, target)
        raise
    shutil.rmtree(old)


def check_replaceable(target: Path, names: VodNames) -> None:
    """Raises FileExistsError if `target` contains anything except the files of a VOD of this name."""
    replaceable = not target.is_symlink() and (
        not target.exists() or (target.is_dir() and all(names.has(file.name) for file in target.iterdir()))
    )
    if not replaceable:
        raise FileExistsError(errno.EEXIST, f"{target} contains other files, which are not overwritten")
