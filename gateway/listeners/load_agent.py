"""Answers agent checks of HAProxy: each connection gets one line with the free capacity, and is closed."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Final, cast

_MAX_CONNECTIONS: Final = 64  # above it, a new one is closed
_CLOSE_SECONDS: Final = 2.0  # time in which a peer must close
_MAX_RECEIVED: Final = 256  # bytes that a peer may send; they are ignored


class LoadAgent:
    """The listener. free: returns the free capacity of this node, in percent.

    It tells only the weight. Health checks ask `/ready`.
    """

    def __init__(self, free: Callable[[], float]) -> None:
        self._free = free
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Transport] = set()

    async def listen(self, sockets: Iterable[socket.socket]) -> None:
        """Serves on listening sockets. Closes them at the end."""
        loop = asyncio.get_running_loop()
        self._servers += [await loop.create_server(self._connection, sock=sock) for sock in sockets]

    async def close(self) -> None:
        """Closes everything at once."""
        for server in self._servers:
            server.close()
        for transport in list(self._connections):
            transport.abort()

    def _connection(self) -> asyncio.Protocol:
        return _Check(self._connections, self._free)


class _Check(asyncio.Protocol):
    """One agent check."""

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle

    def __init__(self, connections: set[asyncio.Transport], free: Callable[[], float]) -> None:
        self._connections, self._free = connections, free
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = tcp = cast(asyncio.Transport, transport)  # uvloop's is not derived from asyncio's
        self._timer = asyncio.get_running_loop().call_later(_CLOSE_SECONDS, tcp.abort)
        if len(self._connections) >= _MAX_CONNECTIONS:
            tcp.abort()
            return
        self._connections.add(tcp)
        # HAProxy management guide, agent-check: "an ASCII representation of a positive integer percentage, e.g. 75%".
        # With 0%, a server would get nothing at all.
        tcp.write(b"up %d%%\n" % max(1, round(self._free())))
        tcp.write_eof()  # a close would discard the line if the peer has sent something

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > _MAX_RECEIVED:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._connections.discard(self._transport)
