"""WHIP and WHEP through the real HAProxy, with two gateways of two processes: only requests pass it, not media."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from gateway.media.track import AccessUnit, Kind
from tests.integration.proxy.test_haproxy import Site, aside, opened
from tests.support import clients, curl
from tests.support.clients import Program, new_ffmpeg, probe
from tests.support.gateway import Channel
from tests.support.haproxy import PLAYERS, SOURCE, haproxy, wire
from tests.support.media import Film
from tests.support.sources import h264
from tests.support.tools import lacking, need
from tests.support.waiting import until_in_thread
from tests.support.webrtc import Client
from tests.support.whip_client import Session, Whep, Whip, offer, pictures_of, publishing, send, slices, watching

CLIENT = "127.0.0.1"  # the address of these clients
NODES = "127.0.0.77"  # the address for media, which no client finds by HAProxy's name
LIE = {"X_Forwarded_For": "203.0.113.5"}
SETTINGS = {
    "MILLRACE_SERVE__WORKERS": "2",
    "MILLRACE_WEBRTC__HOST": NODES,
    "MILLRACE_WEBRTC__ADVERTISE": NODES,
    "MILLRACE_STREAM__LINGER": "1",
    "MILLRACE_LIMITS__REFUSALS_PER_MINUTE": "3",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    need("ffmpeg")
    with opened(tmp_path_factory.mktemp("site"), **SETTINGS) as one:
        yield one


def units() -> Iterator[AccessUnit]:
    """Yields pictures without reordering. The same 20 seconds repeat, in which all pictures differ."""
    film = h264(seconds=20, bframes=0, audio=False).of(Kind.VIDEO)
    for turn in itertools.count():
        for unit in film:
            yield replace(unit, dts=unit.dts + turn * 20 * unit.track.timescale)


def whip_url(site: Site, channel: Channel) -> str:
    return site.url(channel, f"whip?sign={channel.key}", scheme="http")


def whep_url(site: Site, channel: Channel) -> str:
    return site.url(channel, "whep", scheme="http")


@contextlib.asynccontextmanager
async def pushing(site: Site, **options: bool) -> AsyncIterator[tuple[Channel, Whip]]:
    """A new channel with a push of pictures through HAProxy."""
    channel = site.farm.channel()
    async with publishing(whip_url(site, channel), units(), audio=False, **options) as whip:
        await asyncio.to_thread(site.farm.holder, channel)
        yield channel, whip


def viewers(site: Site, channel: Channel) -> int:
    session = site.farm.session(channel)
    return int(session["viewers"]["whep"]) if session else 0


async def restarts(session: Session) -> None:
    """Patches the session, then restarts ICE. The process with the session gives its own port again."""
    client = session.client

    def fragment() -> str:
        return f"a=ice-ufrag:{client.ufrag}\r\na=ice-pwd:{client.password}\r\n"

    etag = session.answer.headers["etag"]
    assert (await session.patch(fragment(), If_Match=etag)).status == 204
    client.ufrag += "again"
    reply = await session.patch(fragment(), If_Match=etag)
    assert reply.status == 200, reply.text
    assert candidate(reply.text) == candidate(session.answer.text)
    session.answer.headers["etag"] = reply.headers["etag"]
    lines = reply.text.split("\r\n")
    client.remote = (session.value(lines, "a=ice-ufrag:"), session.value(lines, "a=ice-pwd:"))
    answered = len(client.responses)
    await session.network.until(lambda: len(client.responses) > answered, checks=True)


def candidate(sdp: str) -> tuple[str, str]:
    """Address and port of the first candidate for UDP."""
    line = next(line for line in sdp.split("\r\n") if line.startswith("a=candidate:") and " udp " in line)
    return line.split()[4], line.split()[5]


def common(first: list[bytes], second: list[bytes]) -> int:
    """Returns the number of pictures in both lists, and checks that none is missing between them."""
    at = next(place for place, picture in enumerate(first) if picture in second)
    begin = second.index(first[at])
    count = min(len(first) - at, len(second) - begin)
    assert first[at : at + count] == second[begin : begin + count]
    return count


@pytest.mark.nightly
async def test_a_push_and_a_viewer_work_from_the_offer_to_the_end(site: Site) -> None:
    async with pushing(site) as (channel, whip):
        assert whip.url.startswith(f"http://localhost:{site.front.ports['http']}/{channel.id}/whip/")
        assert candidate(whip.answer.text)[0] == NODES
        publisher = site.farm.publisher(channel)
        assert (publisher["protocol"], publisher["address"]) == ("whip", CLIENT)
        playing = asyncio.create_task(asyncio.to_thread(pictures_of, site.url(channel, "live.flv", scheme="http"), 150))
        async with watching(whep_url(site, channel), audio=False) as whep:
            assert candidate(whep.answer.text)[0] == NODES
            await until_in_thread(lambda: viewers(site, channel) == 1, "the viewer is counted")
            await whep.watch(playing.done, 30)
            got = [slices(payload) for payload in whep.pictures]
            assert common(got, [slices(unit.payload) for unit in whip.sent]) == len(got)
            assert common(await playing, got) > 60
            for session in (whep, whip):
                await restarts(session)
            count = len(whep.pictures)
            await whep.watch(lambda: len(whep.pictures) > count + 30)
            for session in (whep, whip):
                assert (await session.delete()).status == 200
                await session.network.until(lambda client=session.client: client.closed)  # type: ignore[misc]
                assert (await session.delete()).status == 404
        await until_in_thread(lambda: not (site.farm.session(channel) or {}).get("publisher"), "the push has ended")
        await until_in_thread(lambda: viewers(site, channel) == 0, "the viewer has left")


async def test_every_process_can_change_and_end_any_session(site: Site) -> None:
    """HAProxy and the kernel give each request to any gateway and process."""
    async with pushing(site) as (channel, whip):
        found: dict[tuple[str, str], Whep] = {}
        hosts = list(site.farm.gateways)
        try:
            for host in hosts:
                with taken(site, host):
                    await everywhere(whep_url(site, channel), len(found) + 2, found)
            assert len(found) == 4, "two gateways with two processes"
            for host in hosts:
                with taken(site, host):
                    for viewer in found.values():
                        await restarts(viewer)
            await restarts(whip)
            with taken(site, hosts[0]):
                for viewer in found.values():
                    assert (await viewer.delete()).status == 200
                    await viewer.network.until(lambda client=viewer.client: client.closed)  # type: ignore[misc]
        finally:
            for viewer in found.values():
                viewer.close()


@contextlib.contextmanager
def taken(site: Site, host: str) -> Iterator[None]:
    """Lets HAProxy send no viewer to this gateway."""
    aside(site, host)
    try:
        yield
    finally:
        aside(site, host, "ready")


async def everywhere(url: str, count: int, found: dict[tuple[str, str], Whep]) -> None:
    """Opens viewers until `count` processes have one."""
    for _ in range(60):
        viewer = Whep(audio=False)
        assert (await viewer.post(url)).status == 201
        if (place := candidate(viewer.answer.text)) in found:
            await viewer.delete()
            viewer.close()
            continue
        found[place] = viewer
        await viewer.connect()
        if len(found) == count:
            return
    raise AssertionError(f"only {sorted(found)} answered")


async def test_pushes_to_one_address_are_distributed_over_the_gateways(site: Site) -> None:
    """OBS pushes every channel to /whip."""
    async with contextlib.AsyncExitStack() as stack:
        hosts = []
        for _ in range(4):
            channel, whip = site.farm.channel(), Whip(audio=False)
            stack.callback(whip.close)
            bare = f"http://localhost:{site.front.ports['http']}/whip"
            reply = await whip.post(bare, Authorization=f"Bearer {channel.obs_key}")
            assert reply.status == 201, reply.text
            await whip.connect()
            playing = asyncio.create_task(whip.play(units()))
            stack.callback(playing.cancel)
            hosts.append(await asyncio.to_thread(site.farm.holder, channel))
        assert sorted(hosts.count(host) for host in site.farm.gateways) == [2, 2]


async def test_with_edges_for_viewers_pushes_still_go_to_gateways(site: Site) -> None:
    edge = await asyncio.to_thread(site.farm.edge)
    with haproxy(site.names.address, FRONT_PLAYERS=PLAYERS, **site.farm.variables) as front:
        front.wait_up("playback-ready", edge)
        front.wait_up("whip-ready", *site.farm.gateways)
        channel = site.farm.channel()
        base = f"http://localhost:{front.ports['http']}/{channel.id}"
        async with (
            publishing(f"{base}/whip?sign={channel.key}", units(), audio=False) as whip,
            watching(f"{base}/whep", audio=False) as whep,
        ):
            await whep.watch(lambda: len(whep.pictures) > 30)
            assert "WHEP viewer joins" in site.farm.edges[edge].log
            for session in (whep, whip):
                await restarts(session)
                assert (await session.delete()).status == 200


async def test_clients_are_limited_and_logged_by_their_own_address(site: Site) -> None:
    channel = site.farm.channel()
    body = offer(Client(), "sendonly").encode()

    async def statuses(source: str, times: int) -> list[int]:
        found = []
        async with wire(site.front.ports["http"], source=source) as client:
            for number in range(times):
                lie = {"X-Forwarded-For": f"203.0.113.{number}", "Content-Type": "application/sdp"}
                found.append((await client.post(f"/{channel.id}/whip?sign=2000000000-{'0' * 64}", body, **lie)).status)
        return found

    # Each of the four processes counts for itself, and HAProxy chooses the process.
    guessing = await statuses("127.0.0.51", 4 * 3 + 1)
    assert guessing[:3] == [401] * 3 and set(guessing) == {401, 429}
    assert await statuses("127.0.0.52", 1) == [401], "another address is not held back"
    async with pushing(site) as (live, _), watching(whep_url(site, live), audio=False) as whep:
        await whep.watch(lambda: len(whep.pictures) > 10)
    log = "".join(gateway.log for gateway in site.farm.gateways.values())
    joined = [line for line in log.splitlines() if "WHEP viewer joins" in line and live.id in line]
    assert len(joined) == 1 and f'"peer":"{CLIENT}"' in joined[0]
    assert f'"peer":"{SOURCE}"' not in log and "203.0.113." not in log


async def test_a_session_can_be_opened_and_ended_over_http2(site: Site) -> None:
    def request(method: str, url: str, *options: str) -> curl.Answer:
        answer = curl.fetch(url, site.authority.file, "--request", method, *options)
        assert answer.version == "2"
        return answer

    async with pushing(site) as (channel, _):
        body = offer(Client(), "recvonly", audio=False)
        asked = await asyncio.to_thread(request, "OPTIONS", site.url(channel, "whep"))
        assert asked.status == 204 and "PATCH" in asked.headers["access-control-allow-methods"]
        given = ("--header", "Content-Type: application/sdp", "--data-binary", body)
        made = await asyncio.to_thread(request, "POST", site.url(channel, "whep"), *given)
        assert made.status == 201, made.text
        location = f"https://localhost:{site.front.ports['https']}{made.headers['location']}"
        assert (await asyncio.to_thread(request, "DELETE", location)).status == 200
        assert (await asyncio.to_thread(request, "DELETE", location)).status == 404


def test_ffmpeg_can_push_through_haproxy(site: Site) -> None:
    ffmpeg, film, channel = new_ffmpeg(), Film("clients", seconds=40, bframes=0), site.farm.channel()
    command = [
        ffmpeg, "-v", "warning", "-re", "-i", str(film.path()), "-c:v", "copy", "-c:a", "libopus", "-ar", "48000",
        "-ac", "2", "-f", "whip", whip_url(site, channel),
    ]  # fmt: skip
    with Program(command) as publisher:
        clients.until(lambda: not publisher.running or site.farm.session(channel), "live")
        if "not a suitable output format" in publisher.errors:
            lacking("an ffmpeg with the WHIP muxer (imageio-ffmpeg with ffmpeg 8)")
        site.farm.holder(channel)
        assert site.farm.publisher(channel)["address"] == CLIENT
        assert set(probe(site.url(channel, "live.flv", scheme="http"))) == {"video", "audio"}
        assert publisher.running, publisher.errors[-500:]
    assert send("DELETE", site.url(channel, "whip/unknown", scheme="http")).status == 404
