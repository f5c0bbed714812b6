"""Pulls and playlists of a running gateway: its viewers get exactly the media of the source."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import clients, films
from tests.support.gateway import Channel, Gateway, http
from tests.support.inputs import kill_demuxers
from tests.support.media import Film, judge
from tests.support.rtsp import OPEN
from tests.support.shared_gateway import shared_gateway

FILM = Film("pulled", seconds=40)


gateway = shared_gateway(MILLRACE_EGRESS__ALLOW="127.0.0.0/8", **OPEN)


def with_inputs(gateway: Gateway, *inputs: dict[str, Any], **fields: Any) -> Channel:
    channel = gateway.channel(**fields)
    reply = gateway.api("PUT", f"/videostream/{channel.id}/inputs", list(inputs))
    assert reply.status == 200, reply.text
    return channel


def state(channel: Channel, name: str) -> dict[str, Any]:
    reply = channel.gateway.api("GET", f"/videostream/{channel.id}/inputs")
    return next(item for item in reply.json() if item["name"] == name)


def test_a_channel_of_this_gateway_can_be_pulled_by_every_protocol(gateway: Gateway) -> None:
    origin = gateway.channel("origin")
    with clients.push(FILM, origin.push):
        origin.wait_live()
        origin.wait_playable("live.m3u8", "master.m3u8")
        addresses = [origin.rtmp, origin.url("live.flv"), origin.url("live.m3u8"), origin.url("master.m3u8")]
        addresses.append(origin.item["playUrls"]["rtsp"])
        pulled = [with_inputs(gateway, {"name": "p", "kind": "pull", "url": url}) for url in addresses]
        players = [clients.pull(channel.url("live.flv"), seconds=5) for channel in pulled]
        for player in players:
            judge(clients.take_of(player), FILM, cut=True)
        for channel in pulled:
            assert state(channel, "p")["state"] == "on air"


def test_a_channel_never_pulls_its_own_output(gateway: Gateway) -> None:
    """Without a check, the media would circulate as fast as possible."""
    slate = {"name": "slate", "kind": "slate", "always": True}
    channels = [gateway.channel() for _ in range(4)]
    urls = [channels[0].rtmp, channels[1].url("live.flv"), channels[2].url("live.m3u8")]
    urls.append(channels[3].item["playUrls"]["rtsp"])
    for channel, url in zip(channels, urls, strict=True):
        item = {"name": "p", "kind": "pull", "url": url, "always": True}
        assert gateway.api("PUT", f"/videostream/{channel.id}/inputs", [item, slate]).status == 200
    for channel in channels:
        clients.until(lambda channel=channel: state(channel, "slate")["state"] == "on air", "the slate", 30)  # type: ignore[misc]
        clients.until(lambda channel=channel: state(channel, "p")["error"] is not None, "the loop is named", 30)  # type: ignore[misc]
    words = [
        "refused: NetStream.Play.Failed: A channel cannot pull its own output.",
        *["the address is an output of this channel (508)"] * 3,
    ]
    for channel, text in zip(channels, words, strict=True):
        assert (state(channel, "p")["state"], state(channel, "p")["error"]) == ("failed", text)
        assert channel.session()["input"] == "slate"


def stored(gateway: Gateway, key: str, path: Path) -> str:
    target = gateway.data / "media" / key
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    return key


@pytest.mark.nightly
def test_a_playlist_replaces_a_pull_that_ends(gateway: Gateway) -> None:
    origin = gateway.channel("origin")
    key = stored(gateway, "shows/b.mp4", films.plain("stand-in.mp4", 4, "-g", "30", "-bf", "2"))
    with clients.push(FILM, origin.push) as push:
        origin.wait_live()
        pulled = {"name": "p", "kind": "pull", "url": origin.rtmp, "always": True}
        channel = with_inputs(gateway, pulled, {"name": "tv", "kind": "playlist", "items": [key, "shows/gone.mp4"]})
        channel.wait_live()
        with clients.pull(channel.url("live.flv"), seconds=8) as player:
            clients.until(lambda: len(clients.so_far(player).video) > 30, "the pull plays")
            push.kill()
            take = clients.take_of(player)
    assert len(take.video) > 150
    film = {frame.digest for frame in FILM.hashes().video}
    assert take.video[-1].digest not in film
    clients.until(lambda: state(channel, "tv")["error"] is not None, "the missing item is named")
    assert state(channel, "tv")["error"] == "shows/gone.mp4: it does not exist"


def test_a_slate_replaces_a_playlist_until_its_killed_worker_is_replaced(gateway: Gateway) -> None:
    key = stored(gateway, "shows/c.mp4", films.plain("always.mp4", 4, "-g", "30", "-bf", "2"))
    tv = {"name": "tv", "kind": "playlist", "items": [key], "always": True}
    channel = with_inputs(gateway, tv, {"name": "slate", "kind": "slate", "always": True})
    channel.wait_live()
    clients.until(lambda: state(channel, "slate")["state"] == "ready", "the slate is encoded", 30)
    clients.until(lambda: state(channel, "tv")["state"] == "on air", "the playlist is on air", 30)
    with clients.pull(channel.url("live.flv"), seconds=None) as player:
        clients.until(lambda: len(clients.so_far(player).video) > 30, "it plays")
        kill_demuxers(gateway.process.pid)
        clients.until(lambda: channel.session()["input"] == "slate", "the slate is on air", 20)
        clients.until(lambda: channel.session()["input"] == "tv", "the playlist returns", 20)
        seen = len(clients.so_far(player).video)
        clients.until(lambda: len(clients.so_far(player).video) > seen + 30, "it plays on")
        player.stop()
        take = clients.so_far(player)
    steps = [b.time - a.time for a, b in itertools.pairwise(take.video)]
    assert min(steps) >= 0
    assert max(steps) <= 1.0
    events = gateway.api("GET", f"/events?channel={channel.id}&limit=50").json()
    data = [event["data"] for event in events if event["type"] == "input.switched"]
    assert {"from": "tv", "to": "slate", "reason": "ended"} in data
    assert {"from": "slate", "to": "tv", "reason": "better"} in data


@pytest.mark.nightly
def test_a_playlist_that_is_always_on_air_is_live_without_a_push(gateway: Gateway) -> None:
    key = stored(gateway, "shows/a.mp4", films.plain("always.mp4", 4, "-g", "30", "-bf", "2"))
    item = {"name": "tv", "kind": "playlist", "items": [key, "shows/gone.mp4"], "always": True}
    channel = with_inputs(gateway, item)
    channel.wait_live()
    with clients.pull(channel.url("live.flv"), seconds=8.5) as player:
        take = clients.take_of(player)
    steps = [b.time - a.time for a, b in zip(take.video, take.video[1:], strict=False)]
    assert len(take.video) > 200
    assert min(steps) > 0
    assert max(steps) < 0.2


def test_an_error_of_a_pull_is_shown_without_its_secrets(gateway: Gateway) -> None:
    url = f"http://admin:geheim-geheim@127.0.0.1:{gateway.ports['http']}/nobody/live.m3u8?token=auch-geheim"
    camera = {"name": "cam", "kind": "pull", "url": "rtsps://eva:geheim-cam@127.0.0.1:1/1?t=geheim", "always": True}
    channel = with_inputs(gateway, {"name": "p", "kind": "pull", "url": url, "always": True}, camera)
    clients.until(lambda: state(channel, "p")["state"] == "failed", "the fault of the pull is known", 20)
    assert state(channel, "p")["error"] == "there is no stream at this address (404)"
    clients.until(lambda: state(channel, "cam")["error"] is not None, "the camera's fault is named", 20)
    masked = state(channel, "cam")
    assert (masked["url"], masked["error"]) == ("rtsps://********@127.0.0.1:1/1?********", "connection refused")
    path = f"/videostream/{channel.id}"
    before = gateway.api("GET", f"{path}/inputs").json()
    # The API accepts the list that it shows.
    sent_back = gateway.api("PUT", f"{path}/inputs", before).json()
    assert [one.get("url") for one in sent_back] == [one.get("url") for one in before]
    for answer in (f"{path}/inputs", path, "/videostream", f"{path}/session", f"/events?channel={channel.id}"):
        assert "geheim" not in gateway.api("GET", answer).text, answer
    assert "geheim" not in gateway.log
    assert http("GET", channel.url("live.m3u8")).status == 404
