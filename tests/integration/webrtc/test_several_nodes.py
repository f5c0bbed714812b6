"""WHIP and WHEP with several processes and edges for one stream: shared conversions, and requests to any node."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.clients import push, until
from tests.support.cores import Cores, alive
from tests.support.fleet import sharing
from tests.support.gateway import Channel, Edge, Gateway
from tests.support.media import Film
from tests.support.thin_link import ThinLink
from tests.support.tools import need
from tests.support.webrtc_session import PICTURES, SOUND, Publisher, WebRtcSession
from tests.support.whip_client import watching

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux"),
    pytest.mark.asyncio(loop_factories=["uvloop"]),  # of the clients alone: processes of the gateway have their own
]

FILM = Film("nodes-40", seconds=40)
BFRAMES = Film("nodes-b-40", seconds=40, bframes=3)
LADDER = """[standard]
vbv = 1.5
rungs = [ { name = "small", flag = "", width = 160, height = 90, bitrate = 60000, audio = 64000 } ]
"""
SECRET = "a secret of nodes for tests"
WEBRTC = {"MILLRACE_WEBRTC__PORT": "0", "MILLRACE_WEBRTC__HOST": "127.0.0.1"}


@pytest.fixture(autouse=True)
def tools() -> None:
    need("ffmpeg")


@pytest.fixture(autouse=True)
async def sessions() -> AsyncIterator[None]:
    """Closes the sockets of all clients."""
    yield
    while WebRtcSession.opened:
        WebRtcSession.opened.pop().network.close()
    await asyncio.sleep(0)


@contextlib.contextmanager
def gateway_of(folder: Path, workers: int = 2, **settings: str) -> Iterator[Cores]:
    folder.mkdir(exist_ok=True)
    gateway = Cores(folder, workers, **WEBRTC, MILLRACE_CLUSTER__SECRET=SECRET, **settings)
    try:
        gateway.wait_ready()
        yield gateway
    finally:
        with contextlib.suppress(AssertionError):
            gateway.stop(20)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cores]:
    """A gateway of two processes for all tests that neither restart nor stop it."""
    need("ffmpeg")
    folder = tmp_path_factory.mktemp("nodes")
    ladders = folder / "ladders.toml"
    ladders.write_text(LADDER)
    with gateway_of(folder / "gateway", MILLRACE_TRANSCODE__LADDERS=str(ladders)) as gateway:
        yield gateway


@contextlib.contextmanager
def edge_of(folder: Path, gateway: Gateway) -> Iterator[Edge]:
    folder.mkdir(exist_ok=True)
    upstream = f"127.0.0.1:{gateway.ports['http']}"
    edge = Edge(folder, **WEBRTC, MILLRACE_CLUSTER__SECRET=SECRET, MILLRACE_EDGE__UPSTREAM=upstream)
    try:
        edge.wait_ready()
        yield edge
    finally:
        with contextlib.suppress(AssertionError):
            edge.stop(20)


async def everywhere(gateway: Cores, url: str, count: int = 2) -> dict[int, WebRtcSession]:
    """Returns viewers by the port of their process, one for each process."""
    found: dict[int, WebRtcSession] = {}
    for _ in range(60):
        viewer = WebRtcSession(url, "recvonly")
        await viewer.connect()
        if viewer.port in found:
            viewer.close()
        found.setdefault(viewer.port, viewer)
        if len(found) == count:
            return found
    raise AssertionError(f"only {sorted(found)} answered")


async def plays(viewer: WebRtcSession) -> None:
    """Returns once pictures and Opus arrive. Pictures arrive in the order in which they are shown."""
    await viewer.until(lambda: len(viewer.packets(PICTURES)) > 60 and len(viewer.packets(SOUND)) > 40)
    stamps = [int.from_bytes(packet[4:8], "big") for packet in sorted_by_number(viewer.packets(PICTURES))]
    assert all((after - before) & 0xFFFFFFFF < 1 << 31 for before, after in itertools.pairwise(stamps))
    sound = [int.from_bytes(packet[4:8], "big") for packet in sorted_by_number(viewer.packets(SOUND))]
    steps = {(after - before) & 0xFFFFFFFF for before, after in itertools.pairwise(sound)}
    # A busy machine may lose some.
    assert {step % 960 for step in steps} == {0}, "Opus has 20 ms in each packet, AAC would have 1,024 samples"


def sorted_by_number(packets: list[bytes]) -> list[bytes]:
    first = int.from_bytes(packets[0][2:4], "big")
    return sorted(packets, key=lambda packet: (int.from_bytes(packet[2:4], "big") - first + 0x4000) & 0xFFFF)


def conversions(channel: Channel, event: str) -> int:
    """Returns how many conversions for browsers began or ended for a channel, according to the log."""
    lines = [line for line in channel.gateway.log.splitlines() if channel.id in line]
    return sum(f'"event":"work {event}"' in line for line in lines)


def running_conversions(channel: Channel) -> int:
    return conversions(channel, "begins") - conversions(channel, "ends")


@contextlib.asynccontextmanager
async def renditions(nodes: Cores) -> AsyncIterator[Channel]:
    """A push whose rendition `small` has begun."""
    channel = nodes.channel(isCodec=True)
    with push(FILM, channel.push):
        await asyncio.to_thread(channel.wait_playable, "small/index.m3u8", timeout=40)
        yield channel


async def test_a_rendition_has_pictures_and_sound_on_every_process(nodes: Cores) -> None:
    async with renditions(nodes) as channel:
        viewers = await everywhere(nodes, channel.url("whep").replace(channel.id, f"{channel.id}@small"))
        for viewer in viewers.values():
            await plays(viewer)
        assert conversions(channel, "begins") == 1, "the sound is converted once"
        for viewer in viewers.values():
            viewer.close()


@pytest.mark.nightly
async def test_viewers_of_every_process_can_change_renditions(nodes: Cores) -> None:
    """A process without the ladder pulls a rendition while a viewer of its own needs it."""
    async with renditions(nodes) as channel, contextlib.AsyncExitStack() as stack:
        viewers: dict[int, ThinLink] = {}
        while len(viewers) < 2:  # the kernel gives each connection to any process
            whep = await stack.enter_async_context(watching(channel.url("whep")))
            viewers.setdefault(whep.port, ThinLink(whep))
        for link in viewers.values():
            await link.whep.watch(lambda: link.width() == 320)  # noqa: B023
            await link.report(0.3, 160)
            shown = len(link.widths)
            await link.whep.watch(lambda: link.width() == 160 and len(link.widths) > shown + 160)  # noqa: B023
            assert set(link.widths[shown:]) == {160}, "longer than an unused replica would stay"
            steps = {(b - a) & 0xFFFF for a, b in itertools.pairwise(link.numbers())}
            assert steps == {1}, "the numbers continue"


@contextlib.asynccontextmanager
async def converted(nodes: Cores) -> AsyncIterator[Channel]:
    """A push whose pictures and sound are converted for a viewer of each process."""
    channel = nodes.channel()
    with push(BFRAMES, channel.push):
        await asyncio.to_thread(channel.wait_live)
        viewers = await everywhere(nodes, channel.url("whep"))
        for viewer in viewers.values():
            await plays(viewer)
        assert running_conversions(channel) == 2, "one for the sound, one for the pictures"
        for viewer in viewers.values():
            viewer.close()
        yield channel


async def test_viewers_of_every_process_share_one_conversion(nodes: Cores) -> None:
    async with converted(nodes):
        pass


@pytest.mark.nightly
async def test_conversions_end_after_the_last_viewer_of_every_process(nodes: Cores) -> None:
    async with converted(nodes) as channel:
        await asyncio.to_thread(until, lambda: running_conversions(channel) == 0, "the conversions end", 30)


async def test_a_stream_for_browsers_is_not_converted_for_other_processes(nodes: Cores) -> None:
    channel = nodes.channel()
    url = channel.url(f"whip?sign={channel.key}")
    publisher = Publisher(url)
    await publisher.start()
    await asyncio.to_thread(channel.wait_live)
    viewers = await everywhere(nodes, channel.url("whep"))
    for viewer in viewers.values():
        await viewer.until(lambda: len(viewer.packets(PICTURES)) > 30)  # noqa: B023
    lines = [line for line in nodes.log.splitlines() if channel.id in line]
    assert lines and not any('"work":"pictures for browsers"' in line for line in lines)
    publisher.close()


async def test_any_process_can_change_and_end_any_session(nodes: Cores) -> None:
    channel = nodes.channel()
    with push(FILM, channel.push):
        await asyncio.to_thread(channel.wait_live)
        viewers = await everywhere(nodes, channel.url("whep"))
        for viewer in viewers.values():
            for _ in range(8):  # the kernel gives each connection to any process
                assert (await viewer.patch())[0] == 204
            status, fragment = await viewer.patch(ufrag="newufrag", password="a" * 24)
            assert status == 200, fragment
            assert f"a=ice-ufrag:{viewer.client.remote[0]}" not in fragment
        for viewer in viewers.values():
            assert await viewer.delete() == 200
            assert [await viewer.delete() for _ in range(8)] == [404] * 8
            await viewer.network.until(lambda: viewer.client.closed)  # noqa: B023


@pytest.mark.nightly
async def test_any_gateway_can_change_and_end_sessions_of_others(tmp_path: Path) -> None:
    """A load balancer may send each request to another machine. The media stay with the first one."""
    with sharing(tmp_path, 2) as (owner, other):
        channel = owner.channel()
        publisher = Publisher(channel.url(f"whip?sign={channel.key}"))
        await publisher.start()
        await asyncio.to_thread(channel.wait_live)
        viewer = WebRtcSession(f"{base(other)}/{channel.id}/whep", "recvonly")
        await viewer.connect()
        await viewer.until(lambda: len(viewer.packets(PICTURES)) > 30)
        for session, elsewhere in ((viewer, owner), (publisher.session, other)):
            url = base(elsewhere) + urlsplit(session.location).path
            assert (await session.patch(url))[0] == 204
            status, fragment = await session.patch(url, ufrag="newufrag", password="a" * 24)
            assert status == 200, fragment
            assert f"a=ice-ufrag:{session.client.remote[0]}" not in fragment
            session.location = url
            assert await session.delete() == 200
            assert await session.delete() == 404
            await session.network.until(lambda: session.client.closed)  # noqa: B023
        publisher.close()


def base(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.ports['http']}"


async def test_requests_for_unknown_sessions_are_not_sent_between_nodes(nodes: Cores) -> None:
    channel = nodes.channel()
    with push(FILM, channel.push):
        await asyncio.to_thread(channel.wait_live)
        viewer = WebRtcSession(channel.url("whep"), "recvonly")
        await viewer.connect()
        invented = viewer.location[:-1] + ("A" if viewer.location[-1] != "A" else "B")
        for _ in range(8):
            assert (await viewer.patch(invented))[0] == 404
        assert (await viewer.patch())[0] == 204
        viewer.close()


async def test_an_edge_plays_opus_and_no_reordered_pictures(nodes: Cores, tmp_path: Path) -> None:
    with edge_of(tmp_path / "edge", nodes) as edge:
        channel = nodes.channel()
        with push(BFRAMES, channel.push):
            await asyncio.to_thread(channel.wait_live)
            viewer = WebRtcSession(edge.url(channel, "whep"), "recvonly")
            await viewer.connect()
            await plays(viewer)
            assert await viewer.delete() == 200
            await viewer.network.until(lambda: viewer.client.closed)


async def test_a_rolling_restart_interrupts_neither_publisher_nor_viewers(tmp_path: Path) -> None:
    with gateway_of(tmp_path / "gateway") as gateway:
        channel = gateway.channel()
        publisher = Publisher(channel.url(f"whip?sign={channel.key}"))
        await publisher.start()
        await asyncio.to_thread(channel.wait_live)
        viewers = list((await everywhere(gateway, channel.url("whep"))).values())
        for viewer in viewers:
            await viewer.until(lambda: len(viewer.packets(PICTURES)) > 30)  # noqa: B023
        old = gateway.workers()
        gateway.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(until, lambda: '"event":"reloaded"' in gateway.log, "reloaded", 60)
        for viewer in viewers:
            count = len(viewer.packets(PICTURES))
            await viewer.until(lambda: len(viewer.packets(PICTURES)) > count + 60)  # noqa: B023
            assert not viewer.client.closed
            numbers = [int.from_bytes(p[2:4], "big") for p in sorted_by_number(viewer.packets(PICTURES))]
            assert {(b - a) & 0xFFFF for a, b in itertools.pairwise(numbers)} <= {0, 1}, "nothing is lost"
        assert not publisher.session.client.closed
        after = list((await everywhere(gateway, channel.url("whep"))).values())
        for viewer in after:  # of the new processes, on the same ports
            await viewer.until(lambda: len(viewer.packets(PICTURES)) > 30)  # noqa: B023
        assert {viewer.port for viewer in after} == {viewer.port for viewer in viewers}
        for viewer in viewers:
            assert await viewer.delete() == 200  # the new process knows where the old one is
        publisher.close()
        await asyncio.to_thread(until, lambda: not any(map(alive, old.values())), "the old workers end", 40)
        for viewer in after:
            viewer.close()


async def test_a_shutdown_of_the_gateway_ends_sessions_at_once(tmp_path: Path) -> None:
    with gateway_of(tmp_path / "gateway") as gateway:
        channel = gateway.channel()
        publisher = Publisher(channel.url(f"whip?sign={channel.key}"))
        await publisher.start()
        await asyncio.to_thread(channel.wait_live)
        viewers = list((await everywhere(gateway, channel.url("whep"))).values())
        for viewer in viewers:
            await viewer.until(lambda: len(viewer.packets(PICTURES)) > 30)  # noqa: B023
        gateway.process.send_signal(signal.SIGTERM)
        for session in (*viewers, publisher.session):
            await session.network.until(lambda: session.client.closed)  # noqa: B023
            assert session.said_bye
        publisher.close()
        assert await asyncio.to_thread(gateway.ended) == 0, gateway.log[-2000:]
        assert gateway.log.count('"event":"publish ended"') == 1
