"""An HTTP listener of the gateway's own server, and a client that sends exact bytes."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from gateway.http.connection_server import HttpLimits
from gateway.http.forwarded import Forwarded
from gateway.http.request import Request
from gateway.http.response import Handler
from gateway.http.server import HttpServer
from gateway.lib.quota import Quota
from gateway.lib.sockets import listen, port_of
from tests.support.time_outs import at_most

SECONDS = 10  # limit of every wait; after it, the test fails


def limits(**changes: Any) -> HttpLimits:
    values: dict[str, Any] = {
        "head_bytes": 16_384,
        "target_bytes": 8_192,
        "head_seconds": 10.0,
        "keep_alive": 75.0,
        "stall_seconds": 60.0,
        "per_address": 0,
    }
    values |= changes
    return HttpLimits(**({"of_address": Quota(values.pop("per_address"))} | values))


def trusting(*networks: str) -> Forwarded:
    return Forwarded(ipaddress.ip_network(n) for n in networks)


def request(target: str = "/", method: str = "GET", peer: str = "192.0.2.9", **headers: str) -> Request:
    """A parsed request; header names with "_" for "-"."""
    path, _, query = target.partition("?")
    lower = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return Request(method, path, query, {"host": "live.example.com", **lower}, peer=peer)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Wire:
    """One client connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent: list[bytes] = field(default_factory=list)

    async def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode("latin-1") if isinstance(data, str) else data)
        await self.writer.drain()

    async def get(self, target: str, method: str = "GET", version: str = "1.1", **headers: str) -> Reply:
        """Sends one request and reads its answer."""
        lines = [f"{method} {target} HTTP/{version}", "Host: live.example.com"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join(lines) + "\r\n\r\n")
        return await self.reply(method)

    async def post(self, target: str, body: bytes, **headers: str) -> Reply:
        """Sends one request with a body and reads its answer."""
        lines = [f"POST {target} HTTP/1.1", "Host: live.example.com", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return await self.reply("POST")

    async def head(self) -> Reply:
        """Reads the head of the next answer."""
        async with asyncio.timeout(at_most(SECONDS)):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines if line]
        assert len({name.lower() for name, _ in pairs}) == len(pairs), f"a header stands there twice: {raw!r}"
        return Reply(int(first.split(" ")[1]), {name.lower(): value for name, value in pairs})

    async def reply(self, method: str = "GET") -> Reply:
        """Reads the next complete answer."""
        answer = await self.head()
        async with asyncio.timeout(at_most(SECONDS)):
            if method == "HEAD" or answer.status in (204, 304):
                pass
            elif answer.headers.get("transfer-encoding") == "chunked":
                while chunk := await self.chunk():
                    answer.body += chunk
            elif "content-length" in answer.headers:
                answer.body = await self.reader.readexactly(int(answer.headers["content-length"]))
            else:
                answer.body = await self.reader.read()
        return answer

    async def chunk(self) -> bytes:
        """Reads the next chunk of a body; b"" is the last one."""
        async with asyncio.timeout(at_most(SECONDS)):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(at_most(SECONDS)):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Reads until the server closes."""
        async with asyncio.timeout(at_most(SECONDS)):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):  # the server has closed the connection first
            await self.writer.wait_closed()


@dataclass
class Listener:
    server: HttpServer
    port: int

    @asynccontextmanager
    async def connect(self, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Wire]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, server_hostname="localhost" if tls else None, **options
        )
        wire = Wire(reader, writer)
        try:
            yield wire
        finally:
            await wire.close()

    async def get(self, target: str, method: str = "GET", **headers: str) -> Reply:
        """Sends one request on a new connection."""
        async with self.connect() as wire:
            return await wire.get(target, method, **headers)


@asynccontextmanager
async def serving(
    handler: Handler,
    *,
    forwarded: Forwarded | None = None,
    tls: ssl.SSLContext | None = None,
    hidden: tuple[str, ...] = (),
    **changes: Any,
) -> AsyncIterator[Listener]:
    """Runs a server on a free port. hidden: methods that its handler checks itself."""
    server = HttpServer(handler, limits(**changes), forwarded, hidden_methods=hidden)
    sockets = listen("http", "127.0.0.1", 0)
    port = port_of(sockets)
    await server.listen(sockets, tls)
    try:
        yield Listener(server, port)
    finally:
        await server.close()
        assert not server.connections
