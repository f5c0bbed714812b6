"""`deploy/caddy/Caddyfile` and `deploy/nginx/millrace.conf` in the real servers, in front of a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.integration.proxy.test_haproxy_webrtc import units
from tests.support import curl, web_proxies
from tests.support.clients import push
from tests.support.gateway import Channel, running
from tests.support.haproxy import wire
from tests.support.http import Wire
from tests.support.media import PLAIN
from tests.support.pushing import camera, page
from tests.support.rtmp import connected, picture
from tests.support.time_outs import at_most
from tests.support.waiting import until_in_thread
from tests.support.web_proxies import CONSOLE, SETTINGS, WebProxy
from tests.support.whip_client import publishing, watching


@pytest.fixture(scope="module", params=["caddy", "nginx"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProxy]:
    folder = tmp_path_factory.mktemp(request.param)
    with (
        running(**SETTINGS, MILLRACE_LIMITS__REFUSALS_PER_MINUTE="3", MILLRACE_ADMIN__HOST="127.0.0.1") as gateway,
        getattr(web_proxies, request.param)(gateway, folder) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def live(proxy: WebProxy) -> Iterator[Channel]:
    channel = proxy.gateway.channel(videoname="Film")
    with push(PLAIN, channel.push):
        channel.wait_playable("live.m3u8", "master.m3u8")
        yield channel


def fetch(proxy: WebProxy, url: str, *options: str) -> curl.Answer:
    resolved = ("--resolve", f"{CONSOLE}:{proxy.https}:127.0.0.1", "--resolve", f"localhost:{proxy.https}:127.0.0.1")
    return curl.fetch(url, proxy.authority, *resolved, *options)


def test_pages_playlists_and_segments_come_by_http_2(proxy: WebProxy, live: Channel) -> None:
    page_ = fetch(proxy, proxy.url(live, ""))
    assert (page_.status, page_.version) == (200, "2")
    assert f"https://localhost:{proxy.https}/" in page_.text, "the page knows the scheme and port of its viewers"
    playlist = fetch(proxy, proxy.url(live, "live.m3u8"))
    segment = fetch(proxy, proxy.url(live, next(line for line in playlist.text.splitlines() if line.endswith(".ts"))))
    assert segment.body[0] == 0x47 and len(segment.body) % 188 == 0


def test_a_page_without_tls_leads_to_the_one_with_tls(proxy: WebProxy, live: Channel) -> None:
    answer = curl.fetch(f"http://localhost:{proxy.http}/{live.id}/", proxy.authority, http2=False)
    assert answer.status in (301, 308) and answer.headers["location"].startswith("https://localhost")


def test_a_blocking_reload_waits_for_its_part(proxy: WebProxy, live: Channel) -> None:
    master = fetch(proxy, proxy.url(live, "master.m3u8")).text
    media = next(line for line in master.splitlines() if line and line[0] != "#")
    now = fetch(proxy, proxy.url(live, media)).text
    coming = int(re.findall(r"MEDIA-SEQUENCE:(\d+)", now)[0]) + now.count("#EXTINF") + 1
    blocked = fetch(proxy, proxy.url(live, f"{media}?_HLS_msn={coming}&_HLS_part=0"))
    (first,) = re.findall(r"MEDIA-SEQUENCE:(\d+)", blocked.text)
    assert int(first) + blocked.text.count("#EXTINF") >= coming


async def _viewer(proxy: WebProxy, channel: Channel, way: str) -> AsyncIterator[bytes]:
    if way == "WebSocket":
        url = f"wss://localhost:{proxy.https}/{channel.id}/live.flv"
        async with connect(url, ssl=proxy.tls(), host="127.0.0.1", max_size=None, proxy=None) as opened:
            async for message in opened:
                assert isinstance(message, bytes)
                yield message
    else:
        async with contextlib.aclosing(
            curl.received(proxy.url(channel, "live.flv"), proxy.authority, f"--http{way}", "-4")
        ) as received:
            async for data in received:
                yield data


@pytest.mark.parametrize("way", ["1.1", "2", "WebSocket"])
async def test_each_frame_arrives_before_the_next_one_is_sent(proxy: WebProxy, way: str) -> None:
    """A proxy that waits for more data before it forwards some would block this test."""
    channel = proxy.gateway.channel("Frames")
    async with connected(proxy.gateway.ports["rtmp"]) as encoder, asyncio.timeout(at_most(40)):
        await encoder.publish(channel.obs_key)
        await encoder.chunk_size(65536)
        await encoder.headers()
        await encoder.film(range(0, 1200, 40), gop=25)
        async with contextlib.aclosing(_viewer(proxy, channel, way)) as viewer:
            seen = bytearray(await anext(viewer))
            for number in range(100, 130):
                frame = picture(number, key=number % 10 == 0)
                await encoder.body(9, frame, 1200 + 40 * (number - 100))
                while frame[5:] not in seen:
                    seen += await anext(viewer)
                del seen[:-1000]


async def test_viewers_that_leave_are_gone_at_the_gateway(proxy: WebProxy, live: Channel) -> None:
    viewer = _viewer(proxy, live, "2")
    await anext(viewer)
    await until_in_thread(lambda: live.session()["viewers"]["flv"] == 1, "one viewer", 20)
    await viewer.aclose()
    await until_in_thread(lambda: live.session()["viewers"]["flv"] == 0, "no viewer", 20)


async def test_a_page_pushes_and_the_gateway_sees_the_address_of_its_browser(proxy: WebProxy) -> None:
    channel = proxy.gateway.channel("From a browser")
    url = f"wss://localhost:{proxy.https}/stream/{channel.id}?sign={channel.key}"
    film = camera()
    async with page(url, ssl=proxy.tls(), host="127.0.0.1", local_addr=("127.0.0.9", 0)) as pushed:
        await pushed.configure(film)
        await pushed.film(film, pace=2)
        publisher = (await asyncio.to_thread(channel.session))["publisher"]
        assert (publisher["protocol"], publisher["address"]) == ("ws", "127.0.0.9")


async def status(client: Wire, target: str, *headers: str) -> int:
    await client.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *headers]) + "\r\n\r\n")
    return (await client.reply()).status


async def test_wrong_keys_count_for_the_address_of_the_client(proxy: WebProxy) -> None:
    channel = proxy.gateway.channel("Protected", playAuth="sign")

    async def statuses(source: str, times: int) -> list[int]:
        async with wire(proxy.https, source=source, tls=proxy.tls()) as client:
            target = f"/{channel.id}/live.m3u8?sign=2000000000-{'0' * 64}"
            return [await status(client, target, f"X-Forwarded-For: 203.0.113.{number}") for number in range(times)]

    guessing = await statuses("127.0.0.51", 6)
    assert guessing[:3] == [403] * 3 and guessing[-1] == 429
    assert await statuses("127.0.0.52", 1) == [403], "another address is not held back"


async def test_webrtc_is_negotiated_here_and_media_go_to_the_gateway(
    proxy: WebProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.authority))
    channel = proxy.gateway.channel("By WHIP")
    async with (
        publishing(proxy.url(channel, f"whip?sign={channel.key}"), units(), audio=False) as whip,
        watching(proxy.url(channel, "whep"), audio=False) as whep,
    ):
        assert whip.url.startswith(f"https://localhost:{proxy.https}/{channel.id}/whip/")
        assert f" {proxy.gateway.ports['webrtc']} typ host" in whep.answer.text
        await whep.watch(lambda: len(whep.pictures) > 30)
        for session in (whep, whip):
            assert (await session.delete()).status == 200


def test_a_large_upload_passes_without_a_copy_in_the_proxy(proxy: WebProxy, tmp_path: Path) -> None:
    console = f"https://{CONSOLE}:{proxy.https}"
    assert "Millrace" in fetch(proxy, console + "/").text
    film = tmp_path / "film.png"
    token = ("-H", f"Authorization: Bearer {proxy.gateway.token}")
    body = json.dumps({"name": "film.mp4"})
    made = json.loads(
        fetch(proxy, console + "/uploads", *token, "-d", body, "-H", "Content-Type: application/json").body
    )
    film.write_bytes(b"no film at all " * 2_000_000)  # 30 MB
    assert made["url"].startswith(console), "the address has the scheme, host and port of the browser"
    done = fetch(proxy, made["url"], "--upload-file", str(film), "-H", "Content-Type: video/mp4")
    assert done.status == 201, done.text
    stored = proxy.gateway.data / "media" / made["key"]
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(film.read_bytes()).digest()


@pytest.mark.parametrize("path", ["/_node/c", "/%5Fnode/c"])
async def test_requests_between_nodes_do_not_pass(proxy: WebProxy, path: str) -> None:
    async with wire(proxy.https, tls=proxy.tls()) as client:
        assert await status(client, path) == 404
