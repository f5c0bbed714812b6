"""Files: finished media from a folder, with ranges, validators and content types, never from outside it."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Final

from gateway.servers.request import Request
from gateway.servers.response import Response, byte_range, text, unsatisfiable

CONTENT_TYPES: Final = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".flv": "video/x-flv",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".vtt": "text/vtt; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
_PIECE: Final = 256 * 1024
_NONE: Final = text(404, "no such file")


class Files:
    """The files below `root`, each under its path. Names that begin with "." are unfinished or private: 404.

    Links are followed only to places below the root. Reading happens in threads, a piece at a time, as fast as the
    client takes it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def serve(self, request: Request, path: str, cache: str) -> Response:
        """The file `path` (relative, decoded and free of dot segments as of Request.path)."""
        if not path or any(not part or part.startswith(".") for part in path.split("/")):
            return _NONE
        opening = asyncio.get_running_loop().run_in_executor(None, _open, self._root, path)
        try:
            opened = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise
        if opened is None:
            return _NONE
        descriptor, status = opened
        try:
            return self._answer(request, Path(path).suffix.lower(), descriptor, status, cache)
        except BaseException:
            os.close(descriptor)
            raise

    def _answer(self, request: Request, suffix: str, descriptor: int, status: os.stat_result, cache: str) -> Response:
        size = status.st_size
        tag = f'"{status.st_mtime_ns:x}-{size:x}"'
        changed = datetime.fromtimestamp(int(status.st_mtime), UTC)
        headers = {"ETag": tag, "Last-Modified": format_datetime(changed, usegmt=True), "Accept-Ranges": "bytes"}
        kind = CONTENT_TYPES.get(suffix, "application/octet-stream")
        if _unchanged(request, tag, changed):
            os.close(descriptor)
            return Response(304, None, cache=cache, headers=headers)
        first, end, code = 0, size, 200
        if_range = request.headers.get("if-range")
        if request.method == "GET" and (if_range is None or if_range == tag):
            span = byte_range(request.headers.get("range", ""), size)
            if span is not None:
                first, end = span
                if first >= end:
                    os.close(descriptor)
                    return unsatisfiable(size)
                headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
                code = 206
        body = _Pieces(descriptor, first, end)
        return Response(code, body, kind, cache=cache, headers=headers, length=end - first)


class _Pieces:
    """The bytes of an open file from first to end (exclusive); closes it."""

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
        size = min(_PIECE, self._end - self._at)
        self._reading = loop.run_in_executor(None, os.pread, self._descriptor, size, self._at)
        piece = await asyncio.shield(self._reading)
        self._reading = None
        if not piece:
            raise StopAsyncIteration  # it became shorter: the server notices by the length
        self._at += len(piece)
        return piece

    async def aclose(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        if self._reading is None:
            os.close(descriptor)
        else:  # cancelled: the thread still reads, and must not find another file under this number
            self._reading.add_done_callback(lambda _: os.close(descriptor))


def _open(root: Path, path: str) -> tuple[int, os.stat_result] | None:
    """An open regular file below `root` and its status; None where there is none."""
    try:
        base = root.resolve(strict=True)
        real = (base / path).resolve(strict=True)
        if not real.is_relative_to(base):
            return None
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold the thread
    except (OSError, ValueError):
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    return descriptor, status


def _close_opened(opening: asyncio.Future[tuple[int, os.stat_result] | None]) -> None:
    """Nobody waits for the file any more."""
    if not opening.cancelled() and opening.exception() is None and (opened := opening.result()) is not None:
        os.close(opened[0])


def _unchanged(request: Request, tag: str, changed: datetime) -> bool:
    """RFC 9110 §13.2.2: If-None-Match decides; only without it If-Modified-Since."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        return tags.strip() == "*" or tag in [t.strip().removeprefix("W/") for t in tags.split(",")]
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return changed <= parsedate_to_datetime(since)
    except (ValueError, TypeError, OverflowError):
        return False
