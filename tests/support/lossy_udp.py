"""A UDP proxy in front of a local server that loses some of the server's media packets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

_HOST = "127.0.0.1"
_Address = tuple[str, int]


class LossyUdp(asyncio.DatagramProtocol):
    """Forwards datagrams between clients and a server. port: its own port.

    lost_each: drops every n-th RTP and RTCP packet to a client; 0: none.
    """

    def __init__(self, server_port: int) -> None:
        self.lost_each = 0
        self.port = 0
        self._server_port = server_port
        self._numbers = itertools.count(1)
        self._to_server: dict[_Address, asyncio.Task[_FromServer]] = {}

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, client: _Address) -> None:
        if client not in self._to_server:
            self._to_server[client] = asyncio.create_task(self._connect(client))
        # Callbacks of a task run in their order, so datagrams stay in order.
        self._to_server[client].add_done_callback(lambda task: task.result().transport.sendto(data))

    async def _connect(self, client: _Address) -> _FromServer:
        loop = asyncio.get_running_loop()
        server = (_HOST, self._server_port)
        _, opened = await loop.create_datagram_endpoint(lambda: _FromServer(self, client), remote_addr=server)
        return opened

    def from_server(self, data: bytes, client: _Address) -> None:
        is_media = 128 <= data[0] < 192  # RFC 7983 §7
        if is_media and self.lost_each and next(self._numbers) % self.lost_each == 0:
            return
        self.transport.sendto(data, client)

    async def close(self) -> None:
        for task in self._to_server.values():
            (await task).transport.close()
        self.transport.close()


class _FromServer(asyncio.DatagramProtocol):
    """The server-side socket of one client."""

    def __init__(self, owner: LossyUdp, client: _Address) -> None:
        self._owner = owner
        self._client = client

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, _: _Address) -> None:
        self._owner.from_server(data, self._client)


@contextlib.asynccontextmanager
async def lossy_udp(server_port: int) -> AsyncIterator[LossyUdp]:
    """A `LossyUdp` that drops nothing at first."""
    loop = asyncio.get_running_loop()
    _, opened = await loop.create_datagram_endpoint(lambda: LossyUdp(server_port), local_addr=(_HOST, 0))
    try:
        yield opened
    finally:
        await opened.close()
