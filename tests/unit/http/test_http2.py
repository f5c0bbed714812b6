"""HTTP/2 on a real socket (RFC 9113): the answers and limits of HTTP/1, streams in turns, and hostile frames."""

import asyncio
import math
import ssl
import tracemalloc
from contextlib import asynccontextmanager

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, HeadersFrame

from gateway.http.body import read_body
from gateway.http.http2_connection import Http2Connection, Http2Host
from gateway.http.http2_stream import Http2Stream
from gateway.http.response import Response, Takeover, text
from gateway.lib.certificates import Certificate
from gateway.lib.scheduled_reads import ReadScheduler, ScheduledReads
from gateway.lib.viewer_memory import ViewerMemory
from gateway.protocols.http2.frames import ACK, END_HEADERS, END_STREAM, PADDED, PREFACE, FrameKind, frame
from tests.support.http import serving, trusting
from tests.support.http2 import AUTHORITY, http2_client
from tests.support.time_outs import at_most
from tests.support.waiting import until

BODY = bytes(range(256)) * 4000
SEGMENT = Response(200, BODY, "video/mp2t")
PLAYLIST = Response(200, b"#EXTM3U\n" * 200, "application/vnd.apple.mpegurl", compress=True)
WHOLE = END_HEADERS | END_STREAM
PSEUDO = [(":method", "GET"), (":scheme", "https"), (":authority", AUTHORITY), (":path", "/")]


def handler(request):
    if request.path == "/segment.ts":
        return SEGMENT
    if request.path == "/list.m3u8":
        return PLAYLIST
    if request.path == "/raises":
        raise RuntimeError("a bug")
    if request.method == "POST":
        return read_body(request, 100_000, 5, lambda body: text(200, f"{len(body)} bytes"))
    return text(
        200, f"{request.method} {request.path} {request.raw_query} {request.host} {request.peer} {request.scheme}"
    )


@asynccontextmanager
async def serving2(certificate, answer=handler, window=None, **options):
    """A server with HTTP/2, and its first client."""
    tls = Certificate.read(*certificate).web_context
    async with (
        serving(answer, tls=tls, hidden=("POST",), **options) as listener,
        http2_client(listener.port, certificate[0], window) as client,
    ):
        yield listener, client


async def test_the_answers_are_those_of_http1(certificate):
    async with serving2(certificate) as (listener, client):
        assert (await client.get("/a?b=c")).text == f"GET /a b=c {AUTHORITY} 127.0.0.1 https\n"
        segment = await client.get("/segment.ts")
        assert (segment.status, segment.body) == (200, BODY)
        assert segment.headers["content-length"] == str(len(BODY))
        assert segment.headers["date"].endswith(" GMT")
        assert not {"connection", "transfer-encoding", "keep-alive"} & set(segment.headers)
        part = await client.get("/segment.ts", more=[("range", "bytes=1-3")])
        assert (part.status, part.body) == (206, BODY[1:4])
        head = await client.get("/segment.ts", "HEAD")
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(BODY)))
        packed = await client.get("/list.m3u8", more=[("accept-encoding", "gzip")])
        assert packed.headers["content-encoding"] == "gzip"
        assert (await client.get("/", "OPTIONS")).status == 204
        assert (await client.get("/", "DELETE")).status == 405
        assert (await client.get("/", "BREW")).status == 501
        assert (await client.get("/raises")).status == 500
        assert (await client.get("/%2e%2e/x")).status == 400
        assert listener.server.requests == 8


async def test_a_client_without_http2_gets_http1(certificate):
    tls = ssl.create_default_context(cafile=certificate[0])
    async with serving2(certificate) as (listener, _), listener.connect(tls=tls) as wire:
        assert (await wire.get("/a")).text == "GET /a  127.0.0.1 https\n".replace("  ", f"  {AUTHORITY} ")


async def test_bodies_arrive_with_and_without_their_length(certificate):
    async with serving2(certificate) as (_, client):
        sized = await client.get("/", "POST", more=[("content-length", "5000")], body=bytes(5000))
        assert sized.text == "5000 bytes\n"
        fields = [(":method", "POST"), *PSEUDO[1:], ("content-length", "100001")]
        assert (await client.whole(await client.send_head(fields, bytes(10), ended=False))).status == 413
        unsized = await client.get("/", "POST", body=bytes(10))
        assert (unsized.status, unsized.text) == (411, "the body needs a Content-Length\n")


async def test_a_body_that_no_answer_needs_is_refused_and_the_connection_goes_on(certificate):
    async with serving2(certificate) as (_, client):
        id = await client.send_head([*PSEUDO, ("content-length", "50000")], bytes(1000), ended=False)
        answer = await client.whole(id)
        assert answer.status == 200
        await client.until(lambda: answer.error is not None)
        assert answer.error == ErrorCodes.NO_ERROR  # RFC 9113 §8.1
        assert (await client.get("/a")).status == 200


async def test_streams_take_turns_so_that_a_large_answer_delays_no_small_one(certificate):
    async with serving2(
        certificate, lambda r: Response(200, bytes(3_000_000)) if r.path == "/big" else text(200, "x")
    ) as (
        _,
        client,
    ):
        big = await client.ask("/big")
        small = await client.whole(await client.ask("/small"))
        assert small.text == "x\n"
        assert not client.answers[big].ended
        assert len((await client.whole(big)).body) == 3_000_000


async def test_a_stream_without_a_window_delays_no_other_one(certificate):
    async with serving2(certificate, window=10) as (_, client):
        waiting = await client.ask("/segment.ts")
        await client.until(lambda: len(client.answers[waiting].body) == 10)
        other = await client.ask("/a")
        await client.until(lambda: len(client.answers[other].body) == 10)
        client.h2.increment_flow_control_window(len(BODY), waiting)
        client.h2.increment_flow_control_window(1000, other)
        await client.flush()
        assert (await client.whole(waiting)).body == BODY
        assert (await client.whole(other)).ended


async def test_a_larger_initial_window_opens_waiting_streams(certificate):
    async with serving2(certificate, window=10) as (_, client):
        id = await client.ask("/segment.ts")
        await client.until(lambda: len(client.answers[id].body) == 10)
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: len(BODY)})
        await client.flush()
        assert (await client.whole(id)).body == BODY


async def test_a_long_answer_comes_piece_by_piece_and_a_broken_one_is_reset(certificate):
    gate = asyncio.Event()

    async def pieces(fails):
        yield b"first"
        await gate.wait()
        if fails:
            raise RuntimeError("a bug")
        yield b" second"

    def answer(request):
        return Response(200, pieces(request.path == "/broken"), "video/x-flv")

    async with serving2(certificate, answer) as (_, client):
        whole, broken = await client.ask("/whole"), await client.ask("/broken")
        await client.until(lambda: client.answers[whole].body == client.answers[broken].body == b"first")
        gate.set()
        assert (await client.whole(whole)).body == b"first second"
        reset = await client.whole(broken)
        assert (reset.body, reset.ended, reset.error) == (b"first", False, ErrorCodes.INTERNAL_ERROR)
        assert (await client.get("/whole")).ended


async def test_a_reset_cancels_the_answer(certificate):
    began, ended = asyncio.Event(), asyncio.Event()

    async def slow(request):
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving2(certificate, slow) as (listener, client):
        id = await client.ask("/")
        async with asyncio.timeout(at_most(10)):
            await began.wait()
            client.h2.reset_stream(id, ErrorCodes.CANCEL)
            await client.flush()
            await ended.wait()
        await until(lambda: len(listener.server) == 1)  # the connection itself


async def test_streams_count_as_connections_of_their_address(certificate):
    gate = asyncio.Event()

    async def slow(request):
        await gate.wait()
        return text(200, "x")

    async with serving2(certificate, slow, per_address=2) as (listener, client):
        ids = [await client.ask("/") for _ in range(3)]
        assert (await client.whole(ids[2])).status == 429
        assert listener.server.refused == 1
        gate.set()
        assert [(await client.whole(id)).status for id in ids[:2]] == [200, 200]
        await until(lambda: len(listener.server) == 1)
        assert (await client.get("/")).status == 200


async def test_views_behind_a_proxy_with_http2_count_only_while_they_last(certificate):
    """The first stream uses the place of the connection, which stays open behind it."""

    def answer(request):
        flow = Flow.__new__(Flow)
        flows.append(flow)
        return Takeover(flow.begin)

    flows = []
    async with serving2(certificate, answer, forwarded=trusting("127.0.0.1/32"), per_address=2) as (listener, client):
        for _ in range(4):
            view = await client.ask("/live.flv", more=[("x-forwarded-for", "192.0.2.7")])
            await client.until(lambda view=view: client.answers[view].status)
            assert client.answers[view].status == 200
            assert listener.server.quota["192.0.2.7"] == 1
            client.h2.reset_stream(view)
            await client.flush()
            await until(lambda: flows[-1].lost)
            assert listener.server.quota["192.0.2.7"] == 0


async def test_a_connection_above_the_limit_of_its_address_ends_behind_one_answer(certificate):
    async with (
        serving2(certificate, per_address=1) as (listener, _),
        http2_client(listener.port, certificate[0]) as other,
    ):
        assert (await other.get("/")).status == 429
        await other.closed()
        assert other.goaway == ErrorCodes.NO_ERROR


class Sink:
    """The transport of a client that reads everything at once."""

    sent = 0

    def write(self, data):
        self.sent += len(data)

    def is_closing(self):
        return False

    def get_write_buffer_size(self):
        return 0

    def set_write_buffer_limits(self, high):
        pass

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def get_extra_info(self, name, default=None):
        return default


class Large(asyncio.Protocol):
    """Answers with a megabyte."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1_000_000))
        self.transport.close()


async def test_a_client_that_reads_fast_is_served_in_turns():
    sink, now = Sink(), asyncio.get_running_loop().time
    host = Http2Host(ReadScheduler(), set(), now, 9, 9, lambda: 9, lambda: True, Large)
    connection = Http2Connection(host, lambda: None)
    connection.connection_made(sink)
    closed, opened = (frame(FrameKind.SETTINGS, 0, 0, b"\0\4" + size) for size in (bytes(4), b"\x7f\xff\0\0"))
    requests = b"".join(on_new_streams()(n) for n in range(100))
    connection.bytes_received(PREFACE + closed + frame(FrameKind.WINDOW_UPDATE, 0, 0, b"\x7f\xff\0\0") + requests)
    await until(lambda: len(connection._streams) == 100)
    turns, before = [], sink.sent
    connection.bytes_received(opened)
    async with asyncio.timeout(at_most(10)):
        while not turns or sink.sent < 100_000_000:
            turns.append(sink.sent - before)
            before = sink.sent
            await asyncio.sleep(0)
    assert max(turns) < 25_000_000


async def test_answers_of_reset_streams_do_not_wait_for_a_client_that_reads_slowly():
    """A client that reads a byte now and then could otherwise collect any number of them."""
    connection = Http2Connection(
        Http2Host(ReadScheduler(), set(), lambda: 0.0, 9, 9, lambda: 9, lambda: True, Large), lambda: None
    )
    connection.connection_made(Sink())
    connection.bytes_received(PREFACE + frame(FrameKind.SETTINGS, 0, 0))
    connection.pause_writing()
    reset = on_new_streams((FrameKind.RST_STREAM, 0, CANCEL))
    for n in range(300):
        connection.bytes_received(reset(n) if n % 2 else on_new_streams()(n))
        await asyncio.sleep(0)
        if n % 2 == 0:
            connection.bytes_received(frame(FrameKind.RST_STREAM, 0, 3 + 2 * n, CANCEL))
    await asyncio.sleep(0)
    assert not connection._ready and not connection._streams


class Flow(ScheduledReads):
    """Takes over a stream, writes a burst and is told about the client's speed."""

    def begin(self, transport, rest, slot):
        super().__init__(slot.scheduler, 1024)
        self._transport, self.slot, self.paused, self.lost = transport, slot, False, False
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nConnection: close\r\n\r\n")
        asyncio.get_running_loop().call_soon(transport.write, bytes(3_000_000))
        return self

    def bytes_received(self, data):
        raise AssertionError("the client sends nothing")

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False

    def connection_lost(self, exc):
        self.lost = True
        self.slot.release()


async def test_a_stream_can_be_taken_over_and_its_queue_is_bounded_by_the_client(certificate):
    flow = Flow.__new__(Flow)
    async with serving2(certificate, lambda r: Takeover(flow.begin), window=1000) as (listener, client):
        id = await client.ask("/live.flv")
        await client.until(lambda: len(client.answers[id].body) == 1000)
        assert flow.paused
        assert flow._transport.get_write_buffer_size() == 3_000_000 - 1000
        client.h2.increment_flow_control_window(3_000_000, id)
        await client.flush()
        await client.until(lambda: len(client.answers[id].body) == 3_000_000)
        await until(lambda: not flow.paused)
        flow._transport.close()
        assert (await client.whole(id)).ended
        assert client.answers[id].headers["content-type"] == "video/x-flv"
        assert flow.lost
        await until(lambda: len(listener.server) == 1)


class Deaf(ScheduledReads):
    """Takes over a stream and reads only the start of its body."""

    def __init__(self, transport, slot):
        super().__init__(slot.scheduler, 1024)
        self._transport, self.slot = transport, slot

    def bytes_received(self, data):
        self.hold_reading()

    def refuse(self):
        self._transport.write(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
        self._transport.close()

    def pause_writing(self):
        raise AssertionError("the answer is small")

    def connection_lost(self, exc):
        self.slot.release()


@pytest.mark.parametrize("ends", [False, True], ids=["the client resets the stream", "the answer ends before the body"])
async def test_a_body_that_nobody_read_keeps_no_window_of_the_connection(certificate, ends):
    """RFC 9113 §6.9: the receiver counts all data, also of streams that have ended."""

    deaf = []

    def begin(transport, rest, slot):
        deaf.append(Deaf(transport, slot))
        return deaf[-1]

    def answer(request):
        if request.path == "/deaf":
            return Takeover(begin)
        return read_body(request, 100_000, 5, lambda body: text(200, f"{len(body)} bytes"))

    async with serving2(certificate, answer) as (_, client):
        for times in range(1, 5):
            body = bytes(16_000)
            fields = [(":method", "POST"), *PSEUDO[1:3], (":path", "/deaf"), ("content-length", "50000")]
            id = await client.send_head(fields, body, ended=False)
            for _ in range(2):
                client.h2.send_data(id, body)
            await client.flush()
            await until(lambda times=times: len(deaf) == times and sum(deaf[-1]._transport._counted) == 32_000)
            if ends:
                deaf[-1].refuse()
                await client.whole(id)
            else:
                client.h2.reset_stream(id)
                await client.flush()
            await client.until(lambda: client.h2.outbound_flow_control_window > 48_000)
            asked = await client.ask("/", "POST", more=[("content-length", "5")], body=b"hello")
            assert (await client.whole(asked)).text == "5 bytes\n"


@pytest.mark.parametrize("chunked", [False, True])
async def test_small_pieces_of_an_unread_body_use_little_memory(chunked):
    """Each piece of one byte would use a hundred."""

    class Owner:
        acknowledged = 0

        def consumed(self, stream, size):
            self.acknowledged += size

    class Slow(asyncio.Protocol):
        got = b""

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.got += data
            self.transport.pause_reading()

        def connection_lost(self, exc):
            pass

    owner, slow = Owner(), Slow()
    stream = Http2Stream(owner, 1, chunked)
    stream.begin(slow, b"head")
    tracemalloc.start()
    for _ in range(60_000):
        stream.receive(b"x", 1)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    stream.receive_end()
    assert used < 150_000
    while owner.acknowledged < 30_000:
        stream.resume_reading()
        await asyncio.sleep(0)
    assert slow.got.count(b"x") == owner.acknowledged < 60_000
    while owner.acknowledged < 60_000 or stream._inbox:
        stream.resume_reading()
        await asyncio.sleep(0)
    assert slow.got.endswith(b"x\r\n0\r\n\r\n" if chunked else b"x")
    assert stream.lose(None) == 0


async def test_a_client_that_opens_no_window_is_disconnected_from_the_answer(certificate):
    async with serving2(certificate, window=10, stall_seconds=0.01) as (listener, client):
        id = await client.ask("/segment.ts")
        assert (await client.whole(id)).error == ErrorCodes.INTERNAL_ERROR
        await until(lambda: len(listener.server) == 1)
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        await client.flush()
        assert (await client.get("/a")).status == 200


async def test_a_client_that_reads_nothing_is_disconnected(certificate):
    async with serving2(certificate, lambda r: Response(200, bytes(30_000_000)), stall_seconds=at_most(0.3)) as (
        listener,
        client,
    ):
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
        await client.ask("/")
        await until(lambda: listener.server.requests == 1)
        await until(lambda: len(listener.server) == 0)


@pytest.mark.parametrize("limit", [100_000_000, 50_000])
async def test_bytes_that_a_connection_has_not_read_count_in_the_memory_of_all_viewers(certificate, limit):
    flow, memory = Flow.__new__(Flow), ViewerMemory(limit)
    takeover = Takeover(flow.begin)
    async with serving2(certificate, lambda r: takeover, window=2**31 - 1, memory=memory) as (listener, client):
        id = await client.ask("/live.flv")
        await client.until(lambda: client.answers[id].status)
        flow._transport.write(bytes(8_000_000))
        if limit == 50_000:
            await until(lambda: not len(listener.server))
            assert listener.server.refused == 1
        else:
            await until(lambda: memory.bytes > 60_000)
            while not flow._transport.is_closing() and memory.bytes:
                await client.read()
        assert memory.bytes == 0


async def test_an_idle_connection_ends_after_its_time(certificate):
    async with serving2(certificate, keep_alive=0.01) as (listener, client):
        assert (await client.get("/a")).status == 200
        await client.closed()
        assert client.goaway == ErrorCodes.NO_ERROR
        await until(lambda: len(listener.server) == 0)


async def test_a_connection_without_a_request_ends_after_its_time(certificate):
    async with serving2(certificate, head_seconds=0.01) as (_, client):
        await client.closed()


async def test_closing_finishes_current_answers_and_refuses_further_ones(certificate):
    begun, gate = asyncio.Event(), asyncio.Event()

    async def slow(request):
        begun.set()
        await gate.wait()
        return text(200, "finished")

    async with serving2(certificate, slow) as (listener, client), http2_client(listener.port, certificate[0]) as idle:
        id = await client.ask("/")
        await begun.wait()
        await until(lambda: len(listener.server) == 2)
        closing = asyncio.ensure_future(listener.server.close(grace=10))
        await idle.closed()
        await client.until(lambda: client.goaway is not None)
        gate.set()
        assert (await client.whole(id)).text == "finished\n"
        await client.closed()
        await closing


async def test_a_client_that_opens_no_further_streams_gets_the_open_answers(certificate):
    """RFC 9113 §6.8. Later requests are refused, and the connection ends behind the last answer."""
    gate = asyncio.Event()

    async def slow(request):
        await gate.wait()
        return text(200, "whole")

    async with serving2(certificate, slow) as (listener, client):
        id = await client.ask("/")
        await until(lambda: listener.server.requests == 1)
        client.writer.write(frame(FrameKind.GOAWAY, 0, 0, bytes(8)))
        late = await client.ask("/late")
        assert (await client.whole(late)).error == ErrorCodes.REFUSED_STREAM
        gate.set()
        assert (await client.whole(id)).text == "whole\n"
        await client.closed()
        assert listener.server.requests == 1
        await until(lambda: len(listener.server) == 0)


async def test_a_retired_server_closes_after_the_next_answer(certificate):
    async with serving2(certificate) as (listener, client):
        listener.server.retire()
        assert (await client.get("/a")).status == 200
        await client.closed()
        assert client.goaway == ErrorCodes.NO_ERROR


MALFORMED = {
    "no method": PSEUDO[1:],
    "no path": PSEUDO[:3],
    "no scheme": [PSEUDO[0], *PSEUDO[2:]],
    "a path twice": [*PSEUDO, (":path", "/x")],
    "an unknown pseudo-header": [*PSEUDO, (":protocol", "x")],
    "a late pseudo-header": [*PSEUDO[:3], ("a", "b"), PSEUDO[3]],
    "an empty path": [*PSEUDO[:3], (":path", "")],
    "a path without slash": [*PSEUDO[:3], (":path", "x")],
    "a blank in the path": [*PSEUDO[:3], (":path", "/a b")],
    "a second request in the path": [*PSEUDO[:3], (":path", "/ HTTP/1.1\r\nHost: x\r\n\r\nGET /")],
    "a second request in a value": [*PSEUDO, ("a", "b\r\n\r\nGET / HTTP/1.1")],
    "a line feed in a value": [*PSEUDO, ("a", "b\nc: d")],
    "a NUL in a value": [*PSEUDO, ("a", "b\0")],
    "a blank before a value": [*PSEUDO, ("a", " b")],
    "an upper-case name": [*PSEUDO, ("Accept", "x")],
    "a colon in a name": [*PSEUDO, ("a:b", "x")],
    "an empty name": [*PSEUDO, ("", "x")],
    "connection": [*PSEUDO, ("connection", "close")],
    "upgrade": [*PSEUDO, ("upgrade", "websocket")],
    "transfer-encoding": [*PSEUDO, ("transfer-encoding", "chunked")],
    "te": [*PSEUDO, ("te", "gzip")],
    "another host": [*PSEUDO, ("host", "other.example.com")],
    "a host twice": [*PSEUDO, ("host", AUTHORITY), ("host", AUTHORITY)],
    "a blank in the method": [(":method", "GET /x"), *PSEUDO[1:]],
}


async def test_a_malformed_request_ends_only_its_stream(certificate):
    """RFC 9113 §8.1.1."""
    async with serving2(certificate) as (listener, client):
        for name, fields in MALFORMED.items():
            answer = await client.whole(await client.send_head(fields))
            assert answer.error == ErrorCodes.PROTOCOL_ERROR, name
        assert listener.server.requests == 0
        assert (await client.get("/a", more=[("te", "trailers"), ("host", AUTHORITY)])).status == 200


async def test_a_method_of_proxies_is_refused(certificate):
    async with serving2(certificate) as (_, client):
        id = await client.send_head([(":method", "CONNECT"), (":authority", "other.example.com:443")])
        assert (await client.whole(id)).status == 405


def raw(kind, flags, stream, payload=b""):
    return lambda n: frame(kind, flags, stream, payload)


def on_new_streams(*frames, block=b"\x82\x87\x84\x41\x01a", flags=WHOLE):
    """Requests, each with frames behind it. block: of headers, without an entry for the table."""

    def made(n):
        id = 3 + 2 * n
        later = b"".join(frame(kind, flags, id, payload) for kind, flags, payload in frames)
        return frame(FrameKind.HEADERS, flags, id, block) + later

    return made


WINDOW = (1).to_bytes(4, "big")
CANCEL = (8).to_bytes(4, "big")
# Frames of a client whose stream 1 is open and sends a body: the first ones, and one of 2,000 that follow.
FLOODS = {
    "pings": (b"", raw(FrameKind.PING, 0, 0, b"12345678")),
    "answers to pings": (b"", raw(FrameKind.PING, ACK, 0, b"12345678")),
    "settings": (b"", raw(FrameKind.SETTINGS, 0, 0, b"\0\4\0\0\xff\xff")),
    "answers to settings": (b"", raw(FrameKind.SETTINGS, ACK, 0)),
    "unknown frames": (b"", raw(0x42, 0, 0)),
    "priorities": (b"", raw(FrameKind.PRIORITY, 0, 1, bytes(5))),
    "windows of the connection": (b"", raw(FrameKind.WINDOW_UPDATE, 0, 0, WINDOW)),
    "windows of a stream": (b"", raw(FrameKind.WINDOW_UPDATE, 0, 1, WINDOW)),
    "windows of a closed stream": (
        frame(FrameKind.RST_STREAM, 0, 1, CANCEL),
        raw(FrameKind.WINDOW_UPDATE, 0, 1, WINDOW),
    ),
    "empty data": (b"", raw(FrameKind.DATA, 0, 1)),
    "padding": (b"", raw(FrameKind.DATA, PADDED, 1, b"\x02\0\0")),
    "data behind a reset": (frame(FrameKind.WINDOW_UPDATE, 0, 1, bytes(4)), raw(FrameKind.DATA, 0, 1)),
    "trailers behind a reset": (frame(FrameKind.WINDOW_UPDATE, 0, 1, bytes(4)), raw(FrameKind.HEADERS, WHOLE, 1)),
    "the end of the connection": (b"", raw(FrameKind.GOAWAY, 0, 0, bytes(8))),
    "requests behind the end": (frame(FrameKind.GOAWAY, 0, 0, bytes(8)), on_new_streams()),
    "requests above the limit": (b"", on_new_streams()),
    "malformed requests": (b"", on_new_streams(block=b"\x82")),
    "resets": (b"", on_new_streams((FrameKind.RST_STREAM, 0, CANCEL))),  # CVE-2023-44487
    # The server resets the stream of the client, CVE-2025-8671.
    "requests and windows of 0": (b"", on_new_streams((FrameKind.WINDOW_UPDATE, 0, bytes(4)))),
    "requests and huge windows": (b"", on_new_streams((FrameKind.WINDOW_UPDATE, 0, b"\x7f\xff\xff\xff"))),
    "requests and data behind them": (b"", on_new_streams((FrameKind.DATA, 0, b"x"))),
    "requests and headers behind them": (b"", on_new_streams((FrameKind.HEADERS, WHOLE, b""))),
    "requests and short priorities": (b"", on_new_streams((FrameKind.PRIORITY, 0, bytes(4)))),
    "bodies above their length": (
        b"",
        on_new_streams((FrameKind.DATA, 0, b"xx"), block=b"\x83\x87\x84\x41\x01a\x0f\x0d\x011", flags=END_HEADERS),
    ),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_frames_ends_the_connection(certificate, kind):
    async def never(request):
        await asyncio.Event().wait()

    first, made = FLOODS[kind]
    async with serving2(certificate, never) as (listener, client):
        await client.send_head([(":method", "POST"), *PSEUDO[1:]], b"x", ended=False)
        client.writer.write(first + b"".join(made(n) for n in range(2000)))
        await client.closed()
        assert client.goaway == ErrorCodes.ENHANCE_YOUR_CALM
        assert listener.server.requests < 1500
        await until(lambda: len(listener.server) == 0)


async def test_windows_of_a_byte_end_the_connection_and_those_of_a_small_buffer_do_not(certificate):
    """CVE-2019-9511. The client gives back each kilobyte of a large answer, for the stream and for the connection."""
    answer = Response(200, bytes(4_000_000))
    async with serving2(certificate, lambda r: answer, window=1024) as (_, client):
        id = await client.ask()
        for size in (1024, 1):
            for count in range(1, 3000):
                client.h2.increment_flow_control_window(size, id)
                client.h2.increment_flow_control_window(size)
                await client.flush()
                if size == 1024:
                    await client.until(lambda count=count: len(client.answers[id].body) >= 1024 * count)
        await client.closed()
        assert client.goaway == ErrorCodes.ENHANCE_YOUR_CALM


async def test_a_flood_of_resets_ends_the_connection(certificate):
    """CVE-2023-44487."""

    async def never(request):
        await asyncio.Event().wait()

    async with serving2(certificate, never) as (listener, client):
        for _ in range(2000):
            id = client.h2.get_next_available_stream_id()
            client.h2.send_headers(id, PSEUDO, end_stream=True)
            client.h2.reset_stream(id)
        client.writer.write(client.h2.data_to_send())
        await client.closed()
        assert client.goaway == ErrorCodes.ENHANCE_YOUR_CALM
        assert listener.server.requests < 1500  # of 2,000
        await until(lambda: len(listener.server) == 0)


async def test_headers_without_an_end_are_bounded(certificate):
    """CVE-2024-27316."""
    async with serving2(certificate) as (listener, client):
        start = HeadersFrame(1, b"\x82")
        more = ContinuationFrame(1, b"\x00\x01a\x01b" * 100)
        client.writer.write(start.serialize() + more.serialize() * 1000)
        await client.closed()
        assert client.goaway is not None
        assert listener.server.requests == 0


async def test_headers_that_decompress_to_much_are_refused(certificate):
    """CVE-2016-6581: a reference of one byte to an entry of 4 kB."""
    async with serving2(certificate) as (listener, client):
        client.h2.encoder.huffman_coding_enabled = False
        id = client.h2.get_next_available_stream_id()
        client.h2.send_headers(id, [*PSEUDO, *[("x", "y" * 3000)] * 5000], end_stream=True)
        client.writer.write(client.h2.data_to_send())
        await client.closed()
        assert client.goaway is not None
        assert listener.server.requests == 0


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bytes(9)], ids=["HTTP/1", "zeros"])
async def test_other_bytes_end_the_connection(certificate, data):
    """The first ones are the head of a frame of 4 MB, of which nothing is kept."""
    async with serving2(certificate, head_seconds=math.inf) as (listener, client):
        client.writer.write(data)
        await client.closed()
        assert client.goaway in (ErrorCodes.FRAME_SIZE_ERROR, ErrorCodes.PROTOCOL_ERROR)
        await until(lambda: len(listener.server) == 0)


QUIET = {
    "pings": raw(FrameKind.PING, 0, 0, b"12345678"),
    "half a head": raw(FrameKind.HEADERS, END_STREAM, 3, b"\x82"),
    "malformed requests": on_new_streams(block=b"\x82"),
    "windows": raw(FrameKind.WINDOW_UPDATE, 0, 0, WINDOW),
}


async def test_no_frames_but_requests_keep_a_connection_open(certificate):
    async with serving2(certificate, keep_alive=0.01) as (listener, _):

        async def send(client, kind):
            for n in range(1 if kind == "half a head" else 30):
                client.writer.write(QUIET[kind](n))
                await asyncio.sleep(0.1)
            await asyncio.Event().wait()

        async def ends(kind):
            async with http2_client(listener.port, certificate[0]) as client:
                assert (await client.get("/a")).status == 200
                sending = asyncio.ensure_future(send(client, kind))
                await client.closed()
                assert sending.cancel(), kind

        await asyncio.gather(*map(ends, QUIET))
        await until(lambda: len(listener.server) == 1)  # the client that has sent no request yet


async def test_half_a_body_ends_its_stream_after_its_time(certificate):
    async with serving2(
        certificate, lambda request: read_body(request, 100_000, 0.05, lambda body: text(200, "whole"))
    ) as (listener, client):
        head = [(":method", "POST"), *PSEUDO[1:]]
        id = await client.send_head([*head, ("content-length", "9")], b"abcd", ended=False)
        assert (await client.whole(id)).error == ErrorCodes.INTERNAL_ERROR
        await until(lambda: len(listener.server) == 1)
        trailed = await client.send_head([*head, ("content-length", "4")], b"abcd", ended=False)
        client.h2.send_headers(trailed, [("checksum", "1")], end_stream=True)
        await client.flush()
        assert (await client.whole(trailed)).text == "whole\n"


@pytest.mark.parametrize("head", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"])
async def test_a_port_without_tls_speaks_no_http2(head):
    async with serving(handler) as listener, listener.connect() as wire:
        await wire.send(head)
        assert (await wire.reply()).status in (501, 505)
        assert await wire.rest() == b""
    async with serving(handler) as listener, listener.connect() as wire:
        upgrade = {
            "Connection": "Upgrade, HTTP2-Settings",
            "Upgrade": "h2c",
            "HTTP2_Settings": "AAMAAABkAAQAoAAAAAIAAAAA",
        }
        for _ in range(2):
            assert (await wire.get("/a", **upgrade)).status == 200  # RFC 9113 §3.1: the upgrade is deprecated
