"""The server of the admin port, which is made at the first connection."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable

from gateway.app.role import AdminServer
from gateway.lib.tasks import Tasks


class AdminOnDemand:
    """Implements AdminServer. The API takes 20 MB, and a third of the time of a start.

    load: imports the code of the API, in a thread, so that streams go on. make: returns the server.
    """

    def __init__(self, load: Callable[[], object], make: Callable[[], AdminServer]) -> None:
        self._load, self._make = load, make
        self._sockets: list[socket.socket] = []
        self._tls: ssl.SSLContext | None = None
        self._server: AdminServer | None = None
        self._tasks = Tasks("admin server")
        self._closed = False

    async def listen(self, sockets: Iterable[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Waits for the first connection on listening sockets. Clients meanwhile wait in their queue."""
        self._sockets, self._tls = list(sockets), tls
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.add_reader(listening, self._begin)

    def _begin(self) -> None:
        self._stop_waiting()
        self._tasks.start(self._open())

    def _stop_waiting(self) -> None:
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)

    async def _open(self) -> None:
        try:
            await asyncio.to_thread(self._load)
            if not self._closed:
                self._server = self._make()
                await self._server.listen(self._sockets, self._tls)
        except BaseException:
            self._abandon()  # clients get a refusal, instead of waiting
            raise

    def retire(self) -> None:
        if self._server is not None:
            self._server.retire()
        else:
            self._abandon()

    def _abandon(self) -> None:
        """Closes the sockets if no server has them."""
        self._closed = True
        self._stop_waiting()
        sockets, self._sockets = self._sockets, []
        for listening in sockets:
            listening.close()

    async def close(self) -> None:
        if self._server is None:
            self._abandon()
        await self._tasks.close()
        if self._server is not None:
            await self._server.close()
