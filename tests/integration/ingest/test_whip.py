"""WHIP at a real gateway: status codes, sessions, keys, limits, take-over, kick, expiry, events, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.media.track import AccessUnit, Kind
from tests.support.gateway import Channel, Gateway, http, running
from tests.support.shared_gateway import shared_gateway
from tests.support.sources import h264
from tests.support.tools import need
from tests.support.waiting import until_in_thread
from tests.support.webrtc import Client
from tests.support.whip_client import FRAGMENT, Whip, ask, offer, publishing, watching

LIMITED = {
    "MILLRACE_LIMITS__PUBLISHERS_PER_ADDRESS": "2",
    "MILLRACE_LIMITS__FIRST_MEDIA": "1",
    "MILLRACE_LIMITS__REFUSALS_PER_MINUTE": "3",
    "MILLRACE_RTMP__IDLE_TIMEOUT": "2",
    "MILLRACE_WEBRTC__CONNECT_TIMEOUT": "2",
    "MILLRACE_STREAM__LINGER": "0.5",
}


gateway = shared_gateway(
    "ffmpeg",
    MILLRACE_STREAM__LINGER="2",
    MILLRACE_STREAM__TAKEOVER_AFTER="1",
    MILLRACE_STREAM__END_AT_EXPIRY="true",
    MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0",
)


@pytest.fixture(scope="module")
def limited() -> Iterator[Gateway]:
    """A gateway with small limits."""
    need("ffmpeg")
    with running(**LIMITED) as gateway:
        yield gateway


def film() -> list[AccessUnit]:
    """A minute of pictures without reordering."""
    units = h264(seconds=4, bframes=0, audio=False).of(Kind.VIDEO)
    return [
        AccessUnit(u.track, u.dts + 4000 * turn, u.cts, u.key, u.wall, u.payload) for turn in range(15) for u in units
    ]


def address(channel: Channel, key: str | None = None) -> str:
    return f"{channel.url('whip')}?sign={channel.key if key is None else key}"


def events(gateway: Gateway, channel: Channel) -> list[dict[str, Any]]:
    return list(gateway.api("GET", f"/events?channel={channel.id}&limit=50").json())


async def live(channel: Channel) -> None:
    await asyncio.to_thread(channel.wait_live)


@asynccontextmanager
async def pushing(channel: Channel, **options: Any) -> AsyncIterator[Whip]:
    """A live push of pictures."""
    async with publishing(address(channel), film(), audio=False, **options) as whip:
        await until_in_thread(lambda: channel.session()["tracks"], "pictures arrive")
        yield whip


def test_the_api_shows_the_webrtc_port_and_the_whip_addresses(gateway: Gateway) -> None:
    channel = gateway.channel()
    assert gateway.ports["webrtc"] > 0
    base = f"http://127.0.0.1:{gateway.ports['http']}"
    assert channel.item["whipUrl"] == f"{base}/{channel.id}/whip?sign={channel.key}"
    assert channel.item["whipServer"] == f"{base}/whip"
    assert channel.item["obsKey"] == f"{channel.id}?sign={channel.key}"


async def test_a_whip_session_works_from_the_offer_to_its_end(gateway: Gateway) -> None:
    channel = gateway.channel()
    whip = Whip(audio=False)
    answer = await whip.post(address(channel))
    assert answer.status == 201
    assert answer.headers["content-type"] == "application/sdp"
    assert answer.headers["location"].startswith(f"/{channel.id}/whip/")
    assert len(answer.headers["location"]) > len(f"/{channel.id}/whip/") + 20, "the id is a secret"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert {"location", "etag"} <= set(answer.headers["access-control-expose-headers"].lower().split(", "))
    etag = answer.headers["etag"]
    assert etag.startswith('"')
    assert channel.key not in answer.text
    await whip.connect()
    sending = asyncio.create_task(whip.play(film()))
    await until_in_thread(lambda: channel.session()["bitrate"] > 0, "bytes arrive")
    session = channel.session()
    assert (session["state"], session["publisher"]["protocol"]) == ("live", "whip")
    assert session["publisher"]["address"] == "127.0.0.1"
    # trickle
    client = whip.client
    trickled = f"a=ice-ufrag:{client.ufrag}\r\na=ice-pwd:{client.password}\r\na=mid:0\r\na=end-of-candidates\r\n"
    assert (await whip.patch(trickled, If_Match=etag)).status == 204
    assert (await whip.patch(trickled, If_Match='"other"')).status == 412
    assert (await whip.patch("nonsense", If_Match=etag)).status in (204, 400)
    assert (await ask("PATCH", whip.url, "a=x\r\n", "text/plain")).status == 415
    # ICE restart
    client.ufrag, client.password = "fresh123", "anewpasswordof24characters"
    restart = f"a=ice-ufrag:{client.ufrag}\r\na=ice-pwd:{client.password}\r\n"
    restarted = await whip.patch(restart, If_Match="*")
    assert (restarted.status, restarted.headers["content-type"]) == (200, FRAGMENT)
    assert restarted.headers["etag"] != etag
    lines = restarted.text.split("\r\n")
    client.remote = (whip.value(lines, "a=ice-ufrag:"), whip.value(lines, "a=ice-pwd:"))
    answered = len(client.responses)
    await whip.network.until(lambda: len(client.responses) > answered, checks=True)
    count = len(whip.sent)
    await until_in_thread(lambda: len(whip.sent) > count + 30, "the media continue")
    assert channel.session()["state"] == "live"
    # the end
    assert (await ask("GET", whip.url)).status in (404, 405)
    assert (await whip.delete()).status == 200
    await whip.network.until(lambda: client.closed)
    await until_in_thread(lambda: channel.session()["publisher"] is None, "the push has ended")
    assert (await whip.delete()).status == 404
    await sending
    whip.close()
    assert channel.key not in gateway.log


@pytest.mark.parametrize(
    ("key", "status"),
    [("", 401), ("garbage", 401), (f"2082672000-{'0' * 64}", 401), (f"1000000000-{'0' * 64}", 401)],
)
async def test_wrong_keys_are_refused(gateway: Gateway, key: str, status: int) -> None:
    channel = gateway.channel()
    for path in (channel.url("whip"), f"http://127.0.0.1:{gateway.ports['http']}/no-such-channel/whip"):
        reply = await ask("POST", f"{path}?sign={key}", offer(Client(), "sendonly"))
        assert reply.status == status, reply.text
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.text.strip()


async def test_offers_that_cannot_be_used_are_refused_with_a_reason(gateway: Gateway) -> None:
    channel = gateway.channel()
    url, good = address(channel), offer(Client(), "sendonly")
    cases = [
        (good, "application/json", 415, "application/sdp"),
        (good, "", 415, "application/sdp"),
        ("v=0\r\n", "application/sdp", 400, "offer"),
        ("", "application/sdp", 400, "offer"),
        (good.replace("a=fingerprint", "a=fingerprnt"), "application/sdp", 400, "fingerprint"),
        (good.replace("H264", "H999").replace("opus", "speex"), "application/sdp", 406, "accepted are H.264"),
        (good.replace("sendonly", "recvonly"), "application/sdp", 406, ""),
        (good + "a=x:" + "y" * 70_000, "application/sdp", 413, ""),
    ]
    for body, kind, status, word in cases:
        reply = await ask("POST", url, body, kind)
        assert reply.status == status, f"{status} was wanted: {reply.status} {reply.text} {body[:60]}"
        assert word.lower() in reply.text.lower()
    assert channel.session()["state"] != "live"
    async with publishing(url, film(), audio=False):
        await live(channel)


async def test_a_stream_in_use_gives_409_and_a_silent_one_is_taken_over(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with pushing(channel) as first:
        reply = await ask("POST", address(channel), offer(Client(), "sendonly"))
        assert (reply.status, "in use" in reply.text) == (409, True)
        assert channel.session()["publisher"]["protocol"] == "whip"
        second = Whip(audio=False)
        first.client.answers = False
        first.send_unit = lambda unit: None  # type: ignore[method-assign]
        while (await second.post(address(channel))).status == 409:
            await asyncio.sleep(0.2)
        assert second.answer.status == 201
        await second.connect()
        await first.network.until(lambda: first.client.closed)
        sending = asyncio.create_task(second.play(film()))
        await until_in_thread(lambda: channel.session()["bitrate"] > 0, "the second push is on air")
        await second.delete()
        await sending
        second.close()
    assert "another publisher has taken over" in gateway.log


async def test_a_new_push_continues_a_lingering_stream(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with pushing(channel):
        since = channel.session()["since"]
    assert channel.session()["state"] == "lingering"
    async with pushing(channel):
        assert channel.session()["since"] == since
    ended = await until_in_thread(
        lambda: next((e for e in events(gateway, channel) if e["type"] == "stream.ended"), None), "the end"
    )
    assert ended["data"]["reason"] == "stopped by the encoder"
    types = [event["type"] for event in events(gateway, channel)]
    assert "stream.started" in types and "stream.ended" in types


@pytest.mark.parametrize(
    "form", ["{id}?sign={key}", "{id}?sign={key}&input=main", "?sign={key}"], ids=["OBS", "input", "without id"]
)
async def test_the_key_may_be_a_bearer_token(gateway: Gateway, form: str) -> None:
    channel = gateway.channel()
    token = form.format(id=channel.id, key=channel.key)
    bare = f"http://127.0.0.1:{gateway.ports['http']}/whip"
    url = channel.url("whip") if token.startswith("?") else bare
    async with publishing_by(url, token) as whip:
        assert whip.answer.headers["location"].startswith(f"/{channel.id}/whip/")
        await live(channel)
    reply = await ask("POST", bare, offer(Client(), "sendonly"), Authorization=f"Bearer {channel.id}?sign=1-00")
    assert reply.status == 401
    assert (await ask("POST", bare, offer(Client(), "sendonly"))).status == 401


@asynccontextmanager
async def publishing_by(url: str, token: str) -> AsyncIterator[Whip]:
    whip = Whip(audio=False)
    reply = await whip.post(url, Authorization=f"Bearer {token}")
    assert reply.status == 201, reply.text
    await whip.connect()
    sending = asyncio.create_task(whip.play(film()))
    try:
        yield whip
    finally:
        await whip.delete()
        await sending
        whip.close()


async def test_a_bearer_token_of_one_channel_does_not_push_to_another(gateway: Gateway) -> None:
    mine, other = gateway.channel(), gateway.channel()
    token = f"Bearer {mine.id}?sign={mine.key}"
    reply = await ask("POST", other.url("whip"), offer(Client(), "sendonly"), Authorization=token)
    assert reply.status == 401


async def test_cors_requests_and_unknown_methods_are_answered(gateway: Gateway) -> None:
    channel = gateway.channel()
    for url in (channel.url("whip"), channel.url("whip/some-id"), f"http://127.0.0.1:{gateway.ports['http']}/whip"):
        reply = await ask("OPTIONS", url)
        assert reply.status == 204
        assert {"POST", "PATCH", "DELETE"} <= set(reply.headers["access-control-allow-methods"].split(", "))
        allowed = reply.headers["access-control-allow-headers"].lower()
        assert all(name in allowed for name in ("authorization", "content-type", "if-match"))
    assert (await ask("PUT", channel.url("whip"), "x")).status == 405
    assert (await ask("DELETE", channel.url("whip/some-id"))).status == 404
    assert (await ask("PATCH", channel.url("whip/some-id"), "a=x\r\n", FRAGMENT)).status == 404


async def test_a_kick_a_deletion_or_an_expiry_ends_the_push(gateway: Gateway) -> None:
    kicked, deleted, expired = (gateway.channel() for _ in range(3))
    ends = [
        (kicked, lambda: gateway.api("DELETE", f"/videostream/{kicked.id}/session"), "kicked"),
        (deleted, lambda: gateway.api("DELETE", f"/videostream/{deleted.id}"), ""),
        (expired, lambda: gateway.api("PUT", f"/videostream/{expired.id}", {"outdate": "2020-01-01"}), ""),
    ]
    for channel, end, word in ends:
        async with pushing(channel) as whip:
            reply = await asyncio.to_thread(end)
            assert reply.status in (200, 204), reply.text
            await whip.network.until(lambda client=whip.client: client.closed)  # type: ignore[misc]
            again = await ask("POST", address(channel), offer(Client(), "sendonly"))
            assert again.status in ((201, 409) if channel is kicked else (401,))
            if word:
                assert word in gateway.log


async def test_a_backup_can_push_by_whip_too(gateway: Gateway) -> None:
    channel = gateway.channel()
    rows = [{"name": "main", "kind": "push"}, {"name": "van", "kind": "backup"}]
    stored = gateway.api("PUT", f"/videostream/{channel.id}/inputs", rows).json()
    van = next(spec for spec in stored if spec["name"] == "van")
    key = van["pushUrl"].partition("sign=")[2].partition("&")[0]
    async with pushing(channel):
        async with publishing(f"{channel.url('whip')}?sign={key}&input=van", film(), audio=False):
            await until_in_thread(lambda: state_of(channel, "van") == "ready", "the backup is ready")
        assert state_of(channel, "main") == "on air"


def state_of(channel: Channel, name: str) -> str:
    rows = channel.gateway.api("GET", f"/videostream/{channel.id}/inputs").json()
    return next(str(row["state"]) for row in rows if row["name"] == name)


async def test_metrics_count_the_push(gateway: Gateway) -> None:
    def value(name: str) -> float:
        lines = gateway.api("GET", "/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0.0)

    channel = gateway.channel()
    before = {name: value(f"millrace_webrtc_{name}") for name in ('bytes_total{direction="in"}', "refused_total")}
    ended = value('millrace_webrtc_ended_total{reason="closed"}')
    async with pushing(channel):
        assert value('millrace_publishers{protocol="whip"}') >= 1
        assert value('millrace_webrtc_connections{state="connected"}') >= 1
        assert value("millrace_ingest_bytes_total") > 1000
    assert value('millrace_webrtc_bytes_total{direction="in"}') > before['bytes_total{direction="in"}'] + 1000
    assert value('millrace_webrtc_ended_total{reason="closed"}') == ended + 1
    refused = value('millrace_auth_failures_total{reason="NotAuthorized",what="publish"}')
    await ask("POST", address(channel, "1-2"), offer(Client(), "sendonly"))
    assert value('millrace_auth_failures_total{reason="NotAuthorized",what="publish"}') == refused + 1


@pytest.mark.nightly
async def test_b_frames_are_reported_during_playback_by_webrtc(gateway: Gateway) -> None:
    """The push uses RTMP, because browsers send no reordered pictures over WebRTC."""
    from tests.support.clients import push
    from tests.support.media import BFRAMES

    channel = gateway.channel()
    with push(BFRAMES, channel.push):
        await asyncio.to_thread(channel.wait_live)
        async with watching(channel.url("whep")):
            found = await until_in_thread(lambda: channel.session()["health"], "a finding", 20)
    assert [finding["code"] for finding in found] == ["b_frames"]


# ---- limits ----


async def test_the_number_of_publishers_per_address_is_limited(limited: Gateway) -> None:
    channels = [limited.channel() for _ in range(3)]
    async with pushing(channels[0]), pushing(channels[1]):
        reply = await ask("POST", address(channels[2]), offer(Client(), "sendonly"))
        assert reply.status == 503 and reply.headers["retry-after"]
    async with pushing(channels[2]):
        pass


async def test_a_push_without_media_ends_in_time(limited: Gateway) -> None:
    channel = limited.channel()
    whip = Whip()
    assert (await whip.post(address(channel))).status == 201
    await whip.connect()
    await whip.network.until(lambda: whip.client.closed, checks=True)
    await until_in_thread(lambda: "no media in time" in limited.log, "its reason is logged")
    whip.close()


async def test_a_push_that_stops_ends_after_the_idle_timeout(limited: Gateway) -> None:
    channel = limited.channel()
    async with pushing(channel) as whip:
        whip.send_unit = lambda unit: None  # type: ignore[method-assign]
        await whip.network.until(lambda: whip.client.closed, checks=True)
    await until_in_thread(lambda: "nothing received for too long" in limited.log, "its reason is logged")


async def test_a_push_that_never_connects_ends_and_the_channel_is_free(limited: Gateway) -> None:
    channel = limited.channel()
    whip = Whip()
    assert (await whip.post(address(channel))).status == 201
    await until_in_thread(lambda: "the client did not connect" in limited.log, "the end")
    async with pushing(channel):
        pass


async def test_too_many_wrong_keys_answer_429_and_a_right_key_still_pushes(limited: Gateway) -> None:
    channel = limited.channel()
    text = offer(Client(), "sendonly")
    statuses = [(await ask("POST", address(channel, "wrong"), text)).status for _ in range(5)]
    assert statuses[0] == 401 and statuses[-1] == 429
    assert http("GET", channel.url("status.json")).status < 500
    async with pushing(channel):
        pass
