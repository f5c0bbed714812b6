"""Serves the sibling workers on a Unix socket: answers only the requests that nodes send to each other."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.cluster.worker_slot import WorkerSlot
from gateway.http.connection import HttpLimits
from gateway.http.request import Request
from gateway.http.response import text
from gateway.http.server import HttpServer
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.playback.router import FolderResponder

FOLDER: Final = "_node"
_BACKLOG: Final = 1024
_NOT_HERE: Final = text(404, "not found")


class SiblingServer:
    """The Unix socket server of a worker. Closed last, because siblings play and push through it during the drain."""

    def __init__(
        self, slot: WorkerSlot, respond: FolderResponder, limits: HttpLimits, last: Callable[[], Awaitable[None]]
    ) -> None:
        """limits: of the playback listener, without its limit of connections. last: called before closing."""
        self._path = slot.socket
        self._respond = respond
        self._last = last
        self._server = HttpServer(
            self._answer,
            HttpLimits(
                limits.head_bytes, limits.target_bytes, limits.head_seconds, limits.keep_alive, limits.stall_seconds, 0
            ),
            methods=("GET", "HEAD", "POST"),
        )

    async def open(self) -> None:
        """Begins to listen. Raises OSError."""
        self._path.unlink(missing_ok=True)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            opened.bind(os.fspath(self._path))
            opened.listen(_BACKLOG)
        except BaseException:
            opened.close()
            raise
        await self._server.listen([opened])

    async def close(self) -> None:
        """Calls `last` and closes the socket. Siblings that connect later see that this worker is gone."""
        await self._last()
        self._path.unlink(missing_ok=True)
        await self._server.close()

    def _answer(self, request: Request) -> AnswerOrAwaitable:
        folder, _, rest = request.path.removeprefix("/").partition("/")
        return self._respond(request, rest) if folder == FOLDER else _NOT_HERE
