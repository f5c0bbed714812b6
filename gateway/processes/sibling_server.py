"""The HTTP server for sibling workers, on a Unix socket. Answers only the requests that nodes send to each other."""

import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.http.connection_server import HttpLimits
from gateway.http.request import Request
from gateway.http.response import text
from gateway.http.server import HttpServer
from gateway.lib.quota import Quota
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.playback.router import FolderResponder

FOLDER: Final = "_node"
_BACKLOG: Final = 1024
_NOT_FOUND: Final = text(404, "not found")


class SiblingServer:
    """The Unix socket server of a worker. Close it last, because siblings play and push through it during a drain.

    limits: those of the playback listener; its limits of connections and memory are not used.

    before_close: called first by `close`.
    """

    def __init__(
        self,
        slot: WorkerSlot,
        respond: FolderResponder,
        limits: HttpLimits,
        before_close: Callable[[], Awaitable[None]],
    ) -> None:
        self._path = slot.socket
        self._respond = respond
        self._before_close = before_close
        own_limits = replace(limits, of_address=Quota(0), connections=0, memory=None)
        self._server = HttpServer(self._answer, own_limits, methods=("GET", "HEAD", "POST"))

    async def open(self) -> None:
        """Begins to listen. Raises OSError."""
        self._path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind(os.fspath(self._path))
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        await self._server.listen([sock])

    async def close(self) -> None:
        """Calls `before_close`, deletes the socket and closes the server. Siblings that connect later are refused."""
        await self._before_close()
        self._path.unlink(missing_ok=True)
        await self._server.close()

    def _answer(self, request: Request) -> AnswerOrAwaitable:
        folder, _, rest = request.path.removeprefix("/").partition("/")
        return self._respond(request, rest) if folder == FOLDER else _NOT_FOUND
