"""WHEP at a real gateway: status codes, sessions, protection, limits, viewer counts, the end of a stream."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from gateway.media.opus import RATE
from gateway.media.track import Kind
from gateway.protocols.rtp import rtcp
from gateway.protocols.sdp.sections import parse_sections
from tests.support.at_night import at_night
from tests.support.clients import push, until
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import AUDIO_ONLY, VIDEO_ONLY, Film
from tests.support.shared_gateway import shared_gateway
from tests.support.sources import h264
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.support.webrtc import Client
from tests.support.whip_client import FRAGMENT, VIDEO_TYPE, Whep, ask, offer, publishing, slices, watching

FILM = Film("whep", seconds=60)


gateway = shared_gateway(
    "ffmpeg",
    MILLRACE_STREAM__LINGER="1",
    MILLRACE_STREAM__WAIT_FOR_PUBLISHER="1",
    MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0",
)


@pytest.fixture(scope="module")
def channel(gateway: Gateway) -> Iterator[Channel]:
    """A channel with pictures and sound by RTMP for all tests."""
    channel = gateway.channel("live")
    with push(FILM, channel.push, loop=True):
        channel.wait_live()
        yield channel


async def test_pictures_and_sound_arrive_and_the_viewer_is_counted(gateway: Gateway, channel: Channel) -> None:
    async with watching(channel.url("whep")) as whep:
        assert whep.answer.headers["location"].startswith(f"/{channel.id}/whep/")
        assert whep.answer.headers["etag"] and whep.answer.headers["access-control-allow-origin"] == "*"
        await whep.watch(lambda: len(whep.pictures) > 40 and len(whep.sounds) > 50)
        session = await asyncio.to_thread(channel.session)
        assert session["viewers"]["whep"] == 1
        metrics = (await asyncio.to_thread(gateway.api, "GET", "/metrics")).text
        assert 'millrace_viewers{protocol="whep"} 1.0' in metrics
        sent = next(
            line for line in metrics.splitlines() if line.startswith('millrace_sent_bytes_total{protocol="whep"')
        )
        assert float(sent.rpartition(" ")[2]) > 10_000
        reports = [item for item in whep.said() if isinstance(item, rtcp.SenderReport)]
        assert len({report.ssrc for report in reports}) == 2
        stamps = [int.from_bytes(packet[4:8], "big") for packet in whep.client.rtp if packet[1] & 0x7F == 111]
        steps = {(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(stamps)}
        assert steps == {RATE // 50}, "sound of 20 ms"
        assert (await whep.delete()).status == 200
        await whep.network.until(lambda: whep.client.closed)
    await asyncio.to_thread(until, lambda: channel.session()["viewers"]["whep"] == 0, "no viewer is counted")
    assert '"event":"WHEP viewer left"' in gateway.log


@pytest.mark.parametrize("tcp", [False, *at_night(True)], ids=["UDP", "TCP"])
async def test_a_lost_packet_is_resent_and_a_key_frame_is_sent_on_request(channel: Channel, tcp: bool) -> None:
    async with watching(channel.url("whep"), tcp=tcp) as whep:
        await whep.watch(lambda: len(whep.pictures) > 20)
        client = whep.client
        packet = next(packet for packet in reversed(client.rtp) if packet[1] & 0x7F == VIDEO_TYPE)
        ssrc, sequence = int.from_bytes(packet[8:12], "big"), packet[2] << 8 | packet[3]
        client.send_rtcp(rtcp.nack(7, ssrc, [sequence]))
        whep.network.flush()
        await whep.watch(lambda: any(p[12:14] == packet[2:4] and p[1] & 0x7F == 97 for p in client.rtp))
        again = next(p for p in client.rtp if p[12:14] == packet[2:4] and p[1] & 0x7F == 97)
        assert again[14:] == packet[12:], "RTX has the same payload"
        await asyncio.sleep(2.0)  # so long after the first burst, a second one is sent
        before = len(client.rtp)
        client.send_rtcp(rtcp.pli(7, ssrc))
        whep.network.flush()
        await whep.watch(lambda: any(is_key(p) for p in client.rtp[before:]))


def is_key(packet: bytes) -> bool:
    """Returns whether the packet has parameter sets or the beginning of an IDR picture."""
    kind = packet[12] & 0x1F
    return packet[1] & 0x7F == VIDEO_TYPE and (kind in (7, 24) or (kind == 28 and packet[13] & 0x9F == 0x85))


@pytest.mark.parametrize("film", [AUDIO_ONLY, VIDEO_ONLY], ids=["sound", "pictures"])
async def test_a_stream_with_only_sound_or_only_pictures_plays(gateway: Gateway, film: Film) -> None:
    channel = gateway.channel()
    with push(film, channel.push):
        await asyncio.to_thread(channel.wait_live)
        async with watching(channel.url("whep")) as whep:
            _, *media = parse_sections(whep.answer.text.encode())
            unused = [(medium.port, medium.value("inactive") is not None) for medium in media]
            # The transport is that of the first medium, which therefore is not rejected.
            assert unused == ([(9, True), (9, False)] if film is AUDIO_ONLY else [(9, False), (0, True)])
            if film is AUDIO_ONLY:
                await whep.watch(lambda: len(whep.sounds) > 50)
                assert not whep.pictures
            else:
                await whep.watch(lambda: len(whep.pictures) > 30)
                assert not whep.sounds


async def test_a_viewer_may_request_only_sound(channel: Channel) -> None:
    async with watching(channel.url("whep"), video=False) as whep:
        await whep.watch(lambda: len(whep.sounds) > 20)


async def test_frames_of_whip_come_out_by_whep_unchanged(gateway: Gateway) -> None:
    channel = gateway.channel()
    units = h264(seconds=12, bframes=0, audio=False).of(Kind.VIDEO)
    async with publishing(f"{channel.url('whip')}?sign={channel.key}", units, audio=False) as whip:
        await asyncio.to_thread(channel.wait_live)
        async with watching(channel.url("whep"), audio=False) as one, watching(channel.url("whep"), tcp=True) as other:
            for whep in (one, other):
                await whep.watch(lambda whep=whep: len(whep.pictures) > 90)  # type: ignore[misc]
                sent, got = ([slices(payload) for payload in each] for each in (payloads(whip.sent), whep.pictures))
                at = sent.index(got[0])
                assert got == sent[at : at + len(got)]


def payloads(units: list) -> list[bytes]:  # type: ignore[type-arg]
    return [unit.payload for unit in units]


@pytest.mark.nightly
async def test_an_idle_or_unknown_channel_gives_404_after_the_wait(gateway: Gateway) -> None:
    channel = gateway.channel()
    for name in (channel.id, "no-such-channel"):
        began = asyncio.get_running_loop().time()
        reply = await ask("POST", f"http://127.0.0.1:{gateway.ports['http']}/{name}/whep", offer(Client(), "recvonly"))
        assert reply.status == 404, reply.text
        assert asyncio.get_running_loop().time() - began >= 0.9


async def test_a_viewer_that_connects_before_the_push_is_served(gateway: Gateway) -> None:
    channel = gateway.channel()
    whep = Whep(audio=False)
    asking = asyncio.create_task(whep.post(channel.url("whep")))
    units = h264(seconds=12, bframes=0, audio=False).of(Kind.VIDEO)
    async with publishing(f"{channel.url('whip')}?sign={channel.key}", units, audio=False):
        assert (await asking).status == 201
        await whep.connect()
        await whep.watch(lambda: len(whep.pictures) > 10)
        whep.close()


async def test_viewers_are_ended_with_the_stream(gateway: Gateway) -> None:
    channel = gateway.channel()
    units = h264(seconds=12, bframes=0, audio=False).of(Kind.VIDEO)
    async with publishing(f"{channel.url('whip')}?sign={channel.key}", units, audio=False):
        await asyncio.to_thread(channel.wait_live)
        whep = Whep(audio=False)
        assert (await whep.post(channel.url("whep"))).status == 201
        await whep.connect()
        await whep.watch(lambda: len(whep.pictures) > 10)
        assert (await asyncio.to_thread(gateway.api, "DELETE", f"/videostream/{channel.id}/session")).status in (
            200,
            204,
        )
        await whep.network.until(lambda: whep.client.closed)
        assert any(isinstance(item, rtcp.Bye) for item in whep.said())
    whep.close()


async def test_offers_that_cannot_be_played_are_refused_with_a_reason(channel: Channel) -> None:
    url, good = channel.url("whep"), offer(Client(), "recvonly")
    for body, kind, status, word in [
        (good, "text/plain", 415, "application/sdp"),
        ("v=0\r\n", "application/sdp", 400, "offer"),
        (good.replace("H264", "VP8"), "application/sdp", 406, "codec"),
        (good.replace("recvonly", "sendonly"), "application/sdp", 406, ""),
        (good + "a=x:" + "y" * 70_000, "application/sdp", 413, ""),
    ]:
        reply = await ask("POST", url, body, kind)
        assert (reply.status, word in reply.text) == (status, True), f"{reply.status} {reply.text}"
    assert (await ask("GET", url)).status in (404, 405)
    assert (await ask("DELETE", f"{url}/nothing")).status == 404
    assert (await ask("OPTIONS", url)).status == 204


async def test_a_session_accepts_patches_and_ice_restarts(channel: Channel) -> None:
    async with watching(channel.url("whep")) as whep:
        client, etag = whep.client, whep.answer.headers["etag"]
        same = f"a=ice-ufrag:{client.ufrag}\r\na=ice-pwd:{client.password}\r\n"
        assert (await whep.patch(same, If_Match=etag)).status == 204
        client.ufrag, client.password = "fresh123", "anewpasswordof24characters"
        reply = await whep.patch(f"a=ice-ufrag:{client.ufrag}\r\na=ice-pwd:{client.password}\r\n", If_Match="*")
        assert (reply.status, reply.headers["content-type"]) == (200, FRAGMENT)
        lines = reply.text.split("\r\n")
        client.remote = (whep.value(lines, "a=ice-ufrag:"), whep.value(lines, "a=ice-pwd:"))
        answered, seen = len(client.responses), len(whep.pictures)
        await whep.network.until(lambda: len(client.responses) > answered, checks=True)
        await whep.watch(lambda: len(whep.pictures) > seen + 30)


async def test_a_protected_channel_needs_a_play_signature(gateway: Gateway) -> None:
    channel = gateway.channel(playAuth="sign")
    text = offer(Client(), "recvonly")
    url = channel.item["playUrls"]["whep"]
    sign = url.partition("?sign=")[2]
    assert sign
    units = h264(seconds=12, bframes=0, audio=False).of(Kind.VIDEO)
    async with publishing(f"{channel.url('whip')}?sign={channel.key}", units, audio=False):
        await asyncio.to_thread(channel.wait_live)
        for bad in (
            channel.url("whep"),
            channel.url("whep") + "?sign=1-2",
            f"{channel.url('whep')}?sign={channel.key}",
        ):
            reply = await ask("POST", bad, text)
            assert (reply.status, reply.headers.get("www-authenticate")) == (401, "Bearer"), reply.text
        wrong = await ask("POST", channel.url("whep"), text, Authorization="Bearer nonsense")
        assert wrong.status == 401
        for whep, headers, at in (
            (Whep(audio=False), {}, url),
            (Whep(audio=False), {"Authorization": f"Bearer {sign}"}, channel.url("whep")),
            (Whep(audio=False), {"Authorization": f"Bearer {channel.id}?sign={sign}"}, channel.url("whep")),
        ):
            assert (await whep.post(at, **headers)).status == 201, whep.answer.text
            await whep.connect()
            await whep.watch(lambda whep=whep: len(whep.pictures) > 5)  # type: ignore[misc]
            whep.close()
    assert sign not in gateway.log


async def test_the_number_of_viewers_per_address_is_limited() -> None:
    need("ffmpeg")
    with running(MILLRACE_LIMITS__PLAYBACK_PER_ADDRESS="2", MILLRACE_WEBRTC__CONNECT_TIMEOUT="2") as gateway:
        channel = gateway.channel()
        with push(VIDEO_ONLY, channel.push):
            await asyncio.to_thread(channel.wait_live)
            async with watching(channel.url("whep")) as one:
                second = Whep()
                assert (await second.post(channel.url("whep"))).status == 201
                refused = await ask("POST", channel.url("whep"), offer(Client(), "recvonly"))
                assert refused.status == 429 and refused.headers["retry-after"]
                # The second one never connects: its place becomes free.
                async with asyncio.timeout(at_most(20)):
                    while (reply := await ask("POST", channel.url("whep"), offer(Client(), "recvonly"))).status == 429:
                        await asyncio.sleep(0.2)
                assert reply.status == 201
                await one.watch(lambda: len(one.pictures) > 10)


async def test_the_shutdown_ends_viewers_with_close_notify() -> None:
    need("ffmpeg")
    with running() as gateway:
        channel = gateway.channel()
        with push(VIDEO_ONLY, channel.push):
            await asyncio.to_thread(channel.wait_live)
            whep = Whep()
            assert (await whep.post(channel.url("whep"))).status == 201
            await whep.connect()
            await whep.watch(lambda: len(whep.pictures) > 5)
            stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
            await whep.network.until(lambda: whep.client.closed)
            assert await stopping == 0
            whep.close()
