"""What one connection may take before others are served: pipelined requests, large bodies to compress."""

import asyncio
import gzip
import socket
import time
from contextlib import closing

import pytest

from gateway.http import connection as connection_module
from gateway.http import server
from gateway.http.response import Response, text
from tests.support.http import Listener, serving, until

REQUEST = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = b"#EXTINF:2.0,\n1.ts\n" * 4_000


def dear(served):
    """A handler that takes a third of a millisecond."""

    def handler(request):
        end = time.perf_counter() + 0.0003
        while time.perf_counter() < end:
            pass
        served.append(request.path)
        return text(200, "served")

    return handler


def connected(listener: Listener) -> socket.socket:
    """A client that sends at once, without the loop."""
    return socket.create_connection(("127.0.0.1", listener.port))


async def test_pipelined_requests_let_others_be_served_between_them():
    served: list[str] = []
    async with serving(dear(served)) as listener:
        with closing(connected(listener)) as many, closing(connected(listener)) as one:
            await until(lambda: len(listener.server.connections) == 2)
            many.sendall(REQUEST % b"many" * 200)
            one.sendall(REQUEST % b"one")
            await until(lambda: len(served) == 201)
    assert served.index("/one") < 50


async def test_all_that_was_pipelined_is_answered_in_order():
    served: list[str] = []
    async with serving(dear(served)) as listener, listener.connect() as wire:
        await wire.send(b"".join(REQUEST % b"%d" % n for n in range(1_000)))
        for _ in range(1_000):
            assert (await wire.reply()).status == 200
    assert served == [f"/{n}" for n in range(1_000)]


async def test_a_connection_that_waits_for_its_turn_may_break_off():
    served: list[str] = []
    async with serving(dear(served)) as listener:
        with closing(connected(listener)) as many:
            await until(lambda: len(listener.server.connections) == 1)
            many.sendall(REQUEST % b"many" * 200)
            await until(lambda: served)
        await until(lambda: not len(listener.server))
        assert len(served) < 200


async def test_no_more_is_read_ahead_while_requests_are_answered_one_by_one():
    longest, answered = 0, 0

    async def slowly(request):
        nonlocal longest, answered
        await asyncio.sleep(0)
        [connection] = listener.server.connections
        longest, answered = max(longest, len(connection._buffer)), answered + 1
        return text(200, "x")

    async with serving(slowly) as listener, listener.connect() as wire:
        sending = asyncio.ensure_future(wire.send(REQUEST % b"many" * 5_000))
        for _ in range(5_000):
            assert (await wire.reply()).status == 200
        await sending
    assert answered == 5_000
    assert longest <= connection_module._MAX_PIPELINED + connection_module._READ


async def test_a_head_longer_than_what_is_read_ahead_is_read_behind_others():
    async def slowly(request):
        await asyncio.sleep(0)
        return text(200, "x")

    async with serving(slowly, head_bytes=64_000) as listener, listener.connect() as wire:
        long = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n"
        await wire.send(REQUEST % b"many" * 1_000 + long)
        for _ in range(1_001):
            assert (await wire.reply()).status == 200


async def test_answers_that_nobody_reads_stop_the_requests():
    async with serving(lambda request: text(200, "x" * 1_000)) as listener:
        with closing(connected(listener)) as many:
            await until(lambda: listener.server.connections)
            [connection] = listener.server.connections
            many.settimeout(1)
            with pytest.raises(TimeoutError):
                for _ in range(1_000):
                    await asyncio.to_thread(many.sendall, REQUEST % b"many" * 1_000)
            assert connection._transport.get_write_buffer_size() < 128 * 1024


async def test_a_large_body_is_compressed_in_a_thread_once_for_all(monkeypatch):
    compressed = []

    def compress(body, *rest, **options):
        compressed.append(asyncio._get_running_loop())
        return original(body, *rest, **options)

    original = gzip.compress
    monkeypatch.setattr(gzip, "compress", compress)
    answer = Response(200, LARGE, "text/plain", compress=True)

    async def later(request):
        await asyncio.sleep(0)
        return answer

    async with serving(lambda request: answer if request.path == "/now" else later(request)) as listener:
        replies = await asyncio.gather(
            *[listener.get(path, Accept_Encoding="gzip") for path in ("/now", "/later", "/now", "/later")]
        )
        plain = await listener.get("/later")
    assert compressed == [None]
    assert all(gzip.decompress(reply.body) == LARGE for reply in replies)
    assert plain.body == LARGE and "content-encoding" not in plain.headers


async def test_as_many_bodies_are_compressed_at_once_as_there_are_places(monkeypatch):
    running, most = 0, 0

    def gzipped(self):
        nonlocal running, most
        if self._gzipped is not None:
            return self
        running += 1
        most = max(most, running)
        time.sleep(0.005)
        running -= 1
        self._gzipped = self
        return self

    monkeypatch.setattr(Response, "gzipped", gzipped)
    async with serving(lambda request: Response(200, LARGE, compress=True)) as listener:
        await asyncio.gather(*[listener.get("/", Accept_Encoding="gzip") for _ in range(8)])
    assert most == server._MAX_COMPRESSING
