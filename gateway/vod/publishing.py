"""Publishes a VOD so that viewers never see a part of it: media first, playlists last. Then removes old files."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from gateway.lib.backoff import Backoff
from gateway.ports.errors import NoSuchObject, StoreUnavailable
from gateway.ports.stores import ObjectStore
from gateway.ports.vod_names import VodNames
from gateway.workers.package_protocol import PackageResult

log = structlog.get_logger(__name__)

_TIMEOUT: Final = 900.0  # seconds that a store may be unavailable
_CLEANING: Final = 20.0  # seconds for the removal of unfinished files


def outputs(names: VodNames, made: PackageResult) -> dict[str, str]:
    """Returns the object keys for players and pages, by the names "hls", "poster" and "thumbnail"."""
    found = {"hls": names.key(names.master)}
    if made.poster:
        found |= {"poster": names.key(names.poster), "thumbnail": names.key(names.thumbnail)}
    return found


async def publish(store: ObjectStore, names: VodNames, folder: Path, made: PackageResult) -> dict[str, str]:
    """Moves the files of `folder` into the store and returns their `outputs`.

    Waits for a store that is unavailable, up to 900 s for each file. Raises StoreUnavailable after that, OSError for a
    disk error.
    """
    first = not await _exists(store, names.key(names.master))
    put: list[str] = []
    try:
        for file in _in_order(names, made):
            put.append(names.key(file))
            await _put(store, put[-1], folder / file)
    except BaseException:
        if first:  # no viewer has seen it, so everything is removed again
            with suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_CLEANING):
                    for key in put:
                        await store.delete(key)
        raise
    current = set(_in_order(names, made))
    stale = [
        found.key
        async for found in store.list(f"{names.prefix}/")
        if (file := found.key.removeprefix(f"{names.prefix}/")) not in current and names.has(file)
    ]
    for key in stale:
        await store.delete(key)
    return outputs(names, made)


async def _exists(store: ObjectStore, key: str) -> bool:
    try:
        await store.head(key)
    except (NoSuchObject, StoreUnavailable):
        return False
    return True


async def _put(store: ObjectStore, key: str, file: Path) -> None:
    backoff = Backoff(1, 30)
    loop = asyncio.get_running_loop()
    until = loop.time() + _TIMEOUT
    while True:
        try:
            await store.put(key, file)
            return
        except StoreUnavailable as away:
            if loop.time() > until:
                raise
            log.info("the store is away, a film waits for it", object=key, reason=str(away))
            await asyncio.sleep(backoff.next())


def _in_order(names: VodNames, made: PackageResult) -> Iterator[str]:
    yield from (names.segment(number) for number in range(1, made.segments + 1))
    if made.poster:
        yield names.poster
        yield names.thumbnail
    yield names.playlist
    yield names.master


def replace_folder(made: Path, target: Path, names: VodNames) -> None:
    """Replaces the folder `target` by the folder `made`, which has to be on the same file system.

    Raises OSError, or FileExistsError like `judge_folder`; `target` is then unchanged.
    """
    judge_folder(target, names)
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


def judge_folder(target: Path, names: VodNames) -> None:
    """Raises FileExistsError if `target` contains anything except the files of a VOD of this name."""
    if not _replaceable(target, names):
        raise FileExistsError(errno.EEXIST, f"{target} holds something else, which is not overwritten")


def _replaceable(target: Path, names: VodNames) -> bool:
    """Returns whether `target` does not exist, or is a folder with only files of a VOD of this name."""
    if target.is_symlink():
        return False
    return not target.exists() or (target.is_dir() and all(names.has(found.name) for found in target.iterdir()))
