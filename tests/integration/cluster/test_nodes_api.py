"""Two real gateways on one registry: either one's API answers for both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.support.clients import Program, probe, push, until
from tests.support.fleet import nodes, sharing
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import Film
from tests.support.time_outs import at_most

FILM = Film("shared", seconds=40)


@dataclass
class Two:
    """Two gateways: `asked` gets the API requests, `holder` gets the pushes."""

    asked: Gateway
    holder: Gateway

    def channel(self, **fields: Any) -> Channel:
        """Creates a channel whose push goes to the holder."""
        return Channel(self.holder, self.asked.channel(**fields).item)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with sharing(tmp_path_factory.mktemp("two"), 2, MILLRACE_CLIPS__PER_MINUTE="0") as (asked, holder):
        yield Two(asked, holder)


def api(gateway: Gateway, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    reply = gateway.api(method, path, body)
    assert reply.status == status, f"{method} {path}: {reply.status} {reply.text[:300]}\n{gateway.log[-2000:]}"
    return reply.json()


@contextlib.contextmanager
def live(channel: Channel) -> Iterator[Program]:
    with push(FILM, channel.push) as encoder:
        channel.wait_live()
        yield encoder


def test_a_stream_is_seen_switched_and_kicked_from_the_other_node(two: Two):
    channel = two.channel(videoname="stage", isHls=False)
    path = f"/videostream/{channel.id}"
    with live(channel) as encoder:
        session = api(two.asked, "GET", f"{path}/session")
        assert (session["state"], session["publisher"]["protocol"]) == ("live", "rtmp")
        online = api(two.asked, "GET", "/videostreams/online")
        assert [(one["id"], one["videoname"], one["node"]) for one in online] == [
            (channel.id, "stage", session["node"])
        ]
        mine = next(node["node"] for node in nodes(two.asked) if node["here"])
        assert session["node"] != mine
        assert api(two.asked, "POST", f"{path}/outputs/hls", {"enabled": True})["state"] == "running"
        channel.wait_playable("live.m3u8")
        assert "error" in api(two.asked, "POST", f"{path}/outputs/vhs", {"enabled": True}, status=404)
        assert channel.id in api(two.asked, "GET", "/api/streams")["stream"]
        assert api(two.asked, "GET", f"/api/streams/stream/{channel.id}")["isLive"] is True
        assert api(two.asked, "DELETE", f"{path}/session")["state"] == "idle"
        until(lambda: not encoder.running, "the encoder is cut off")
    until(lambda: api(two.asked, "GET", f"{path}/session")["state"] == "idle", "it is over")
    assert api(two.asked, "GET", "/videostreams/online") == []


def test_a_new_expiry_set_at_one_node_revokes_the_key_at_the_other(two: Two):
    channel = two.channel()
    api(two.asked, "PUT", f"/videostream/{channel.id}", {"outdate": "2036-01-01"})
    with push(FILM, channel.push) as encoder:
        encoder.process.wait(at_most(20))
        assert encoder.process.returncode != 0
    assert api(two.asked, "GET", f"/videostream/{channel.id}/session")["state"] == "idle"


def test_an_expiry_in_the_past_keeps_the_push_at_the_other_node(two: Two):
    channel = two.channel()
    with live(channel) as encoder:
        api(two.asked, "PUT", f"/videostream/{channel.id}", {"outdate": "2020-01-01"})
        until(lambda: "key_expires" in codes(channel), "the other node knows the date")
        assert encoder.running


def codes(channel: Channel) -> list[str]:
    return [finding["code"] for finding in channel.session()["health"]]


def test_a_deletion_at_one_node_ends_the_push_at_the_other(two: Two):
    channel = two.channel()
    with live(channel) as encoder:
        assert api(two.asked, "DELETE", f"/videostream/{channel.id}") == "stream deleted"
        until(lambda: not encoder.running, "the push is ended")
    api(two.asked, "GET", f"/videostream/{channel.id}/session", status=404)


def test_viewers_at_one_node_are_counted_in_the_others_session(two: Two):
    channel = two.channel()
    near = Channel(two.asked, channel.item)
    with live(channel), urlopen(Request(near.url("live.flv")), timeout=at_most(20)) as viewer:
        assert viewer.read(1000)

        def seen() -> bool:
            viewer.read1(1_000_000)
            listed = http("GET", near.url("live.m3u8"))
            assert listed.status in (200, 404)  # the first segment takes a second
            for name in [line for line in listed.text.splitlines() if line.endswith(".ts")][-1:]:
                assert http("GET", near.url(name)).status == 200
            viewers = channel.session()["viewers"]
            return bool((viewers["flv"], viewers["hls"]) == (1, 1))

        until(seen, "both viewers are told of", timeout=25)


def test_node_operations_are_refused_without_a_valid_node_signature(two: Two):
    base = f"http://127.0.0.1:{two.holder.ports['http']}/_node/.node"
    channel = two.channel()
    with live(channel):
        for method, path in (("GET", "sessions"), ("GET", f"channel/{channel.id}"), ("POST", f"kick/{channel.id}")):
            for headers in ({}, {"X-Millrace-Node": f"1-{'0' * 64}"}):
                assert http(method, f"{base}/{path}", headers=headers).status == 401
        assert channel.session()["state"] == "live"


@pytest.mark.nightly
def test_the_server_list_contains_only_live_gateways(tmp_path: Path):
    with sharing(tmp_path, 2) as (asked, killed):
        servers = api(asked, "GET", "/servers")
        assert [one["role"] for one in servers] == ["primary", "secondary"]
        assert {one["ports"]["ws"] for one in servers} == {asked.ports["ws"], killed.ports["ws"]}
        policy = http("GET", f"http://127.0.0.1:{asked.ports['admin']}/").headers["content-security-policy"]
        assert f"ws://127.0.0.1:{killed.ports['ws']}" in policy
        channel = Channel(killed, asked.channel().item)
        with live(channel):
            killed.process.kill()
            killed.process.wait()
            assert asked.api("GET", "/videostreams/online").headers["x-millrace-silent"]
            reply = asked.api("GET", f"/videostream/{channel.id}/session")
            assert reply.status == 503 and int(reply.headers["retry-after"]) > 0, reply.text
            servers = api(asked, "GET", "/servers")
            assert [(one["role"], one["ports"]["ws"]) for one in servers] == [("primary", asked.ports["ws"])]
            until(
                lambda: asked.api("GET", f"/videostream/{channel.id}/session").status == 200,
                "the stream of a dead node is over",
                timeout=30,
            )


def test_a_clip_of_the_newest_seconds_is_made_by_the_node_that_has_them(two: Two):
    channel = two.channel(isOnDemand=True, ondemand_time="60", isHls=False)
    path = f"/videostream/{channel.id}/clips"
    with push(FILM, channel.push):
        channel.wait_live()
        made: dict[str, Any] = {}

        def clip() -> bool:
            reply = two.asked.api("POST", path, {"last": 2})
            made.update(reply.json())
            return reply.status == 201 and made["seconds"] > 1.9

        until(clip, "two seconds are recorded")
        reply = http("GET", channel.url("vod/" + made["key"].partition("/")[2]))  # these nodes share no object store
        assert (reply.status, len(reply.body)) == (200, made["size"])
        assert "after" in api(two.asked, "POST", path, {"from": 20, "to": 10}, status=400)["error"]
        assert "nothing" in api(two.asked, "POST", path, {"from": 10, "to": 20}, status=404)["error"]


def test_an_export_up_to_now_is_made_by_the_node_that_has_the_newest_seconds(two: Two, tmp_path: Path):
    channel = two.channel(isOnDemand=True, ondemand_time="60", isHls=False, videoname="A stage")
    path = f"/videostream/{channel.id}/export"
    with push(FILM, channel.push):
        channel.wait_live()
        file = tmp_path / "export.mp4"

        def export() -> bool:
            reply = two.asked.api("GET", f"{path}?last=3")  # these nodes share no object store
            if reply.status != 200:
                return False
            assert reply.headers["content-type"] == "video/mp4" and "A_stage-" in reply.headers["content-disposition"]
            assert len(reply.body) == int(reply.headers["content-length"])
            file.write_bytes(reply.body)
            return float(probe(file)["video"]["duration"]) > 2.9

        until(export, "three seconds are recorded")
        assert two.asked.api("HEAD", f"{path}?last=3").status == 200
        assert "after" in api(two.asked, "GET", f"{path}?from=20&to=10", status=400)["error"]
        assert "nothing" in api(two.asked, "GET", f"{path}?from=10&to=20", status=404)["error"]
    # Its place is free again, and no file is left.
    until(lambda: two.asked.api("GET", f"{path}?last=3").status != 503, "the export is possible")
    assert "Traceback" not in two.asked.log + two.holder.log
