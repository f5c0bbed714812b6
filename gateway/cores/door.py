"""The door of a worker for its siblings: a Unix socket where it answers what nodes ask of each other, nothing else."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.nodes.host import Slot
from gateway.servers.http import HttpLimits, HttpServer
from gateway.servers.playback import Answering, FolderResponder
from gateway.servers.request import Request
from gateway.servers.response import text

FOLDER: Final = "_node"
_BACKLOG: Final = 1024
_NOT_HERE: Final = text(404, "not found")


class SiblingDoor:
    """Opened by the app's listeners, closed last: siblings play and push through it while this worker drains."""

    def __init__(
        self, slot: Slot, respond: FolderResponder, limits: HttpLimits, last: Callable[[], Awaitable[None]]
    ) -> None:
        """limits: those of the playback listener; siblings are not counted. last: done before it closes."""
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
        """Raises OSError."""
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
        """Siblings that ask from now on see that nobody is here."""
        await self._last()
        self._path.unlink(missing_ok=True)
        await self._server.close()

    def _answer(self, request: Request) -> Answering:
        folder, _, rest = request.path.removeprefix("/").partition("/")
        return self._respond(request, rest) if folder == FOLDER else _NOT_HERE
