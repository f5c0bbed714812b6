"""Media over QUIC at a real gateway: the library's client gets the pushed frames, and only those that it may get."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import moq
import pytest

from tests.support.clients import push, until
from tests.support.free_ports import free_port
from tests.support.gateway import Channel, Edge, Gateway, Reply, http, running
from tests.support.media import Film, excerpt, parse_framehash
from tests.support.moq_viewer import PATIENT, client, frames, refused, watching
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

FILM = Film("moq", seconds=60, bframes=2)
SETTINGS = {
    "MILLRACE_MOQ__PORT": "0",
    "MILLRACE_STREAM__LINGER": "1",
    "MILLRACE_STREAM__WAIT_FOR_PUBLISHER": "1",
    "MILLRACE_LIMITS__REFUSALS_PER_MINUTE": "0",
}

gateway = shared_gateway("ffmpeg", **SETTINGS)


@pytest.fixture(scope="module")
def channel(gateway: Gateway) -> Iterator[Channel]:
    """A channel with B-frames and AAC by RTMP."""
    channel = gateway.channel("live")
    with push(FILM, channel.push, loop=True):
        channel.wait_live()
        yield channel


@pytest.fixture(scope="module")
def protected(gateway: Gateway) -> Iterator[Channel]:
    channel = gateway.channel("protected", playAuth="sign")
    with push(FILM, channel.push, loop=True):
        channel.wait_live()
        yield channel


def open_session(channel: Channel, query: str = "", **headers: str) -> Reply:
    """Asks for a ticket as a page does."""
    return http("POST", channel.url(f"moq{query}"), headers=headers)


def hashes(channel: Channel, query: str = "") -> list[str]:
    return list(open_session(channel, query).json()["hashes"])


def played(channel: Channel, **at: str) -> str:
    """Returns the address for players of a channel."""
    return str(channel.item["playUrls"]["moq"])


def coded(film: Film) -> tuple[list[str], list[str]]:
    """Returns the hashes of a film's coded pictures, and of its sound, in decode order."""
    command = ["ffmpeg", "-v", "error", "-i", str(film.path()), "-c", "copy", "-f", "framehash", "-hash", "md5", "-"]
    take = parse_framehash(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return [f.digest for f in take.video], [f.digest for f in take.audio]


def digests(frames: list[moq.MediaFrame]) -> list[str]:
    return [md5(frame.payload).hexdigest() for frame in frames]


async def test_the_pushed_frames_arrive_unchanged_and_the_viewer_is_counted(gateway: Gateway, channel: Channel) -> None:
    url = played(channel)
    assert url == f"https://127.0.0.1:{gateway.ports['moq']}/{channel.id}"
    video, audio = await asyncio.to_thread(coded, FILM)
    known = await asyncio.to_thread(hashes, channel)
    async with watching(url, channel.id, known) as watched:
        assert [track.codec[:4] for track in watched.catalog.video.values()] == ["avc1"]
        assert [track.codec for track in watched.catalog.audio.values()] == ["mp4a.40.2"]
        await frames(watched, video=120, audio=150)
        session = await asyncio.to_thread(channel.session)
        assert session["viewers"]["moq"] == 1
    assert watched.video[0].keyframe
    excerpt(digests(watched.video)[:110], 2 * video, least=110)
    excerpt(digests(watched.audio)[:140], 2 * audio, least=140)
    await asyncio.to_thread(until, lambda: channel.session()["viewers"]["moq"] == 0, "no viewer is counted")
    metrics = (await asyncio.to_thread(gateway.api, "GET", "/metrics")).text
    sent = next(line for line in metrics.splitlines() if line.startswith('millrace_sent_bytes_total{protocol="moq"'))
    assert float(sent.rpartition(" ")[2]) > 100_000
    assert '"event":"MoQ viewer joins"' in gateway.log and '"event":"MoQ viewer left"' in gateway.log


async def test_raw_quic_plays_too(gateway: Gateway, channel: Channel) -> None:
    known = await asyncio.to_thread(hashes, channel)
    async with watching(played(channel).replace("https:", "moqt:"), channel.id, known) as watched:
        await frames(watched, video=10, audio=10)


async def test_a_protected_channel_needs_its_play_sign(channel: Channel, protected: Channel) -> None:
    url = played(protected)
    sign = urlsplit(url).query
    known = await asyncio.to_thread(hashes, channel)
    plain = url.partition("?")[0]
    assert sign.startswith("sign=")
    assert await refused(plain, known)
    assert await refused(f"{plain}?sign=2000000000-0123", known)
    assert await refused(url.replace(protected.id, channel.id).partition("?")[0] + "x", known), "no such channel"
    async with watching(url, protected.id, known) as watched:
        await frames(watched, video=5, audio=5)


async def test_a_session_reaches_only_the_channel_of_its_address(channel: Channel, protected: Channel) -> None:
    known = await asyncio.to_thread(hashes, channel)
    async with client(played(channel), known) as connected, asyncio.timeout(at_most(20)):
        await connected.announced_broadcast(channel.id)
        with pytest.raises(moq.Error):
            broadcast = await connected.request_broadcast(protected.id)
            await broadcast.catalog()


async def test_a_page_gets_a_ticket_with_the_checks_of_http(channel: Channel, protected: Channel) -> None:
    refusal = await asyncio.to_thread(open_session, protected)
    assert (refusal.status, refusal.text.strip()) == (403, "a play sign is needed: ?sign=<expiry>-<hash>")
    query = "?" + urlsplit(played(protected)).query
    page: dict[str, Any] = (await asyncio.to_thread(open_session, protected, query)).json()
    assert page["name"] == protected.id
    async with watching(page["url"], page["name"], page["hashes"]) as watched:
        await frames(watched, video=5)
    assert await refused(page["url"].replace(protected.id, channel.id), page["hashes"]), "of another channel"
    assert await refused(page["url"] + "0", page["hashes"])


async def test_only_pages_that_may_embed_a_channel_get_in(gateway: Gateway, channel: Channel) -> None:
    known = await asyncio.to_thread(hashes, channel)
    embedded = gateway.channel("embedded", refererAllow=["example.com"])
    with push(FILM, embedded.push):
        await asyncio.to_thread(embedded.wait_live)
        assert await refused(played(embedded), known), "WebTransport does not tell the page"
        other = await asyncio.to_thread(open_session, embedded, Referer="https://other.example/")
        assert other.status == 403
        page = (await asyncio.to_thread(open_session, embedded, Referer="https://example.com/")).json()
        async with watching(page["url"], embedded.id, known) as watched:
            await frames(watched, video=5)


async def test_a_client_that_sends_a_broadcast_is_disconnected(gateway: Gateway, channel: Channel) -> None:
    known = await asyncio.to_thread(hashes, channel)
    async with client(played(channel), known, publish=moq.OriginProducer()) as connected:
        mine = connected.create_broadcast("mine")  # the library ends a broadcast that nobody holds
        mine.announce()
        async with asyncio.timeout(at_most(20)):
            with pytest.raises(moq.Error):
                await connected.session.closed()
    await asyncio.to_thread(until, lambda: '"reason":"sends a broadcast"' in gateway.log, "the log says why")


async def test_the_end_of_a_stream_ends_its_tracks_and_then_its_viewers(gateway: Gateway, channel: Channel) -> None:
    known = await asyncio.to_thread(hashes, channel)
    short = gateway.channel("short")
    with push(FILM, short.push):
        await asyncio.to_thread(short.wait_live)
        async with watching(played(short), short.id, known) as watched:
            await frames(watched, video=5)
            closed = asyncio.ensure_future(watched.client.session.closed())
            (name, track), *_ = watched.catalog.video.items()
            pictures = await watched.broadcast.subscribe_media(name, track, PATIENT)
            await asyncio.to_thread(gateway.api, "DELETE", f"/videostream/{short.id}/session")
            async with asyncio.timeout(at_most(20)):
                assert [frame async for frame in pictures], "it ends without an error"
                assert not closed.done(), "a page would crash"
                with pytest.raises(moq.Error):
                    await closed


def test_without_the_setting_nothing_of_it_is_there(gateway: Gateway) -> None:
    with running() as plain:
        channel = plain.channel("plain")
        assert plain.ports["moq"] is None
        assert "moq" not in channel.item["playUrls"]
        assert http("POST", channel.url("moq")).status == 405
        maps = Path(f"/proc/{plain.process.pid}/maps").read_text()
    assert "libmoq_ffi" not in maps


async def test_a_gateway_that_stops_ends_its_viewers() -> None:
    with running(**SETTINGS) as stopping:
        channel = stopping.channel("stopping")
        with push(FILM, channel.push):
            await asyncio.to_thread(channel.wait_live)
            known = await asyncio.to_thread(hashes, channel)
            async with watching(played(channel), channel.id, known) as watched:
                await frames(watched, video=5)
                stopping.process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(at_most(30)):
                    with pytest.raises(moq.Error):
                        await watched.client.session.closed()
                assert await asyncio.to_thread(stopping.process.wait, at_most(30)) == 0


async def test_several_processes_have_one_port_which_the_next_process_takes_over(gateway: Gateway) -> None:
    port = str(free_port())
    with running(**{**SETTINGS, "MILLRACE_MOQ__PORT": port, "MILLRACE_SERVE__WORKERS": "2"}) as several:
        channels = [several.channel(name) for name in ("one", "two", "three")]
        await all_play(channels)
        several.process.send_signal(signal.SIGHUP)
        opened = '"event":"the port of MoQ is open"'
        await asyncio.to_thread(until, lambda: several.log.count(opened) == 2, "the next process has the port")
        await all_play(channels)


async def all_play(channels: list[Channel]) -> None:
    """Pushes to each channel and plays it. The kernel chooses the process of each push and each page."""
    for channel in channels:
        with push(FILM, channel.push):
            await asyncio.to_thread(channel.wait_live)
            page = (await asyncio.to_thread(open_session, channel)).json()
            async with watching(page["url"], channel.id, page["hashes"]) as watched:
                await frames(watched, video=10, audio=10)


async def test_an_edge_plays_and_asks_for_the_sign(tmp_path: Path) -> None:
    shared = {
        **SETTINGS,
        "MILLRACE_CLUSTER__SECRET": "secret of the cluster",
        "MILLRACE_SIGNING__SECRET": "secret of the keys",
        "MILLRACE_REGISTRY": f"sqlite:///{tmp_path}/nodes.db",
        "MILLRACE_CHANNELS": f"sqlite:///{tmp_path}/channels.db",
    }
    for name in ("gateway", "edge"):
        (tmp_path / name).mkdir()
    with contextlib.ExitStack() as stack:
        node = Gateway(tmp_path / "gateway", **shared)
        stack.callback(node.stop)
        node.wait_ready()
        edge = Edge(tmp_path / "edge", **shared)
        stack.callback(edge.stop)
        edge.wait_ready()
        channel = node.channel("everywhere", playAuth="sign")
        query = "?" + urlsplit(played(channel)).query
        stack.enter_context(push(FILM, channel.push))
        await asyncio.to_thread(channel.wait_live)
        at_edge = f"http://127.0.0.1:{edge.ports['http']}/{channel.id}/moq"
        assert (await asyncio.to_thread(http, "POST", at_edge)).status == 403
        page = (await asyncio.to_thread(http, "POST", at_edge + query)).json()
        assert f":{edge.ports['moq']}/" in page["url"]
        async with watching(page["url"], page["name"], page["hashes"]) as watched:
            await frames(watched, video=10, audio=10)
        assert await refused(page["url"].partition("?")[0], page["hashes"])
