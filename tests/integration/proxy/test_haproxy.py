"""proxy/haproxy/haproxy.cfg in the real HAProxy in front of real gateways: routing, limits and faults."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import http.server
import itertools
import json
import re
import signal
import socket
import socketserver
import ssl
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.integration.ingest.test_rtmp_proxy import header
from tests.support import curl
from tests.support.at_night import at_night
from tests.support.authority import Authority
from tests.support.clients import probe, push, until
from tests.support.farm import Farm, farm
from tests.support.free_ports import free_ports
from tests.support.gateway import Channel
from tests.support.haproxy import CONFIG, GATEWAYS, SOURCE, Front, checked, haproxy, wire
from tests.support.http import Wire
from tests.support.media import PLAIN
from tests.support.names import NameServer, name_server
from tests.support.pushing import camera, page
from tests.support.rtmp import Peer, connected, picture
from tests.support.smuggling import REQUESTS
from tests.support.time_outs import at_most

STARTED = "NetStream.Publish.Start"
ENCODER = "127.0.0.9"


@dataclass(frozen=True)
class Site:
    """A farm with its HAProxy."""

    farm: Farm
    front: Front
    names: NameServer
    authority: Authority
    certificate: Path

    def url(self, channel: Channel, path: str, *, scheme: str = "https") -> str:
        return f"{scheme}://localhost:{self.front.ports[scheme]}/{channel.id}/{path}"

    def target(self, channel: Channel, scheme: str = "rtmp") -> str:
        """Returns the address to which ffmpeg pushes."""
        return f"{scheme}://127.0.0.1:{self.front.ports[scheme]}/stream/{channel.obs_key}"

    def tls(self) -> ssl.SSLContext:
        return self.authority.client()


@contextlib.contextmanager
def opened(folder: Path, count: int = 2, **settings: str) -> Iterator[Site]:
    """A site whose servers are all up."""
    authority = Authority(folder)
    certificate = folder / "front.pem"
    certificate.write_bytes(b"".join(path.read_bytes() for path in authority.files("localhost", "127.0.0.1")))
    with (
        name_server() as names,
        farm(names, count, **settings) as several,
        haproxy(names.address, certificate, **several.variables) as front,
    ):
        for backend in ("rtmp-ready", "push-ready", "whip-ready", "playback-ready", "playback-alive"):
            front.wait_up(backend, *several.gateways)
        yield Site(several, front, names, authority, certificate)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yields the site of all tests that break nothing."""
    with opened(tmp_path_factory.mktemp("site"), MILLRACE_LIMITS__REFUSALS_PER_MINUTE="3") as one:
        yield one


@contextlib.asynccontextmanager
async def publishing(site: Site, channel: Channel, *, source: str = ENCODER) -> AsyncIterator[Peer]:
    """An encoder with an address of its own that has been accepted, and has sent the first pictures."""
    async with connected(site.front.ports["rtmp"], source=source) as peer:
        assert (await peer.publish(channel.obs_key)).code == STARTED
        await peer.chunk_size(65536)
        await peer.headers()
        await peer.film(range(0, 1200, 40), gop=25)
        yield peer


@contextlib.asynccontextmanager
async def returning(site: Site, channel: Channel) -> AsyncIterator[Peer]:
    """Like `publishing`, with an encoder that tries every second until it is accepted."""
    for _ in range(30):
        async with connected(site.front.ports["rtmp"], source=ENCODER) as peer:
            if (said := await peer.publish(channel.obs_key)).code == STARTED:
                await peer.chunk_size(65536)
                await peer.headers()
                yield peer
                return
        await asyncio.sleep(1)
    pytest.fail(f"after 30 tries still {said.code}")


# ---- the file ----


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"FRONT_PLAYERS": "edges.example", "FRONT_MOST": "200"},
        {"FRONT_PROXY_FROM": "10.0.0.0/8 fd00::/8"},
        {"FRONT_DNS": "169.254.169.253:53", "FRONT_SOURCE": "127.0.0.1", "FRONT_METRICS": ":8404"},
    ],
    ids=["defaults", "edges", "behind others", "a name server"],
)
def test_the_configuration_is_valid_without_a_warning(variables: dict[str, str]) -> None:
    with checked(**variables) as program:
        assert program.process.returncode == 0, program.errors
        assert "WARNING" not in program.errors and "ALERT" not in program.errors


def test_the_configuration_with_tls_is_valid_without_a_warning(site: Site) -> None:
    with checked(FRONT_CERT=str(site.certificate)) as program:
        assert program.process.returncode == 0, program.errors
        assert "WARNING" not in program.errors


# ---- push ----


@pytest.mark.parametrize("scheme", ["rtmp", "rtmps"])
def test_a_push_reaches_one_gateway_with_the_address_of_its_encoder(site: Site, scheme: str) -> None:
    channel = site.farm.channel()
    with push(PLAIN, site.target(channel, scheme)) as encoder:
        host = site.farm.holder(channel)
        publisher = site.farm.publisher(channel)
        assert (publisher["protocol"], publisher["address"]) == ("rtmp", "127.0.0.1"), f"and not {SOURCE}"
        found = probe(f"http://{host}:{site.farm.ports['http']}/{channel.id}/live.flv")
        assert set(found) == {"video", "audio"}
        assert encoder.running, encoder.errors


async def test_pushes_are_distributed_and_keep_the_addresses_of_their_encoders(site: Site) -> None:
    channels = [site.farm.channel() for _ in range(4)]
    sources = [f"127.0.1.{n}" for n in range(4)]
    async with contextlib.AsyncExitStack() as stack:
        for channel, source in zip(channels, sources, strict=True):
            await stack.enter_async_context(publishing(site, channel, source=source))
        hosts = [await asyncio.to_thread(site.farm.holder, channel) for channel in channels]
        assert sorted(hosts.count(host) for host in site.farm.gateways) == [2, 2]
        assert [site.farm.publisher(channel)["address"] for channel in channels] == sources


async def test_a_proxy_header_sent_by_an_encoder_is_refused(site: Site) -> None:
    async with connected(site.front.ports["rtmp"], source=ENCODER, first=header("192.0.2.66")) as peer:
        assert await peer.closed()
        assert not peer.heard
    assert not any("192.0.2.66" in gateway.log for gateway in site.farm.gateways.values())


async def test_only_listed_load_balancers_may_send_the_address_of_the_encoder(site: Site) -> None:
    balancer, client = "127.0.0.31", "198.51.100.7"
    variables = site.farm.variables | {"FRONT_PROXY_FROM": f"192.0.2.0/24 {balancer}"}
    with haproxy(site.names.address, **variables) as behind:
        behind.wait_up("rtmp-ready", *site.farm.gateways)
        channel = site.farm.channel()
        async with connected(behind.ports["rtmp"], source=balancer, first=header(client)) as peer:
            assert (await peer.publish(channel.obs_key)).code == STARTED
            await peer.headers()
            await peer.film(range(0, 400, 40))
            await asyncio.to_thread(site.farm.holder, channel)
            assert site.farm.publisher(channel)["address"] == client
        async with connected(behind.ports["rtmp"], source=ENCODER, first=header(client)) as peer:
            assert await peer.closed()


async def test_a_browsers_push_arrives_with_its_address(site: Site) -> None:
    film = camera(seconds=4, sound=False)
    channel = site.farm.channel()
    url = f"wss://localhost:{site.front.ports['wss']}/stream/{channel.obs_key}"
    lie = {"X-Forwarded-For": "203.0.113.5"}
    async with page(url, ssl=site.tls(), local_addr=(ENCODER, 0), host="127.0.0.1", additional_headers=lie) as pushing:
        await pushing.configure(film)
        await pushing.film(film)
        await asyncio.to_thread(site.farm.holder, channel)
        publisher = site.farm.publisher(channel)
        assert (publisher["protocol"], publisher["address"]) == ("ws", ENCODER)


# ---- playback ----


@pytest.fixture(scope="module")
def live(site: Site) -> Iterator[Channel]:
    """A film that is being pushed, playable at whichever gateway HAProxy chooses."""
    channel = site.farm.channel()
    with push(PLAIN, site.target(channel)):
        for path in ("live.m3u8", "master.m3u8"):
            until(lambda path=path: curl.fetch(site.url(channel, path), site.authority.file).status == 200, path, 20)
        yield channel


@pytest.mark.parametrize(("http2", "version"), [(True, "2"), (False, "1.1")], ids=["HTTP/2", "HTTP/1.1"])
def test_playlists_segments_and_blocking_reloads_work_over_tls(
    site: Site, live: Channel, http2: bool, version: str
) -> None:
    def fetch(path: str) -> curl.Answer:
        answer = curl.fetch(site.url(live, path), site.authority.file, http2=http2)
        assert (answer.status, answer.version) == (200, version), answer.text[:200]
        return answer

    playlist = fetch("live.m3u8")
    assert playlist.headers["content-type"] == "application/vnd.apple.mpegurl"
    segment = fetch(next(line for line in playlist.text.splitlines() if line.endswith(".ts")))
    assert segment.body[0] == 0x47 and len(segment.body) % 188 == 0
    media = next(line for line in fetch("master.m3u8").text.splitlines() if line and line[0] != "#")
    parts = re.findall(r"(?:MEDIA-SEQUENCE:|^#EXTINF)", fetch(media).text, re.MULTILINE)
    first = int(re.findall(r"MEDIA-SEQUENCE:(\d+)", fetch(media).text)[0])
    coming = first + len(parts)  # the segment after the one that is being made
    blocked = fetch(f"{media}?_HLS_msn={coming}&_HLS_part=0")
    (now,) = re.findall(r"MEDIA-SEQUENCE:(\d+)", blocked.text)
    named = re.findall(r'#EXT-X-PART:.*URI="([^"]+)"', blocked.text)
    assert int(now) + blocked.text.count("#EXTINF") >= coming, "it waited for what it was asked for"
    assert fetch(f"{media.rpartition('/')[0]}/{named[-1]}".lstrip("/")).body


async def _held(site: Site, channel: Channel, way: str) -> AsyncIterator[bytes]:
    """Yields the data of live.flv that a viewer gets."""
    if way == "HTTP/1.1":
        async with wire(site.front.ports["https"], tls=site.tls()) as client:
            await client.send(f"GET /{channel.id}/live.flv HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.head()).status == 200
            while True:
                yield await client.chunk()
    elif way == "HTTP/2":
        async with contextlib.aclosing(
            curl.received(site.url(channel, "live.flv"), site.authority.file, "--http2")
        ) as received:
            async for data in received:
                yield data
    else:
        url = f"wss://localhost:{site.front.ports['https']}/{channel.id}/live.flv"
        async with connect(url, ssl=site.tls(), host="127.0.0.1", max_size=None, proxy=None) as opened_:
            async for message in opened_:
                assert isinstance(message, bytes)
                yield message


@pytest.mark.parametrize("way", ["HTTP/1.1", "HTTP/2", "WebSocket"])
async def test_each_frame_arrives_before_the_next_one_is_sent(site: Site, way: str) -> None:
    """A proxy that waits for more data before it forwards some would block this test."""
    channel = site.farm.channel()
    async with publishing(site, channel) as encoder, asyncio.timeout(at_most(30)):
        viewer = _held(site, channel, way)
        async with contextlib.aclosing(viewer):
            seen = bytearray(await anext(viewer))
            for number in range(100, 150):
                frame = picture(number, key=number % 10 == 0)
                await encoder.body(9, frame, 1200 + 40 * (number - 100))
                while frame[5:] not in seen:
                    seen += await anext(viewer)
                del seen[:-1000]


async def test_gateways_get_the_address_and_the_scheme_of_the_client(site: Site) -> None:
    """A double of a gateway repeats the headers that HAProxy sends it."""

    class Echo(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({name.lower(): self.headers.get_all(name) for name in self.headers}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    lies = {"X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "gopher"}
    with http.server.ThreadingHTTPServer(("127.0.0.14", 0), Echo) as echo, name_server() as names:
        threading.Thread(target=echo.serve_forever, daemon=True).start()
        names.records[GATEWAYS] = ("127.0.0.14",)
        variables = {"FRONT_TO_HTTP": str(echo.server_port)}
        with haproxy(names.address, site.certificate, **variables) as front:
            front.wait_up("playback-ready", "127.0.0.14")
            for scheme in ("http", "https"):
                tls = site.tls() if scheme == "https" else None
                async with wire(front.ports[scheme], source="127.0.0.41", tls=tls) as client:
                    told = json.loads((await client.get("/c/live.m3u8", **lies)).body)
                assert told["x-forwarded-for"] == ["203.0.113.5", "127.0.0.41"], "read from the right"
                assert told["x-forwarded-proto"] == [scheme]
                assert told["host"] == ["live.example.com"]
        echo.shutdown()


async def test_clients_with_wrong_signatures_are_limited_by_their_own_address(site: Site) -> None:
    channel = site.farm.channel(playAuth="sign")

    async def statuses(source: str, times: int) -> list[int]:
        async with wire(site.front.ports["https"], source=source, tls=site.tls()) as client:
            target = f"/{channel.id}/live.m3u8?sign=2000000000-{'0' * 64}"
            return [(await client.get(target, X_Forwarded_For=f"203.0.113.{n}")).status for n in range(times)]

    guessing = await statuses("127.0.0.51", 6)
    assert guessing[:3] == [403] * 3 and guessing[-1] == 429
    assert await statuses("127.0.0.52", 1) == [403], "another address is not held back"


@pytest.mark.parametrize("path", ["/_node/c", "/_node", "/%5Fnode/c", "/_nod%65/c?original=1"])
async def test_requests_between_nodes_are_not_forwarded(site: Site, path: str) -> None:
    async with wire(site.front.ports["http"]) as client:
        reply = await client.get(path)
        assert (reply.status, reply.headers.get("server")) == (404, None), "by HAProxy, not by a gateway"


async def test_a_smuggled_request_gets_no_answer(site: Site) -> None:
    for name, sent in REQUESTS.items():
        async with wire(site.front.ports["http"]) as client:
            client.writer.write(sent)
            answered = b""
            with contextlib.suppress(OSError):  # HAProxy may reset the connection after its refusal
                client.writer.write_eof()
                answered = await asyncio.wait_for(client.reader.read(), at_most(10))
            assert answered.count(b"HTTP/1.1 2") <= 1, name
        # HAProxy uses its connections to the gateways again: bytes that stay there would be the next request.
        for _ in range(len(site.farm.gateways)):
            async with wire(site.front.ports["http"]) as client:
                reply = await client.get("/healthcheck")
                assert (reply.status, reply.text) == (200, "OK"), name


async def test_metrics_are_local_and_the_api_is_not_reachable(site: Site) -> None:
    port = site.front.ports["metrics"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=at_most(10)) as reply:
        text = reply.read().decode()
    assert 'haproxy_server_status{proxy="rtmp-ready",server="gateway1",state="UP"} 1' in text
    assert "presetenv FRONT_METRICS 127.0.0.1:" in CONFIG.read_text()
    for port_name in ("http", "https"):
        async with wire(site.front.ports[port_name], tls=site.tls() if port_name == "https" else None) as client:
            assert (await client.get("/videostream")).status == 404, "the API is nowhere in front"


# ---- a stream and its viewers on different gateways ----


def aside(site: Site, host: str, state: str = "drain") -> None:
    """Lets HAProxy send no viewer to this gateway, like an operator before its removal. "ready" undoes this."""
    server = next(
        line.split()[3]
        for line in site.front.ask("show servers state playback-ready").splitlines()
        if f" {host} " in line
    )
    assert site.front.ask(f"set server playback-ready/{server} state {state}").strip() == ""


async def frames(site: Site, channel: Channel, way: str, frame: bytes) -> None:
    """Plays and reconnects like a player until this frame has arrived."""
    seen = bytearray()
    while frame[5:] not in seen:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, AssertionError):
            async with contextlib.aclosing(_held(site, channel, way)) as viewer:
                async for data in viewer:
                    seen = seen[-len(frame) :] + data
                    if frame[5:] in seen:
                        return
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("way", "end"),
    [
        ("HTTP/2", "killed"),
        ("WebSocket", "drained"),
        *at_night(("HTTP/1.1", "killed"), ("HTTP/1.1", "drained"), ("HTTP/2", "drained"), ("WebSocket", "killed")),
    ],
)
async def test_viewers_continue_at_the_other_gateway_after_a_failure(tmp_path: Path, way: str, end: str) -> None:
    with opened(tmp_path) as site:
        channel = site.farm.channel()
        async with publishing(site, channel) as encoder:
            first = await asyncio.to_thread(site.farm.holder, channel)
            (second,) = set(site.farm.gateways) - {first}
            aside(site, first)
            before, after = picture(5000, key=True), picture(6000, key=True)
            async with asyncio.timeout(at_most(30)):
                await encoder.body(9, before, 1300)
                await frames(site, channel, way, before)
                watching = asyncio.create_task(frames(site, channel, way, after))
                (site.farm.kill if end == "killed" else site.farm.drain)(first)
                assert await encoder.closed(20)
        async with returning(site, channel) as encoder, asyncio.timeout(at_most(30)):
            for number in itertools.count():
                await encoder.body(9, after if number % 25 == 0 else picture(number), number * 40)
                if watching.done():
                    break
                await asyncio.sleep(0.04)
            assert await asyncio.to_thread(site.farm.holder, channel) == second


# ---- faults ----


def test_the_encoder_of_a_killed_gateway_reconnects_to_the_other(tmp_path: Path) -> None:
    with opened(tmp_path) as site:
        channel = site.farm.channel()
        with push(PLAIN, site.target(channel)) as encoder:
            first = site.farm.holder(channel)
            site.farm.kill(first)
            until(lambda: not encoder.running, "the encoder is let go")
        # At once, before a health check can have noticed.
        with push(PLAIN, site.target(channel)) as encoder:
            (second,) = set(site.farm.gateways) - {first}
            assert site.farm.holder(channel) == second
            assert encoder.running, encoder.errors
            site.front.wait_up("rtmp-ready", second)
            site.front.wait_up("playback-ready", second)
            until(lambda: curl.fetch(site.url(channel, "live.m3u8"), site.authority.file).status == 200, "HLS plays")


@pytest.mark.nightly
def test_a_draining_gateway_gets_no_new_connections_and_ends(tmp_path: Path) -> None:
    with opened(tmp_path, MILLRACE_SERVE__DRAIN="20") as site:
        channel = site.farm.channel()
        with push(PLAIN, site.target(channel)) as encoder:
            first = site.farm.holder(channel)
            site.farm.drain(first)
            until(lambda: not encoder.running, "the encoder is told to go")
        with push(PLAIN, site.target(channel)) as encoder:
            (second,) = set(site.farm.gateways) - {first}
            assert site.farm.holder(channel) == second
            site.front.wait_up("rtmp-ready", second)
            assert site.farm.gateways[first].process.wait(at_most(30)) == 0
            assert encoder.running, encoder.errors


@pytest.mark.nightly
async def test_encoders_of_a_hanging_gateway_reconnect_to_the_other(tmp_path: Path) -> None:
    """This also holds if the gateway has accepted so much of a push that nothing more can be sent."""
    with opened(tmp_path) as site:
        channel = site.farm.channel()
        async with publishing(site, channel) as encoder:
            first = await asyncio.to_thread(site.farm.holder, channel)
            (second,) = set(site.farm.gateways) - {first}
            process = site.farm.gateways[first].process
            process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(ConnectionError):
                    async with asyncio.timeout(at_most(60)):
                        while True:
                            await encoder.body(9, picture(1, size=200_000), 2000)
                await asyncio.to_thread(site.front.wait_up, "rtmp-ready", second)
                async with returning(site, channel):
                    pass
            finally:
                process.send_signal(signal.SIGCONT)


async def test_a_new_gateway_is_found_by_dns(tmp_path: Path) -> None:
    with opened(tmp_path) as site:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(publishing(site, site.farm.channel()))
            third = await asyncio.to_thread(site.farm.gateway)
            await asyncio.to_thread(site.front.wait_up, "rtmp-ready", *site.farm.gateways)
            channel = site.farm.channel()
            await stack.enter_async_context(publishing(site, channel))
            assert await asyncio.to_thread(site.farm.holder, channel) == third, "the one with the fewest"


@pytest.mark.parametrize("fault", [*at_night("silent"), "failing", "forgetful"])
async def test_a_failing_name_server_removes_no_gateway(site: Site, fault: str) -> None:
    """Nor does a name server with an incomplete answer: for ten minutes health checks decide."""
    names, known = site.names, site.names.records[GATEWAYS]
    channel = site.farm.channel()
    async with publishing(site, channel) as encoder:
        if fault == "forgetful":
            names.records[GATEWAYS] = ()
        else:
            setattr(names, fault, True)
        before = names.asked[GATEWAYS]
        try:
            await asyncio.to_thread(
                until, lambda: names.asked[GATEWAYS] >= before + 5, "it is asked again and again", 30
            )
            assert site.front.up("rtmp-ready") == set(site.farm.gateways)
            await encoder.settle()
            async with publishing(site, site.farm.channel()):
                pass
        finally:
            names.silent = names.failing = False
            names.records[GATEWAYS] = known


async def test_a_gateway_without_its_store_continues_its_live_streams(tmp_path: Path) -> None:
    with opened(tmp_path, count=1) as site:
        (host,) = site.farm.gateways
        channel, other = site.farm.channel(), site.farm.channel()
        async with publishing(site, channel) as encoder, contextlib.AsyncExitStack() as stack:
            viewer = await stack.enter_async_context(contextlib.aclosing(_held(site, channel, "HTTP/1.1")))
            await anext(viewer)
            stack.enter_context(site.farm.store_away())
            await asyncio.to_thread(site.front.wait_up, "rtmp-ready")
            await asyncio.to_thread(site.front.wait_up, "playback-ready")
            assert site.farm.get(host, "/ready").status == 503
            late = await stack.enter_async_context(contextlib.aclosing(_held(site, channel, "HTTP/2")))
            frame = picture(777, key=True)
            await encoder.body(9, frame, 1240)
            for one in (viewer, late):
                async with asyncio.timeout(at_most(10)):
                    while frame[5:] not in await anext(one):
                        pass
            async with connected(site.front.ports["rtmp"]) as refused:
                said = await refused.publish(other.obs_key)
                assert said.code == "NetStream.Publish.Failed", "in words, not by a closed door"
        await asyncio.to_thread(site.front.wait_up, "rtmp-ready", host)


def test_a_reload_does_not_interrupt_a_push(tmp_path: Path, site: Site) -> None:
    channel = site.farm.channel()
    with haproxy(site.names.address, **site.farm.variables) as old:
        old.wait_up("rtmp-ready", *site.farm.gateways)
        with push(PLAIN, f"rtmp://127.0.0.1:{old.ports['rtmp']}/stream/{channel.obs_key}") as encoder:
            site.farm.holder(channel)
            old.program.process.send_signal(signal.SIGUSR1)
            until(lambda: not _accepts(old.ports["rtmp"]), "the old process takes nothing new")
            before = site.farm.publisher(channel)["seconds"]
            until(lambda: site.farm.publisher(channel)["seconds"] > before + 1, "the push goes on")
            assert encoder.running and old.program.running
        until(lambda: not old.program.running, "it ends with its last connection")


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


# ---- free capacity ----


@contextlib.contextmanager
def agents(**free: int) -> Iterator[int]:
    """Answers agent checks at each address with a free capacity in percent. Yields the common port."""
    hosts = {name.replace("_", "."): percent for name, percent in free.items()}
    (port,) = free_ports(1, *hosts)
    with contextlib.ExitStack() as stack:
        for host, percent in hosts.items():
            line = b"up %d%%\n" % percent
            handler = type(
                "Agent", (socketserver.BaseRequestHandler,), {"handle": lambda s, line=line: s.request.sendall(line)}
            )
            server = stack.enter_context(socketserver.ThreadingTCPServer((host, port), handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        yield port


def figures(front: Front, backend: str, column: str) -> dict[str, int]:
    """A column of HAProxy's statistics by the address of the server."""
    rows = csv.DictReader(front.ask("show stat -1 4 -1").removeprefix("# ").splitlines())
    found = {row["svname"]: row[column] for row in rows if row["pxname"] == backend}
    lines = (line.split() for line in front.ask(f"show servers state {backend}").splitlines()[2:] if line)
    return {words[4]: int(found[words[3]]) for words in lines if words[4] != "-"}


async def test_a_node_with_little_free_capacity_gets_few_pushes_and_viewers(site: Site) -> None:
    first, second = site.farm.gateways
    free = {first.replace(".", "_"): 10, second.replace(".", "_"): 100}
    with (
        agents(**free) as port,
        haproxy(site.names.address, **site.farm.variables, FRONT_AGENT=str(port)) as front,
    ):
        for backend in ("rtmp-ready", "push-ready", "whip-ready", "playback-ready"):
            until(
                lambda b=backend: figures(front, b, "weight") == {first: 10, second: 100}, f"{backend} is weighted", 20
            )
        async with contextlib.AsyncExitStack() as stack:
            for n in range(11):
                peer = await stack.enter_async_context(connected(front.ports["rtmp"], source=f"127.0.2.{n}"))
                assert (await peer.publish(site.farm.channel().obs_key)).code == STARTED
            pushes = figures(front, "rtmp-ready", "stot")
        assert pushes[first] <= 2 and sum(pushes.values()) == 11, pushes
        for n in range(200):
            urllib.request.urlopen(f"http://127.0.0.1:{front.ports['http']}/viewed-{n}/status.json").read()
        requests = figures(front, "playback-ready", "stot")
        assert 4 <= requests[first] <= 40, requests
        assert site.farm.gateways.keys() == front.up("playback-ready")


async def test_viewers_of_a_full_node_get_another_one() -> None:
    with (
        name_server() as names,
        farm(names, 1) as several,
        haproxy(names.address, **several.variables) as front,
    ):
        full = several.gateway(MILLRACE_LIMITS__NODE_MBPS="1")
        front.wait_up("playback-ready", *several.gateways)

        def goes_to(path: str) -> str:
            """Sends a request through HAProxy. Returns the first address that gets one more."""
            before = figures(front, "playback-ready", "stot")
            urllib.request.urlopen(f"http://127.0.0.1:{front.ports['http']}{path}").read()
            after = figures(front, "playback-ready", "stot")
            return next(host for host in after if after[host] > before[host])

        channel = several.channel()
        while goes_to(f"/{channel.id}/status.json") != full:
            channel = several.channel()
        with push(PLAIN, f"rtmp://{full}:{several.ports['rtmp']}/stream/{channel.obs_key}", loop=True):
            rate = lambda: (several.session(channel) or {}).get("bitrate", 0)  # noqa: E731
            await asyncio.to_thread(until, lambda: rate() > 300_000, "its bit rate is known", 20)
            request = f"GET /{channel.id}/live.flv HTTP/1.1\r\nHost: localhost\r\n\r\n"
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(20):
                    reader, writer = await asyncio.open_connection(full, several.ports["http"])
                    client = Wire(reader, writer)
                    stack.push_async_callback(client.close)
                    await client.send(request)
                    if (head := await client.head()).status != 200:
                        break
                    await asyncio.sleep(1.2)  # a node reckons its bandwidth once a second
                assert (head.status, head.headers["retry-after"]) == (503, "10")
                viewer = await stack.enter_async_context(wire(front.ports["http"]))
                await viewer.send(request)
                assert (await viewer.head()).status == 200
            assert figures(front, "playback-ready", "wredis")[full] == 1
