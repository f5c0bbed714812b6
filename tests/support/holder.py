"""A scripted holder of streams that sends given bytes and records its requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from gateway.cluster.members.node_address import NodeAddress

# The answer to a request: all bytes, or a function that writes them later.
Saying: TypeAlias = "bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]"


def answer(body: bytes | str, kind: str = "video/mp2t", status: str = "200 OK", **headers: str) -> bytes:
    """An HTTP answer with known length; header names have "_" for "-"."""
    data = body.encode() if isinstance(body, str) else body
    said = {"Content-Type": kind, "Content-Length": str(len(data)), "Cache-Control": "no-cache"}
    said |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + data


SEGMENT = {"Cache_Control": "public, max-age=600, immutable"}
NOT_LIVE = answer("c1 is not streaming live now\n", "text/plain", "404 Not Found", Cache_Control="no-store")


async def for_ever(writer: asyncio.StreamWriter) -> None:
    """A hung process: it accepts connections and sends nothing."""
    await asyncio.Event().wait()


class Holder:
    """A scripted holder.

    says: answers by path below `/_node/`; others are NOT_LIVE. asked: requested targets without that folder, in order.
    """

    def __init__(self) -> None:
        self.says: dict[str, Saying] = {}
        self.asked: list[str] = []
        self.headers: list[str] = []
        self.left = 0  # connections that the other side closed
        self.place = NodeAddress("holder", "127.0.0.1:1")
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Listens on a free port, which is in `place`."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.place = NodeAddress(self.place.id, f"127.0.0.1:{port}", f"claim {port}")

    async def close(self) -> None:
        """Stops listening and closes all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.close()

    @property
    def open(self) -> int:
        """The number of open connections."""
        return len(self._writers)

    def asks(self, path: str) -> int:
        """How often a file was requested, with any query."""
        return sum(target.partition("?")[0] == path for target in self.asked)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode(), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left += 1
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        target = head.split(" ")[1].removeprefix("/_node/")
        self.asked.append(target)
        self.headers.append(head)
        saying = self.says.get(target.partition("?")[0], NOT_LIVE)
        if isinstance(saying, bytes):
            writer.write(saying)
            await writer.drain()
        else:
            await saying(writer)


@contextlib.asynccontextmanager
async def holding() -> AsyncIterator[Holder]:
    holder = Holder()
    await holder.listen()
    try:
        yield holder
    finally:
        await holder.close()


class Where:
    """A `StreamLocator` with given places of each channel, in the order in which they are found."""

    def __init__(self) -> None:
        self.places: dict[str, list[NodeAddress]] = {}
        self.losses: list[tuple[str, NodeAddress]] = []
        self.looks = 0

    def known(self, name: str) -> NodeAddress | None:
        return next(iter(self.places.get(name, ())), None)

    async def find(self, name: str) -> NodeAddress | None:
        self.looks += 1
        await asyncio.sleep(0)
        return self.known(name)

    def invalidate(self, name: str, node: NodeAddress) -> None:
        self.losses.append((name, node))
        places = self.places.get(name, [])
        if len(places) > 1:
            places.pop(0)
