"""Each limit of viewers in each protocol: what a refused viewer is told. Rows that do not apply say why."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import moq
import pytest

from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import ControlType, Reject, control
from tests.support.auth_hook import HookService, hook_service
from tests.support.clients import Program, push, until
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import VIDEO_ONLY
from tests.support.moq_viewer import client, gets_broadcast
from tests.support.rtmp import connected
from tests.support.rtsp import OPEN, rtsp_client
from tests.support.srt import Peer, call
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.support.webrtc import Client
from tests.support.whip_client import offer

PLAYS: Final = "plays"
FLV, WSFLV, RTMP, SRT, RTSP, WHEP, MOQ, HLS = PROTOCOLS = ("flv", "wsflv", "rtmp", "srt", "rtsp", "whep", "moq", "hls")
ENDED: Final = "the session ends"  # the library's client cannot read why
FAILED, UNAUTHORIZED, NOT_FOUND = (f"NetStream.Play.{word}" for word in ("Failed", "Unauthorized", "StreamNotFound"))
_UPGRADE: Final = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)

# What a viewer is told whom a limit refuses: a status of HTTP or RTSP, a code of RTMP or SRT.
ANSWERS: Final[Mapping[str, Mapping[str, object]]] = {
    "playback_per_address": {
        FLV: 429,
        WSFLV: 429,
        RTMP: FAILED,
        SRT: Reject.OVERLOADED,
        RTSP: 503,
        WHEP: 429,
        MOQ: 429,
        HLS: 429,
    },
    "maxViewerMbps": {
        FLV: 503,
        WSFLV: 503,
        RTMP: FAILED,
        SRT: Reject.OVERLOADED,
        RTSP: 453,
        WHEP: 503,
        MOQ: ENDED,
        HLS: 503,
    },
    "node_mbps": {
        FLV: 503,
        WSFLV: 503,
        RTMP: FAILED,
        SRT: Reject.OVERLOADED,
        RTSP: 453,
        WHEP: 503,
        MOQ: ENDED,
        HLS: 503,
    },
    "playAuth": {
        FLV: 403,
        WSFLV: 403,
        RTMP: UNAUTHORIZED,
        SRT: Reject.UNAUTHORIZED,
        RTSP: 401,
        WHEP: 401,
        MOQ: 403,
        HLS: 403,
    },
    "hook": {
        FLV: 403,
        WSFLV: 403,
        RTMP: UNAUTHORIZED,
        SRT: Reject.UNAUTHORIZED,
        RTSP: 401,
        WHEP: 403,
        MOQ: 403,
        HLS: 403,
    },
    "idle": {FLV: 404, WSFLV: 404, RTMP: NOT_FOUND, SRT: Reject.NOT_FOUND, RTSP: 404, WHEP: 404, MOQ: 404, HLS: 404},
    "referer": {FLV: 403, WSFLV: 403, WHEP: 401, MOQ: 403, HLS: 403},  # players of RTMP, SRT and RTSP send none
}
WAITS: Final = (FLV, WSFLV, RTMP, SRT, RTSP, WHEP, MOQ)  # a player of HLS asks again by itself
# Viewers with a send queue. Packets of WHEP over UDP are dropped; its TCP is in `tests/integration/webrtc`. An answer
# to a player of HLS is in `tests/unit/http/test_server.py`. The queues of MoQ are the library's.
QUEUES: Final = (FLV, WSFLV, RTMP, SRT, RTSP)


@dataclass
class Viewers:
    """Viewers of one gateway. Those that play stay until `stack` ends. They have the address `source`."""

    gateway: Gateway
    stack: contextlib.AsyncExitStack
    source: str = "127.0.0.1"

    async def ask(self, protocol: str, channel: Channel, *, sign: str = "", referer: str = "") -> object:
        """Returns PLAYS, or what a refused viewer is told."""
        query = f"?sign={sign}" if sign else ""
        if protocol == RTMP:
            peer = await self.stack.enter_async_context(connected(self.gateway.ports["rtmp"], source=self.source))
            code = (await peer.play(f"{channel.id}{query}", timeout=10)).code
            if code == "NetStream.Play.Start":
                return PLAYS
            assert await peer.closed()
            return code
        if protocol == SRT:
            try:
                peer = await asyncio.to_thread(self._call, f"read:{channel.id}{query}")
            except HandshakeRefused as error:
                return error.code
            self.stack.callback(peer.close)
            return PLAYS
        if protocol == RTSP:
            client = await self.stack.enter_async_context(
                rtsp_client(self.gateway.ports["rtsp"], f"{channel.id}{query}", self.source)
            )
            status = (await client.play()).status
            return PLAYS if status == 200 else status
        return await self._request(protocol, f"/{channel.id}/{PATHS[protocol]}{query}", referer)

    def _call(self, stream_id: str) -> Peer:
        return call(self.gateway.ports["srt"], stream_id, source=self.source)

    async def _session(self, url: str, hashes: list[str]) -> object:
        """Opens the session of MoQ that a page opens with its ticket."""
        try:
            connected = await self.stack.enter_async_context(client(url, hashes))
        except moq.Error:
            return ENDED
        return PLAYS if await gets_broadcast(connected) else ENDED

    async def _request(self, protocol: str, path: str, referer: str) -> object:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.gateway.ports["http"], local_addr=(self.source, 0)
        )
        body = offer(Client(), "recvonly", audio=False) if protocol == WHEP else ""
        head = f"{'POST' if protocol in (WHEP, MOQ) else 'GET'} {path} HTTP/1.1\r\nHost: live.example.com\r\n"
        head += f"Referer: {referer}\r\n" if referer else ""
        head += _UPGRADE if protocol == WSFLV else ""
        head += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n" if body else ""
        writer.write(f"{head}\r\n{body}".encode())
        status = int((await asyncio.wait_for(reader.readline(), at_most(20))).split()[1])
        if status == 200 and protocol == MOQ:
            await reader.readuntil(b"\r\n\r\n")
            page = json.loads(await reader.readuntil(b"}"))
            writer.close()
            return await self._session(page["url"].replace("live.example.com", "127.0.0.1"), page["hashes"])
        if status == 200 and protocol == HLS and b"#EXTM3U" not in await reader.readuntil(b"#EXTM3U"):
            raise AssertionError("no playlist")
        if protocol in (FLV, WSFLV) and status in (101, 200):
            self.stack.callback(lambda: writer.transport.abort())  # keeps the writer
        else:
            writer.close()
            await writer.wait_closed()
        return PLAYS if status in (101, 200, 201) else status


PATHS: Final = {MOQ: "moq", FLV: "live.flv", WSFLV: "live.flv", WHEP: "whep", HLS: "live.m3u8"}


@contextlib.asynccontextmanager
async def viewers(gateway: Gateway, source: str = "127.0.0.1") -> AsyncIterator[Viewers]:
    async with contextlib.AsyncExitStack() as stack:
        yield Viewers(gateway, stack, source)
    await asyncio.sleep(0)  # the sockets close in the next turn of the loop, and the gateway may be stopped before


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 4 Mbit/s. Noise needs so many bits."""
    need("ffmpeg")
    path = tmp_path_factory.mktemp("heavy") / "heavy.flv"
    source = "testsrc2=size=320x180:rate=25,noise=alls=100:allf=t"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", source, "-t", "4", "-c:v", "libx264"]
    command += ["-pix_fmt", "yuv420p", "-preset", "ultrafast", "-g", "25", "-b:v", "4M", "-minrate", "4M"]
    subprocess.run([*command, "-maxrate", "4M", "-bufsize", "4M", str(path)], check=True)
    return path


def push_heavy(film: Path, channel: Channel) -> Program:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(film)]
    return Program([*command, "-c", "copy", "-f", "flv", channel.push])


# ---- the address ----


@pytest.fixture(scope="module")
def limited() -> Iterator[Gateway]:
    need("ffmpeg")
    settings = {"MILLRACE_LIMITS__PLAYBACK_PER_ADDRESS": "2", "MILLRACE_STREAM__WAIT_FOR_PUBLISHER": "1"}
    with running(MILLRACE_MOQ__PORT="0", **OPEN, **settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def limited_channel(limited: Gateway) -> Iterator[Channel]:
    channel = limited.channel()
    with push(VIDEO_ONLY, channel.push, loop=True):
        until(lambda: channel.session()["state"] == "live", "it is live")
        channel.wait_playable("live.m3u8")
        yield channel


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_address_has_as_many_viewers_as_it_may_over_all_protocols(
    protocol: str, limited: Gateway, limited_channel: Channel
) -> None:
    """Two viewers of other protocols leave no place for a third one. Another address has places of its own."""
    source = f"127.0.1.{1 + PROTOCOLS.index(protocol)}"
    async with viewers(limited, source) as crowd:
        first, second = [other for other in (SRT, RTMP, FLV) if other != protocol][:2]
        assert await crowd.ask(first, limited_channel) == PLAYS
        assert await crowd.ask(second, limited_channel) == PLAYS
        assert await crowd.ask(protocol, limited_channel) == ANSWERS["playback_per_address"][protocol]
        async with viewers(limited, "127.0.1.100") as others:
            assert await others.ask(protocol, limited_channel) == PLAYS
    async with viewers(limited, source) as later:
        async with asyncio.timeout(at_most(15)):
            while await later.ask(protocol, limited_channel) != PLAYS:
                await asyncio.sleep(0.2)


async def test_many_players_over_srt_are_limited_as_others_are(limited: Gateway, limited_channel: Channel) -> None:
    async with viewers(limited, "127.0.1.50") as crowd:
        answers = [await crowd.ask(SRT, limited_channel) for _ in range(5)]
    assert answers == [PLAYS] * 2 + [Reject.OVERLOADED] * 3


# ---- rights, hook, wait, bandwidth of the channel ----


@pytest.fixture(scope="module")
def service() -> Iterator[HookService]:
    with hook_service() as service:
        yield service


@pytest.fixture(scope="module")
def gateway(service: HookService) -> Iterator[Gateway]:
    need("ffmpeg")
    with running(
        MILLRACE_AUTH__PLAY=service.url,
        MILLRACE_MOQ__PORT="0",
        MILLRACE_STREAM__WAIT_FOR_PUBLISHER="1",
        MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0",
        MILLRACE_PLAYBACK__REFERER_ALLOW="good.example",
        **OPEN,
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def channels(gateway: Gateway, service: HookService) -> Iterator[dict[str, Channel]]:
    """Live channels: `signed` needs a play sign, `hook` is refused by the service, `full` has no bandwidth."""
    made = {
        "open": gateway.channel("open"),
        "signed": gateway.channel("signed", playAuth="sign"),
        "hook": gateway.channel("hook"),
        "full": gateway.channel("full"),
    }
    service.answers = {channel.id: (200, "") for name, channel in made.items() if name != "hook"}
    with contextlib.ExitStack() as stack:
        for channel in made.values():
            stack.enter_context(push(VIDEO_ONLY, channel.push, loop=True))
        for channel in made.values():
            channel.wait_live()
        full = made["full"]
        until(lambda: full.session()["bitrate"] > 100, "the bit rate is known")
        reply = gateway.api("PUT", f"/videostream/{full.id}", {**full.item, "maxViewerMbps": 0.01})
        assert reply.status == 200, reply.text
        yield made


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_each_protocol_says_why_a_viewer_may_not_play(
    protocol: str, gateway: Gateway, channels: dict[str, Channel], service: HookService
) -> None:
    signed = channels["signed"]
    sign = str(signed.item["playUrls"]["flv"]).partition("?sign=")[2]
    async with viewers(gateway) as crowd:
        assert await crowd.ask(protocol, channels["open"]) == PLAYS
        assert await crowd.ask(protocol, signed) == ANSWERS["playAuth"][protocol], "without a play sign"
        assert await crowd.ask(protocol, signed, sign="4102444800-00") == ANSWERS["playAuth"][protocol], "a wrong one"
        assert await crowd.ask(protocol, signed, sign=sign) == PLAYS
        assert await crowd.ask(protocol, channels["hook"]) == ANSWERS["hook"][protocol]
        assert await crowd.ask(protocol, channels["full"]) == ANSWERS["maxViewerMbps"][protocol]
        if protocol in ANSWERS["referer"]:
            refused = await crowd.ask(protocol, channels["open"], referer="https://bad.example/page")
            assert refused == ANSWERS["referer"][protocol]
            assert await crowd.ask(protocol, channels["open"], referer="https://good.example/page") == PLAYS
    assert "4102444800-00" not in str(service.asked), "nobody is asked about a viewer without rights"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_each_protocol_waits_for_the_publisher(protocol: str, gateway: Gateway, service: HookService) -> None:
    channel = gateway.channel()
    service.answers[channel.id] = (200, "")
    began = time.monotonic()
    async with viewers(gateway) as crowd:
        assert await crowd.ask(protocol, channel) == ANSWERS["idle"][protocol]
    assert protocol not in WAITS or time.monotonic() - began > 0.9


# ---- the bandwidth of the node ----


async def test_no_protocol_gets_more_viewers_than_the_node_has_bandwidth_for(heavy: Path) -> None:
    with running(MILLRACE_LIMITS__NODE_MBPS="1", MILLRACE_MOQ__PORT="0", **OPEN) as gateway:
        channel = gateway.channel()
        with push_heavy(heavy, channel):
            await asyncio.to_thread(until, lambda: channel.session()["bitrate"] > 2_000, "the bit rate is known")
            async with viewers(gateway) as crowd:
                answers = {protocol: await crowd.ask(protocol, channel) for protocol in PROTOCOLS}
        assert answers == ANSWERS["node_mbps"]


# ---- viewers that do not read ----


class Deaf:
    """Viewers that read and acknowledge nothing, one of each protocol with a queue."""

    def __init__(self, gateway: Gateway, channel: Channel) -> None:
        self.gateway, self.channel = gateway, channel

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for protocol in (FLV, WSFLV):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.ports["http"], limit=1024)
                upgrade = _UPGRADE if protocol == WSFLV else ""
                writer.write(f"GET /{self.channel.id}/live.flv HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n".encode())
                await reader.readline()
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                stack.callback(lambda writer=writer: writer.transport.abort())  # type: ignore[misc]
            player = await stack.enter_async_context(connected(self.gateway.ports["rtmp"]))
            await player.play(self.channel.id)
            player.stop_reading()
            client = await stack.enter_async_context(rtsp_client(self.gateway.ports["rtsp"], self.channel.id))
            assert (await client.play()).status == 200
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            peer = await asyncio.to_thread(call, self.gateway.ports["srt"], f"read:{self.channel.id}", latency=20.0)
            stack.callback(peer.close)
            alive = asyncio.ensure_future(self._keep_alive(peer))
            stack.callback(alive.cancel)
            yield

    async def _keep_alive(self, peer: Peer) -> None:
        assert peer.connection is not None
        while True:
            peer.send_raw(control(ControlType.KEEPALIVE, peer.connection.agreement.peer_socket, 0, bytes(4)))
            await asyncio.sleep(1)

    def counts(self) -> dict[str, int]:
        counts = self.channel.session()["viewers"]
        return {protocol: counts[protocol] for protocol in QUEUES}

    def waiting(self) -> float:
        """Bytes that wait for all viewers."""
        lines = self.gateway.api("GET", "/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("millrace_viewer_backlog_bytes ")).split()[1])


@contextlib.asynccontextmanager
async def deaf_viewers(film: Path, **limits: str) -> AsyncIterator[Deaf]:
    """Runs a gateway with one deaf viewer of each protocol with a queue."""
    with running(**{f"MILLRACE_LIMITS__{name}": value for name, value in limits.items()}, **OPEN) as gateway:
        channel = gateway.channel(isHls=False, isCMAF=False)
        with push_heavy(film, channel):
            await asyncio.to_thread(channel.wait_live)
            deaf = Deaf(gateway, channel)
            async with deaf.watching():
                await asyncio.to_thread(until, lambda: deaf.counts() == dict.fromkeys(QUEUES, 1), "all watch")
                yield deaf
            await asyncio.to_thread(until, lambda: deaf.waiting() == 0, "nothing waits")


async def test_viewers_that_read_nothing_are_ended_in_each_protocol(heavy: Path) -> None:
    async with deaf_viewers(heavy, VIEWER_STALL="2", VIEWER_BACKLOG="100000") as deaf:
        most = 0.0
        async with asyncio.timeout(at_most(40)):
            while any(deaf.counts().values()):
                most = max(most, deaf.waiting())
                await asyncio.sleep(0.2)
        # Each may have a key frame and 3 s of the stream, SRT 25 s, beside the GOP at its beginning.
        assert 1_000_000 < most < 20_000_000


async def test_all_protocols_share_the_memory_of_viewers_and_the_first_is_ended_when_it_is_short(heavy: Path) -> None:
    async with deaf_viewers(heavy, VIEWER_STALL="600", VIEWER_MEMORY="2000000") as deaf:
        most = 0.0
        async with asyncio.timeout(at_most(40)):
            while all(deaf.counts().values()):
                most = max(most, deaf.waiting())
                await asyncio.sleep(0.2)
        assert 1_500_000 < most < 2_200_000
