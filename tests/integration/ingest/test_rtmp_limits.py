"""Limits of a connection, an address and the node, and the clients that they do not affect."""

import asyncio
import contextlib
import socket

import pytest

from tests.support.clients import until
from tests.support.gateway import Gateway
from tests.support.rtmp import DATA, Peer, connected, metadata
from tests.support.shared_gateway import shared_gateway

STARTED, FULL = "NetStream.Publish.Start", "NetStream.Publish.Failed"


def _ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


IPV6 = _ipv6()


gateway = shared_gateway(
    MILLRACE_RTMP__HOST="::" if IPV6 else "0.0.0.0",
    MILLRACE_RTMP__PING_INTERVAL="2",
    MILLRACE_RTMP__PING_TIMEOUT="2",
    MILLRACE_RTMP__IDLE_TIMEOUT="6",
    MILLRACE_STREAM__LINGER="0",
    MILLRACE_STREAM__TAKEOVER_AFTER="2",
    MILLRACE_LIMITS__FIRST_MEDIA="2",
    MILLRACE_LIMITS__REFUSALS_PER_MINUTE="3",
    MILLRACE_LIMITS__PUBLISHERS_PER_ADDRESS="3",
    MILLRACE_LIMITS__PUBLISHERS="5",
)


@pytest.fixture(autouse=True)
def nobody(gateway: Gateway) -> None:
    """Waits until the node has no streams before a test begins."""
    until(lambda: gateway.api("GET", "/videostreams/online").json() == [], "the last test's streams have ended")


async def _live(stack: contextlib.AsyncExitStack, gateway: Gateway, source: str) -> Peer:
    """A publisher from this address, with media."""
    peer = await stack.enter_async_context(connected(gateway.ports["rtmp"], source=source))
    said = await peer.publish(gateway.channel().obs_key)
    assert said.code == STARTED, said
    await peer.headers()
    await peer.film(range(0, 700, 33))
    return peer


async def _code(gateway: Gateway, source: str, key: str) -> str:
    async with connected(gateway.ports["rtmp"], source=source) as peer:
        said = await peer.publish(key)
        if said.level == "error":
            assert await peer.closed()
        return said.code


async def test_an_address_with_wrong_keys_gets_no_answer_but_its_right_keys_work(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with contextlib.AsyncExitStack() as stack:
        live = await _live(stack, gateway, "127.0.0.9")
        for _ in range(3):
            assert await _code(gateway, "127.0.0.9", f"{channel.id}?sign=guess") == "NetStream.Publish.Unauthorized"
        async with connected(gateway.ports["rtmp"], source="127.0.0.9") as peer:
            with pytest.raises((ConnectionError, EOFError)):
                await peer.publish(f"{channel.id}?sign=guess")
        assert await _code(gateway, "127.0.0.9", channel.obs_key) == STARTED, "the right key is"
        await live.film(range(700, 1400, 33), number=22)
        assert not await live.closed(0.2), "who was accepted before goes on"


async def test_the_number_of_publishers_per_address_is_limited(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with contextlib.AsyncExitStack() as stack:
        peers = [await _live(stack, gateway, "127.0.0.10") for _ in range(3)]
        assert await _code(gateway, "127.0.0.10", channel.obs_key) == FULL
        assert await _code(gateway, "127.0.0.11", channel.obs_key) == STARTED
        await peers[0].reset()
        until(lambda: len(gateway.api("GET", "/videostreams/online").json()) == 2, "one has left")
        assert await _code(gateway, "127.0.0.10", channel.obs_key) == STARTED


async def test_the_number_of_publishers_on_the_node_is_limited(gateway: Gateway) -> None:
    waiting, first = gateway.channel(), gateway.channel()
    async with contextlib.AsyncExitStack() as stack:
        holder = await stack.enter_async_context(connected(gateway.ports["rtmp"], source="127.0.0.12"))
        await holder.publish(first.obs_key)
        await holder.headers()
        await holder.film([0])
        peers = [await _live(stack, gateway, f"127.0.0.{13 + n}") for n in range(4)]
        assert await _code(gateway, "127.0.0.20", waiting.obs_key) == FULL
        await holder.film([33], number=1)  # the others may have taken longer than the pause
        assert await _code(gateway, "127.0.0.20", first.obs_key) == "NetStream.Publish.BadName"
        await asyncio.sleep(2.1)  # the pause under test
        assert await _code(gateway, "127.0.0.20", first.obs_key) == STARTED, "who takes over adds none"
        await peers[0].reset()
        until(lambda: len(gateway.api("GET", "/videostreams/online").json()) <= 3, "one has left")
        assert await _code(gateway, "127.0.0.20", waiting.obs_key) == STARTED


async def test_a_connection_without_media_or_answers_is_closed_in_time(gateway: Gateway) -> None:
    """All cases run at the same time, because each takes the time of its limit."""
    port = gateway.ports["rtmp"]

    async def no_media(*bodies: bytes) -> str:
        async with connected(port, source="127.0.0.31") as peer:
            await peer.publish(gateway.channel().obs_key)
            for body in bodies:
                await peer.body(DATA, body)
            said = await peer.until()
            assert await peer.closed()
            return said.code

    async def deaf_to_pings() -> bool:
        async with connected(port, source="127.0.0.32", answers=False) as peer:
            await peer.handshake()
            await peer.connect()
            return await peer.closed()

    async def answers_pings() -> bool:
        async with connected(port, source="127.0.0.33") as peer:
            await peer.handshake()
            await peer.connect()
            closed = await peer.closed(7)
            assert sum(m.type_id == 4 and m.payload[:2] == b"\0\6" for m in peer.heard) >= 2
            return closed

    async def sends_media_and_never_answers() -> bool:
        async with connected(port, source="127.0.0.34", answers=False) as peer:
            await peer.publish(gateway.channel().obs_key)
            await peer.headers()
            for n in range(30):
                await peer.film([n * 200], number=n)
                await asyncio.sleep(0.2)
            return await peer.closed(0.1)

    async def falls_silent() -> bool:
        async with connected(port, source="127.0.0.35", answers=False) as peer:
            await peer.publish(gateway.channel().obs_key)
            await peer.headers()
            await peer.film([0])
            return await peer.closed()

    results = await asyncio.gather(
        no_media(), no_media(metadata(width=1.0)), deaf_to_pings(), answers_pings(), sends_media_and_never_answers(),
        falls_silent(),
    )  # fmt: skip
    assert list(results) == [FULL, FULL, True, False, False, True]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not IPV6, reason="this machine has no IPv6"))]
)
async def test_one_socket_accepts_ipv4_and_ipv6(gateway: Gateway, host: str) -> None:
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"], host=host) as peer:
        assert (await peer.publish(channel.obs_key)).code == STARTED
        await peer.headers()
        await peer.film(range(0, 700, 33))
        channel.wait_live()
        assert channel.session()["publisher"]["address"] == host


async def test_the_log_contains_no_internal_error(gateway: Gateway) -> None:
    assert "Traceback" not in gateway.log
    assert '"level":"error"' not in gateway.log
