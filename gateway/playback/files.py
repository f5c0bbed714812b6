"""Serves finished media from a folder, with ranges, validators and content types. Never serves other files."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from gateway.http.request import Request
from gateway.http.response import Response, text
from gateway.http.validators import file_response
from gateway.lib.content_types import content_type

_PIECE_BYTES: Final = 256 * 1024
_NO_FILE: Final = text(404, "no such file")


class Files:
    """The files below `root`. Names that begin with "." are unfinished or private: 404.

    Links are followed only if their target is below the root.
    Threads read one piece at a time, as fast as the client reads the answer.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def serve(self, request: Request, path: str, cache: str) -> Response:
        """Serves the file `path`: a relative, decoded path without dot segments, like Request.path."""
        if not path or any(not part or part.startswith(".") for part in path.split("/")):
            return _NO_FILE
        opening = asyncio.get_running_loop().run_in_executor(None, _open, self._root, path)
        try:
            opened = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise
        if opened is None:
            return _NO_FILE
        descriptor, status = opened
        try:
            answer = file_response(
                request,
                lambda first, end: _Pieces(descriptor, first, end),
                status.st_size,
                tag=f'"{status.st_mtime_ns:x}-{status.st_size:x}"',
                modified=status.st_mtime,
                kind=content_type(path),
                cache=cache,
            )
        except BaseException:
            os.close(descriptor)
            raise
        if not isinstance(answer.body, _Pieces):
            os.close(descriptor)
        return answer


class _Pieces:
    """Yields the bytes of an open file from first to end (exclusive), and closes it."""

    def __init__(self, descriptor: int, first: int, end: int) -> None:
        self._descriptor = descriptor
        self._at = first
        self._end = end
        self._reading: asyncio.Future[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._at >= self._end or self._descriptor < 0:
            raise StopAsyncIteration
        loop = asyncio.get_running_loop()
        size = min(_PIECE_BYTES, self._end - self._at)
        self._reading = loop.run_in_executor(None, os.pread, self._descriptor, size, self._at)
        piece = await asyncio.shield(self._reading)
        self._reading = None
        if not piece:
            raise StopAsyncIteration  # the file became shorter: the server detects the wrong length
        self._at += len(piece)
        return piece

    async def aclose(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        if self._reading is None:
            os.close(descriptor)
        else:  # cancelled, but the thread still reads: the descriptor must not be reused before it has ended
            self._reading.add_done_callback(lambda _: os.close(descriptor))


def _open(root: Path, path: str) -> tuple[int, os.stat_result] | None:
    """Opens a regular file below `root`, and returns its descriptor and status; None if it does not exist."""
    try:
        base = root.resolve(strict=True)
        real = (base / path).resolve(strict=True)
        if not real.is_relative_to(base):
            return None
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not block the thread
    except (OSError, ValueError):
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    return descriptor, status


def _close_opened(opening: asyncio.Future[tuple[int, os.stat_result] | None]) -> None:
    """Closes a file that was opened after its request was cancelled."""
    if not opening.cancelled() and opening.exception() is None and (opened := opening.result()) is not None:
        os.close(opened[0])
