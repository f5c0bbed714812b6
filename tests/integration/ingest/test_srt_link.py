"""The link of a push over SRT: its figures in the session, its faults, and what happens when it becomes thin."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import pull, push, so_far, until
from tests.support.fleet import sharing
from tests.support.gateway import Channel, Gateway
from tests.support.link_conditions import Conditions
from tests.support.media import PLAIN
from tests.support.run_delay import run_delay
from tests.support.shared_gateway import shared_gateway
from tests.support.srt_link import film_with_black, srt_push, srt_push_file, udp_link
from tests.support.srtla_sender import SrtlaSender

LINK_CODES = {"link_loss", "link_latency_low"}
gateway = shared_gateway("ffmpeg", films=[PLAIN], MILLRACE_EGRESS__ALLOW="")


def link_codes(channel: Channel) -> dict[str, str]:
    """The texts of the faults of the link, by code."""
    return {fault["code"]: fault["text"] for fault in channel.session()["health"] if fault["code"].startswith("link_")}


def link(channel: Channel) -> dict[str, Any]:
    return channel.session()["link"]


@pytest.mark.nightly
def test_loss_that_the_latency_does_not_cover_is_told_and_withdrawn(gateway: Gateway) -> None:
    channel = gateway.channel()
    with (
        udp_link(gateway.ports["srt"], Conditions(loss=5, delay=30)) as thin,
        srt_push(channel, PLAIN, thin.port),
    ):
        channel.wait_live()
        until(lambda: set(link_codes(channel)) >= LINK_CODES, "the faults are found", 20)
        state = link(channel)
        assert 2 < state["lossPercent"] < 9
        until(lambda: 55 < link(channel)["rttMs"] < 90, "the round trip approaches 60 ms from 100", 20)
        assert state["retransmitted"] > 5
        assert state["latencyMs"] == 120
        until(lambda: 0 < link(channel)["bufferMs"] < 400, "media waits for its time")
        (path,) = state["links"]
        assert (path["peer"], path["sharePercent"], path["state"]) == ("127.0.0.1", 100, "up")
        assert "Latency 120 ms is less than" in link_codes(channel)["link_latency_low"]
        listed = gateway.api("GET", "/videostreams/online").json()
        assert next(one for one in listed if one["id"] == channel.id)["link"]["latencyMs"] == 120
        thin.conditions.loss = 0
        until(lambda: not link_codes(channel), "the faults are withdrawn", 20)
        assert link(channel)["lossPercent"] < 1


def values(gateway: Gateway, name: str) -> dict[str, float]:
    """The values of a metric, by labels."""
    lines = gateway.api("GET", "/metrics").text.splitlines()
    found = (line[len(name) :].rpartition(" ") for line in lines if line.startswith(name + "{"))
    return {labels: float(value) for labels, _, value in found}


def connections(gateway: Gateway) -> dict[str, float]:
    """The connections of the SRT port by direction."""
    found = values(gateway, "millrace_srt_connections")
    return {direction: found[f'{{direction="{direction}"}}'] for direction in ("publish", "play")}


def test_metrics_count_packets_connections_and_refusals(gateway: Gateway) -> None:
    until(lambda: connections(gateway)["publish"] == 0, "earlier pushes have ended")
    channel, before = gateway.channel(), values(gateway, "millrace_srt_packets_total")
    with udp_link(gateway.ports["srt"], Conditions(loss=5)) as thin, srt_push(channel, PLAIN, thin.port) as encoder:
        channel.wait_live()
        until(lambda: link(channel)["retransmitted"] > 5, "packets are sent again")
        packets = values(gateway, "millrace_srt_packets_total")
        assert connections(gateway) == {"publish": 1, "play": 0}
        for what in ("received", "lost", "retransmitted"):
            labels = f'{{direction="publish",what="{what}"}}'
            assert packets[labels] > before[labels] + 5
        encoder.stop()  # it tells its end
    until(lambda: connections(gateway)["publish"] == 0, "the push has ended")
    ended = values(gateway, "millrace_srt_packets_total")
    assert all(ended[labels] >= count for labels, count in packets.items()), "counters never fall"
    stranger = srt_push(channel, PLAIN, gateway.ports["srt"], key="1-0")
    with stranger:
        until(lambda: values(gateway, "millrace_srt_refused_total")['{code="14xx"}'] >= 1, "it is refused")


def push_input(channel: Channel) -> dict[str, Any]:
    inputs = channel.gateway.api("GET", f"/videostream/{channel.id}/inputs").json()
    return next(one for one in inputs if one["kind"] == "push")


@pytest.mark.nightly
def test_a_thin_push_is_left_for_the_slate_and_returns_while_viewers_stay(gateway: Gateway) -> None:
    rule = {"kbps": 300, "seconds": 3}
    channel = gateway.channel(inputs=[{"kind": "push", "below": rule}, {"kind": "slate"}])
    begin, end = 6, 14
    film = film_with_black(begin, end)
    began, delayed = time.monotonic(), run_delay(gateway.process.pid)

    def gone() -> float:
        """The seconds since the encoder was started, without those for which the gateway had no processor."""
        return time.monotonic() - began - (run_delay(gateway.process.pid) - delayed)

    with srt_push_file(channel, gateway.ports["srt"], film):
        channel.wait_playable("live.m3u8")
        late = max(2, time.monotonic() - began)  # the encoder begins in this time, and the questions take a moment
        with pull(channel.url("live.flv"), seconds=None) as viewer:
            until(lambda: len(so_far(viewer).video) > 50, "it plays")
            until(lambda: channel.session()["inputKind"] == "slate", "the slate is on air", 20)
            assert begin < time.monotonic() - began
            assert gone() < begin + rule["seconds"] + 1 + late
            assert link(channel)["latencyMs"] == 120, "the session still shows the link of the push"
            assert (push_input(channel)["below"], push_input(channel)["state"]) == (rule, "ready")
            assert "of at least 300 kbit/s" in push_input(channel)["error"]
            fault = until(lambda: {one["code"]: one for one in channel.session()["health"]}.get("input_lost"), "why")
            assert "below 300 kbit/s" in fault["text"]
            until(lambda: channel.session()["inputKind"] == "push", "the push is on air again", 30)
            assert end + rule["seconds"] < time.monotonic() - began
            assert gone() < end + rule["seconds"] + 1 + 1 + late
            assert push_input(channel)["error"] is None
            count = len(so_far(viewer).video)
            until(lambda: len(so_far(viewer).video) > count + 50, "the viewer goes on")
            times = [frame.time for frame in so_far(viewer).video]
            assert times == sorted(times)
            assert max(b - a for a, b in itertools.pairwise(times)) < 1
    events = gateway.api("GET", f"/events?channel={channel.id}&limit=100").json()
    switches = [one["data"] for one in reversed(events) if one["type"] == "input.switched"]
    assert [(one["to"], one["reason"]) for one in switches] == [("slate1", "thin"), ("main", "better")]


def test_a_thin_link_brings_the_slate_and_viewers_stay(gateway: Gateway) -> None:
    channel = gateway.channel(inputs=[{"kind": "push", "below": {"kbps": 300, "seconds": 2}}, {"kind": "slate"}])
    with (
        udp_link(gateway.ports["srt"], Conditions(delay=10, queue=200)) as thin,
        srt_push(channel, PLAIN, thin.port),
    ):
        channel.wait_playable("live.m3u8")
        with pull(channel.url("live.flv"), seconds=None) as viewer:
            until(lambda: len(so_far(viewer).video) > 50, "it plays")
            thin.conditions.rate, began, delayed = 150, time.monotonic(), run_delay(gateway.process.pid)
            until(lambda: channel.session()["inputKind"] == "slate", "the slate is on air")
            assert time.monotonic() - began - (run_delay(gateway.process.pid) - delayed) < 2 + 1.5
            thin.conditions.rate = 0
            until(lambda: channel.session()["inputKind"] == "push", "the push is on air again", 30)
            count = len(so_far(viewer).video)
            until(lambda: len(so_far(viewer).video) > count + 50, "the viewer goes on")


def test_the_link_of_a_push_at_another_node_is_known_where_the_stream_is(tmp_path: Path) -> None:
    with sharing(tmp_path, 2) as (one, two):
        channel = one.channel(inputs=[{"kind": "push"}, {"kind": "backup", "name": "van"}])
        path = f"/videostream/{channel.id}/inputs"
        van = next(item for item in one.api("GET", path).json() if item["name"] == "van")
        with push(PLAIN, channel.push, loop=True):
            channel.wait_live()
            with (
                udp_link(two.ports["srt"], Conditions(loss=5, delay=30)) as thin,
                srt_push(channel, PLAIN, thin.port, key=van["key"], input="van"),
            ):
                until(lambda: one.api("POST", f"{path}/van/take", {}).status == 200, "the van is taken", 20)
                for node in (one, two):
                    there = Channel(node, channel.item)
                    state = until(lambda there=there: there.session().get("link"), "its link is shown", 20)
                    assert state["links"][0]["peer"] == "127.0.0.1"
                    until(lambda there=there: 50 < (link(there)["rttMs"] or 0) < 100, "its round trip is measured", 20)
                until(lambda: "link_latency_low" in link_codes(channel), "its faults are found", 20)


@pytest.mark.nightly
def test_the_links_of_a_bonded_push_have_shares_and_one_that_is_down_is_a_fault(gateway: Gateway) -> None:
    channel = gateway.channel()
    with (
        SrtlaSender(gateway.ports["srtla"], "127.0.0.1", "127.0.0.2", "127.0.0.3") as sender,
        srt_push(channel, PLAIN, sender.port),
    ):
        channel.wait_live()
        until(lambda: [path["sharePercent"] > 20 for path in link(channel)["links"]] == [True] * 3, "equal shares", 20)
        assert {path["peer"] for path in link(channel)["links"]} == {"127.0.0.1", "127.0.0.2", "127.0.0.3"}
        assert link(channel)["lossPercent"] < 1
        assert link_codes(channel) == {}
        sender.down.add("127.0.0.2")
        text = until(lambda: link_codes(channel).get("link_down"), "the link is missed", 15)
        assert text == "1 of 3 links bring nothing: check their modems."
        state = {path["peer"]: path["state"] for path in link(channel)["links"]}
        assert state == {"127.0.0.1": "up", "127.0.0.2": "down", "127.0.0.3": "up"}
        assert channel.session()["state"] == "live"
        sender.down.clear()
        until(lambda: "link_down" not in link_codes(channel), "the link is back", 20)
