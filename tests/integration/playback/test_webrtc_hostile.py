"""Hostile WebRTC clients at a real gateway: another viewer keeps every picture, and memory stays bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.media.track import AccessUnit, Kind
from tests.support.at_night import at_night
from tests.support.gateway import Channel, Gateway
from tests.support.shared_gateway import shared_gateway
from tests.support.sources import h264
from tests.support.time_outs import at_most
from tests.support.waiting import until_in_thread
from tests.support.webrtc import Client, rtp_packet
from tests.support.whip_client import FRAGMENT, Whep, Whip, ask, offer, publishing, slices, watching

HALF_OPEN = 1000
OPENING = 'millrace_webrtc_connections{state="opening"}'


gateway = shared_gateway(
    "ffmpeg",
    MILLRACE_WEBRTC__HALF_OPEN=str(HALF_OPEN),
    MILLRACE_WEBRTC__HALF_OPEN_PER_ADDRESS="0",
    MILLRACE_WEBRTC__CONNECT_TIMEOUT="15",
    MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0",
    MILLRACE_STREAM__LINGER="1",
)


def resident(gateway: Gateway) -> int:
    """Bytes of memory of the gateway."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def metric(gateway: Gateway, name: str) -> float:
    lines = gateway.api("GET", "/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0.0)


def dropped(gateway: Gateway, reason: str) -> float:
    return metric(gateway, f'millrace_webrtc_dropped_total{{reason="{reason}"}}')


def film() -> list[AccessUnit]:
    """Eighty seconds of pictures."""
    units = h264(seconds=4, bframes=0, audio=False).of(Kind.VIDEO)
    return [
        AccessUnit(u.track, u.dts + 4000 * turn, u.cts, u.key, u.wall, u.payload) for turn in range(20) for u in units
    ]


@asynccontextmanager
async def watched(gateway: Gateway) -> AsyncIterator[tuple[Channel, Whip, Whep]]:
    """A push and an honest viewer, which must have every picture at the end, and some after the attack."""
    channel = gateway.channel()
    async with publishing(f"{channel.url('whip')}?sign={channel.key}", film(), audio=False) as whip:
        await asyncio.to_thread(channel.wait_live)
        async with watching(channel.url("whep"), audio=False) as whep:
            await whep.watch(lambda: len(whep.pictures) > 10)
            yield channel, whip, whep
            seen = len(whep.pictures)
            await whep.watch(lambda: len(whep.pictures) > seen + 30)
            got, sent = [slices(payload) for payload in whep.pictures], [slices(unit.payload) for unit in whip.sent]
            at = sent.index(got[0])
            assert got == sent[at : at + len(got)], "the honest viewer has other pictures, or a gap"


def hostile_offers() -> dict[str, tuple[str | bytes, set[int]]]:
    good = offer(Client(), "recvonly")
    head, _, media = good.partition("m=video")
    video = "m=video" + media.partition("m=audio")[0]
    chance = random.Random(7)
    return {
        "1 MB": (good + "a=x:" + "y" * 1_000_000, {413}),
        "a line of 60 kB": (head + "a=x:" + "y" * 60_000 + "\r\n" + video, {400}),
        "100 media": (head + "".join(video.replace("mid:0", f"mid:{n}") for n in range(100)), {400}),
        "5,000 attributes": (good + "a=x\r\n" * 5_000, {400}),
        "2,000 codecs": (good + "".join(f"a=rtpmap:{n % 128} X{n}/90000\r\n" for n in range(2_000)), {201, 400, 406}),
        "unknown codecs": (good.replace("H264", "H999"), {406}),
        "no media": (head, {400, 406}),
        "only data": (head + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n", {400, 406}),
        "not UTF-8": (good.encode() + b"a=\xff\xfe\r\n", {201, 400}),
        "zeros": (bytes(50_000), {400}),
        "noise": (chance.randbytes(50_000), {400}),
        "huge numbers": (good.replace("96", "9" * 300), {400, 406}),
        "empty credentials": (re.sub("ice-ufrag:.*", "ice-ufrag:\r", good), {400}),
        "a ufrag of 300 bytes": (good.replace("ice-ufrag:", "ice-ufrag:" + "a" * 300), {400}),
        "SHA-1": (good.replace("sha-256", "sha-1"), {201, 400}),
    }


async def test_hostile_offers_are_refused(gateway: Gateway) -> None:
    async with watched(gateway) as (channel, _, _):
        before = resident(gateway)
        for _ in range(5):
            for name, (body, wanted) in hostile_offers().items():
                reply = await ask("POST", channel.url("whep"), body)
                assert reply.status in wanted, f"{name}: {reply.status} {reply.text[:200]}"
        whep = Whep(audio=False)
        assert (await whep.post(channel.url("whep"))).status == 201
        for body, wanted in (("a=x:" + "y" * 100_000, {413}), ("m=" * 30_000, {400, 204}), (bytes(1000), {400, 204})):
            assert (await ask("PATCH", whep.url, body, FRAGMENT)).status in wanted
        await whep.delete()
        assert resident(gateway) < before + 30_000_000
    assert '"level":"error"' not in gateway.log


@pytest.mark.nightly
async def test_a_thousand_half_open_sessions_are_limited_and_end(gateway: Gateway) -> None:
    async with watched(gateway) as (channel, _, _):
        before = resident(gateway)
        text = offer(Client(), "recvonly", audio=False)
        turns = asyncio.Semaphore(8)
        statuses: list[int] = []

        async def half_open() -> None:
            async with turns:
                statuses.append((await ask("POST", channel.url("whep"), text)).status)

        await asyncio.gather(*(half_open() for _ in range(HALF_OPEN + 100)))
        assert set(statuses) <= {201, 503}
        opened = statuses.count(201)
        assert opened >= HALF_OPEN // 2, "the machine is too slow for this test" if opened else "none was opened"
        assert metric(gateway, 'millrace_webrtc_connections{state="opening"}') <= HALF_OPEN
        grown = resident(gateway) - before
        assert grown < 60_000_000, f"{grown / max(1, opened):.0f} bytes a session"
        async with asyncio.timeout(at_most(60)):
            while await asyncio.to_thread(metric, gateway, 'millrace_webrtc_connections{state="opening"}'):
                await asyncio.sleep(0.5)
        ended = [
            metric(gateway, f'millrace_webrtc_ended_total{{reason="{end}"}}') for end in ("connect_timeout", "replaced")
        ]
        assert sum(ended) >= opened
        assert (await asyncio.to_thread(channel.session))["viewers"]["whep"] == 1


async def test_forged_and_replayed_packets_of_a_publisher_are_dropped(gateway: Gateway) -> None:
    async with watched(gateway) as (_, whip, _):
        before = dropped(gateway, "srtp")
        kept: list[bytes] = []
        out = whip.client.send_rtp

        def recording(packet: bytes) -> bytes:
            kept.append(out(packet))
            return kept[-1]

        whip.client.send_rtp = recording  # type: ignore[method-assign]
        chance = random.Random(3)
        for _ in range(50):
            for sealed in kept[-20:]:
                whip.client.out.append(sealed)  # again
                forged = bytearray(sealed)
                forged[chance.randrange(len(forged))] ^= 1 << chance.randrange(8)
                whip.client.out.append(bytes(forged))
            whip.client.out.append(rtp_packet(chance.randrange(65536), os.urandom(900)))
            whip.client.out.append(b"\x80\xc8" + os.urandom(60))
            whip.network.flush()
            await asyncio.sleep(0.02)
        assert len(kept) > 30
        assert dropped(gateway, "srtp") > before + 100


@pytest.mark.parametrize("kind", ["checks", "handshakes", *at_night("media", "noise")])
async def test_a_flood_from_unknown_addresses_uses_no_memory_and_gets_no_answer(gateway: Gateway, kind: str) -> None:
    data = {
        "checks": b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x00\x06\x00\x04ab:c",
        "handshakes": b"\x16\xfe\xff" + bytes(8) + b"\x00\xc8" + os.urandom(200),
        "media": rtp_packet(5, bytes(1100)),
        "noise": os.urandom(1000),
    }[kind]
    async with watched(gateway) as (_, _, _):
        before, unknown = resident(gateway), metric(gateway, 'millrace_webrtc_datagrams_total{direction="in"}')
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(100)]
            for flood in sockets:
                flood.bind(("127.0.0.9", 0))  # the gateway may still send to a port of an earlier test at 127.0.0.1
            for _ in range(100):
                for flood in sockets:
                    flood.sendto(data, ("127.0.0.1", gateway.ports["webrtc"]))
                await asyncio.sleep(0.02)
            assert metric(gateway, 'millrace_webrtc_datagrams_total{direction="in"}') > unknown + 5_000
            assert resident(gateway) < before + 20_000_000
            for flood in sockets:
                flood.setblocking(False)
                with pytest.raises(BlockingIOError):
                    flood.recv(2000)
    assert '"level":"error"' not in gateway.log


async def test_a_certificate_that_differs_from_the_offer_gets_no_media(gateway: Gateway) -> None:
    async with watched(gateway) as (channel, _, _):
        before = metric(gateway, 'millrace_webrtc_ended_total{reason="wrong_fingerprint"}')
        whep = Whep(audio=False)
        whep.offer = whep.offer.replace(whep.client.fingerprint[1], Client().fingerprint[1])
        assert (await whep.post(channel.url("whep"))).status == 201
        await whep.network.over_udp(whep.host, whep.port)

        def refused() -> bool:
            return metric(gateway, 'millrace_webrtc_ended_total{reason="wrong_fingerprint"}') > before

        async with asyncio.timeout(at_most(20)):
            while not await asyncio.to_thread(refused):
                whep.client.send_check()
                whep.network.flush()
                await asyncio.sleep(0.1)
        assert not whep.client.rtp
        whep.network.close()


@asynccontextmanager
async def slow_bodies(gateway: Gateway) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Connections with requests whose bodies do not end, beside refused requests with long headers."""
    async with watched(gateway) as (channel, whip, _):
        await until_in_thread(lambda: metric(gateway, OPENING) == 0, "the sessions of earlier tests are over", 60)
        before, address = resident(gateway), ("127.0.0.1", gateway.ports["http"])
        session = whip.url.partition(f":{gateway.ports['http']}")[2]
        heads = [
            f"POST /{channel.id}/whep HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\n",
            f"POST /{channel.id}/whip?sign={channel.key} HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\n",
            f"PATCH {session} HTTP/1.1\r\nHost: a\r\nContent-Type: {FRAGMENT}\r\n",
        ]
        slow = [await asyncio.open_connection(*address) for _ in range(150)]
        for number, (_, writer) in enumerate(slow):
            writer.write((heads[number % 3] + "Content-Length: 60000\r\n\r\nv=0\r\n").encode())
        for head in heads:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(head.encode() + b"X-Long: " + b"y" * 100_000 + b"\r\n\r\n")
            assert b" 431 " in await reader.readline()
            writer.close()
        assert metric(gateway, OPENING) == 0
        assert resident(gateway) < before + 20_000_000
        yield slow
        for _, writer in slow:
            writer.close()
    assert '"level":"error"' not in gateway.log


async def test_slow_bodies_and_long_headers_open_no_session(gateway: Gateway) -> None:
    async with slow_bodies(gateway):
        pass


@pytest.mark.nightly
async def test_slow_bodies_are_refused_in_time(gateway: Gateway) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while not reader.at_eof():
                writer.write(b"a=x\r\n")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        return await reader.read()
        return b""

    async with slow_bodies(gateway) as slow, asyncio.timeout(at_most(30)):  # 10 s are allowed, however many bytes come
        answers = await asyncio.gather(*(drip(*connection) for connection in slow))
        assert not any(b" 201 " in answer or b" 200 " in answer for answer in answers)
