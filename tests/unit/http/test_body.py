"""The small body of a request is read within its limits, and then the connection is closed."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.http.body import read_body
from gateway.http.request import Request
from gateway.http.response import Answer, Response, text
from tests.support.http import SECONDS, serving
from tests.support.time_outs import at_most
from tests.support.waiting import until


def echo(request: Request) -> Answer:
    return read_body(request, 10, 0.3, lambda body: text(200, body.decode()))


@pytest.mark.parametrize(
    "pieces", [[b"0123456789"], [bytes([c]) for c in b"0123456789"], [b"", b"0123456789 and more"]]
)
async def test_a_body_is_read_from_pieces_of_any_size(pieces: list[bytes]):
    async with serving(echo, hidden=("POST",)) as listener, listener.connect() as wire:
        await wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        for piece in pieces:
            await wire.send(piece)
            await asyncio.sleep(0)
        reply = await wire.reply()
        assert (reply.status, reply.text) == (200, "0123456789\n")
        assert reply.headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_a_request_without_a_body_has_an_empty_body():
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


def echo_later(request: Request) -> Answer:
    async def respond(body: bytes) -> Response:
        await asyncio.sleep(0)
        if body == b"raise":
            raise ValueError("on purpose")
        return Response(201, body, "application/sdp", headers={"Location": "/c1/whip/x", "ETag": '"a"', "Link": "<x>"})

    return read_body(request, 10, 0.3, respond)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
async def test_a_body_of_any_method_may_have_an_asynchronous_answer(method: str):
    async with serving(echo_later, hidden=(method,)) as listener, listener.connect() as wire:
        await wire.send(f"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nv=0\n")
        reply = await wire.reply()
        assert (reply.status, reply.body, reply.headers["content-type"]) == (201, b"v=0\n", "application/sdp")
        assert (reply.headers["location"], reply.headers["etag"], reply.headers["link"]) == ("/c1/whip/x", '"a"', "<x>")
        exposed = reply.headers["access-control-expose-headers"].split(", ")
        assert {"ETag", "Link", "Location"} <= set(exposed)
        assert await wire.rest() == b""


async def test_an_error_in_the_handler_is_a_500_and_is_counted():
    async with serving(echo_later, hidden=("POST",)) as listener, listener.connect() as wire:
        assert (await wire.post("/", b"raise")).status == 500
        await until(lambda: listener.server.errors == 1)


async def test_the_time_limit_of_the_body_does_not_apply_to_the_answer():
    release = asyncio.Event()

    async def respond(body: bytes) -> Response:
        await release.wait()
        return text(200, "late")

    handler = lambda request: read_body(request, 10, 0.01, respond)  # noqa: E731
    async with serving(handler, hidden=("POST",)) as listener, listener.connect() as wire:
        await wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        asyncio.get_running_loop().call_later(0.1, release.set)  # ten times the time for the body
        assert (await wire.reply()).text == "late\n"


async def test_a_connection_lost_after_its_body_leaves_no_pending_coroutine():
    """The answer is cancelled before its first step. A coroutine that is never awaited fails the test."""
    transports = []

    async def respond(body: bytes) -> Response:
        raise AssertionError("cancelled before")

    def begin(body: bytes) -> Coroutine[Any, Any, Response]:
        transports[0].abort()
        return respond(body)

    def handle(request: Request) -> Answer:
        (connection,) = listener.server.connections
        transports.append(connection._transport)
        return read_body(request, 10, 0.3, begin)

    async with serving(handle, hidden=("POST",)) as listener, listener.connect() as wire:
        await wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nv=0\n")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await wire.exactly(1)


async def test_a_client_that_disconnects_cancels_its_answer():
    began, ended = asyncio.Event(), asyncio.Event()

    async def respond(body: bytes) -> Response:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("cancelled before")

    async with serving(lambda request: read_body(request, 10, 5, respond), hidden=("POST",)) as listener:
        async with listener.connect() as wire:
            await wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            async with asyncio.timeout(at_most(SECONDS)):
                await began.wait()
        async with asyncio.timeout(at_most(SECONDS)):
            await ended.wait()
        await until(lambda: len(listener.server) == 0)


async def test_a_client_that_waits_for_100_continue_gets_it():
    async with serving(echo, hidden=("POST",)) as listener, listener.connect() as wire:
        await wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await wire.exactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send("ab")
        assert (await wire.reply()).text == "ab\n"
    async with serving(echo, hidden=("POST",)) as listener, listener.connect() as wire:
        await wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab")
        assert (await wire.reply()).status == 200
