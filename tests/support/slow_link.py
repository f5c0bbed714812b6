"""A TCP proxy with the rate and the latency of a slow link, shared by all its connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_CHUNK = 1460 * 2


@dataclass
class SlowLink:
    """The link.

    kbps: kilobits a second to the client, may be changed. latency: seconds to the client and back, together.

    queue: bytes of one connection that may wait in the link.
    """

    target: int
    kbps: float
    latency: float
    queue: int = 32_000
    port: int = 0
    _free: float = field(default=0.0, init=False)  # when the link has sent everything that was given to it

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.queue)  # what the kernel buffers is part of the link
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.target))
        there, to = await asyncio.open_connection(sock=sock, limit=_CHUNK)
        up = asyncio.ensure_future(self._pass(reader, to, limited=False))
        down = asyncio.ensure_future(self._pass(there, writer, limited=True))
        try:
            # The end of either side is the end of the connection, as after a reset.
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if down.done():
                await asyncio.sleep(self.latency / 2)
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            for end in (writer, to):
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, limited: bool) -> None:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(max(1, self.queue // _CHUNK))

        async def send() -> None:
            while True:
                at, data = await waiting.get()
                await asyncio.sleep(max(0.0, at - loop.time()))
                if not data:
                    return
                writer.write(data)
                await writer.drain()

        sending = asyncio.ensure_future(send())
        try:
            while data := await reader.read(_CHUNK):
                at = loop.time()
                if limited:
                    self._free = at = max(self._free, at) + len(data) * 8 / self.kbps / 1000
                    await asyncio.sleep(at - loop.time())  # the connections take turns
                await waiting.put((at + self.latency / 2, data))
            await waiting.put((loop.time() + self.latency / 2, b""))
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


@contextlib.asynccontextmanager
async def slow_link(port: int, *, kbps: float, latency: float = 0.1) -> AsyncIterator[SlowLink]:
    """Opens a link to a port of this machine during a `with` block."""
    link = SlowLink(port, kbps, latency)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(link._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_CHUNK * 4)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
