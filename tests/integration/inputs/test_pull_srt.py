"""Streams of SRT listeners: ffmpeg's and the gateway's own, with passphrases, refusals and deaths."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.inputs.pull import srt_pull
from gateway.media.track import Codec, Kind
from tests.support import clients
from tests.support.free_ports import free_port
from tests.support.gateway import Channel, Gateway
from tests.support.inputs import FakeInput
from tests.support.media import Film, judge
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.ts_senders import check_media, failure, pulling, send

FILM = Film("pulled", seconds=40)
PASSPHRASE = "0123456789-secret"

gateway = shared_gateway("ffmpeg", MILLRACE_EGRESS__ALLOW="127.0.0.0/8")


async def test_a_stream_of_ffmpeg_is_pulled_unchanged() -> None:
    port = free_port()
    context = FakeInput()
    with send(f"srt://127.0.0.1:{port}?mode=listener"):
        assert await failure(f"srt://127.0.0.1:{port}?latency=200", context=context) == "the peer has closed"
    check_media(context)
    assert context.peers == [f"127.0.0.1:{port}"]


async def test_a_passphrase_decrypts_and_a_wrong_one_is_named() -> None:
    port = free_port()
    url = f"srt://127.0.0.1:{port}?pbkeylen=24"
    listener = f"srt://127.0.0.1:{port}?mode=listener&pbkeylen=24&passphrase={PASSPHRASE}"
    with send(listener):
        async with pulling(f"{url}&passphrase={PASSPHRASE}") as context:
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) > 25)
    check_media(context, least=25)
    with send(listener):
        assert await failure(f"{url}&passphrase=another-secret") == "refused: wrong passphrase (1010)"


async def test_sound_of_broadcasting_becomes_aac() -> None:
    port = free_port()
    with send(f"srt://127.0.0.1:{port}?mode=listener", "-c:v", "copy", "-c:a", "mp2", loop=True):
        async with pulling(f"srt://127.0.0.1:{port}") as context:
            await context.recorder.until(lambda: len(context.recorder.of(Kind.AUDIO)) > 50)
    tracks = context.recorder.tracks[-1]
    assert tracks.audio is not None
    assert tracks.audio.codec is Codec.AAC


async def test_errors_name_their_reason_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(srt_pull, "CONNECT_SECONDS", 1.0)
    assert await failure(f"srt://127.0.0.1:{free_port()}?passphrase={PASSPHRASE}") == "no answer to the handshake"
    assert "egress.allow" in await failure("srt://10.1.2.3:9000?streamid=secret")
    assert await failure("srt://127.0.0.1:9000?streamid=read:c1") == "the address is an output of this channel"


# ---- a gateway as source ----


def srt(channel: Channel, query: str = "") -> str:
    return f"srt://127.0.0.1:{channel.gateway.ports['srt']}?streamid=read:{channel.id}{query}"


def with_inputs(gateway: Gateway, *inputs: dict[str, Any], **fields: Any) -> Channel:
    channel = gateway.channel(**fields)
    reply = gateway.api("PUT", f"/videostream/{channel.id}/inputs", list(inputs))
    assert reply.status == 200, reply.text
    return channel


def state(channel: Channel) -> dict[str, Any]:
    reply = channel.gateway.api("GET", f"/videostream/{channel.id}/inputs")
    return next(item for item in reply.json() if item["name"] == "p")


def test_a_channel_pulls_another_one_with_every_frame(gateway: Gateway) -> None:
    origin = gateway.channel("origin", srtPassphrase=PASSPHRASE)
    with clients.push(FILM, origin.push):
        origin.wait_live()
        item = {"name": "p", "kind": "pull", "url": srt(origin, f"&passphrase={PASSPHRASE}")}
        channel = with_inputs(gateway, item)
        assert state(channel)["url"] == f"srt://127.0.0.1:{gateway.ports['srt']}?********"
        with clients.pull(channel.url("live.flv"), seconds=5) as player:
            judge(clients.take_of(player), FILM, cut=True)
        assert state(channel)["state"] == "on air"
        shown = gateway.api("GET", f"/videostream/{channel.id}/inputs").json()
        assert gateway.api("PUT", f"/videostream/{channel.id}/inputs", shown).status == 200
        assert state(channel)["state"] == "on air"
    assert PASSPHRASE not in gateway.log


def test_a_refusal_is_named(gateway: Gateway) -> None:
    url = f"srt://127.0.0.1:{gateway.ports['srt']}?streamid=read:not../a/name!"
    channel = with_inputs(gateway, {"name": "p", "kind": "pull", "url": url, "always": True})
    clients.until(lambda: state(channel)["error"], "the refusal is told", 30)
    assert state(channel)["error"] == "refused: the stream id is malformed (1400)"


def test_a_listener_that_returns_is_pulled_again(gateway: Gateway) -> None:
    port = free_port()
    item = {"name": "p", "kind": "pull", "url": f"srt://127.0.0.1:{port}", "always": True}
    listener = f"srt://127.0.0.1:{port}?mode=listener"
    with send(listener, loop=True) as first:
        channel = with_inputs(gateway, item, {"name": "s", "kind": "slate", "always": True})
        clients.until(lambda: state(channel)["state"] == "on air", "the first listener is pulled", 30)
        first.stop()
    clients.until(lambda: channel.session()["input"] == "s", "the slate is on air", 20)
    with send(listener, loop=True):
        began = time.monotonic()
        clients.until(lambda: state(channel)["state"] in ("ready", "on air"), "it is pulled again", 20)
        assert time.monotonic() - began < at_most(5)
        clients.until(lambda: channel.session()["input"] == "p", "it is on air again", 20)
