"""Several worker processes on the same ports act as one gateway, or one edge, for all clients."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support.clients import pull, push, take_of, until
from tests.support.cores import FILM, Cores, EdgeCores, Start, answers, viewers_everywhere
from tests.support.gateway import Channel, http
from tests.support.media import judge

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")


def assert_counted(gateway: Cores, channel: Channel, viewers: int) -> None:
    """Asserts that metrics and session of three workers add up the viewers of all, and omit internal pulls."""
    wanted = float(viewers)
    until(lambda: gateway.measured().get('millrace_viewers{protocol="flv"}') == wanted, "all are counted")
    measured = gateway.measured()
    assert measured['millrace_streams{state="live"}'] == 1
    assert measured['millrace_publishers{protocol="rtmp"}'] == 1
    assert measured['millrace_processes{state="summed"}'] == 3
    assert {'process_open_fds{process="1"}', 'process_open_fds{process="3"}'} <= measured.keys()
    session = channel.session()
    until(lambda: channel.session()["viewers"]["flv"] == viewers, f"the session has them: {session}")


def assert_same_hls(channel: Channel) -> None:
    """Asserts that HLS is the same through every worker."""
    known: dict[int, str] = {}
    for _ in range(40):
        reply = http("GET", channel.url("live.m3u8"))
        assert reply.status == 200
        first = int(re.findall(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", reply.text)[0])
        for number, uri in enumerate(re.findall(r"^\d+\.ts$", reply.text, re.M), first):
            assert known.setdefault(number, uri) == uri
    bodies = {http("GET", channel.url(known[max(known)])).body for _ in range(20)}
    assert len(bodies) == 1


def test_a_push_to_one_worker_plays_at_all_workers_which_act_as_one(start: Start) -> None:
    gateway = start(3)
    channel = gateway.channel()
    with push(FILM, channel.push) as publisher:
        channel.wait_playable("live.m3u8", "master.m3u8", "manifest.mpd")
        assert_same_hls(channel)
        with viewers_everywhere(gateway, channel.url("live.flv")) as viewers:
            assert_counted(gateway, channel, len(viewers))
            with pull(channel.url("master.m3u8")) as player:
                judge(take_of(player), FILM)
            publisher.wait()
            gateway.api("DELETE", f"/videostream/{channel.id}/session")
            for viewer in viewers:
                judge(take_of(viewer), FILM)
    log = gateway.log
    assert 1 <= log.count('"event":"pulling"') <= 2, "each of the others pulls it once"


def test_captions_with_the_stream_key_are_taken_by_every_worker(start: Start) -> None:
    gateway = start(2)
    channel = gateway.channel()
    url = f"http://127.0.0.1:{gateway.ports['http']}/{channel.id}/captions?sign="
    assert http("POST", url + channel.item["key"], body={"text": "Nobody is live."}).status == 409
    with push(FILM, channel.push):
        channel.wait_live()
        replies = []
        for number in range(24):  # each connection reaches one of the workers
            time.sleep(0.11)  # at most ten a second
            replies.append(http("POST", url + channel.item["key"], body={"text": f"Caption {number}"}))
        assert {reply.status for reply in replies} == {202}
        (track,) = gateway.api("GET", f"/videostream/{channel.id}/captions").json()
        assert track["last"] == "Caption 23"
        assert http("POST", url + "x", body={"text": "A wrong key."}).status == 403


def test_the_first_worker_logs_the_load_of_the_busiest_one(start: Start) -> None:
    gateway = start(2, MILLRACE_LOG__LOAD="0.2")
    until(lambda: gateway.log.count('"event":"load"') > 2, "the load is logged")
    lines = [json.loads(line) for line in gateway.log.splitlines() if '"event":"load"' in line]
    assert all(line["process"] == "1" and 0 <= line["busiest"] <= 100 for line in lines), lines


def test_counters_never_decrease_after_the_death_of_a_worker(start: Start) -> None:
    gateway = start(2)
    channel = gateway.channel()
    sent = 'millrace_sent_bytes_total{protocol="flv"}'
    with push(FILM, channel.push):
        channel.wait_live()
        with viewers_everywhere(gateway, channel.url("live.flv")):
            until(lambda: gateway.measured()[sent] > 50_000, "bytes are counted")
            for name in ("2", "1"):
                before = gateway.measured()[sent]
                os.kill(gateway.workers()[name], signal.SIGKILL)
                gateway.wait_workers("1", "2-2") if name == "2" else gateway.wait_workers("1-2", "2-2")
                until(lambda: gateway.ask() == 200, "it serves")
                until(lambda: answers(gateway), "the console is there again", 10)
                assert gateway.measured()[sent] >= before


def test_an_edge_with_several_workers_acts_as_one_edge(start: Start, tmp_path: Path) -> None:
    shared = {
        "MILLRACE_CLUSTER__SECRET": "secret of the cluster",
        "MILLRACE_REGISTRY": f"sqlite:///{tmp_path}/nodes.db",
        "MILLRACE_CHANNELS": f"sqlite:///{tmp_path}/channels.db",
    }
    gateway = start(2, **shared)
    (tmp_path / "edge").mkdir()
    edge = EdgeCores(tmp_path / "edge", 2, **shared)
    try:
        edge.wait_ready()
        channel = gateway.channel()
        url = f"http://127.0.0.1:{edge.ports['http']}/{channel.id}"
        with push(FILM, channel.push) as publisher:
            channel.wait_playable("live.m3u8")
            with viewers_everywhere(edge, f"{url}/live.flv") as viewers:
                wanted = float(len(viewers))
                until(lambda: edge.measured().get('millrace_viewers{protocol="flv"}') == wanted, "all are counted")
                assert edge.measured()['millrace_processes{state="summed"}'] == 2
                edge.process.send_signal(signal.SIGHUP)
                until(lambda: '"event":"reloaded"' in edge.log, "the reload is over", 30)
                with pull(f"{url}/live.m3u8") as player:
                    judge(take_of(player), FILM)
                publisher.wait()
                gateway.api("DELETE", f"/videostream/{channel.id}/session")
                for viewer in viewers:
                    judge(take_of(viewer), FILM)
        edge.wait_workers("1-2", "2-2")
    finally:
        assert edge.stop() == 0, edge.log[-3000:]
    assert not (edge.data / "run").exists(), "a gateway may have the same data folder"
