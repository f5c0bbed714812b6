"""Temporary files that do not outlive their process for long: the next process removes them."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import structlog

from gateway.lib.tasks import finished

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def temporary_file(folder: Path, suffix: str) -> AsyncIterator[Path]:
    """Creates an empty file and removes it at the end. It is locked while in use; the lock ends with the process.

    Files of dead processes in the folder are removed, so it must have no others.
    """
    path = folder / f"{secrets.token_hex(8)}{suffix[:10]}"
    descriptor = await finished(asyncio.to_thread(_create_locked, folder, path), partial(_remove, path))
    try:
        yield path
    finally:
        await finished(asyncio.to_thread(_remove, path, descriptor))


def _create_locked(folder: Path, path: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        _remove_abandoned(file)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _remove(path: Path, descriptor: int) -> None:
    path.unlink(missing_ok=True)
    os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return  # not a file, or removed already
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another process may have created the file but not locked it yet. Then it is empty and new.
        status = os.fstat(descriptor)
        if status.st_size or time.time() - status.st_mtime > 60:
            path.unlink(missing_ok=True)
            log.info("removed a file of a dead process", file=path.name)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
