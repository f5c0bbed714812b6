"""Connections to hostile servers: reads and queued answers are bounded."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.lib.certificates import Certificate
from gateway.lib.egress import Address
from gateway.lib.outgoing import connect
from gateway.lib.scheduled_reads import LARGEST_READ, ReadScheduler
from tests.support.rtmp import self_signed
from tests.support.time_outs import at_most

LOOPS = pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


class Answering(asyncio.Protocol):
    """Answers each byte with a thousand bytes."""

    transport: Any

    def __init__(self) -> None:
        self.got: list[int] = []
        self.full = asyncio.Event()
        self.free = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got.append(len(data))
        self.transport.write(data * 1_000)

    def pause_writing(self) -> None:
        self.full.set()

    def resume_writing(self) -> None:
        self.free.set()


@asynccontextmanager
async def connected(
    server_tls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Answering, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection and the server's end of it."""
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Future()
    server = await asyncio.start_server(lambda *ends: accepted.set_result(ends), "127.0.0.1", 0, ssl=server_tls)
    address = Address(socket.AF_INET, "127.0.0.1", server.sockets[0].getsockname()[1], "localhost")
    protocol = await connect(Answering, [address], 10, tls, ReadScheduler())
    reader, writer = await accepted
    try:
        yield protocol, reader, writer
    finally:
        protocol.transport.abort()
        writer.transport.abort()
        server.close()


@LOOPS
@pytest.mark.parametrize("secure", [False, True])
def test_reading_pauses_while_the_server_does_not_accept_answers(
    new_loop: NewLoop, secure: bool, tmp_path: Path
) -> None:
    async def run() -> None:
        server_tls = client_tls = None
        if secure:
            certificate, key = self_signed(tmp_path)
            server_tls, client_tls = (
                Certificate.read(certificate, key).context,
                ssl.create_default_context(cafile=certificate),
            )
        async with asyncio.timeout(at_most(30)), connected(server_tls, client_tls) as (protocol, reader, writer):
            asked = 0
            while not protocol.full.is_set():
                writer.write(bytes(1_000))
                asked += 1_000
                await asyncio.sleep(0)
            assert not protocol.transport.is_reading()
            answers = 0
            while answers < 1_000 * asked:
                answers += len(await reader.read(1 << 20))
            await protocol.free.wait()
            assert protocol.transport.is_reading()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


@LOOPS
def test_the_size_of_one_read_is_bounded(new_loop: NewLoop) -> None:
    async def run() -> None:
        async with asyncio.timeout(at_most(30)), connected() as (protocol, _, writer):
            protocol.transport.write = len  # no answers
            writer.write(bytes(3_000_000))
            while sum(protocol.got) < 3_000_000:
                await asyncio.sleep(0)
            assert max(protocol.got) <= LARGEST_READ

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
