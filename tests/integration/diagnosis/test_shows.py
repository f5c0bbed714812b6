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
from tests.support.fleet import sharing
from tests.support.gateway import Channel, Edge, Gateway, http, running
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
    assert show["url"].endswith(f"/{channel.id}/vod/{show['id']}/")

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


def test_a_fleet_announces_a_show_once_and_counts_the_viewers_of_all_nodes(tmp_path: Path):
    need("ffmpeg")
    shared = {
        "MILLRACE_EGRESS__ALLOW": "127.0.0.1",
        "MILLRACE_ADMIN__STORE": f"sqlite:///{tmp_path}/console.db",
        "MILLRACE_EVENTS__STORE": f"sqlite:///{tmp_path}/events.db",
    }
    with chat_server() as chats, sharing(tmp_path, 2, **shared) as (holder, other):
        (tmp_path / "edge").mkdir()
        edge = Edge(
            tmp_path / "edge",
            MILLRACE_CLUSTER__SECRET="what the nodes share",
            MILLRACE_SIGNING__SECRET="what the keys are signed with",
            MILLRACE_EDGE__UPSTREAM=f"127.0.0.1:{holder.ports['http']},127.0.0.1:{other.ports['http']}",
        )
        try:
            edge.wait_ready()
            upcoming = {"title": "Final", "at": "2035-01-01T00:00:00Z"}
            channel = holder.channel(
                videoname="Club", upcoming=upcoming, announce=[f"http://127.0.0.1:{chats.port}/hook"]
            )
            elsewhere = Channel(other, channel.item)
            with push(channel):
                channel.wait_playable("live.m3u8")
                until(lambda: edge.get(channel, "live.m3u8").status == 200, "played by the edge", 20)
                viewer = ["ffmpeg", "-nostdin", "-v", "error", "-i", edge.url(channel, "live.flv"), "-f", "null", "-"]
                until(lambda: len(shows(channel)) == 1, "listed", 20)
                with watch(elsewhere, "live.flv"), Program(viewer):
                    until(lambda: shows(channel)[0]["peak"] == 2, "the viewers of both nodes counted", 60)
                    assert shows(elsewhere)[0]["peak"] == 2  # the node with the stream answers
            until(lambda: shows(elsewhere)[0]["end"] is not None, "ended", 60)
            assert len(chats.received) == 1
            id = shows(elsewhere)[0]["id"]
            link = other.api("POST", f"/videostream/{channel.id}/shows/{id}/share").json()["url"].partition("?")[2]
            report = edge.get(channel, f"report.json?{link}")
            assert (report.status, report.json()["peak"]) == (200, 2)
            assert edge.get(channel, f"report.json?{link}0").status == 403
            assert edge.get(channel, "report.html").status == 200
            assert edge.get(channel, "feed.xml").text.count("<entry>") == 1
            assert "SUMMARY:Final" in edge.get(channel, "next.ics").text
            assert edge.get(channel, "status.json").json()["upcoming"]["title"] == "Final"
        finally:
            edge.stop()
