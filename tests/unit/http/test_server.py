"""The HTTP server on a real socket: order, keep-alive, limits, time-outs and hostile bytes."""

import asyncio
import gzip
import math
import socket
import ssl
from contextlib import asynccontextmanager

import pytest

from gateway.http.request import RequestError
from gateway.http.response import IMMUTABLE, Response, Takeover, text
from gateway.http.server import HttpServer
from gateway.lib.certificates import Certificate
from gateway.lib.sockets import listen, port_of
from tests.support.http import Wire, limits, serving, trusting
from tests.support.smuggling import INNER, REQUESTS
from tests.support.time_outs import at_most
from tests.support.waiting import until

BODY = bytes(range(256)) * 400
SEGMENT = Response(200, BODY, "video/mp2t", cache=IMMUTABLE)
PLAYLIST = Response(200, b"#EXTM3U\n" * 200, "application/vnd.apple.mpegurl", cache="no-cache", compress=True)


def handler(request):
    path = request.path
    if path == "/segment.ts":
        return SEGMENT
    if path == "/list.m3u8":
        return PLAYLIST
    if path == "/raises":
        raise RuntimeError("a bug")
    if path == "/refuses":
        raise RequestError(400, "not like this")
    return text(200, f"{request.method} {path} {request.raw_query} {request.peer} {request.scheme}")


HEAD = "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_answers_have_headers_for_clients_and_caches():
    async with serving(handler) as listener:
        reply = await listener.get("/segment.ts")
    assert reply.status == 200
    assert reply.body == BODY
    assert reply.headers["content-type"] == "video/mp2t"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "immutable" in reply.headers["cache-control"]
    assert reply.headers["server"] == "Millrace"
    assert reply.headers["date"].endswith(" GMT")
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_a_connection_serves_many_requests_and_updates_the_counters():
    async with serving(handler) as listener, listener.connect() as wire:
        for n in range(5):
            assert (await wire.get(f"/{n}")).text.startswith(f"GET /{n}")
        assert listener.server.requests == 5
        assert len(listener.server) == 1
        assert listener.server.bytes_out > 5 * 100


async def test_pipelined_requests_are_answered_in_order_despite_a_slow_one():
    gate = asyncio.Event()

    async def slow(request):
        await gate.wait()
        return text(200, "slow")

    async with (
        serving(lambda r: slow(r) if r.path == "/slow" else handler(r)) as listener,
        listener.connect() as wire,
    ):
        await wire.send(HEAD.format("first") + HEAD.format("slow") + HEAD.format("second") + HEAD.format("third"))
        assert (await wire.reply()).text.startswith("GET /first")
        gate.set()
        assert (await wire.reply()).text == "slow\n"
        assert (await wire.reply()).text.startswith("GET /second")
        assert (await wire.reply()).text.startswith("GET /third")


async def test_a_connection_lost_after_its_request_leaves_no_pending_coroutine():
    """The answer is cancelled before its first step. A coroutine that is never awaited fails the test."""

    async def later(request):
        await asyncio.Event().wait()

    def handle(request):
        (connection,) = listener.server.connections
        connection._transport.abort()
        return later(request)

    async with serving(handle) as listener, listener.connect() as wire:
        await wire.send(HEAD.format("slow"))
        await until(lambda: not listener.server.connections)


class Memory:
    """A memory limit that never shortens the stall time-out."""

    def __init__(self, limit):
        self.limit, self.bytes = limit, 0

    @property
    def left(self):
        return self.limit - self.bytes

    def stall_limit(self, seconds):
        return seconds


@asynccontextmanager
async def unread(listener, target, count, requests=1):
    """Opens `count` clients that send requests and read nothing, with the smallest buffers."""
    sockets = []
    for _ in range(count):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        sockets.append(client)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", listener.port))
        await asyncio.get_running_loop().sock_sendall(client, HEAD.format(target).encode() * requests)
    try:
        yield
    finally:
        for client in sockets:
            client.close()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "in pieces"])
async def test_unread_answers_share_one_memory_limit(streamed):
    """Each client gets its own answer. Clients above the limit are disconnected, and their bytes are freed."""
    memory, size = Memory(40_000_000), 8_000_000

    async def pieces(data):
        yield data

    def handle(request):
        body = bytes(size)
        return Response(200, pieces(body) if streamed else body, "video/mp2t")

    async with serving(handle, memory=memory) as listener:
        async with unread(listener, "x", 12):
            await until(lambda: listener.server.requests == 12 and listener.server.refused)
            assert 0 < memory.bytes <= memory.limit
            assert len(listener.server) >= 5, "those that fit stay"
        await until(lambda: memory.bytes == 0)


async def test_a_shared_answer_counts_once_in_the_memory_limit():
    memory, body = Memory(10_000_000), bytes(8_000_000)
    async with serving(lambda request: Response(200, body, "video/mp2t"), memory=memory) as listener:
        async with unread(listener, "x", 12):
            await until(lambda: listener.server.requests == 12)
            assert (memory.bytes, listener.server.refused) == (len(body), 0)
        await until(lambda: memory.bytes == 0)


async def test_the_bytes_of_an_answer_are_freed_once_it_is_read():
    memory = Memory(10_000_000)
    async with (
        serving(lambda request: Response(200, bytes(8_000_000), "video/mp2t"), memory=memory) as listener,
        listener.connect() as wire,
    ):
        for _ in range(3):
            assert len((await wire.get("/")).body) == 8_000_000
        await until(lambda: memory.bytes == 0)


async def test_an_unread_answer_of_a_task_delays_the_next_request():
    """Otherwise each answer would replace the count of the one before, which then never ends."""
    memory, body = Memory(100_000_000), bytes(6_000_000)

    async def handle(request):
        return Response(200, body, "video/mp2t")

    async with serving(handle, memory=memory) as listener:
        async with unread(listener, "x", 1, requests=5):
            await until(lambda: memory.bytes)
            (connection,) = listener.server.connections
            await until(lambda: connection.deadline < math.inf)
            assert listener.server.requests == 1
        await until(lambda: not listener.server.connections)
        assert memory.bytes == 0


async def test_a_request_may_arrive_byte_by_byte():
    async with serving(handler) as listener, listener.connect() as wire:
        for byte in HEAD.format("drop").encode():
            wire.writer.write(bytes([byte]))
            await wire.writer.drain()
            await asyncio.sleep(0)
        assert (await wire.reply()).text.startswith("GET /drop")


async def test_empty_lines_before_a_request_are_skipped():
    async with serving(handler) as listener, listener.connect() as wire:
        await wire.send("\r\n\r\n" + HEAD.format("a") + "\r\n" + HEAD.format("b"))
        assert (await wire.reply()).text.startswith("GET /a")
        assert (await wire.reply()).text.startswith("GET /b")


async def test_the_answer_to_head_has_no_body():
    async with serving(handler) as listener, listener.connect() as wire:
        reply = await wire.get("/segment.ts", "HEAD")
        assert reply.headers["content-length"] == str(len(BODY))
        assert (await wire.get("/next")).text.startswith("GET /next")  # no byte of a body in between


@pytest.mark.parametrize(
    ("value", "status", "span"),
    [
        ("bytes=188-375", 206, (188, 376)),
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=100-", 206, (100, len(BODY))),
        ("bytes=-10", 206, (len(BODY) - 10, len(BODY))),
        ("bytes=-999999999", 206, (0, len(BODY))),
        ("bytes=5-999999999", 206, (5, len(BODY))),
        ("bytes=5-2", 200, (0, len(BODY))),
        ("bytes=0-1,5-6", 200, (0, len(BODY))),
        ("lines=1-2", 200, (0, len(BODY))),
        ("bytes=-", 200, (0, len(BODY))),
        ("bytes=x-y", 200, (0, len(BODY))),
    ],
)
async def test_byte_ranges_are_served(value, status, span):
    async with serving(handler) as listener:
        reply = await listener.get("/segment.ts", Range=value)
    assert (reply.status, reply.body) == (status, BODY[span[0] : span[1]])
    if status == 206:
        assert reply.headers["content-range"] == f"bytes {span[0]}-{span[1] - 1}/{len(BODY)}"


async def test_a_range_beyond_the_end_is_416_and_if_range_is_answered_completely():
    async with serving(handler) as listener:
        reply = await listener.get("/segment.ts", Range=f"bytes={len(BODY)}-")
        assert (reply.status, reply.headers["content-range"]) == (416, f"bytes */{len(BODY)}")
        assert (await listener.get("/segment.ts", Range="bytes=-0")).status == 416
        assert (await listener.get("/segment.ts", Range="bytes=0-1", If_Range='"x"')).status == 200


async def test_a_range_of_a_compressible_answer_varies_as_the_whole_does():
    async with serving(handler) as listener:
        whole, part = await listener.get("/list.m3u8"), await listener.get("/list.m3u8", Range="bytes=0-9")
    assert (part.status, part.headers["vary"]) == (206, whole.headers["vary"])


async def test_playlists_are_compressed_for_clients_that_accept_gzip():
    async with serving(handler) as listener:
        plain = await listener.get("/list.m3u8")
        packed = await listener.get("/list.m3u8", Accept_Encoding="br, gzip")
        refused = await listener.get("/list.m3u8", Accept_Encoding="gzip;q=0")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body == refused.body
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"


async def test_preflight_is_answered_and_other_methods_are_refused():
    async with serving(handler) as listener, listener.connect() as wire:
        reply = await wire.get("/x/live.m3u8", "OPTIONS", Origin="https://a", Access_Control_Request_Method="GET")
        assert reply.status == 204
        assert reply.headers["access-control-allow-origin"] == "*"
        assert {"GET", "HEAD", "OPTIONS"} <= set(reply.headers["access-control-allow-methods"].split(", "))
        # "*" does not include Authorization: https://fetch.spec.whatwg.org/#cors-non-wildcard-request-header-name
        allowed = reply.headers["access-control-allow-headers"].split(", ")
        assert {"*", "Authorization", "Content-Type", "If-Match", "Range"} == set(allowed)
        reply = await wire.get("/x", "DELETE")
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert (await wire.get("/still")).status == 200


async def test_http_1_0_connections_close_without_keep_alive():
    async with serving(handler) as listener:
        async with listener.connect() as wire:
            await wire.send("GET /a HTTP/1.0\r\n\r\n")
            assert (await wire.reply()).headers["connection"] == "close"
            assert await wire.rest() == b""
        async with listener.connect() as wire:
            await wire.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await wire.reply()).headers["connection"] == "keep-alive"
            assert (await wire.get("/b", version="1.0")).status == 200
            assert await wire.rest() == b""


async def test_a_connection_close_header_closes_the_connection():
    async with serving(handler) as listener, listener.connect() as wire:
        assert (await wire.get("/a", Connection="close")).headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_an_error_in_a_handler_is_a_500_and_keeps_the_connection():
    async def fails(request):
        raise RuntimeError("a bug that waits")

    async with serving(lambda r: fails(r) if r.path == "/later" else handler(r)) as listener:
        async with listener.connect() as wire:
            assert (await wire.get("/raises")).status == 500
            assert (await wire.get("/later")).status == 500
            assert (await wire.get("/refuses")).status == 400
            assert (await wire.get("/fine")).status == 200
        assert listener.server.errors == 2


SMUGGLED = "GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 405),
    ],
)
async def test_bytes_after_a_body_are_never_parsed_as_a_request(head, status):
    async with serving(handler) as listener, listener.connect() as wire:
        await wire.send(head + SMUGGLED)
        reply = await wire.reply()
        assert reply.status == status
        assert reply.headers["connection"] == "close"
        assert await wire.rest() == b""
        assert listener.server.requests <= 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        ("GET /\r\n\r\n", 400),
        ("GET / RTSP/1.0\r\n\r\n", 400),
        ("NONSENSE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("\x16\x03\x01\x02", 400),
        ("\x00" * 300, 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        ("GET /../etc HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /" + "a" * 9000 + " HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        ("GET /" + "a" * 90_000, 414),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: " + "a" * 17_000 + "\r\n\r\n", 431),
        ("GET / HTTP/1.1\r\nHost: a\r\n" + "X: a\r\n" * 20_000, 431),
        ("GET / HTTP/1.1\r\nHost: a\r\n" + "".join(f"X{n}:\r\n" for n in range(128)) + "\r\n", 431),
    ],
)
async def test_invalid_requests_get_an_error_and_close_the_connection(head, status):
    async with serving(handler) as listener, listener.connect() as wire:
        await wire.send(head)
        reply = await wire.reply()
        assert reply.status == status
        assert reply.headers["connection"] == "close"
        assert await wire.rest() == b""
        assert listener.server.refused == 1


async def test_a_head_that_never_ends_is_timed_out():
    async with serving(handler, head_seconds=0.01) as listener, listener.connect() as wire:
        await wire.send("GET / HTTP/1.1\r\nHost: a\r\n")
        assert (await wire.reply()).status == 408
        assert await wire.rest() == b""


async def test_silent_and_idle_connections_are_closed():
    async with serving(handler, head_seconds=0.01, keep_alive=0.01) as listener:
        async with listener.connect() as silent, listener.connect() as idle:
            assert (await idle.get("/a")).status == 200
            assert await idle.rest() == b""
            assert await silent.rest() == b""
        await until(lambda: len(listener.server) == 0)


async def test_a_client_that_does_not_read_is_disconnected():
    big = Response(200, b"x" * 4_000_000)
    async with serving(lambda r: big, stall_seconds=0.01, keep_alive=0.01) as listener:
        async with listener.connect(limit=1024) as wire:
            wire.writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.reader._transport.pause_reading()
            with pytest.raises(OSError):  # more requests than the server reads ahead, until it cuts
                for _ in range(10_000):
                    await wire.send(HEAD.format("big") * 100)
        await until(lambda: len(listener.server) == 0)
        assert listener.server.requests < 10


async def test_connections_above_the_limit_per_address_get_429():
    async with serving(handler, per_address=2) as listener:
        async with listener.connect() as one, listener.connect() as two:
            assert (await one.get("/")).status == (await two.get("/")).status == 200
            reply = await listener.get("/")
            assert (reply.status, reply.headers["connection"]) == (429, "close")
            assert int(reply.headers["retry-after"]) > 0
        await until(lambda: len(listener.server) == 0)
        assert (await listener.get("/")).status == 200


async def test_a_trusted_proxy_has_no_limit_and_forwards_client_and_scheme():
    async with (
        serving(handler, per_address=1, forwarded=trusting("127.0.0.0/8")) as listener,
        listener.connect() as one,
        listener.connect() as two,
    ):
        assert (await one.get("/")).status == 200
        reply = await two.get("/", X_Forwarded_For="1.1.1.1, 192.0.2.7", X_Forwarded_Proto="https")
    assert reply.text == "GET /  192.0.2.7 https\n"


@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS)
async def test_request_smuggling_is_prevented(sent: bytes):
    """The connection closes after a request with a body and after an invalid one."""
    asked = []

    def note(request):
        asked.append(request.path)
        return text(200, "found")

    async with serving(note, hidden=("POST",)) as listener, listener.connect() as wire:
        wire.writer.write(sent)
        answered = await asyncio.wait_for(wire.reader.read(), at_most(10))
        assert INNER not in asked
        assert answered.count(b"HTTP/1.1 ") == 1


async def test_forwarded_headers_of_an_untrusted_peer_are_ignored():
    async with serving(handler) as listener:
        reply = await listener.get("/", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https")
    assert reply.text == "GET /  127.0.0.1 http\n"


async def test_streamed_bodies_are_sent_chunked_or_with_their_size():
    closed = []

    async def pieces(*parts):
        try:
            for part in parts:
                await asyncio.sleep(0)
                yield part
        finally:
            closed.append(parts)

    def answer(request):
        return {
            "/open": lambda: Response(200, pieces(b"a", b"", b"bc")),
            "/sized": lambda: Response(200, pieces(b"ab", b"c")).sized(3),
            "/short": lambda: Response(200, pieces(b"ab")).sized(3),
            "/plain": lambda: text(200, "plain"),
        }[request.path]()

    async with serving(answer) as listener:
        async with listener.connect() as wire:
            reply = await wire.get("/open")
            assert (reply.body, reply.headers["transfer-encoding"]) == (b"abc", "chunked")
            assert (await wire.get("/open", "HEAD")).status == 200
            assert (await wire.get("/sized")).body == b"abc"
            assert (await wire.get("/plain")).text == "plain\n"
            await wire.send(HEAD.format("short"))
            await wire.head()
            assert await wire.rest() == b"ab"  # shorter than said: cut, so that the client notices
        async with listener.connect() as wire:
            reply = await wire.get("/open", version="1.0")
            assert (reply.body, reply.headers["connection"]) == (b"abc", "close")
        assert len(closed) == 4  # an answer to HEAD never began its body


async def test_a_body_that_fails_is_truncated():
    async def fails(request):
        yield b"begun"
        raise RuntimeError("the disk is gone")

    async with serving(lambda r: Response(200, fails(r))) as listener, listener.connect() as wire:
        await wire.send(HEAD.format("x"))
        await wire.head()
        assert await wire.rest() == b"5\r\nbegun\r\n"
        assert listener.server.errors == 1


async def test_a_streamed_body_waits_for_a_slow_client_and_ends_with_it():
    made, closed = [], asyncio.Event()

    async def endless():
        try:
            while True:
                made.append(1)
                yield b"x" * 100_000
                await asyncio.sleep(0)
        finally:
            closed.set()

    async with serving(lambda r: Response(200, endless())) as listener:
        async with listener.connect(limit=1024) as wire:
            await wire.send(HEAD.format("x"))
            await wire.head()
            wire.reader._transport.pause_reading()
            count = -1
            while count != len(made):
                count = len(made)
                await asyncio.sleep(0.05)
            assert count < 400  # what the kernel's buffers hold, and one of ours
        async with asyncio.timeout(at_most(10)):
            await closed.wait()


async def test_a_disconnect_cancels_the_pending_answer():
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def waits(request):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(waits) as listener:
        async with listener.connect() as wire:
            await wire.send(HEAD.format("x"))
            await begun.wait()
        async with asyncio.timeout(at_most(10)):
            await cancelled.wait()


class Echo(asyncio.Protocol):
    def __init__(self, transport, lease):
        self.transport, self.lease = transport, lease

    def data_received(self, data):
        self.transport.write(data.upper())

    def connection_lost(self, exc):
        self.lease.release()


def take_over(request):
    def begin(transport, rest, lease):
        echo = Echo(transport, lease)
        echo.data_received(b"taken " + rest)
        return echo

    return Takeover(begin)


async def test_a_handler_can_take_over_the_connection_with_unread_bytes():
    async def later(request):
        await asyncio.sleep(0)
        return take_over(request)

    for answer in (take_over, later):
        async with serving(answer) as listener:
            async with listener.connect() as wire:
                await wire.send(HEAD.format("x") + "early")
                assert await wire.exactly(11) == b"TAKEN EARLY"
                await wire.send("later")
                assert await wire.exactly(5) == b"LATER"
                assert len(listener.server) == 1
                assert not listener.server.connections
            await until(lambda: len(listener.server) == 0)


async def test_a_connection_taken_over_counts_for_the_client_behind_the_proxy():
    async with (
        serving(take_over, per_address=1, forwarded=trusting("127.0.0.0/8")) as listener,
        listener.connect() as one,
        listener.connect() as two,
    ):
        await one.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
        assert await one.exactly(6) == b"TAKEN "
        assert (await two.get("/", X_Forwarded_For="192.0.2.7")).status == 429


async def test_closing_finishes_current_answers_and_closes_other_connections():
    begun, gate = asyncio.Event(), asyncio.Event()

    async def slow(request):
        begun.set()
        await gate.wait()
        return text(200, "finished")

    async with (
        serving(lambda r: slow(r) if r.path == "/slow" else text(200, "quick")) as listener,
        listener.connect() as idle,
        listener.connect() as busy,
    ):
        await idle.get("/")
        await busy.send(HEAD.format("slow") + HEAD.format("never"))
        await begun.wait()
        closing = asyncio.ensure_future(listener.server.close(grace=10))
        assert await idle.rest() == b""
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", listener.port)
        gate.set()
        reply = await busy.reply()
        assert (reply.text, reply.headers["connection"]) == ("finished\n", "close")
        assert await busy.rest() == b""
        await closing


@pytest.mark.parametrize("slow_answer", [False, True], ids=["a slow client", "a slow answer"])
async def test_a_retired_server_answers_until_its_last_client_has_everything(slow_answer):
    """A client that sends no request is not waited for."""
    gate, body = asyncio.Event(), bytes(6_000_000)

    async def later(request):
        await gate.wait()
        return Response(200, body)

    def handle(request):
        return later(request) if slow_answer else Response(200, body)

    async with serving(handle) as listener, listener.connect(limit=1024) as idle, listener.connect(limit=1024) as wire:
        await until(lambda: len(listener.server) == 2)
        assert not listener.server.is_answering
        await wire.send(HEAD.format("x"))
        await until(lambda: listener.server.is_answering)
        listener.server.retire()
        assert listener.server.is_answering
        gate.set()
        assert len((await wire.reply()).body) == len(body)
        await until(lambda: not listener.server.is_answering)
        assert not idle.reader.at_eof()


async def test_closing_waits_no_longer_than_the_grace_period():
    async def never(request):
        await asyncio.Event().wait()

    async with serving(never) as listener, listener.connect() as wire, listener.connect() as taken:
        await wire.send(HEAD.format("x"))
        await until(lambda: listener.server.requests == 1)
        listener.server.handler = take_over
        await taken.send(HEAD.format("x"))
        assert await taken.exactly(6) == b"TAKEN "
        await listener.server.close(grace=0.01)
        assert await wire.rest() == b""
        await until(lambda: len(listener.server) == 0)


async def test_https_serves_the_same_answers(certificate):
    client = ssl.create_default_context(cafile=certificate[0])
    async with (
        serving(handler, tls=Certificate.read(*certificate).context) as listener,
        listener.connect(tls=client) as wire,
    ):
        assert (await wire.get("/a")).text == "GET /a  127.0.0.1 https\n"
        assert (await wire.get("/segment.ts")).body == BODY


def secure_wire(listener, certificate):
    """Connects with TLS. The client reads only what it is asked for."""
    return listener.connect(tls=ssl.create_default_context(cafile=certificate[0]), limit=1024)


async def test_unread_answers_over_tls_share_their_bytes(certificate):
    """Each client has only the pieces of its own that TLS has encrypted."""
    memory, body, tls = Memory(20_000_000), bytes(16_000_000), Certificate.read(*certificate).context
    async with (
        serving(lambda request: Response(200, body), tls=tls, memory=memory) as listener,
        secure_wire(listener, certificate) as one,
        secure_wire(listener, certificate) as two,
    ):
        for wire in (one, two):
            await wire.send(HEAD.format("x") * 2)
        await until(lambda: listener.server.requests == 2)
        assert len(body) < memory.bytes < len(body) + 500_000
        for wire in (one, two):
            assert [len((await wire.reply()).body) for _ in range(2)] == [len(body)] * 2
        await until(lambda: memory.bytes == 0)


async def test_a_client_with_tls_that_does_not_read_is_disconnected(certificate):
    tls, memory = Certificate.read(*certificate).context, Memory(10_000_000)
    big = Response(200, bytes(6_000_000))
    async with (
        serving(lambda request: big, tls=tls, stall_seconds=0.01, memory=memory) as listener,
        secure_wire(listener, certificate) as wire,
    ):
        wire.writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await wire.send(HEAD.format("x") * 2)
        await until(lambda: listener.server.requests)
        await until(lambda: len(listener.server) == 0)
        assert (listener.server.requests, memory.bytes) == (1, 0)


@pytest.mark.parametrize(
    "size", [16_000_000, 245 * 65_536], ids=["a last piece", "a last piece that fills the transport"]
)
async def test_a_connection_with_tls_closes_after_its_client_has_the_last_answer(certificate, size):
    """The TLS of uvloop aborts 30 s after the close, whether or not the client has everything."""
    tls, body = Certificate.read(*certificate).context, bytes(size)
    async with (
        serving(lambda request: Response(200, body), tls=tls, stall_seconds=math.inf) as listener,
        secure_wire(listener, certificate) as wire,
    ):
        await wire.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await until(lambda: listener.server.requests)
        (connection,) = listener.server.connections
        assert not connection._transport.is_closing()
        assert len((await wire.reply()).body) == len(body)
        assert await wire.rest() == b""
        await until(lambda: len(listener.server) == 0)


class Flow(asyncio.Protocol):
    """Takes over a connection and writes one large burst."""

    def __init__(self):
        self.paused = False

    def begin(self, transport, rest, slot):
        self.transport, self.slot = transport, slot
        asyncio.get_running_loop().call_soon(transport.write, bytes(16_000_000))
        return self

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False

    def connection_lost(self, exc):
        self.slot.release()


async def test_a_large_write_over_tls_counts_as_unsent_until_the_client_reads_it(certificate):
    flow, tls = Flow(), Certificate.read(*certificate).context
    async with (
        serving(lambda request: Takeover(flow.begin), tls=tls) as listener,
        secure_wire(listener, certificate) as wire,
    ):
        await wire.send(HEAD.format("x"))
        await until(lambda: flow.paused)
        assert flow.transport.get_write_buffer_size() > 1_000_000
        await wire.exactly(16_000_000)
        await until(lambda: not flow.paused and not flow.transport.get_write_buffer_size())


async def test_one_server_listens_on_plain_tls_and_ipv6(certificate):
    server = HttpServer(handler, limits())
    plain, secure = listen("http", "::", 0), listen("https", "127.0.0.1", 0)
    ports = port_of(plain), port_of(secure)
    await server.listen(plain)
    await server.listen(secure, Certificate.read(*certificate).context)
    try:
        for host in ("127.0.0.1", "::1"):
            wire = Wire(*await asyncio.open_connection(host, ports[0]))
            assert (await wire.get("/a")).text == f"GET /a  {host} http\n"
            await wire.close()
    finally:
        await server.close()


async def test_a_limit_of_0_disables_it():
    async with (
        serving(handler, head_seconds=0, stall_seconds=0, per_address=0) as listener,
        listener.connect() as wire,
    ):
        await wire.send("GET /slow HTTP/1.1\r\n")
        began = listener.server.now
        await until(lambda: listener.server.now > began)
        await wire.send("Host: a\r\n\r\n")
        assert (await wire.reply()).status == 200


async def test_a_header_value_with_a_line_break_is_a_server_error():
    async def streamed():
        yield b"x"

    def split(request):
        body = streamed() if request.path == "/streamed" else b""
        return Response(200, body, headers={"Location": "a\r\nSet-Cookie: b"})

    async with serving(split) as listener:
        assert (await listener.get("/")).status == 500
        async with listener.connect() as wire:
            await wire.send(HEAD.format("streamed"))
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await wire.head()
        assert listener.server.errors == 2


async def test_a_url_with_any_byte_gets_an_answer():
    def echo(request):
        return text(302, "there", headers={"Location": f"x?{request.raw_query}"})

    async with serving(echo) as listener:
        for target in [start + bytes([byte]) for byte in range(256) for start in (b"/a", b"/a?")]:
            async with listener.connect() as wire:
                await wire.send(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await wire.head()).status in (302, 400)
        assert not listener.server.errors


async def test_a_request_sent_while_the_server_closes_is_answered() -> None:
    async with serving(lambda request: text(200, "here")) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        await until(lambda: len(listener.server.connections) == 1)
        closing = asyncio.ensure_future(listener.server.close(grace=5))
        await asyncio.sleep(0)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await reader.read(-1)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in answer
        await closing
        writer.close()


async def test_a_repeated_head_is_answered_anew():
    seen = []

    def count(request):
        seen.append((request.path, request.peer, request.exempt, dict(request.query)))
        request.exempt = True  # a signed request of another node
        return text(200, f"{len(seen)}")

    async with serving(count) as listener, listener.connect() as wire:
        for path in ("/a?b=c", "/a?b=c", "/a?b=c", "/d?b=c", "/a?b=c"):
            assert (await wire.get(path)).text == f"{len(seen)}\n"
        assert [path for path, *_ in seen] == ["/a", "/a", "/a", "/d", "/a"]
        assert {entry[1:3] for entry in seen} == {("127.0.0.1", False)}
        assert all(query == {"b": "c"} for *_, query in seen)


@pytest.mark.parametrize("said", ["https", "wss"])  # Traefik says "wss" for WebSockets
async def test_a_repeated_head_names_the_client_behind_the_proxy_again(said: str):
    proxied = {"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Proto": said}
    async with serving(handler, forwarded=trusting("127.0.0.0/8")) as listener, listener.connect() as wire:
        for _ in range(3):
            assert (await wire.get("/a", **proxied)).text == "GET /a  192.0.2.9 https\n"


async def test_a_shared_answer_has_the_current_date():
    async with serving(handler) as listener, listener.connect() as wire:
        for date in (b"Date: Mon\r\n", b"Date: Tue\r\n"):
            listener.server.date = date
            for _ in range(2):
                assert (await wire.get("/segment.ts")).headers["date"] == date[6:9].decode()
