"""The admin listener below aiohttp: time-outs, limits of connections, fairness, and malformed requests."""

import asyncio
import contextlib
import gc
import logging
import socket
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass

import pytest
from aiohttp import web

from gateway.http.admin_listener import AdminLimits, AdminListener
from gateway.lib.certificates import Certificate
from gateway.lib.sockets import listen, port_of
from tests.support.authority import Authority
from tests.support.http import Wire, trusting
from tests.support.http2 import AUTHORITY, http2_client
from tests.support.time_outs import at_most
from tests.support.waiting import until

LIMITS = AdminLimits(head_seconds=10.0, stall_seconds=30.0, per_address=8, connections=16)
HEAD = "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Running:
    listener: AdminListener
    port: int
    served: list[str]

    @asynccontextmanager
    async def connect(self, **options):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
        wire = Wire(reader, writer)
        try:
            yield wire
        finally:
            await wire.close()


@asynccontextmanager
async def running(limits=LIMITS, forwarded=(), tls=None, handler=None):
    served = []

    async def serve(request):
        served.append(request.path)
        if request.method == "POST":
            await request.read()
        return web.Response(text="served")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler or serve)
    listener = AdminListener(app, limits, trusting(*forwarded))
    sockets = listen("admin", "127.0.0.1", 0)
    await listener.listen(sockets, tls)
    try:
        yield Running(listener, port_of(sockets), served)
    finally:
        await listener.close()
        assert not listener.connections


def over(listener):
    """Sets the deadline of all connections to the past."""
    for connection in listener.connections:
        connection.deadline = 0.0


async def test_a_connection_serves_many_requests():
    async with running() as admin, admin.connect() as wire:
        for n in range(3):
            assert (await wire.get(f"/{n}")).text == "served"
        assert (await wire.get("/body", "POST", Content_Length="0")).status == 200
    assert admin.served == ["/0", "/1", "/2", "/body"]


async def test_silent_connections_and_incomplete_requests_time_out():
    async with running() as admin, admin.connect() as silent, admin.connect() as half:
        await half.send("GET / HTTP/1.1\r\nHost: a\r\n")
        await until(lambda: any(c._partial for c in admin.listener.connections))
        now = asyncio.get_running_loop().time()
        assert all(now < c.deadline <= now + 10 for c in admin.listener.connections)
        over(admin.listener)
        assert await silent.rest() == b""
        assert (await half.reply()).status == 408
        assert await half.rest() == b""


async def test_a_slow_answer_has_no_deadline_and_keeps_the_connection_open():
    gate = asyncio.Event()

    async def slow(request):
        await gate.wait()
        return web.Response(text="late")

    async with running(handler=slow) as admin, admin.connect() as wire:
        await wire.send(HEAD.format(""))
        await until(lambda: any(c._answering for c in admin.listener.connections))
        [connection] = admin.listener.connections
        assert connection.deadline == float("inf")
        gate.set()
        assert (await wire.reply()).text == "late"
        assert connection.deadline > asyncio.get_running_loop().time() + 60


async def test_too_many_connections_of_an_address_get_429():
    async with running(AdminLimits(10, 30, per_address=2, connections=0)) as admin:
        async with admin.connect() as one, admin.connect() as two, admin.connect() as three:
            await one.get("/")
            await two.get("/")
            refused = await three.get("/")
            assert (refused.status, refused.headers["retry-after"]) == (429, "10")
            assert await three.rest() == b""
        await until(lambda: not admin.listener.connections)
        async with admin.connect() as wire:
            assert (await wire.get("/")).status == 200
        assert admin.listener.refused == 1


async def test_a_trusted_proxy_has_no_connection_limit():
    limits = AdminLimits(10, 30, per_address=1, connections=0)
    async with running(limits, ["127.0.0.0/8"]) as admin, admin.connect() as one, admin.connect() as two:
        assert (await one.get("/")).status == (await two.get("/")).status == 200


async def test_connections_above_the_total_limit_are_closed_at_once():
    async with running(AdminLimits(10, 30, per_address=0, connections=1)) as admin:
        async with admin.connect() as one, admin.connect() as two:
            await one.get("/")
            with suppress(ConnectionError):
                assert await two.rest() == b""
            assert (await one.get("/")).status == 200
        assert admin.listener.refused == 1


async def test_tls_connections_are_counted_before_their_handshake(tmp_path):
    authority = Authority(tmp_path)
    cert, key = authority.files("localhost")
    async with running(AdminLimits(10, 30, 2, 0), tls=Certificate.read(cert, key).context) as admin:
        with closing(socket.create_connection(("127.0.0.1", admin.port))):
            await until(lambda: admin.listener.quota["127.0.0.1"] == 1)
            async with admin.connect(ssl=authority.client(), server_hostname="localhost") as wire:
                assert (await wire.get("/")).text == "served"
                assert admin.listener.quota["127.0.0.1"] == 2
        await until(lambda: not admin.listener.quota["127.0.0.1"])


async def test_pipelined_requests_do_not_delay_other_connections():
    async with running() as admin:
        with (
            closing(socket.create_connection(("127.0.0.1", admin.port))) as many,
            closing(socket.create_connection(("127.0.0.1", admin.port))) as one,
        ):
            await until(lambda: len(admin.listener.connections) == 2)
            many.sendall(HEAD.format("many").encode() * 200)
            one.sendall(HEAD.format("one").encode())
            await until(lambda: len(admin.served) == 201)
    assert admin.served.index("/one") < 50


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {0:05000}1\r\n\r\nx", 400),
        (f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {'9' * 5001}\r\n\r\nx", 400),
        ("\x16\x03\x01\x02", 400),
    ],
)
async def test_malformed_requests_are_refused_without_an_error_in_the_log(head, status, caplog):
    with caplog.at_level(logging.INFO):
        async with running() as admin, admin.connect() as wire:
            await wire.send(head)
            assert (await wire.reply()).status == status
            assert await wire.rest() == b""
    assert not admin.served
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_damaged_body_that_nobody_reads_is_no_error_in_the_log(caplog):
    head = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\n"
    with caplog.at_level(logging.INFO):
        async with running() as admin, admin.connect() as wire:
            await wire.send(head)
            assert (await wire.reply()).status == 200
            await wire.send("not gzip")
            await wire.rest()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_client_that_half_closes_the_connection_gets_its_answer():
    async with running() as admin, admin.connect() as wire:
        await wire.send(HEAD.format("half"))
        wire.writer.write_eof()
        assert (await wire.reply()).text == "served"


async def test_a_body_that_arrives_after_its_answer_is_not_parsed_as_a_request():
    """The clients requests and urllib3 send the body in separate packets."""

    async def denies(request):
        return web.Response(status=401, text="no")

    async with running(handler=denies) as admin, admin.connect() as wire:
        for _ in range(3):
            await wire.send("POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n")
            assert (await wire.reply()).status == 401
            await wire.send(b"{" * 7_000)
            await wire.send(b"}" * 13_000)


async def test_a_missing_body_does_not_delay_the_shutdown():
    async def denies(request):
        return web.Response(status=401, text="no")

    async with running(handler=denies) as admin, admin.connect() as wire:
        await wire.send("POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n")
        assert (await wire.reply()).status == 401
        async with asyncio.timeout(at_most(5)):
            await admin.listener.close()
        assert await wire.rest() == b""


async def test_a_pipelined_request_with_a_split_head_is_answered():
    async with running() as admin, admin.connect() as wire:
        await wire.send(HEAD.format("1") + HEAD.format("2")[:-9])
        assert (await wire.reply()).text == "served"
        await wire.send(HEAD.format("2")[-9:])
        assert (await wire.reply()).text == "served"
    assert admin.served == ["/1", "/2"]


async def test_a_disconnect_during_a_body_ends_the_handler_at_once():
    failed = asyncio.Event()

    async def reads(request):
        try:
            await request.read()
        except ConnectionError:
            failed.set()
            raise
        return web.Response()

    async with running(handler=reads) as admin, admin.connect() as wire:
        await wire.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        await until(lambda: any(c._answering for c in admin.listener.connections))
        wire.writer.write_eof()
        await asyncio.wait_for(failed.wait(), at_most(10))
        await until(lambda: not admin.listener.connections)


async def test_a_disconnect_during_a_body_is_noticed_before_the_handler_starts():
    async with running() as admin, admin.connect() as wire:
        await wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        wire.writer.write_eof()
        await until(lambda: not admin.listener.connections)


@contextlib.asynccontextmanager
async def unread_answer():
    """Yields the server, a client and its connection, whose large answer waits for the client."""

    async def much(request):
        return web.Response(body=bytes(20_000_000))

    async with running(handler=much) as admin, admin.connect(limit=65_536) as wire:
        await wire.send(HEAD.format(""))
        sizes = [0]

        def waits_for_the_client():  # the kernel's buffers are full, and the rest stays the same
            sizes.append(sum(c._transport.get_write_buffer_size() for c in admin.listener.connections))
            return 0 < sizes[-1] == sizes[-2]

        await until(waits_for_the_client)
        [connection] = admin.listener.connections
        yield admin, wire, connection


async def test_a_slow_reader_is_kept_but_a_stalled_reader_is_disconnected():
    async with unread_answer() as (admin, wire, connection):
        for _ in range(4):
            unsent = connection._transport.get_write_buffer_size()
            while connection._transport.get_write_buffer_size() == unsent:
                await wire.exactly(65_536)
            over(admin.listener)
            connection.timed_out()
            assert not connection._transport.is_closing() and connection.deadline > 0
        connection.timed_out()
        await until(lambda: not admin.listener.connections)


async def test_a_client_that_reads_nothing_is_disconnected():
    async with unread_answer() as (admin, _, connection):
        connection.timed_out()  # the kernel may have taken more since the deadline began
        connection.timed_out()
        await until(lambda: not admin.listener.connections)


async def test_an_options_request_for_the_whole_server_is_answered():
    async with running() as admin, admin.connect() as wire:
        assert (await wire.get("*", "OPTIONS")).status == 204


async def test_closing_finishes_the_current_answers():
    begun, gate = asyncio.Event(), asyncio.Event()

    async def slow(request):
        begun.set()
        await gate.wait()
        return web.Response(text="finished")

    async with running(handler=slow) as admin, admin.connect() as idle, admin.connect() as busy:
        await busy.send(HEAD.format(""))
        await begun.wait()
        closing_down = asyncio.ensure_future(admin.listener.close())
        assert await idle.rest() == b""
        gate.set()
        assert (await busy.reply()).text == "finished"
        await closing_down


@asynccontextmanager
async def running2(certificate, limits=LIMITS, handler=None):
    """The listener with TLS, and a client of HTTP/2."""
    async with (
        running(limits, tls=Certificate.read(*certificate).web_context, handler=handler) as admin,
        http2_client(admin.port, certificate[0]) as client,
    ):
        yield admin, client


async def test_http2_gives_the_same_answers_and_takes_bodies_with_and_without_their_length(certificate):
    async def echo(request):
        body = await request.read()
        return web.Response(text=f"{request.version} {request.secure} {request.host} {request.remote} {len(body)}")

    async with running2(certificate, handler=echo) as (_, client):
        assert (await client.get("/")).text == f"HttpVersion(major=1, minor=0) True {AUTHORITY} 127.0.0.1 0"
        sized = await client.get("/", "PUT", more=[("content-length", "16000")], body=bytes(16_000))
        assert sized.text.endswith(" 16000")
        assert not {"connection", "transfer-encoding"} & set(sized.headers)
        fields = [(":method", "PUT"), (":scheme", "https"), (":authority", AUTHORITY), (":path", "/")]
        id = await client.send_head(fields, bytes(16_000), ended=False)
        for n in range(60):
            await client.until(lambda: client.h2.local_flow_control_window(id) >= 16_000)
            client.h2.send_data(id, bytes(16_000), end_stream=n == 59)
            await client.flush()
        assert (await client.whole(id)).text.endswith(f" {61 * 16_000}")


async def test_streams_of_http2_count_as_connections(certificate):
    gate = asyncio.Event()

    async def slow(request):
        await gate.wait()
        return web.Response(text="late")

    limits = AdminLimits(10, 30, per_address=3, connections=0)
    async with running2(certificate, limits, slow) as (admin, client):
        ids = [await client.ask("/") for _ in range(3)]
        assert (await client.whole(ids[2])).status == 429  # beside the connection itself
        gate.set()
        assert [(await client.whole(id)).text for id in ids[:2]] == ["late", "late"]
        await until(lambda: len(admin.listener.connections) == 2)


async def test_a_stream_that_begins_and_ends_at_once_is_no_error(certificate, caplog):
    async with running2(certificate, AdminLimits(10, 30, per_address=0, connections=0)) as (admin, client):
        for _ in range(20):
            id = client.h2.get_next_available_stream_id()
            client.h2.send_headers(id, [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")])
            client.h2.reset_stream(id)
        await client.flush()
        assert (await client.get("/")).status == 200
        await until(lambda: len(admin.listener.connections) == 2)
    gc.collect()
    assert not caplog.records
