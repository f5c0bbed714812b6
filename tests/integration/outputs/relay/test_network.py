"""Relays with DNS names, TLS, IPv6 and servers of other vendors."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.formats.flv import muxer
from gateway.formats.flv.tag import AUDIO, VIDEO
from gateway.lib import egress
from gateway.media.silent_frames import silent_frame
from gateway.media.track import Kind
from gateway.workers.stream_form import DEFAULT_AUDIO
from tests.support import builders
from tests.support.authority import Authority
from tests.support.clients import pull, take_of
from tests.support.media import BFRAMES, PLAIN, judge
from tests.support.nginx_rtmp import nginx_rtmp
from tests.support.relaying import Live, filming, live, play, relays
from tests.support.rtmp_target import RtmpTarget
from tests.support.tools import need


async def test_a_failed_name_resolution_is_reported_and_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(name: str, port: int) -> Any:
        raise OSError(f"{name}: Temporary failure in name resolution")

    async def back(name: str, port: int) -> Any:
        return [(socket.AF_INET, ipaddress.ip_address("127.0.0.1"))]

    monkeypatch.setattr(egress, "_resolve", away)
    async with RtmpTarget() as target, live(target.url("secret-key", host="relay.example")) as on:
        async with filming(on):
            report = await on.state("retrying")
            assert report["error"] == "relay.example: Temporary failure in name resolution"
            monkeypatch.setattr(egress, "_resolve", back)
            await target.session(media=20)
        assert on.targets[0]["attempts"] >= 2


@pytest.fixture
def each_name_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolves all names to 127.0.0.1."""

    async def found(name: str, port: int) -> Any:
        return [(socket.AF_INET, ipaddress.ip_address("127.0.0.1"))]

    monkeypatch.setattr(egress, "_resolve", found)


@pytest.mark.usefixtures("each_name_is_here")
async def test_a_key_behind_the_bare_server_of_kick_is_published() -> None:
    async with RtmpTarget(app="app") as target:
        server = f"rtmp://fa723fc1b171.global-contribute.live-video.net:{target.port}"
        async with live(f"{server}/sk_us-west-2_secret") as on:
            on.film(range(0, 400, 40))
            session = await target.session(media=20)
            assert (session.app, session.name) == ("app", "sk_us-west-2_secret")
            assert on.targets[0]["url"] == f"{server}/********"


def pictures(on: Live, times: range) -> None:
    for n, at in enumerate(times):
        on.publisher.push(builders.picture(at, key=n % 10 == 0), time.monotonic())


@pytest.mark.usefixtures("each_name_is_here")
@pytest.mark.parametrize("host", ["a.rtmps.youtube.com", "live-api-s.facebook.com"])
async def test_a_camera_without_sound_is_silent_for_services_that_want_sound(host: str) -> None:
    silence = b"\xaf\x01" + silent_frame(DEFAULT_AUDIO).payload  # type: ignore[union-attr]
    async with RtmpTarget() as target, live(target.url(host=host), tracks=False) as on:
        on.publisher.set_tracks(builders.VIDEO, None, {})
        pictures(on, range(0, 2000, 40))
        pictures(on, range(9_000, 9_400, 40))
        session = await target.session(media=60 + 109)
        assert [t.payload for t in session.headers] == [
            muxer.track_body(builders.VIDEO),
            muxer.track_body(DEFAULT_AUDIO),
        ]
        assert session.scripts[0].values[0]["audiocodecid"] == 10
        sounds = [t for t in session.media if t.type_id == AUDIO]
        assert {t.payload for t in sounds} == {silence}
        assert [t.timestamp for t in sounds[:4]] == [0, 21, 42, 64]
        assert (sounds[91].timestamp, sounds[92].timestamp) == (1941, 9000), "a break of the pictures is not filled"
        on.publisher.set_tracks(builders.VIDEO, builders.AUDIO, {})
        on.film(range(10_000, 10_400, 40))
        await target.session(media=60 + 109 + 20)
        assert session.media[-1].payload == muxer.unit_body(builders.sound(10_360))
        assert silence not in [t.payload for t in session.media[-20:]]


@pytest.mark.usefixtures("each_name_is_here")
async def test_sound_without_pictures_is_refused_for_services_that_want_both_until_pictures_come() -> None:
    async with RtmpTarget() as target, live(target.url(host="a.youtube.com"), target.url(), tracks=False) as on:
        on.publisher.set_tracks(None, builders.AUDIO, {})
        on.publisher.push(builders.sound(0), time.monotonic())
        report = await on.state("failed")
        assert report["error"] == "YouTube and Facebook take no stream without video"
        assert (await on.state("live", 1))["error"] is None
        on.publisher.set_tracks(builders.VIDEO, builders.AUDIO, {})
        on.film(range(40, 400, 40))
        await on.state("live")


@pytest.mark.usefixtures("each_name_is_here")
async def test_other_servers_get_a_stream_without_sound_unchanged() -> None:
    async with RtmpTarget() as target, live(target.url(host="youtube.com.example"), tracks=False) as on:
        on.publisher.set_tracks(builders.VIDEO, None, {})
        pictures(on, range(0, 2000, 40))
        session = await target.session(media=50)
        assert {t.type_id for t in session.tags} == {VIDEO}


async def test_rtmps_verifies_the_server_with_the_configured_authorities(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = authority.server("127.0.0.1", "localhost")
    async with RtmpTarget(tls=tls) as target, live(target.url(), with_=relays(tls=authority.client())) as on:
        on.film(range(0, 400, 40))
        await target.session(media=20)


async def test_an_untrusted_certificate_or_another_name_is_refused_with_a_reason(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with RtmpTarget(tls=authority.server("127.0.0.1")) as target:
        async with live(target.url()) as on:
            report = await on.state("retrying")
            assert report["error"].startswith("the server's certificate is not trusted: ")
        async with live(target.url(host="localhost"), with_=relays(tls=authority.client())) as on:
            report = await on.state("retrying")
            assert "not valid for 'localhost'" in report["error"]
        assert not target.sessions


async def test_a_mismatch_of_tls_and_plain_connections_fails_with_a_reason(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    slow = relays(tls=authority.client(), timeout=1)
    async with (
        RtmpTarget() as plain,
        RtmpTarget(tls=authority.server("127.0.0.1")) as secure,
        live(plain.url(scheme="rtmps"), secure.url(scheme="rtmp"), with_=slow) as on,
    ):
        assert (await on.state("retrying", 0))["error"] == "the server closed the connection when TLS began"
        assert (await on.state("retrying", 1))["error"] == "the server closed the connection during the handshake"


async def test_ipv6_targets_are_reached() -> None:
    async with RtmpTarget(host="::1") as target, live(target.url(host="[::1]")) as on:
        on.film(range(0, 400, 40))
        session = await target.session(media=20)
        assert session.connect["tcUrl"] == f"rtmp://[::1]:{target.port}/live"


async def test_nginx_records_exactly_the_pushed_frames() -> None:
    need("ffmpeg", "nginx")
    with nginx_rtmp() as nginx:
        async with live(nginx.url("film", "keep"), tracks=False) as on:
            await play(BFRAMES, on, speed=8, until=10)
            on.end()
            await on.hub.drained()
        take = await asyncio.to_thread(lambda: take_of(pull(str(nginx.kept("film")[0]), seconds=None)))
    judge(take, BFRAMES, least=9.5, slack=0.005, cut=True)


async def test_a_restarted_nginx_gets_the_stream_again_from_a_key_frame() -> None:
    need("ffmpeg", "nginx")
    with contextlib.ExitStack() as stack:
        nginx = stack.enter_context(nginx_rtmp())
        async with live(nginx.url("film", "keep"), tracks=False) as on:
            viewer = builders.Recorder()
            on.stream.attach(viewer)
            playing = asyncio.create_task(play(PLAIN, on, speed=8))
            await on.until(lambda: on.targets and on.targets[0]["sent"] > 100_000, "relayed")
            await asyncio.to_thread(stack.close)
            assert (await on.state("retrying"))["error"]
            with nginx_rtmp(nginx.rtmp) as again:
                await on.state("live")
                await playing
                on.end()
                await on.hub.drained()
                take = await asyncio.to_thread(lambda: take_of(pull(str(again.kept("film")[0]), seconds=None)))
        judge(take, PLAIN, least=3)
        assert take.video[-1].digest == PLAIN.hashes().video[-1].digest
        assert len([u for u in viewer.units if u.track.kind is Kind.VIDEO]) == len(PLAIN.hashes().video)
