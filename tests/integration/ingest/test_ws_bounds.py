"""Limits of the WebSocket port for clients without a key and for floods: requests, memory, messages."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.ingest.websocket import connection as ws_connection
from gateway.ingest.websocket.connection import PushConnection
from gateway.lib.certificates import Certificate
from gateway.listeners.pending_connections import EARLY_BYTES, PendingConnections
from gateway.live.publisher import StreamPublisher
from gateway.workers.worker_pool import WorkerPool
from tests.support.http import trusting
from tests.support.push_rig import Box, PushServer, rig
from tests.support.pushing import close_code, page
from tests.support.rtmp import self_signed, trusting_anyone
from tests.support.time_outs import at_most

UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"


@contextlib.asynccontextmanager
async def raw(lab: PushServer, data: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that has sent `data`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.listener.port)
    try:
        writer.write(data)
        yield reader, writer
    finally:
        writer.close()


async def answer(lab: PushServer, data: bytes) -> bytes:
    """All that is answered until the server closes."""
    async with raw(lab, data) as (reader, _), asyncio.timeout(at_most(10)):
        return await reader.read()


def opening(path: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{UPGRADE}Sec-WebSocket-Key: {key}\r\n\r\n".encode()


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, size: int | None = None) -> bytes:
    """A masked frame whose mask is zero. size: what it claims to have."""
    claim = len(payload) if size is None else size
    first = bytes((0x80 * final | opcode,))
    if claim < 126:
        return first + bytes((0x80 | claim,)) + bytes(4) + payload
    return first + b"\xff" + claim.to_bytes(8, "big") + bytes(4) + payload


# ---- requests ----


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthcheck HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /healthcheck HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /healthcheck HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /healthcheck HTTP/1.0\r\n\r\n", 200),
        (b"HEAD /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"HEAD /stream/c1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"POST /stream/c1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"POST /stream/c1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 413),
        (b"HEAD /healthcheck HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 413),
        (b"GET /healthcheck HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        (b"GET /healthcheck HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", 400),
        (b"GET /healthcheck HTTP/3.0\r\nHost: a\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 3000, 431),
    ],
)
async def test_a_request_without_an_upgrade_is_answered(head: bytes, status: int) -> None:
    async with rig() as lab:
        answered = await answer(lab, head)
        line, _, rest = answered.partition(b"\r\n")
        fields, _, body = rest.partition(b"\r\n\r\n")
        assert line.split(b" ")[1] == str(status).encode(), answered
        assert (status == 405) == (b"Allow: GET" in fields)
        assert bool(body) == (not head.startswith(b"HEAD"))
        assert list(lab.hub) == []


@pytest.mark.parametrize("method", [b"BREW", b"get", b"M-SEARCH2"])
async def test_an_unknown_method_is_refused(method: bytes) -> None:
    async with rig() as lab:
        answered = await answer(lab, method + b" /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answered.split(b" ")[1] in (b"400", b"501")


async def test_a_request_may_arrive_byte_by_byte() -> None:
    async with rig() as lab, raw(lab) as (reader, writer):
        for byte in opening("/stream/c1?sign=1"):
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        async with asyncio.timeout(at_most(10)):
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            assert b"\x11\x31" in await reader.read()  # 4401


@pytest.mark.parametrize("behind", [b"x" * 100, frame(2, b"x"), b"GET / HTTP/1.1\r\n\r\n", frame(8), b"\xff" * 3000])
@pytest.mark.parametrize("path", ["/nothing", "/healthcheck"])
async def test_data_after_a_refused_request_cause_no_error(
    path: str, behind: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The library would read the data as frames, and fail to answer: AssertionError in `send_eof`."""
    with caplog.at_level(logging.ERROR, "millrace.websockets"):
        async with rig() as lab:
            answered = await answer(lab, opening(path) + behind)
            assert answered.split(b" ")[1] in (b"404", b"200")
            length = int(answered.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert len(answered.partition(b"\r\n\r\n")[2]) == length
    assert caplog.records == []


@pytest.mark.parametrize("behind", [frame(8, b"\3\xe8"), frame(9, b"x", final=False), b"\xff" * 100])
async def test_data_after_a_refused_push_cause_no_error(behind: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "millrace.websockets"):
        async with rig() as lab:
            answered = await answer(lab, opening("/stream/c1?sign=1") + behind)
            assert b"\x11\x31" in answered, "4401"
            await lab.empty()
    assert caplog.records == []


async def test_a_client_that_disconnects_with_its_request_causes_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "millrace.websockets"):
        async with rig() as lab:
            for path in ("/nothing", "/stream/c1?sign=1", lab.url().partition("127.0.0.1:")[2].partition("/")[2]):
                async with raw(lab, opening(path if path.startswith("/") else f"/{path}")) as (_, writer):
                    writer.write_eof()
            await lab.empty()
            assert lab.listener.connections == 0
    assert caplog.records == []


# ---- clients without a key ----


async def test_a_refused_push_is_closed_with_its_code_while_it_sends() -> None:
    async with rig() as lab:
        async with raw(lab, opening("/stream/c1?sign=1") + frame(2, b"q" * 1000, size=7_999_999)) as (reader, writer):

            async def send() -> None:
                with contextlib.suppress(ConnectionError):
                    while True:
                        writer.write(b"q" * 65_536)
                        await writer.drain()

            sending = asyncio.create_task(send())
            async with asyncio.timeout(at_most(10)):
                assert b"\x11\x31" in await reader.read()
            sending.cancel()
        await lab.empty()


async def test_data_of_an_unauthenticated_client_wait_in_the_kernel() -> None:
    pending = PendingConnections(max_bytes=10_000_000)
    async with rig(pending=pending) as lab:
        lab.store.answer.clear()
        key = lab.url().partition("/stream/")[2]
        large = frame(2, b"ok" * 400_000)
        async with raw(lab, opening(f"/stream/{key}") + large) as (reader, _):
            await lab.store.asked.wait()
            await lab.until(lambda: pending.bytes > EARLY_BYTES, "it is read a while")
            await asyncio.sleep(0.1)  # the server must read nothing more in this time
            assert pending.bytes < 65_536
            lab.store.answer.set()
            async with asyncio.timeout(at_most(10)):
                await reader.readuntil(b"accepted")
            await lab.until(lambda: lab.boxes and lab.boxes[0].fed, "the message is whole")
            assert lab.boxes[0].fed == [b"ok" * 400_000]
            assert len(pending) == 0


async def test_many_early_messages_are_read_no_faster_than_they_are_processed() -> None:
    def stuck(publisher: StreamPublisher, workers: WorkerPool) -> Box:
        box = Box(publisher)
        box.stuck = asyncio.Event()
        boxes.append(box)
        return box

    boxes: list[Box] = []
    async with rig(container=stuck) as lab:
        lab.store.answer.clear()
        key = lab.url().partition("/stream/")[2]
        async with raw(lab, opening(f"/stream/{key}") + frame(2, b"ok") * 40) as (reader, writer):
            await lab.store.asked.wait()
            (connection,) = lab.listener._servers[0].all_connections
            assert isinstance(connection, PushConnection)
            lab.store.answer.set()
            async with asyncio.timeout(at_most(10)):
                await reader.readuntil(b"accepted")
            writer.write(frame(2, b"ok" * 20_000) * 100)
            await lab.until(lambda: boxes and connection.reads._read_held, "nothing is read while the queue is full")
            assert boxes[0].stuck is not None
            boxes[0].stuck.set()
            await lab.until(lambda: len(boxes[0].fed) == 140, "all of it is taken")


async def test_connections_are_pending_from_accept_on() -> None:
    pending = PendingConnections(per_address=2)
    async with rig("c1", "c2", "c3", pending=pending) as lab:
        async with page(lab.url("c1")) as first, page(lab.url("c2")) as second:
            await first.wait("accepted")
            await second.wait("accepted")
            assert len(pending) == 0, "who was accepted is none of them"
            async with raw(lab) as (silent, _), raw(lab, b"GET "):
                await lab.until(lambda: len(pending) == 2, "they are counted")
                async with page(lab.url("c3")) as third:
                    await third.wait("accepted")
                assert await silent.read() == b"", "it made room"
                async with raw(lab, b"GET "), raw(lab, b"GET ") as (late, _):
                    assert await late.read() == b""
        await lab.empty()
        await lab.until(lambda: not len(pending), "all are gone")
        assert pending.bytes == 0


async def test_tls_connections_are_pending_before_the_tls_handshake(tmp_path: Path) -> None:
    pending = PendingConnections(per_address=1)
    cert, key = self_signed(tmp_path)
    async with rig(tls=Certificate.read(cert, key).context, pending=pending) as lab:
        async with raw(lab) as (silent, _):
            await lab.until(lambda: len(pending) == 1, "it is counted")
            async with page(lab.url(scheme="wss"), ssl=trusting_anyone()) as pushing:
                await pushing.wait("accepted")
                assert await silent.read() == b""
                assert len(pending) == 0
        await lab.empty()
        assert pending.bytes == 0


async def test_clients_of_a_proxy_are_counted_by_their_own_address() -> None:
    pending = PendingConnections(per_address=1)
    async with rig("c1", "c2", pending=pending, forwarded=trusting("127.0.0.0/8")) as lab:
        lab.store.answer.clear()
        proxied = {"additional_headers": {"X-Forwarded-For": "192.0.2.1"}}
        async with page(lab.url("c1"), **proxied) as first:
            with pytest.raises(InvalidStatus) as refused:
                async with page(lab.url("c2"), **proxied):
                    pass
            assert refused.value.response.status_code == 429
            assert refused.value.response.headers["Retry-After"] == "1"
            lab.store.answer.set()
            await first.wait("accepted")
            assert await close_code(lab.url("c2", sign="1"), **proxied) == 4401


# ---- floods ----


@pytest.mark.parametrize(
    ("flood", "bound"),
    [
        (frame(9), "CONTROLS_BURST"),
        (frame(10), "CONTROLS_BURST"),
        (frame(2, b"ok"), "MESSAGES_BURST"),
        (frame(2), "MESSAGES_BURST"),
    ],
)
async def test_a_flooding_push_is_ended_with_a_reason(
    flood: bytes, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws_connection, bound, 50)
    monkeypatch.setattr(ws_connection, bound.replace("BURST", "PER_SECOND"), 0)
    async with rig() as lab:
        key = lab.url().partition("/stream/")[2]
        async with raw(lab, opening(f"/stream/{key}")) as (reader, writer):
            await reader.readuntil(b"accepted")
            writer.write(flood * 49)
            await lab.until(lambda: lab.boxes, "it runs")
            writer.write(flood * 20)
            async with asyncio.timeout(at_most(10)):
                said = await reader.read()
            assert b"\x03\xf0too many messages" in said, "1008"
        await lab.empty()


async def test_fragments_count_as_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_connection, "MESSAGES_BURST", 50)
    monkeypatch.setattr(ws_connection, "MESSAGES_PER_SECOND", 0)
    async with rig() as lab, connect(lab.url(), compression=None) as ws:
        with pytest.raises(ConnectionClosed) as closed:
            await ws.send(b"x" for _ in range(1000))
            await ws.recv()
            await ws.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        await lab.empty()


async def test_pings_of_a_refused_push_are_not_answered() -> None:
    async with rig() as lab:
        answered = await answer(lab, opening("/stream/c1?sign=1") + frame(9, b"hello") * 100)
        assert b"\x8a" not in answered.partition(b"\r\n\r\n")[2]
        assert b"\x11\x31" in answered
        await lab.empty()
