"""RTSP at other nodes and processes: all play what one gets, and an edge takes no push."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator

import pytest

from tests.support.clients import take_of
from tests.support.cores import Cores
from tests.support.fleet import with_edge
from tests.support.gateway import Channel, Edge, Gateway
from tests.support.media import Film, excerpt
from tests.support.rtsp import OPEN, rtsp_client, rtsp_pull, rtsp_push
from tests.support.tools import need

FILM = Film("rtsp-nodes", seconds=40)
SDP = b"v=0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway, Edge]]:
    """Two gateways and an edge with one registry."""
    need("ffmpeg")
    FILM.hashes()
    with with_edge(tmp_path_factory.mktemp("rtsp-nodes"), OPEN | {"MILLRACE_RTSP__UDP_PORTS": ""}) as started:
        yield started


def at(node: Gateway, channel: Channel, query: str = "") -> str:
    return f"rtsp://127.0.0.1:{node.ports['rtsp']}/{channel.id}{query}"


def test_every_node_plays_the_pictures(nodes: tuple[Gateway, Gateway, Edge]) -> None:
    a, b, edge = nodes
    channel = a.channel("everywhere", playAuth="sign")
    sign = str(channel.item["playUrls"]["rtsp"]).partition("?")[2]
    source = [frame.digest for frame in FILM.hashes().video]
    with rtsp_push(FILM, at(b, channel, f"?sign={channel.key}")), contextlib.ExitStack() as stack:
        channel.wait_live()
        for player in [stack.enter_context(rtsp_pull(at(node, channel, f"?{sign}"))) for node in (a, b, edge)]:
            excerpt([frame.digest for frame in take_of(player).video], source, least=60)


async def test_an_edge_takes_no_push_and_asks_players_for_the_sign(nodes: tuple[Gateway, Gateway, Edge]) -> None:
    a, _, edge = nodes
    channel = await asyncio.to_thread(a.channel, "edge", playAuth="sign")
    async with rtsp_client(edge.ports["rtsp"], f"{channel.id}?sign={channel.key}") as client:
        assert (await client.ask("ANNOUNCE", body=SDP)).status == 403
        assert (await client.ask("DESCRIBE")).status == 401


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")
def test_players_at_every_process_see_a_push_at_any(tmp_path_factory: pytest.TempPathFactory) -> None:
    need("ffmpeg")
    gateway = Cores(tmp_path_factory.mktemp("rtsp"), 2, MILLRACE_RTSP__UDP_PORTS="18140-18143", **OPEN)
    try:
        gateway.wait_ready()
        channel = gateway.channel()
        source = [frame.digest for frame in FILM.hashes().video]
        with rtsp_push(FILM, channel.item["pushUrls"]["rtsp"], "udp"), contextlib.ExitStack() as stack:
            channel.wait_live()
            url = str(channel.item["playUrls"]["rtsp"])
            for player in [stack.enter_context(rtsp_pull(url, way)) for way in ("tcp", "udp", "tcp", "udp")]:
                excerpt([frame.digest for frame in take_of(player).video], source, least=45)
    finally:
        assert gateway.stop() == 0
