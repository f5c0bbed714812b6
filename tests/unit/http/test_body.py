"""The small body of one request is read whole, within its bounds, and then the connection ends."""

import asyncio

import pytest

from gateway.http.body import read_body
from gateway.http.request import Request
from gateway.http.response import Answer, text
from tests.support.http import serving


def echo(request: Request) -> Answer:
    return read_body(request, 10, 0.3, lambda body: text(200, body.decode()))


@pytest.mark.parametrize(
    "pieces", [[b"0123456789"], [bytes([c]) for c in b"0123456789"], [b"", b"0123456789 and more"]]
)
async def test_a_body_arrives_however_it_is_cut(pieces: list[bytes]):
    async with serving(echo, hidden=("POST",)) as listener, listener.connect() as wire:
        await wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        for piece in pieces:
            await wire.send(piece)
            await asyncio.sleep(0)
        reply = await wire.reply()
        assert (reply.status, reply.text) == (200, "0123456789\n")
        assert reply.headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_no_body_is_an_empty_one():
    async with serving(echo, hidden=("POST",)) as listener:
        assert (await listener.get("/", "POST")).text == "\n"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Content-Length: 11", 413),
        ("Content-Length: 99999999999999999999", 400),
        ("Transfer-Encoding: chunked", 411),
    ],
)
async def test_a_body_that_is_too_long_or_of_unknown_length_is_not_read(header: str, status: int):
    async with serving(echo, hidden=("POST",)) as listener, listener.connect() as wire:
        await wire.send(f"POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n")
        assert (await wire.reply()).status == status


async def test_a_client_that_is_too_slow_is_disconnected():
    async with serving(echo, hidden=("POST",)) as listener, listener.connect() as wire:
        await wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n012")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await wire.exactly(1)
        assert len(listener.server) == 0
