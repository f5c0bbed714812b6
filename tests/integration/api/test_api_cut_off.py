"""Clients that disconnect or send errors in the middle of a body cause no log entries for operators."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.lib import log
from tests.support.admin import TOKEN, Admin, admin
from tests.support.time_outs import at_most
from tests.support.waiting import until

BODY = b'{"password": "wrong", "outdate": "2090-01-01"}'
GZIP = b"\x1f\x8b not gzip at all"
ROUTES = ["POST /login", "POST /videostream", "PUT /domains", "POST /users", "PUT /profile"]


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    written = io.StringIO()
    log.configure("info", "json", written)
    yield written
    log.configure("info", "json")


def head(route: str, *more: str) -> bytes:
    lines = [f"{route} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", *more, "", ""]
    return "\r\n".join(lines).encode()


def troubles(out: io.StringIO) -> list[str]:
    """Returns the log lines above info level or with an exception."""
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    return [str(one) for one in said if one["level"] not in ("debug", "info") or "exception" in one]


async def connected(api: Admin) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(api.client.host, api.client.port)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_a_client_that_disconnects_in_mid_body_causes_no_error_log(
    tmp_path: Path, out: io.StringIO, route: str, how: str
) -> None:
    async with admin(tmp_path) as api:
        reader, writer = await connected(api)
        writer.write(head(route, f"Content-Length: {len(BODY)}") + BODY[:20])
        await writer.drain()
        server = api.client.server.runner.server
        assert server is not None
        server.handler_cancellation = False  # as the gateway's own
        await until(lambda: any(one._current_request is not None for one in server.connections))
        await asyncio.sleep(0)  # the handler waits for the rest now
        if how == "half":
            writer.write_eof()
            await reader.read()
        elif how == "reset":
            writer.transport.abort()
        writer.close()
        await until(lambda: not server.connections)
        assert (await api.call("GET", "/domains")).status == 200
    assert troubles(out) == []


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (["Content-Encoding: gzip", f"Content-Length: {len(GZIP)}"], GZIP),
        (["Content-Encoding: deflate", f"Content-Length: {len(GZIP)}"], GZIP),
    ],
    ids=["gzip", "deflate"],
)
async def test_a_body_that_violates_the_protocol_gives_400(
    tmp_path: Path, out: io.StringIO, route: str, headers: list[str], body: bytes
) -> None:
    async with admin(tmp_path) as api:
        reader, writer = await connected(api)
        writer.write(head(route, *headers, "Connection: close") + body)
        async with asyncio.timeout(at_most(10)):
            answer = await reader.read()
        writer.close()
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), answer[:200]
    assert troubles(out) == []
