"""How a push ends: an encoder that says that it stops, in contrast to a connection that breaks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.ingest.test_whip import pushing
from tests.support.clients import Program, pull, push, take_of, until
from tests.support.fleet import sharing
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import Film
from tests.support.pushing import camera, page
from tests.support.shared_gateway import shared_gateway
from tests.support.waiting import until_in_thread

FILM = Film("stop", seconds=40)
SILENT = camera(sound=False)

gateway = shared_gateway("ffmpeg", films=[FILM], MILLRACE_STREAM__LINGER="60")


@contextlib.asynccontextmanager
async def rtmp(channel: Channel) -> AsyncIterator[Callable[[], Any]]:
    with push(FILM, channel.push) as encoder:
        yield lambda: asyncio.to_thread(encoder.stop)


@contextlib.asynccontextmanager
async def websocket(channel: Channel) -> AsyncIterator[Callable[[], Any]]:
    url = f"ws://127.0.0.1:{channel.gateway.ports['ws']}/stream/{channel.id}?sign={channel.key}"
    async with page(url) as opened:
        await opened.wait("accepted")
        await opened.configure(SILENT)
        await opened.film(SILENT)
        yield opened.ws.close


def ended(channel: Channel) -> list[str]:
    """The reasons of the ended pushes, newest first."""
    found = channel.gateway.api("GET", f"/events?channel={channel.id}&type=publish.ended").json()
    return [event["data"]["reason"] for event in found]


def status(channel: Channel) -> dict[str, Any]:
    found: dict[str, Any] = http("GET", channel.url("status.json")).json()
    return found


@contextlib.asynccontextmanager
async def whip(channel: Channel) -> AsyncIterator[Callable[[], Any]]:
    async with pushing(channel) as client:
        yield client.delete


@pytest.mark.parametrize("way", [rtmp, websocket, whip])
@pytest.mark.parametrize("inputs", [False, True], ids=["one input", "inputs"])
async def test_a_stop_of_the_encoder_is_told_apart_from_a_break(gateway: Gateway, way: Any, inputs: bool) -> None:
    channel = gateway.channel()
    if inputs:
        listed = [{"name": "main", "kind": "push"}, {"name": "van", "kind": "backup"}]
        assert gateway.api("PUT", f"/videostream/{channel.id}/inputs", listed).status == 200
    async with way(channel) as stop:
        await until_in_thread(lambda: channel.session()["state"] == "live", "it is live")
        assert (channel.session()["paused"], status(channel)["paused"]) == (False, False)
        await stop()
        session = await until_in_thread(
            lambda: (found := channel.session())["state"] == "lingering" and found, "the push has ended"
        )
    assert (session["paused"], status(channel)["paused"]) == (True, True)
    assert ended(channel) == ["stopped by the encoder"]


def test_a_broken_push_after_a_stopped_one_is_a_break(gateway: Gateway) -> None:
    channel = gateway.channel()
    for end, paused in ((Program.stop, True), (Program.kill, False)):
        with push(FILM, channel.push) as encoder:
            until(lambda: channel.session()["state"] == "live", "it is live")
            end(encoder)
            until(lambda: channel.session()["state"] == "lingering", "the push has ended")
        assert (channel.session()["paused"], status(channel)["paused"]) == (paused, paused)
    assert ended(channel) == ["publisher gone", "stopped by the encoder"]


@pytest.mark.nightly
def test_other_nodes_tell_a_stop_of_a_forwarded_push(tmp_path: Path) -> None:
    with sharing(tmp_path, 2, MILLRACE_STREAM__LINGER="60") as (holder, other):
        channel = holder.channel()
        there = Channel(other, other.api("GET", f"/videostream/{channel.id}").json())
        with push(FILM, channel.push):
            channel.wait_live()
        until(lambda: channel.session()["state"] == "lingering", "the first push has ended")
        with push(FILM, there.push) as encoder:
            until(lambda: channel.session()["state"] == "live", "the push of the other node is on air")
            with pull(channel.url("live.flv"), seconds=1) as player:
                assert take_of(player).video, "an encoder that has sent nothing does not say that it stops"
            encoder.stop()
            until(lambda: channel.session()["state"] == "lingering", "the push has ended")
        until(lambda: status(there)["paused"], "the other node tells its viewers")
        assert ended(channel)[0] == "stopped by the encoder"
