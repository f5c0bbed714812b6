"""Hostile clients of RTSP at a real gateway: each is ended, others are served, and memory stays bounded."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.protocols.rtp.sender import rtp_packet
from gateway.protocols.rtsp.authentication import Credentials
from gateway.protocols.rtsp.messages import interleaved, request
from tests.support.clients import push, until
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import SMALL
from tests.support.rtsp import OPEN, RtspClient, rtsp_client
from tests.support.time_outs import at_most
from tests.support.tools import need

TCP = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"}
SDP = (
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n"
    b"m=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\na=control:streamid=0\r\n"
)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    need("ffmpeg")
    with running(
        MILLRACE_RTSP__UDP_PORTS="18130-18131",
        MILLRACE_LIMITS__HANDSHAKE="2",
        MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0",
        MILLRACE_STREAM__WAIT_FOR_PUBLISHER="0.2",
        **OPEN,
    ) as instance:
        yield instance


@pytest.fixture(scope="module")
def live(gateway: Gateway) -> Iterator[Channel]:
    channel = gateway.channel("live", isHls=False, isCMAF=False)
    with push(SMALL, channel.push, loop=True):
        channel.wait_live()
        yield channel


@asynccontextmanager
async def connected(gateway: Gateway, path: str, source: str = "127.0.0.1") -> AsyncIterator[RtspClient]:
    async with rtsp_client(gateway.ports["rtsp"], path, source) as client:
        yield client


async def is_served(gateway: Gateway, live: Channel) -> None:
    """Another client plays, and the stream goes on."""
    async with connected(gateway, live.id) as other:
        assert (await other.play()).status == 200
        assert await other.packet(0)


def resident(gateway: Gateway) -> int:
    """Bytes of memory of the gateway."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00" + bytes(600),
        b"OPTIONS * RTSP/1.0\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"OPTIONS * RTSP/1.0\r\nX: " + b"x" * 20_000,
        b"ANNOUNCE rtsp://h/c RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 9999999\r\n\r\n",
        b"ANNOUNCE rtsp://h/c RTSP/1.0\r\nCSeq: 1\r\nContent-Length: -5\r\n\r\n",
    ],
)
async def test_data_of_other_protocols_end_the_connection(data: bytes, gateway: Gateway) -> None:
    async with connected(gateway, "c") as client:
        client.writer.write(data)
        assert await client.closed()


async def test_a_request_of_http_gets_an_answer_and_its_connection_ends(gateway: Gateway) -> None:
    async with connected(gateway, "c") as client:
        client.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(client.reader.read(), at_most(20))
        assert answer.startswith(b"HTTP/1.1 501 ")


async def test_a_silent_connection_is_closed_in_time(gateway: Gateway) -> None:
    async with connected(gateway, "c") as silent, connected(gateway, "c") as slow:
        slow.writer.write(b"OPTIONS * RTSP/1.0\r\nCSe")
        assert await silent.closed() and await slow.closed()
    assert gateway.log.count('"reason":"no request in time"') >= 2


async def test_a_storm_of_requests_ends_its_connection(gateway: Gateway, live: Channel) -> None:
    storm = b"".join(request("OPTIONS", "*", number, {}) for number in range(200))
    async with connected(gateway, live.id) as client:
        client.writer.write(storm)
        assert await client.closed()
        await is_served(gateway, live)


async def test_a_client_that_reads_no_answers_is_ended(gateway: Gateway, live: Channel) -> None:
    before = resident(gateway)
    async with connected(gateway, live.id) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with_answer = request("DESCRIBE", client.url, 1, {})
        for _ in range(100):
            client.writer.write(with_answer)
            await asyncio.sleep(0)
        await is_served(gateway, live)
    assert resident(gateway) - before < 50_000_000


async def test_repeated_setups_leave_one_track_on_one_channel(gateway: Gateway, live: Channel) -> None:
    async with connected(gateway, live.id) as client:
        assert (await client.ask("DESCRIBE")).status == 200
        for channel in (0, 2, 4, 6, 8, 100, 254):
            header = {"Transport": f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"}
            answer = await client.ask("SETUP", "/trackID=0", header)
            given = int(answer.headers["transport"].partition("interleaved=")[2].partition("-")[0])
            assert given == (channel if channel <= 6 else 0)
        assert (await client.ask("SETUP", "/trackID=7", TCP)).status == 404
        assert (await client.ask("SETUP", "", TCP)).status == 459
        assert (await client.ask("PLAY")).status == 200
        assert await client.packet(0)
        assert {packet.channel for packet in client.packets} <= {0, 1}


async def test_ways_that_are_not_offered_are_refused(gateway: Gateway, live: Channel) -> None:
    async with connected(gateway, live.id) as client:
        assert (await client.ask("DESCRIBE")).status == 200
        for header in ("RTP/AVP;multicast", "RTP/AVP;unicast;client_port=0-1", "RAW/RAW/UDP;unicast", ""):
            assert (await client.ask("SETUP", "/trackID=0", {"Transport": header})).status == 461
        onvif = {"Require": "www.onvif.org/ver20/backchannel"}
        answer = await client.ask("DESCRIBE", headers=onvif)
        assert (answer.status, answer.headers["unsupported"]) == (551, "www.onvif.org/ver20/backchannel")


async def test_packets_of_a_player_publish_nothing(gateway: Gateway, live: Channel) -> None:
    """Channels have a meaning within their connection only."""
    packet = rtp_packet(96, True, 1, 1, 1, bytes(1_000))
    async with connected(gateway, live.id) as client:
        assert (await client.play()).status == 200
        for channel in range(0, 256, 3):
            client.writer.write(interleaved(channel, packet))
        assert (await client.ask("GET_PARAMETER")).status == 200
        assert live.session()["publisher"]["protocol"] == "rtmp"
        client.writer.write(interleaved(0, bytes(60_000)) * 100)
        assert await client.closed()
    await is_served(gateway, live)


async def test_packets_before_record_and_on_other_channels_are_dropped(gateway: Gateway) -> None:
    channel = gateway.channel("push", isHls=False, isCMAF=False)
    sound = [rtp_packet(97, True, n, n * 960, 7, b"\xfc\xff\xfe") for n in range(50)]
    async with connected(gateway, f"{channel.id}?sign={channel.key}") as client:
        assert (await client.ask("ANNOUNCE", body=SDP)).status == 200
        assert (await client.ask("RECORD")).status == 455
        record = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"}
        assert (await client.ask("SETUP", "/streamid=0", record)).status == 200
        client.writer.write(b"".join(interleaved(0, packet) for packet in sound))
        assert (await client.ask("RECORD")).status == 200
        client.writer.write(b"".join(interleaved(8, packet) for packet in sound))
        assert (await client.ask("GET_PARAMETER")).status == 200
        assert not channel.session()["tracks"]
        client.writer.write(b"".join(interleaved(0, packet) for packet in sound))
        await asyncio.to_thread(until, lambda: channel.session()["tracks"], "its own channel is published")


async def test_datagrams_of_another_address_are_no_media_of_a_push(gateway: Gateway) -> None:
    channel = gateway.channel("udp", isHls=False, isCMAF=False)
    sound = [rtp_packet(97, True, n, n * 960, 7, b"\xfc\xff\xfe") for n in range(50)]
    record = {"Transport": "RTP/AVP;unicast;client_port=40010-40011;mode=record"}
    async with connected(gateway, f"{channel.id}?sign={channel.key}") as client:
        assert (await client.ask("ANNOUNCE", body=SDP)).status == 200
        answer = await client.ask("SETUP", "/streamid=0", record)
        port = int(answer.headers["transport"].partition("server_port=")[2].partition("-")[0])
        assert (await client.ask("RECORD")).status == 200
        for source, is_own in (("127.0.0.2", False), ("127.0.0.1", True)):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((source, 0))
                for packet in sound:
                    sender.sendto(packet, ("127.0.0.1", port))
            if not is_own:
                assert (await client.ask("GET_PARAMETER")).status == 200
                assert not channel.session()["tracks"]
        await asyncio.to_thread(until, lambda: channel.session()["tracks"], "those of its own address are published")


async def test_an_answer_of_digest_cannot_be_used_again(gateway: Gateway) -> None:
    channel = gateway.channel("replay")
    credentials = Credentials("camera", channel.key)
    async with connected(gateway, channel.id) as client:
        challenge = (await client.ask("ANNOUNCE", body=SDP)).headers["www-authenticate"]
        assert credentials.take_challenge(challenge)
        seen = {"Authorization": str(credentials.make_header("ANNOUNCE", client.url, "cnonce"))}
        assert (await client.ask("ANNOUNCE", headers=seen, body=SDP)).status == 200
        assert (await client.ask("TEARDOWN")).status == 200
        assert (await client.ask("ANNOUNCE", headers=seen, body=SDP)).status == 401
    async with connected(gateway, channel.id) as other:
        assert (await other.ask("ANNOUNCE", headers=seen, body=SDP)).status == 401


async def test_many_half_open_sessions_keep_nobody_out(gateway: Gateway, live: Channel) -> None:
    half_open = [await asyncio.open_connection("127.0.0.1", gateway.ports["rtsp"]) for _ in range(600)]
    try:
        await asyncio.wait_for(is_served(gateway, live), at_most(20))
    finally:
        for _, writer in half_open:
            writer.close()


async def test_a_client_that_is_ended_while_it_waits_leaves_no_push_and_no_place(gateway: Gateway) -> None:
    """It sends too many requests behind one that the gateway is still answering."""
    channel = gateway.channel("ended", isHls=False, isCMAF=False)
    storm = b"".join(request("GET_PARAMETER", "*", number, {}) for number in range(20))
    record = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"}
    async with connected(gateway, channel.id) as waiting:
        waiting.send("DESCRIBE")
        waiting.writer.write(storm)
        assert await waiting.closed()
    async with connected(gateway, f"{channel.id}?sign={channel.key}") as client:
        assert (await client.ask("ANNOUNCE", body=SDP)).status == 200
        assert (await client.ask("SETUP", "/streamid=0", record)).status == 200
        client.send("RECORD")
        client.writer.write(storm)
        assert await client.closed()
    await asyncio.to_thread(until, lambda: channel.session()["publisher"] is None, "nothing of it is left")
    assert '"level":"error"' not in gateway.log
