"""Stores the history in a file of the data folder. The file is replaced as a whole, so it is never half-written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from gateway.diagnosis.history import MAX_FILE_BYTES, History
from gateway.lib.whole_file import replace_file

log = structlog.get_logger(__name__)

_PARTS_PER_YIELD: Final = 25  # timelines that are copied before other tasks run; about 1 ms


def load(path: Path) -> History:
    """Returns the stored history; an empty one if there is no usable file. Blocks."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError("too large")
        return History.decode(data)
    except FileNotFoundError:
        return History()
    except (OSError, ValueError) as error:
        log.warning("the stored history cannot be used, a new one begins", file=path.name, reason=str(error))
        return History()


async def save(history: History, path: Path) -> None:
    """Writes the history. A thread does the disk's work. A disk error is only logged."""
    parts = []
    for number, part in enumerate(history.encode()):
        parts.append(part)
        if number % _PARTS_PER_YIELD == _PARTS_PER_YIELD - 1:
            await asyncio.sleep(0)
    await asyncio.to_thread(_replace, path, parts)


def _replace(path: Path, parts: list[bytes]) -> None:
    try:
        replace_file(path, parts)
    except OSError as error:
        log.warning("the history cannot be saved", file=path.name, reason=error.strerror)
