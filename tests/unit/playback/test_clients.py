"""Clients of other libraries: aiohttp and websockets read our answers like those of any server."""

import asyncio

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from gateway.live.sink import EndReason
from tests.support.builders import channel
from tests.support.playback import playing
from tests.support.time_outs import at_most
from tests.support.waiting import until


async def test_aiohttp_reuses_connections_inflates_and_reads_chunks():
    async with playing() as lab, aiohttp.ClientSession(f"http://127.0.0.1:{lab.listener.port}") as session:
        publisher = lab.live(isHls=True)
        for _ in range(3):
            async with session.get("/c1/live.m3u8") as reply:
                assert await reply.text() == "c1 live.m3u8"
        async with session.get("/_player/dash.min.js") as reply:
            assert reply.headers["Content-Encoding"] == "gzip"
            assert len(await reply.read()) > 500_000
        assert len(lab.listener.server) == 1
        async with session.get("/c1/live.flv") as reply:
            assert (await reply.content.readexactly(3)) == b"FLV"
            lab.push(publisher, key=True, size=4000)
            assert len(await reply.content.readexactly(4000)) == 4000
            lab.hub.end("c1", EndReason.PUBLISHER_GONE)
            await reply.read()  # to the last chunk, without an error


async def test_websockets_reads_messages_pings_and_is_closed_properly():
    async with playing() as lab:
        publisher = lab.live()
        async with connect(f"ws://127.0.0.1:{lab.listener.port}/c1/live.flv") as client:
            assert (await client.recv())[:5] == b"FLV\x01\x05"
            assert not client.protocol.extensions
            lab.push(publisher, key=True, size=70_000)
            sizes = [len(await client.recv()) for _ in range(5)]
            assert sum(sizes) > 70_000
            assert max(sizes) == 16_384, "a browser gives its page only whole messages"
            await (await client.ping())
            lab.hub.end("c1", EndReason.PUBLISHER_GONE)
            with pytest.raises(ConnectionClosedOK) as closed:
                while True:
                    await client.recv()
            assert closed.value.rcvd.code == 1000
        await until(lambda: len(lab.listener.server) == 0)


async def test_websockets_learns_of_a_refusal_before_the_upgrade():
    async with playing(channel("c1"), wait=0.01) as lab:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{lab.listener.port}/c1/live.flv"):
                pass
        assert refused.value.response.status_code == 404
        assert b"c1 is not streaming live now" in refused.value.response.body


async def test_a_message_too_long_is_refused_with_its_code():
    async with playing() as lab:
        lab.live()
        async with connect(f"ws://127.0.0.1:{lab.listener.port}/c1/live.flv") as client:
            with pytest.raises(ConnectionClosedError) as closed:
                await client.send(b"x" * 100_000)
                async with asyncio.timeout(at_most(10)):
                    while True:
                        await client.recv()
            assert closed.value.rcvd.code == 1009
