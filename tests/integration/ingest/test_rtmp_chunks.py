"""Unusual RTMP chunks: legal ones are forwarded bit by bit, illegal ones close their connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.clients import until
from tests.support.gateway import Gateway
from tests.support.rtmp import (
    AUDIO,
    VIDEO,
    Peer,
    chunk,
    connected,
    message,
    picture,
    sound,
)
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

STARTED = "NetStream.Publish.Start"


gateway = shared_gateway(MILLRACE_STREAM__LINGER="0", MILLRACE_STREAM__WAIT_FOR_PUBLISHER="5")


@contextlib.asynccontextmanager
async def _publishing(gateway: Gateway) -> AsyncIterator[tuple[Peer, Peer]]:
    """A publisher that has sent headers and a key frame, and a player that has them."""
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as peer, connected(gateway.ports["rtmp"]) as player:
        assert (await peer.publish(channel.obs_key)).code == STARTED
        await peer.headers()
        await peer.body(VIDEO, picture(0, key=True))
        await peer.body(AUDIO, sound(0))
        assert (await player.play(channel.id)).code == "NetStream.Play.Start"
        await player.media(2)
        yield peer, player


async def _carried(peer: Peer, player: Peer, bodies: list[tuple[int, bytes]]) -> None:
    """Checks that the player gets exactly these bodies, and then ordinary media."""
    last = picture(10**6)
    await peer.body(VIDEO, last, 5000)
    async with asyncio.timeout(at_most(10)):
        while not player.heard or player.heard[-1].payload != last:
            await player.read()
    heard = [(m.type_id, m.payload) for m in player.heard if m.type_id in (AUDIO, VIDEO)]
    assert heard[-1 - len(bodies) : -1] == bodies


async def test_a_chunk_size_of_one_byte_works(gateway: Gateway) -> None:
    async with _publishing(gateway) as (peer, player):
        await peer.chunk_size(1)
        body = picture(1, size=3000)
        await peer.body(VIDEO, body, 40)
        await _carried(peer, player, [(VIDEO, body)])


async def test_a_chunk_size_of_31_bits_works(gateway: Gateway) -> None:
    async with _publishing(gateway) as (peer, player):
        await peer.chunk_size(2**31 - 1)
        body = picture(1, size=500_000)
        await peer.body(VIDEO, body, 40)
        await _carried(peer, player, [(VIDEO, body)])


async def test_a_chunk_size_of_zero_closes_the_connection(gateway: Gateway) -> None:
    async with _publishing(gateway) as (peer, _):
        await peer.send(message(1, b"\0\0\0\0", csid=2))
        assert await peer.closed()


async def test_a_message_may_arrive_byte_by_byte(gateway: Gateway) -> None:
    async with _publishing(gateway) as (peer, player):
        body = picture(1, size=600)
        for byte in message(VIDEO, body, time=40, csid=6, stream=1):
            await peer.send(bytes([byte]))
        await _carried(peer, player, [(VIDEO, body)])


@pytest.mark.parametrize("csid", [2, 3, 63, 64, 65, 319, 320, 321, 65599])
async def test_all_valid_chunk_stream_ids_work(gateway: Gateway, csid: int) -> None:
    async with _publishing(gateway) as (peer, player):
        body = picture(1, size=300)
        await peer.send(message(VIDEO, body, time=40, csid=csid, stream=1))
        await _carried(peer, player, [(VIDEO, body)])


async def test_interleaved_messages_are_reassembled(gateway: Gateway) -> None:
    """A large picture is on one chunk stream, and the sounds between its chunks are on others."""
    async with _publishing(gateway) as (peer, player):
        large = picture(1, size=1280 - 9)
        pieces = message(VIDEO, large, time=40, csid=6, stream=1)
        head, rest = pieces[: 12 + 128], pieces[12 + 128 :]
        sounds = [(AUDIO, sound(n, size=200)) for n in range(9)]
        await peer.send(head)
        for n, (_, body) in enumerate(sounds):
            await peer.send(message(AUDIO, body, time=41 + n, csid=400 + n, stream=1))
            await peer.send(rest[:129])
            rest = rest[129:]
        assert not rest
        await _carried(peer, player, [*sounds, (VIDEO, large)])


async def test_an_aborted_message_is_discarded(gateway: Gateway) -> None:
    async with _publishing(gateway) as (peer, player):
        await peer.send(message(VIDEO, picture(1, size=1000), time=40, csid=6, stream=1)[: 12 + 128 + 129])
        await peer.send(message(2, (6).to_bytes(4, "big"), csid=2))
        body = picture(2, size=500)
        await peer.send(message(VIDEO, body, time=80, csid=6, stream=1))
        await _carried(peer, player, [(VIDEO, body)])


async def test_a_new_message_inside_an_unfinished_one_closes_the_connection(gateway: Gateway) -> None:
    async with _publishing(gateway) as (peer, _):
        await peer.send(message(VIDEO, picture(1, size=1000), time=40, csid=6, stream=1)[: 12 + 128])
        await peer.send(message(VIDEO, picture(2), time=80, csid=6, stream=1))
        assert await peer.closed()


@pytest.mark.parametrize("repeats", [True, False], ids=["repeated in every chunk", "left out, as old OBS does"])
async def test_extended_timestamps_are_read(gateway: Gateway, repeats: bool) -> None:
    async with _publishing(gateway) as (peer, player):
        body = picture(1, size=1000)
        whole = message(VIDEO, body, time=0x01000000, csid=6, stream=1)
        if not repeats:
            field = (0x01000000).to_bytes(4, "big")
            head, rest = whole[:16], whole[16:]
            whole = head + rest.replace(chunk(6, 3) + field, chunk(6, 3))
        await peer.send(whole)
        await _carried(peer, player, [(VIDEO, body)])


async def test_a_chunk_of_type_3_repeats_the_last_delta(gateway: Gateway) -> None:
    """Without the repeated delta of fmt 3, audio and video would drift apart."""
    async with _publishing(gateway) as (peer, player):
        bodies = [picture(n) for n in range(1, 6)]
        size = len(bodies[0]).to_bytes(3, "big")
        await peer.send(chunk(6, 1) + (40).to_bytes(3, "big") + size + bytes([VIDEO]) + bodies[0])
        await peer.send(chunk(6, 2) + (33).to_bytes(3, "big") + bodies[1])
        for body in bodies[2:]:
            await peer.send(chunk(6, 3) + body)
        await _carried(peer, player, [(VIDEO, b) for b in bodies])
        times = [m.timestamp for m in player.heard if m.type_id == VIDEO][-6:-1]
        assert times == [40, 73, 106, 139, 172]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(chunk(30, 3) + bytes(200), id="fmt 3 first"),
        pytest.param(chunk(30, 2) + bytes(200), id="fmt 2 first"),
        pytest.param(chunk(6) + b"\0\0\0" + (9_000_000).to_bytes(3, "big") + b"\x09" + bytes(4), id="beyond the limit"),
        pytest.param(b"".join(message(VIDEO, b"", csid=c) for c in range(100, 200)), id="a hundred chunk streams"),
        pytest.param(message(1, b"\0", csid=2), id="a short Set Chunk Size"),
        pytest.param(message(2, b"\0", csid=2), id="a short Abort"),
        pytest.param(message(5, b"\0", csid=2), id="a short window"),
    ],
)
async def test_a_format_violation_closes_only_its_connection(gateway: Gateway, data: bytes) -> None:
    async with _publishing(gateway) as (peer, _), _publishing(gateway) as (other, other_player):
        await peer.send(data)
        assert await peer.closed()
        body = picture(1)
        await other.body(VIDEO, body, 40)
        await _carried(other, other_player, [(VIDEO, body)])


async def test_an_unauthenticated_peer_may_hold_less_unfinished_data_than_a_publisher(gateway: Gateway) -> None:
    """Unfinished messages over 32 kB are only for publishers with an accepted key."""
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.connect()
        await peer.chunk_size(65_536)
        await peer.send(chunk(6) + b"\0\0\0" + (1_500_000).to_bytes(3, "big") + b"\x09" + bytes(4), bytes(20_000))
        assert not await peer.closed(0.2)
        await peer.send(bytes(20_000))
        assert await peer.closed()


def _resident(pid: int) -> float:
    """Megabytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


async def test_memory_stays_bounded_for_many_unfinished_messages(gateway: Gateway) -> None:
    """Twenty peers without a key each send as many unfinished messages in tiny chunks as possible."""
    before = _resident(gateway.process.pid)
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(connected(gateway.ports["rtmp"])) for _ in range(20)]

        async def hostile(peer: Peer) -> None:
            await peer.handshake()
            await peer.connect()
            await peer.chunk_size(1)
            unfinished = []
            for csid in range(10, 40):
                head = chunk(csid) + b"\0\0\0" + (1_000_000).to_bytes(3, "big") + b"\x09" + b"\1\0\0\0"
                unfinished.append(head + b"x" + (chunk(csid, 3) + b"x") * 5_000)
            with contextlib.suppress(ConnectionError):
                await peer.send(*unfinished)
            assert await peer.closed()

        await asyncio.gather(*(hostile(p) for p in peers))
        assert _resident(gateway.process.pid) - before < 15, "three megabytes were sent"


async def test_memory_stays_bounded_for_a_message_in_tiny_reads(gateway: Gateway) -> None:
    """A message of over a megabyte arrives a few bytes at a time. Memory follows the received bytes."""
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.publish(channel.obs_key)
        before = _resident(gateway.process.pid)
        size = 1_900_000
        head = chunk(6) + b"\0\0\0" + size.to_bytes(3, "big") + b"\x09" + b"\1\0\0\0"
        await peer.chunk_size(2**31 - 1)
        await peer.send(head)
        for _ in range(15_000):
            peer.writer.write(b"abc")
            await asyncio.sleep(0)
        await peer.send(bytes(size - 45_000))
        await peer.settle()
        assert _resident(gateway.process.pid) - before < 15, "two megabytes were sent"


async def test_garbage_instead_of_media_ends_the_push_with_an_error(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.publish(channel.obs_key)
        for _ in range(120):
            await peer.body(VIDEO, b"\x17\x00\x00")
        said = await peer.until()
        assert (said.level, said.code) == ("error", "NetStream.Publish.Failed")
        assert await peer.closed()


async def test_a_few_bad_frames_are_tolerated(gateway: Gateway) -> None:
    async with _publishing(gateway) as (peer, player):
        body = picture(1)
        await peer.body(VIDEO, b"\x17")
        await peer.body(AUDIO, b"\xaf")
        await peer.body(VIDEO, b"\x97avc")
        await peer.send(message(VIDEO, b"", csid=6, stream=1), message(AUDIO, b"", csid=4, stream=1))
        await peer.body(VIDEO, body, 40)
        await _carried(peer, player, [(VIDEO, body)])


async def test_the_log_contains_no_internal_error(gateway: Gateway) -> None:
    assert "Traceback" not in gateway.log
    assert '"level":"error"' not in gateway.log
    until(lambda: gateway.api("GET", "/videostreams/online").json() == [], "no stream is left")
