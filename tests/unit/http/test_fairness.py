"""Limits on what one connection may use before others are served: pipelined requests and compression."""

import asyncio
import gzip
import socket
import time
from contextlib import closing

import pytest

from gateway.http import connection as connection_module
from gateway.http import connection_server
from gateway.http.response import Response, accepts_gzip, text
from tests.support.http import Listener, serving
from tests.support.waiting import until

REQUEST = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = b"#EXTINF:2.0,\n1.ts\n" * 4_000


def dear(served):
    """A handler that needs a third of a millisecond of CPU time."""

    def handler(request):
        end = time.perf_counter() + 0.0003
        while time.perf_counter() < end:
            pass
        served.append(request.path)
        return text(200, "served")

    return handler


def connected(listener: Listener) -> socket.socket:
    """A client that sends synchronously, without the event loop."""
    return socket.create_connection(("127.0.0.1", listener.port))


async def test_pipelined_requests_do_not_delay_other_connections():
    served: list[str] = []
    async with serving(dear(served)) as listener:
        with closing(connected(listener)) as many, closing(connected(listener)) as one:
            await until(lambda: len(listener.server.connections) == 2)
            many.sendall(REQUEST % b"many" * 200)
            one.sendall(REQUEST % b"one")
            await until(lambda: len(served) == 201)
    assert served.index("/one") < 50


async def test_pipelined_requests_are_answered_in_order():
    served: list[str] = []
    async with serving(dear(served)) as listener, listener.connect() as wire:
        await wire.send(b"".join(REQUEST % b"%d" % n for n in range(1_000)))
        for _ in range(1_000):
            assert (await wire.reply()).status == 200
    assert served == [f"/{n}" for n in range(1_000)]


async def test_a_connection_may_close_while_its_requests_wait():
    served: list[str] = []
    async with serving(dear(served)) as listener:
        with closing(connected(listener)) as many:
            await until(lambda: len(listener.server.connections) == 1)
            many.sendall(REQUEST % b"many" * 200)
            await until(lambda: served)
        await until(lambda: not len(listener.server))
        assert len(served) < 200


async def test_the_buffer_of_pipelined_requests_is_bounded():
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


async def test_a_head_larger_than_the_pipeline_buffer_is_read():
    async def slowly(request):
        await asyncio.sleep(0)
        return text(200, "x")

    async with serving(slowly, head_bytes=64_000) as listener, listener.connect() as wire:
        long = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n"
        await wire.send(REQUEST % b"many" * 1_000 + long)
        for _ in range(1_001):
            assert (await wire.reply()).status == 200


async def test_unread_answers_stop_the_reading_of_requests():
    async with serving(lambda request: text(200, "x" * 1_000)) as listener:
        with closing(connected(listener)) as many:
            await until(lambda: listener.server.connections)
            [connection] = listener.server.connections
            many.settimeout(1)
            with pytest.raises(TimeoutError):
                for _ in range(1_000):
                    await asyncio.to_thread(many.sendall, REQUEST % b"many" * 1_000)
            assert connection._transport.get_write_buffer_size() < 128 * 1024


async def test_a_large_body_is_compressed_once_in_a_thread(monkeypatch):
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


async def test_the_number_of_concurrent_compressions_is_bounded(monkeypatch):
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
    assert most == connection_server._MAX_COMPRESSING


@pytest.mark.parametrize(
    ("accepted", "allowed"),
    [("gzip", True), ("br;q=1, gzip;q=0.5", True), ("gzip;q=0", False), ("gzip; q=0.000, br", False), ("br", False)],
)
def test_only_a_weight_of_0_refuses_gzip(accepted: str, allowed: bool) -> None:
    assert accepts_gzip(accepted) is allowed


def test_small_playlists_are_compressed_and_other_small_bodies_are_not() -> None:
    playlist = Response(200, b"#EXTM3U\n" * 20, "application/vnd.apple.mpegurl", compress=True)
    assert playlist.compress
    assert b"Content-Encoding: gzip" in playlist.gzipped().head()
    assert not Response(200, b"x" * 200, "application/json", compress=True).compress


def test_scripts_of_other_origins_may_read_the_age_of_a_cached_answer() -> None:
    exposed = next(line for line in text(200, "").head().split(b"\r\n") if line.startswith(b"Access-Control-Expose"))
    assert b" Age, " in exposed
