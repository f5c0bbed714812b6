"""HTTP-FLV and WS-FLV on real sockets: waiting, starting, falling behind, ending."""

import asyncio
import socket

import pytest

from gateway.channels.stream_key import SignatureUse
from gateway.http import websocket
from gateway.live.sink import EndReason
from tests.support.builders import FAR, channel
from tests.support.playback import SECRETS, playing
from tests.support.waiting import until

GET = "GET /c1/live.flv HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = (
    "GET /c1/live.flv HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: flv\r\n\r\n"
)
MASK = b"\x01\x02\x03\x04"


def client_frame(opcode: int, payload: bytes) -> bytes:
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + MASK + websocket.unmask(payload, MASK)


async def frame(wire):
    first, size = await wire.exactly(2)
    assert not size & 0x80, "a server does not mask"
    if size > 125:
        size = int.from_bytes(await wire.exactly(2 if size == 126 else 8), "big")
    return first, await wire.exactly(size)


async def test_a_viewer_gets_headers_the_gop_and_new_pictures():
    async with playing() as lab:
        publisher = lab.live()
        async with lab.listener.connect() as wire:
            await wire.send(GET)
            head = await wire.head()
            assert (head.status, head.headers["content-type"]) == (200, "video/x-flv")
            assert head.headers["x-content-type-options"] == "nosniff"
            assert head.headers["transfer-encoding"] == "chunked"
            assert head.headers["cache-control"] == "no-cache"
            assert head.headers["access-control-allow-origin"] == "*"
            assert (await wire.chunk()).startswith(b"FLV\x01\x05")
            lab.push(publisher, key=True, size=5000)
            assert len(await wire.chunk()) > 5000
            assert publisher.stream.viewers == {"flv": 1}
            assert not lab.listener.server.connections  # nothing of HTTP is kept for a viewer
        await until(lambda: not +publisher.stream.viewers)
        await until(lambda: len(lab.listener.server) == 0)


@pytest.mark.parametrize(("agent", "feed"), [("Mozilla/5.0 (X11)", "browser_feed"), ("Lavf/61.7", "feed")])
async def test_only_browsers_get_the_feed_for_browsers(agent: str, feed: str):
    async with playing() as lab:
        output = lab.live().stream.output("flv")
        async with lab.listener.connect() as wire:
            await wire.send(GET.replace("Host: a", f"Host: a\r\nUser-Agent: {agent}"))
            assert (await wire.head()).status == 200
            assert {name: len(getattr(output, name)) for name in ("feed", "browser_feed")} == {
                "feed": 0, "browser_feed": 0, feed: 1,
            }  # fmt: skip


async def test_a_client_with_http_10_gets_the_bytes_without_chunks():
    async with playing() as lab:
        publisher = lab.live()
        async with lab.listener.connect() as wire:
            await wire.send("GET /c1/live.flv HTTP/1.0\r\n\r\n")
            head = await wire.head()
            assert "transfer-encoding" not in head.headers
            assert (await wire.exactly(3)) == b"FLV"
            lab.hub.end("c1", EndReason.PUBLISHER_GONE)
            assert (await wire.rest())[:2] == b"\x01\x05"
        assert not +publisher.stream.viewers


async def test_the_end_of_the_stream_is_the_last_chunk():
    async with playing() as lab:
        lab.live()
        async with lab.listener.connect() as wire:
            await wire.send(GET)
            await wire.head()
            await wire.chunk()
            lab.hub.end("c1", EndReason.PUBLISHER_GONE)
            while await wire.chunk():
                pass
            assert await wire.rest() == b""


async def test_a_viewer_that_waits_gets_the_stream_when_it_begins():
    async with playing(channel("c1")) as lab, lab.listener.connect() as wire:
        await wire.send(GET)
        await until(lambda: lab.hub._waiting)
        lab.live()
        assert (await wire.head()).status == 200
        assert (await wire.chunk()).startswith(b"FLV")


async def test_a_viewer_that_waits_in_vain_gets_404():
    async with playing(channel("c1"), wait=0.01) as lab:
        for request in (GET, UPGRADE):
            async with lab.listener.connect() as wire:
                await wire.send(request)
                reply = await wire.reply()
                assert (reply.status, reply.text) == (404, "c1 is not streaming live now\n")


async def test_a_waiting_viewer_that_leaves_is_forgotten():
    async with playing(channel("c1")) as lab:
        for request in (GET, UPGRADE):
            async with lab.listener.connect() as wire:
                await wire.send(request)
                await until(lambda: lab.hub._waiting)
            await until(lambda: not lab.hub._waiting)


async def test_a_waiting_viewer_is_refused_when_the_channel_becomes_protected():
    async with playing(wait=10) as lab, lab.listener.connect() as wire:
        await wire.send(GET)
        await until(lambda: lab.hub._waiting)
        lab.live(playAuth="sign")
        assert (await wire.reply()).status == 403


async def test_a_head_request_is_answered_at_once():
    async with playing(channel("c1")) as lab:
        assert (await lab.listener.get("/c1/live.flv", "HEAD")).status == 404
        lab.live()
        reply = await lab.listener.get("/c1/live.flv", "HEAD")
        assert (reply.status, reply.headers["content-type"]) == (200, "video/x-flv")
        assert "content-length" not in reply.headers


async def test_a_websocket_viewer_gets_the_same_in_messages():
    async with playing() as lab:
        publisher = lab.live()
        async with lab.listener.connect() as wire:
            await wire.send(UPGRADE)
            head = await wire.head()
            assert head.status == 101
            assert head.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            assert "sec-websocket-extensions" not in head.headers
            opcode, message = await frame(wire)
            assert opcode == 0x82
            assert message.startswith(b"FLV\x01\x05")
            lab.push(publisher, key=True, size=70_000)
            assert sum([len((await frame(wire))[1]) for _ in range(5)]) > 70_000
            assert publisher.stream.viewers == {"wsflv": 1}
            await wire.send(client_frame(0x9, b"hello") + client_frame(0x1, b"ignored"))
            opcode, message = await frame(wire)
            while opcode != 0x8A:
                opcode, message = await frame(wire)
            assert message == b"hello"
            await wire.send(client_frame(0x8, b"\x03\xe8bye"))
            while opcode != 0x88:
                opcode, message = await frame(wire)
            assert message == b"\x03\xe8"
            assert await wire.rest() == b""
        await until(lambda: not +publisher.stream.viewers)


@pytest.mark.parametrize(("reason", "code"), [(EndReason.PUBLISHER_GONE, 1000), (EndReason.SHUTDOWN, 1001)])
@pytest.mark.parametrize("polite", [True, False])
async def test_the_end_of_the_stream_closes_the_websocket(reason, code, polite):
    async with playing() as lab:
        lab.live()
        async with lab.listener.connect() as wire:
            await wire.send(UPGRADE)
            await wire.head()
            lab.hub.end("c1", reason)
            opcode = 0
            while opcode != 0x88:
                opcode, message = await frame(wire)
            assert int.from_bytes(message[:2], "big") == code
            if polite:
                await wire.send(client_frame(0x8, message[:2]))
            assert await wire.rest() == b""  # and no second close frame


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (("Version: 13", "Version: 8"), 426),
        (("Sec-WebSocket-Version: 13\r\n", ""), 426),
        (("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400),
        (("GET", "HEAD"), 400),
    ],
)
async def test_a_bad_handshake_is_refused_before_anything_else(change, status):
    async with playing() as lab, lab.listener.connect() as wire:
        await wire.send(UPGRADE.replace(*change))
        assert (await wire.head()).status == status


async def test_a_violation_of_the_websocket_protocol_closes_the_connection():
    async with playing() as lab:
        publisher = lab.live()
        async with lab.listener.connect() as wire:
            await wire.send(UPGRADE.encode() + b"\x81\x02hi")  # unmasked, and right behind the handshake
            await wire.head()
            opcode = 0
            while opcode != 0x88:
                opcode, message = await frame(wire)
            assert int.from_bytes(message[:2], "big") == 1002
            assert await wire.rest() == b""
        await until(lambda: not +publisher.stream.viewers)


async def test_an_http_viewer_that_keeps_sending_is_disconnected():
    async with playing() as lab:
        lab.live()
        async with lab.listener.connect() as wire:
            await wire.send(GET)
            await wire.head()
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                for _ in range(1000):
                    await wire.send(b"x" * 10_000)
                await wire.exactly(10**9)
        await until(lambda: len(lab.listener.server) == 0)


async def test_a_websocket_viewer_that_keeps_sending_is_closed_with_1008():
    async with playing() as lab:
        publisher = lab.live()
        async with lab.listener.connect() as wire:
            await wire.send(UPGRADE)
            await wire.head()
            await wire.send(client_frame(0x2, b"x" * 100) * 1_000)
            opcode = 0
            while opcode != 0x88:
                opcode, message = await frame(wire)
            assert int.from_bytes(message[:2], "big") == 1008
        await until(lambda: not +publisher.stream.viewers)


async def test_a_viewer_that_reads_nothing_has_a_bounded_backlog_and_ends():
    async with playing(backlog=100_000) as lab:
        publisher = lab.live()
        async with lab.listener.connect(limit=1024) as wire:
            sock = wire.writer.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await wire.send(GET)
            await wire.head()
            wire.reader._transport.pause_reading()
            feed = publisher.stream.outputs.get("flv").feed
            viewer = feed.viewers()[0]
            for _ in range(500):
                lab.push(publisher, key=True, size=20_000)
                await asyncio.sleep(0)
            assert viewer.late
            three_seconds = 75 * 20_000
            assert three_seconds < feed.backlog(100_000) < 1.1 * three_seconds
            assert viewer.transport.get_write_buffer_size() < feed.backlog(100_000) + 100_000
            lab.hub.end("c1", EndReason.KICKED)
            assert not +publisher.stream.viewers
        await until(lambda: len(lab.listener.server) == 0)


async def test_a_play_sign_is_accepted_over_http_and_websocket():
    sign = SECRETS.sign("c1", FAR, SignatureUse.PLAY)
    async with playing() as lab:
        lab.live(playAuth="sign")
        for request, status in ((GET, 200), (UPGRADE, 101)):
            async with lab.listener.connect() as wire:
                await wire.send(request)
                assert (await wire.reply()).status == 403
            async with lab.listener.connect() as wire:
                await wire.send(request.replace("live.flv", f"live.flv?sign={sign}"))
                assert (await wire.head()).status == status


async def test_fifty_viewers_share_bytes_that_are_rendered_once():
    async with playing() as lab:
        publisher = lab.live()
        wires = [lab.listener.connect() for _ in range(50)]
        opened = [await w.__aenter__() for w in wires]
        for wire in opened:
            await wire.send(GET)
            await wire.head()
        first = [await wire.chunk() for wire in opened]
        assert len(set(first)) == 1
        lab.push(publisher, key=True, size=1000)
        assert len({await wire.chunk() for wire in opened}) == 1
        assert lab.flv.joined == 50
        for w in wires:
            await w.__aexit__(None, None, None)
        await until(lambda: not +publisher.stream.viewers)
