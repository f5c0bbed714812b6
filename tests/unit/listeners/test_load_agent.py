"""Agent checks of HAProxy get one line with the free capacity, and nothing keeps their connections open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.lib.sockets import listen, port_of
from gateway.listeners import load_agent
from gateway.listeners.load_agent import LoadAgent
from tests.support.time_outs import at_most


@asynccontextmanager
async def answering(percent: float) -> AsyncIterator[int]:
    agent, sockets = LoadAgent(lambda: percent), listen("agent", "127.0.0.1", 0)
    await agent.listen(sockets)
    try:
        yield port_of(sockets)
    finally:
        await agent.close()


async def asked(port: int, sent: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        async with asyncio.timeout(at_most(5)):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(("percent", "line"), [(0.0, b"up 1%\n"), (9.6, b"up 10%\n"), (100.0, b"up 100%\n")])
async def test_a_check_gets_one_line_and_the_end(percent: float, line: bytes) -> None:
    async with answering(percent) as port:
        assert await asked(port) == line


async def test_a_check_may_send_a_little_but_not_much() -> None:
    async with answering(50) as port:
        assert await asked(port, b"hello\n") == b"up 50%\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.readline() == b"up 50%\n"
        writer.write(bytes(100_000))
        with pytest.raises(OSError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()


async def test_a_peer_that_does_not_close_is_disconnected_and_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_agent, "_CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(load_agent, "_MAX_CONNECTIONS", 1)
    async with answering(50) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.readline() == b"up 50%\n"
        assert await told(port) == b"", "one too many"
        while await told(port) != b"up 50%\n":
            await asyncio.sleep(0.01)
        writer.close()


async def told(port: int) -> bytes:
    try:
        return await asked(port)
    except ConnectionError:
        return b""
