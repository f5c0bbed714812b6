"""RTMP players that are early, late, paused, demanding or not reading; and their messages at the end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from tests.support.clients import until
from tests.support.gateway import Channel, Gateway
from tests.support.rtmp import AUDIO, VIDEO, Peer, command, connected, message, picture, sound
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

STARTED, PLAYING = "NetStream.Publish.Start", "NetStream.Play.Start"


gateway = shared_gateway(
    MILLRACE_STREAM__LINGER="0",
    MILLRACE_STREAM__WAIT_FOR_PUBLISHER="2",
    MILLRACE_LIMITS__VIEWER_STALL="2",
    MILLRACE_LIMITS__VIEWER_BACKLOG="200000",
    MILLRACE_LIMITS__PLAYBACK_PER_ADDRESS="40",
)


@contextlib.asynccontextmanager
async def publishing(gateway: Gateway) -> AsyncIterator[tuple[Channel, Peer]]:
    """A live stream of one GOP so far: pictures and sounds 0 to 24."""
    channel = gateway.channel(isHls=False, isCMAF=False)
    async with connected(gateway.ports["rtmp"]) as peer:
        assert (await peer.publish(channel.obs_key)).code == STARTED
        await peer.chunk_size(65536)
        await peer.headers()
        await peer.film(range(0, 1000, 40), gop=1000)
        channel.wait_live()
        yield channel, peer


async def _until(player: Peer, body: bytes, within: float = 10) -> None:
    """Reads up to the message with this body."""
    async with asyncio.timeout(at_most(within)):
        while (await player.read()).payload != body:
            pass


async def test_an_early_player_waits_and_starts_automatically(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as peer, connected(gateway.ports["rtmp"]) as player:
        playing = asyncio.ensure_future(player.play(channel.id))
        await peer.publish(channel.obs_key)
        await peer.headers()
        await peer.film(range(0, 1000, 40))
        assert (await playing).code == PLAYING


@pytest.mark.nightly
async def test_an_unpublished_stream_is_not_found_after_the_wait(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"]) as player:
        began = time.monotonic()
        said = await player.play(gateway.channel().id)
        assert (said.level, said.code) == ("error", "NetStream.Play.StreamNotFound")
        assert time.monotonic() - began >= 1.9
        assert await player.closed()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 20_000, "a@", "@720p", "a@720p@720p", "💧", "a\0b"])
async def test_an_invalid_stream_name_is_not_found_at_once(gateway: Gateway, name: str) -> None:
    async with connected(gateway.ports["rtmp"]) as player:
        said = await player.play(name, timeout=1.8)
        assert (said.level, said.code) == ("error", "NetStream.Play.StreamNotFound")
        assert len(said.info["description"]) < 300
        assert await player.closed()


async def test_stream_names_may_have_a_query(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, _):
        for name in (f"{channel.id}?x=1&sign=whatever", f"{channel.id}?", f"/{channel.id}/"):
            async with connected(gateway.ports["rtmp"]) as player:
                assert (await player.play(name)).code == PLAYING


async def test_a_player_gets_the_end_of_the_stream(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer), connected(gateway.ports["rtmp"]) as player:
        await player.play(channel.id)
        await _until(player, sound(24))
        await peer.command("FCUnpublish", 9, None, channel.id)
        assert await player.closed()
        tail = [m for m in player.heard if m.payload][-3:]
        assert b"NetStream.Play.UnpublishNotify" in tail[0].payload
        assert (tail[1].type_id, tail[1].payload) == (4, b"\0\1\0\0\0\1")  # StreamEOF
        assert b"NetStream.Play.Stop" in tail[2].payload


async def test_the_disconnection_of_a_publisher_ends_its_players(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer), connected(gateway.ports["rtmp"]) as player:
        await player.play(channel.id)
        await peer.reset()
        assert (await player.until("NetStream.Play.UnpublishNotify")).level == "status"
        assert await player.closed()


async def test_a_player_can_pause_and_resume(gateway: Gateway) -> None:
    """Playback resumes at the next key frame, and timestamps only grow."""
    async with publishing(gateway) as (channel, peer), connected(gateway.ports["rtmp"]) as player:
        await player.play(channel.id)
        await _until(player, sound(24))
        await player.command("pause", 6, None, True, 1000, stream=1)
        assert (await player.until("NetStream.Pause.Notify")).level == "status"
        until(lambda: channel.session()["viewers"]["rtmp"] == 0, "nobody watches")
        await peer.film(range(1000, 2000, 40), gop=1000, number=25)
        await player.command("pause", 7, None, False, 1000, stream=1)
        assert (await player.until("NetStream.Unpause.Notify")).level == "status"
        until(lambda: channel.session()["viewers"]["rtmp"] == 1, "one watches")
        await peer.film(range(2000, 3000, 40), gop=1000, number=50)
        await peer.film([3000], gop=1000, number=2000)
        await _until(player, picture(2000, key=True))
        shown = [m for m in player.heard if m.type_id == VIDEO]
        assert {m.payload for m in shown}.isdisjoint(picture(n) for n in range(25, 75))
        assert all(b.timestamp >= a.timestamp for a, b in pairwise(shown))


async def test_a_paused_player_gets_the_end_of_the_stream(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer), connected(gateway.ports["rtmp"]) as player:
        await player.play(channel.id)
        await player.command("pause", 6, None, True, 0, stream=1)
        await player.until("NetStream.Pause.Notify")
        await peer.command("FCUnpublish", 9, None, channel.id)
        assert (await player.until("NetStream.Play.UnpublishNotify", timeout=4)).level == "status"
        assert await player.closed()


async def test_a_player_can_close_a_stream_and_play_again(gateway: Gateway) -> None:
    async with (
        publishing(gateway) as (channel, peer),
        publishing(gateway) as (other, _),
        connected(gateway.ports["rtmp"]) as player,
    ):
        await player.play(channel.id)
        await player.command("closeStream", 0, None, stream=1)
        await player.until("NetStream.Play.Stop")
        for again in (other, channel):
            await player.command("play", 6, None, again.id, stream=1)
            assert (await player.until(PLAYING)).level == "status"
        until(lambda: channel.session()["viewers"]["rtmp"] == 1, "one watches")
        assert other.session()["viewers"]["rtmp"] == 0
        last = picture(25)
        await peer.body(VIDEO, last, 1000)
        await _until(player, last)


@pytest.mark.parametrize("stream", [2, 8])
async def test_a_player_can_use_another_message_stream(gateway: Gateway, stream: int) -> None:
    async with publishing(gateway) as (channel, peer), connected(gateway.ports["rtmp"]) as player:
        await player.handshake()
        await player.connect()
        for _ in range(stream):
            await player.create_stream()
        await player.command("play", 5, None, channel.id, stream=stream)
        said = await player.until(PLAYING)
        assert said.stream == stream
        media = await player.media(20)
        assert {m.stream_id for m in media} == {stream}
        await peer.command("FCUnpublish", 9, None, channel.id)
        assert (await player.until("NetStream.Play.UnpublishNotify")).stream == stream


async def test_an_invalid_message_stream_is_refused(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, _), connected(gateway.ports["rtmp"]) as player:
        await player.handshake()
        await player.connect()
        await player.command("play", 5, None, channel.id, stream=4_000_000_000)
        assert (await player.until(PLAYING)).level == "error"
        assert await player.closed()


async def test_a_publisher_cannot_play_but_continues_to_publish(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer):
        await peer.command("play", 6, None, channel.id, stream=1)
        assert (await peer.until(PLAYING)).code == "NetStream.Play.Failed"
        await peer.film([1000], number=25)
        assert not await peer.closed(0.2)


async def test_optional_commands_of_players_are_answered(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer), connected(gateway.ports["rtmp"]) as player:
        await player.play(channel.id)
        await player.command("getStreamLength", 7, None, channel.id)
        assert (await player.until("_result")).values[-1] == 0
        await player.command("seek", 0, None, 5000, stream=1)
        assert (await player.until("NetStream.Seek.Notify")).level == "status"
        await player.command("receiveVideo", 8, None, False, stream=1)
        await player.send(message(4, b"\0\3\0\0\0\1\0\0\x0b\xb8", csid=2))
        last = picture(25)
        await peer.body(VIDEO, last, 1000)
        await _until(player, last)


@pytest.mark.parametrize("window", [0, 1, 128, 65536, 2**31])
async def test_a_player_may_set_any_window_size(gateway: Gateway, window: int) -> None:
    """A small window asks for an acknowledgement every few bytes, which may not disturb the media."""
    async with publishing(gateway) as (channel, peer), connected(gateway.ports["rtmp"]) as player:
        await player.handshake()
        await player.connect()
        await player.send(
            message(5, window.to_bytes(4, "big"), csid=2), message(6, window.to_bytes(4, "big") + b"\2", csid=2)
        )
        await player.create_stream()
        await player.command("play", 5, None, channel.id, stream=1)
        await player.until(PLAYING)
        await player.media(20)
        last = picture(25, size=90_000)
        await peer.body(VIDEO, last, 1000)
        await _until(player, last)


async def test_a_player_that_does_not_read_is_closed_without_effects_on_others(gateway: Gateway) -> None:
    async with (
        publishing(gateway) as (channel, peer),
        connected(gateway.ports["rtmp"]) as deaf,
        connected(gateway.ports["rtmp"]) as player,
    ):
        await deaf.play(channel.id)
        await player.play(channel.id)
        deaf.stop_reading()
        n, cut_after = 25, time.monotonic() + 12

        async def send() -> None:
            nonlocal n
            for _ in range(3):
                await peer.body(VIDEO, picture(n, n % 50 == 0, size=100_000), n * 40)
                n += 1

        async with asyncio.TaskGroup() as group:
            group.create_task(_until(player, b"\xaf\x01end", within=30))
            while channel.session()["viewers"]["rtmp"] > 1:
                await send()
                await asyncio.sleep(0.05)
                assert time.monotonic() < cut_after, "it was never cut"
            await peer.body(AUDIO, b"\xaf\x01end", n * 40)
        seen = {m.payload for m in player.heard if m.type_id == VIDEO}
        assert all(picture(k, k % 50 == 0, size=100_000) in seen for k in range(25, n)), (
            "the other player got every frame"
        )


async def test_a_player_that_plays_repeatedly_without_reading_is_closed(gateway: Gateway) -> None:
    """Each play begins with the whole GOP, so a thousand of them may not fill the memory."""
    async with publishing(gateway) as (channel, peer), connected(gateway.ports["rtmp"]) as player:
        for n in range(25, 35):
            await peer.body(VIDEO, picture(n, size=100_000), n * 40)
        await player.play(channel.id)
        player.stop_reading()
        again = command("closeStream", 0, None, stream=1) + command("play", 6, None, channel.id, stream=1)
        with pytest.raises((ConnectionError, TimeoutError)):
            async with asyncio.timeout(at_most(8)):
                while True:
                    await player.send(again)
                    await asyncio.sleep(0.002)
        until(lambda: channel.session()["viewers"]["rtmp"] == 0, "it is gone")
    assert "plays again and again" in gateway.log


async def test_the_number_of_players_per_address_is_limited(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, _), contextlib.AsyncExitStack() as stack:
        players = [await stack.enter_async_context(connected(gateway.ports["rtmp"])) for _ in range(41)]
        codes = [(await p.play(channel.id)).code for p in players]
        assert codes[:40] == [PLAYING] * 40
        assert codes[40] == "NetStream.Play.Failed"
        assert await players[40].closed()
        await players[0].reset()
        until(lambda: channel.session()["viewers"]["rtmp"] == 39, "one has left")
        async with connected(gateway.ports["rtmp"]) as player:
            assert (await player.play(channel.id)).code == PLAYING


async def test_the_log_contains_no_internal_error(gateway: Gateway) -> None:
    assert "Traceback" not in gateway.log
    assert '"level":"error"' not in gateway.log
