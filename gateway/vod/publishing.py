"""Publishing: what was made becomes visible whole: media first, playlists last, leftovers of an earlier film never."""

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

from gateway.hub.errors import NoSuchObject, StoreAway
from gateway.hub.ports import ObjectStore
from gateway.lib.backoff import Backoff
from gateway.vod.naming import Names
from gateway.vod.order import Made

log = structlog.get_logger(__name__)

_PATIENCE: Final = 900.0  # seconds that a store may be away
_CLEANING: Final = 20.0  # seconds for taking back what was not finished


def outputs(names: Names, made: Made) -> dict[str, str]:
    """The object keys of what a player and a page need."""
    found = {"hls": names.key(names.master)}
    if made.poster:
        found |= {"poster": names.key(names.poster), "thumbnail": names.key(names.thumbnail)}
    return found


async def publish(store: ObjectStore, names: Names, folder: Path, made: Made) -> dict[str, str]:
    """The files of `folder` into the store, each gone from the folder then; see `outputs`.

    A store that is away is waited for. Raises StoreAway where that takes too long, OSError for trouble with the disk.
    """
    first = not await _exists(store, names.key(names.master))
    put: list[str] = []
    try:
        for file in _in_order(names, made):
            put.append(names.key(file))
            await _put(store, put[-1], folder / file)
    except BaseException:
        if first:  # nobody has seen it: nothing of it stays
            with suppress(StoreAway, TimeoutError):
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
    except (NoSuchObject, StoreAway):
        return False
    return True


async def _put(store: ObjectStore, key: str, file: Path) -> None:
    backoff = Backoff(1, 30)
    loop = asyncio.get_running_loop()
    until = loop.time() + _PATIENCE
    while True:
        try:
            await store.put(key, file)
            return
        except StoreAway as away:
            if loop.time() > until:
                raise
            log.info("the store is away, a film waits for it", object=key, reason=str(away))
            await asyncio.sleep(backoff.next())


def _in_order(names: Names, made: Made) -> Iterator[str]:
    yield from (names.segment(number) for number in range(1, made.segments + 1))
    if made.poster:
        yield names.poster
        yield names.thumbnail
    yield names.playlist
    yield names.master


def replace_folder(made: Path, target: Path, names: Names) -> None:
    """The folder `made`, on the same file system, becomes `target`; what an earlier film left there is gone as a whole.

    Raises OSError, FileExistsError as `judge_folder`; then what is there is there still.
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


def judge_folder(target: Path, names: Names) -> None:
    """Raises FileExistsError where `target` holds what no film of this name has made: it is not replaced."""
    if not _replaceable(target, names):
        raise FileExistsError(errno.EEXIST, f"{target} holds something else, which is not overwritten")


def _replaceable(target: Path, names: Names) -> bool:
    """Whether there is nothing, or a folder with nothing in it but what a film of this name makes."""
    if target.is_symlink():
        return False
    return not target.exists() or (target.is_dir() and all(names.has(found.name) for found in target.iterdir()))
