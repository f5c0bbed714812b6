"""Shows of a real gateway: ffmpeg pushes, players watch, a chat service gets the announcement, a process dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.alarm_targets import chat_server
from tests.support.clients import Program, until
from tests.support.gateway import Channel, Gateway, http, running
from tests.support.tools import need

MEDIA = ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=25", "-f", "lavfi", "-i", "sine=f=440:r=44100")
CODECS = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-c:a", "aac")


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    need("ffmpeg")
    with running(MILLRACE_EGRESS__ALLOW="127.0.0.1", MILLRACE_STREAM__LINGER="3") as gateway:
        yield gateway


def push(channel: Channel) -> Program:
    return Program(["ffmpeg", "-nostdin", "-v", "error", "-re", *MEDIA, *CODECS, "-f", "flv", channel.push])


def watch(channel: Channel, path: str) -> Program:
    return Program(["ffmpeg", "-nostdin", "-v", "error", "-i", channel.url(path), "-f", "null", "-"])


def shows(channel: Channel) -> list[dict]:
    return channel.gateway.api("GET", f"/videostream/{channel.id}/shows").json()


def test_a_show_is_announced_once_and_reported_with_its_viewers(gateway: Gateway):
    with chat_server() as chats:
        target = f"http://127.0.0.1:{chats.port}/hook"
        channel = gateway.channel(videoname="Club", slug="club", isOnDemand=True, ondemand_time="2", announce=[target])
        assert target not in str(channel.item)
        with push(channel) as pushing:
            channel.wait_playable("live.m3u8")
            with watch(channel, "live.flv"), watch(channel, "live.m3u8"):
                until(lambda: len(chats.received) == 1, "announced", 20)
                until(lambda: shows(channel)[0]["peak"] >= 2, "both viewers counted", 30)
            pushing.process.kill()
        assert shows(channel)[0]["end"] is None
        with push(channel):  # within the linger
            until(lambda: channel.session()["state"] == "live", "live again", 20)
            until(lambda: shows(channel)[0]["watched"] > 0, "measured", 20)
        until(lambda: shows(channel)[0]["end"] is not None, "ended", 30)
        (show,) = shows(channel)
        assert len(chats.received) == 1
        assert chats.wrong == []
    told = chats.received[0][1]["data"]
    assert (told["title"], told["link"].endswith("/club/")) == ("Live now: Club", True)
    assert http("GET", told["picture"]).status == 200

    report = gateway.api("GET", f"/videostream/{channel.id}/shows/{show['id']}").json()
    assert {one["protocol"] for one in report["viewers"] if one["peak"]} == {"flv", "hls"}
    assert len(report["interruptions"]) == 1
    until(lambda: http("GET", channel.url(f"vod/vod-{show['id']}.m3u8")).status == 200, "recorded", 20)
    assert show["url"].endswith(f"/club/vod/{show['id']}/")

    shared = gateway.api("POST", f"/videostream/{channel.id}/shows/{show['id']}/share", {}).json()["url"]
    assert http("GET", shared).status == 200
    data = http("GET", shared.replace("report.html", "report.json"))
    assert data.json()["peak"] == report["peak"]
    assert "url" not in data.json()
    assert gateway.api("PUT", f"/videostream/{channel.id}", {"outdate": "2036-01-01"}).status == 200
    until(lambda: http("GET", shared.replace("report.html", "report.json")).status == 403, "revoked by a new key", 15)
    feed = ElementTree.fromstring(http("GET", channel.url("feed.xml")).body)
    assert len(feed.findall("{http://www.w3.org/2005/Atom}entry")) == 1


def test_a_killed_process_leaves_an_ended_show_and_announces_its_rest_no_more(tmp_path: Path):
    need("ffmpeg")
    settings = {"MILLRACE_EGRESS__ALLOW": "127.0.0.1", "MILLRACE_RTMP__PORT": "0"}
    with chat_server() as chats:
        first = Gateway(tmp_path, **settings)
        first.wait_ready()
        channel = first.channel(videoname="Club", announce=[f"http://127.0.0.1:{chats.port}/hook"])
        with push(channel):
            until(lambda: len(chats.received) == 1, "announced", 30)
            os.killpg(first.process.pid, signal.SIGKILL)
            first.process.wait()
        (tmp_path / "data" / "ports.json").unlink()
        again = Gateway(tmp_path, **settings)
        try:
            again.wait_ready()
            returned = Channel(again, channel.item)
            (show,) = shows(returned)
            assert show["end"] is not None
            with push(returned):
                until(lambda: len(shows(returned)) == 2, "a second show", 30)
                until(lambda: "announced before a restart" in again.log, "not announced", 30)
        finally:
            again.stop()
        assert len(chats.received) == 1
