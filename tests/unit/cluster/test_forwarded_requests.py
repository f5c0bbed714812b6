"""Requests that another node forwards: which are passed to the API, and how."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urlencode

import pytest

from gateway.cluster.calls.forwarded_requests import ForwardedRequests
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.peers import Peers
from gateway.protocols import nodes
from tests.support.holders import SECRET, Holder, holder
from tests.support.http import SECONDS
from tests.support.time_outs import at_most

CALL = {"method": "PUT", "target": "/videostream/c1/inputs?a=%26", "sender": '{"name":"anna"}', "to": "a"}


class Api(asyncio.Protocol):
    """A server that answers each connection once, with what it got."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._got = b""

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._got.endswith(b"body"):
            self._transport.write(b"HTTP/1.1 200 OK\r\n\r\n" + self._got)
            self._transport.close()


@asynccontextmanager
async def node(id: str = "a", sockets: Mapping[str, str] | None = None) -> AsyncIterator[Holder]:
    async with Peers(SECRET) as peers:
        requests = ForwardedRequests(SiblingProcesses(id, peers, lambda: sockets or {}), Api)
        async with holder(operations={"forwarded": requests.operate}) as one:
            yield one


async def send(one: Holder, call: Mapping[str, str], *more: str, secret: str = SECRET) -> str:
    """Sends a forwarded request with the body "body", and returns the whole answer."""
    target = f"/_node/.node/forwarded?{urlencode(call)}"
    signature = f"{nodes.HEADER}: {nodes.sign(secret, 'POST', target, time.time())}"
    lines = (f"POST {target} HTTP/1.1", "Host: a", signature, *(more or ("Content-Length: 4",)), "", "body")
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write("\r\n".join(lines).encode())
    try:
        async with asyncio.timeout(at_most(SECONDS)):
            return (await reader.read(-1)).decode()
    finally:
        writer.close()


async def test_the_api_gets_the_request_of_the_client_and_its_sender() -> None:
    async with node() as one:
        answer = await send(one, CALL)
    assert answer.partition("\r\n\r\n")[2] == (
        'PUT /videostream/c1/inputs?a=%26 HTTP/1.1\r\nX-Millrace-Sender: {"name":"anna"}\r\n'
        "Host: node\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
    )


async def test_a_request_without_a_valid_signature_is_refused() -> None:
    async with node() as one:
        assert "HTTP/1.1 401 " in await send(one, CALL, secret="another secret of a cluster")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "PUT /x HTTP/1.1\r\nHost:"), ("method", ""), ("target", "videostream"), ("target", "/a b"),
        ("target", "/a\r\nX-Millrace-Sender: {}"), ("sender", ""), ("sender", "{}\r\nContent-Length: 9"),
        ("sender", "é"), ("sender", "x" * 6001),
    ],
)  # fmt: skip
async def test_a_request_that_would_change_its_head_is_refused(name: str, value: str) -> None:
    async with node() as one:
        assert "HTTP/1.1 400 " in await send(one, {**CALL, name: value})


async def test_a_body_needs_its_length() -> None:
    async with node() as one:
        assert "HTTP/1.1 411 " in await send(one, CALL, "Transfer-Encoding: chunked")


async def test_a_request_for_another_node_is_misdirected(tmp_path: Path) -> None:
    async with node(sockets={"b": str(tmp_path / "gone")}) as one:
        assert "HTTP/1.1 421 " in await send(one, {**CALL, "to": "z"})
        assert "HTTP/1.1 503 " in await send(one, {**CALL, "to": "b"})


async def test_a_request_for_a_sibling_is_passed_on_once(tmp_path: Path) -> None:
    socket = str(tmp_path / "b.sock")
    async with node("b", {"a": "/nowhere"}) as second:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"body")
            to, out = await asyncio.open_connection("127.0.0.1", second.port)
            out.write(head)
            writer.write(await to.read(-1))
            writer.close()
            out.close()

        server = await asyncio.start_unix_server(relay, socket)
        async with server, node(sockets={"b": socket}) as first:
            answer = await send(first, {**CALL, "to": "b"})
            assert answer.endswith("\r\nContent-Length: 4\r\n\r\nbody")
            hop = await send(first, {**CALL, "to": "b"}, "Content-Length: 4", "X-Millrace-Hop: 1")
            assert "HTTP/1.1 421 " in hop
