"""Data that may arrive on the RTMP port before, during and after the handshake."""

import asyncio
import os
import ssl

import pytest

from tests.support.gateway import Gateway
from tests.support.rtmp import Peer, command, connected, digest_c1, message
from tests.support.shared_gateway import shared_gateway

CONNECT = command("connect", 1, {"app": "stream", "tcUrl": "rtmp://127.0.0.1/stream"})


gateway = shared_gateway(MILLRACE_LIMITS__HANDSHAKE="2")


async def _connects(peer: Peer) -> bool:
    await peer.send(CONNECT)
    return (await peer.until("_result")).code == "NetConnection.Connect.Success"


async def test_the_simple_handshake_works(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        c1 = bytes(8) + os.urandom(1528)
        answer = await peer.handshake(c1)
        assert answer[0] == 3
        assert answer[1537:] == c1
        assert await _connects(peer)


@pytest.mark.parametrize("schema", [0, 1])
async def test_the_digest_handshake_works(gateway: Gateway, schema: int) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        c1 = digest_c1(schema)
        answer = await peer.handshake(c1)
        assert answer[1537:] != c1, "S2 of a digest handshake is signed, no echo"
        assert await _connects(peer)


async def test_an_invalid_digest_falls_back_to_the_simple_handshake(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        c1 = b"\0\0\0\0\x80\x00\x07\x02" + os.urandom(1528)
        answer = await peer.handshake(c1)
        assert answer[1537:] == c1
        assert await _connects(peer)


@pytest.mark.parametrize("version", [0, 2, 6, 8, 31])
async def test_another_version_is_answered_with_version_3(gateway: Gateway, version: int) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        assert (await peer.handshake(version=version))[0] == 3
        assert await _connects(peer)


async def test_the_handshake_may_arrive_byte_by_byte(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        for at, byte in enumerate(b"\x03" + bytes(1536)):
            await peer.send(bytes([byte]))
            if at % 16 == 0:
                await asyncio.sleep(0)  # so that many of them are packets of their own
        await peer.need(3073)
        for byte in bytes(1536) + CONNECT:
            await peer.send(bytes([byte]))
        assert (await peer.until("_result")).code == "NetConnection.Connect.Success"


async def test_a_client_may_send_the_whole_handshake_without_waiting(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.send(b"\x03" + bytes(1536) + bytes(1536) + CONNECT)
        await peer.need(3073)
        assert (await peer.until("_result")).code == "NetConnection.Connect.Success"


async def test_c2_and_connect_may_arrive_in_one_packet(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake(behind=CONNECT)
        assert (await peer.until("_result")).code == "NetConnection.Connect.Success"


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 127, 0, 0, 1, 4, 1, 7, 0x8F])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="HTTP"),
        pytest.param(_client_hello(), id="TLS"),
        pytest.param(b"PROXY TCP4 192.0.2.1 127.0.0.1 1025 1935\r\n", id="PROXY v1"),
        pytest.param(PROXY_V2, id="PROXY v2 from a peer that is not listed"),
        pytest.param(PROXY_V2 + b"\x03" + bytes(1536), id="PROXY v2 with a handshake behind"),
        pytest.param(b"\xff" * 4000, id="garbage"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="SSH"),
    ],
)
async def test_another_protocol_is_closed_without_an_answer(gateway: Gateway, data: bytes) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.send(data)
        async with asyncio.timeout(1.8):  # before the handshake is overdue
            assert await peer.closed()
        assert not peer.heard


async def test_garbage_after_the_handshake_closes_the_connection(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake(behind=b"\x7f" * 5000)
        assert await peer.closed()


async def test_an_overdue_connection_is_closed_and_an_idle_one_stays_open(gateway: Gateway) -> None:
    """All cases run at the same time, because each takes the time of its limit."""
    port = gateway.ports["rtmp"]

    async def unfinished(data: bytes) -> bool:
        async with connected(port) as peer:
            if data:
                await peer.send(data)
            if len(data) >= 1537:
                await peer.need(3073)
            return await peer.closed()

    async def drips() -> bool:
        async with connected(port) as peer:
            for _ in range(80):
                try:
                    await peer.send(b"\x03")
                except ConnectionError:
                    return True
                await asyncio.sleep(0.05)
            return False

    async def connects() -> bool:
        async with connected(port) as peer:
            await peer.handshake()
            await peer.connect()
            return await peer.closed(3.5)

    c0_c1 = b"\x03" + bytes(1536)
    closed = await asyncio.gather(
        unfinished(b""),
        unfinished(c0_c1[:1]),
        unfinished(c0_c1[:1500]),
        unfinished(c0_c1),
        unfinished(c0_c1 + bytes(1536)),
        drips(),
        connects(),
    )
    assert closed == [True, True, True, True, True, True, False]


async def test_hundreds_of_silent_connections_do_not_block_a_publisher(gateway: Gateway) -> None:
    channel = gateway.channel()
    silent = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", gateway.ports["rtmp"]) for _ in range(300)))
    try:
        async with connected(gateway.ports["rtmp"]) as peer:
            assert (await peer.publish(channel.obs_key)).code == "NetStream.Publish.Start"
    finally:
        for _, writer in silent:
            writer.transport.abort()


async def test_the_log_contains_no_internal_error(gateway: Gateway) -> None:
    """It runs last in this module: data of unknown clients never causes a traceback or an error."""
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake(behind=message(20, b"\x02\xff\xff"))
        assert await peer.closed()
    assert "Traceback" not in gateway.log
    assert '"level":"error"' not in gateway.log
