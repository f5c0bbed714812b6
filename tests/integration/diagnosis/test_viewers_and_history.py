"""Viewer reports and history in the real program: a restart, several processes, an edge."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.clients import push, until
from tests.support.cores import Cores
from tests.support.gateway import Channel, Edge, Gateway, http
from tests.support.media import Film
from tests.support.tools import need

FILM = Film("history-60", seconds=60)
LINE = 'bsa=({}),bsda=(400),ltc=900,millrace-p=flv,millrace-h=720,msd=700,sid="{}",v=2'


@pytest.fixture(autouse=True)
def tools() -> None:
    need("ffmpeg", "curl")


def history(gateway: Gateway, channel: Channel | None = None) -> dict[str, Any]:
    query = f"&channel={channel.id}" if channel is not None else ""
    return dict(gateway.api("GET", f"/history?hours=24{query}").json())


def experience(gateway: Gateway, channel: Channel) -> dict[str, Any]:
    return dict(gateway.api("GET", f"/videostream/{channel.id}/experience").json())


def has_bitrate(gateway: Gateway, channel: Channel) -> bool:
    return any(history(gateway, channel)["series"].get("bitrate", {}).get("max", []))


def curl(*options: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--max-time", "20", *options], capture_output=True, text=True, check=True
    )
    return done.stdout


def report(url: str, line: str) -> str:
    """The status of a report, as curl sees it."""
    return curl("-X", "POST", "--data-binary", line, "-o", "/dev/null", "-w", "%{http_code}", url)


def test_history_survives_a_restart_and_starts_empty_after_file_damage(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.wait_ready()
    channel = gateway.channel()
    with push(FILM, channel.push):
        channel.wait_live()
        until(lambda: has_bitrate(gateway, channel), "the bitrate is recorded", 20)
    before = history(gateway, channel)
    assert gateway.stop() == 0
    again = _restarted(gateway)
    after = history(again, Channel(again, channel.item))
    assert after["times"][: len(before["times"])] == before["times"]
    assert after["series"]["bitrate"]["avg"][: len(before["times"])] == before["series"]["bitrate"]["avg"]
    assert again.stop() == 0
    (again.data / "history-1.bin").write_bytes(b"millrace history 1\n\xff\xff\xff\xff")
    fresh = _restarted(again)
    assert history(fresh, Channel(fresh, channel.item))["times"] == []
    assert fresh.log.count("the stored history cannot be used") == 1
    assert fresh.stop() == 0


def _restarted(before: Gateway) -> Gateway:
    """A new process with the data folder of a gateway that has ended."""
    (before.data / "ports.json").unlink(missing_ok=True)
    folder = before.folder / "again"
    folder.mkdir()
    gateway = Gateway(folder, MILLRACE_DATA=str(before.data))
    gateway.data = before.data
    gateway.wait_ready()
    return gateway


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")
def test_processes_of_a_host_share_history_and_viewer_reports(tmp_path: Path) -> None:
    gateway = Cores(tmp_path, 2, MILLRACE_STREAM__LINGER="1")
    with contextlib.ExitStack() as stack:
        stack.callback(gateway.stop)  # also after a failure
        gateway.wait_ready()
        channels = [gateway.channel(f"c{n}") for n in range(3)]
        with contextlib.ExitStack() as pushes:
            for channel in channels:
                pushes.enter_context(push(FILM, channel.push, loop=True))
            for channel in channels:
                channel.wait_live()
                until(lambda channel=channel: has_bitrate(gateway, channel), "its history is found wherever it is", 20)
            until(lambda: max(history(gateway)["series"]["streams"]["max"]) == 3, "the node has all streams", 20)
            for number in range(12):  # lands on any process
                assert report(channels[0].url("report"), LINE.format(1, number)) == "204"
            until(lambda: experience(gateway, channels[0])["all"]["viewers"] == 12, "all reports reach the holder", 25)
        until(lambda: channels[0].session()["state"] == "idle", "the stream has ended", 30)
        assert has_bitrate(gateway, channels[0]), "an ended channel keeps its history"
        assert gateway.stop() == 0


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Edge]]:
    folder = tmp_path_factory.mktemp("farm")
    shared = {"MILLRACE_CLUSTER__SECRET": "secret of the cluster", "MILLRACE_SIGNING__SECRET": "a secret of the keys"}
    for name in ("gateway", "edge"):
        (folder / name).mkdir()
    gateway = Gateway(folder / "gateway", **shared)
    gateway.wait_ready()
    edge = Edge(folder / "edge", **shared, MILLRACE_EDGE__UPSTREAM=f"127.0.0.1:{gateway.ports['http']}")
    edge.wait_ready()
    yield gateway, edge
    assert edge.stop() == 0
    assert gateway.stop() == 0


def test_player_data_passes_through_gateway_and_edge(farm: tuple[Gateway, Edge]) -> None:
    gateway, edge = farm
    channel = gateway.channel(playAuth="sign")
    query = channel.item["playUrls"]["hls"].partition("?")[2]
    data = quote('br=3000,bs,cid="film",sf=h,sid="{}",st=l,su'.format("g"), safe="")
    with push(FILM, channel.push):
        channel.wait_live()
        until(lambda: http("GET", channel.url(f"live.m3u8?{query}")).status == 200, "it plays")
        until(lambda: edge.get(channel, f"live.m3u8?{query}").status == 200, "it plays at the edge")

        playlist = curl(channel.url(f"live.m3u8?{query}&CMCD={data}"))
        assert query in playlist
        assert "CMCD" not in playlist
        misses = edge.metrics()["millrace_edge_upstream_requests_total"]
        segment = next(line for line in playlist.splitlines() if line and not line.startswith("#")).partition("?")[0]
        bodies = {
            edge.get(channel, f"{segment}?{query}&CMCD={quote(f'bs,sid={chr(34)}e{n}{chr(34)}')}").body
            for n in range(5)
        }
        assert len(bodies) == 1
        assert edge.metrics()["millrace_edge_upstream_requests_total"] == misses + 1, "CMCD is not in the cache's key"
        assert edge.get(channel, f"{segment}?CMCD={data}").status == 403, "CMCD is no permission"
        headers = {"CMCD-Session": 'sid="h",sf=h', "CMCD-Status": "bs", "CMCD-Object": "br=800,ot=v"}
        for more, sent in (f"&CMCD={data}", {}), ("", headers):
            assert http("GET", channel.url(f"{segment}?{query}{more}"), headers=sent).body in bodies
        assert report(channel.url(f"report?{query}"), LINE.format(3, "p")) == "204"
        assert report(edge.url(channel, f"report?{query}"), LINE.format(2, "q")) == "204"
        assert report(edge.url(channel, "report"), LINE.format(2, "q")) == "403"

        def arrived() -> bool:
            protocols = experience(gateway, channel)["protocols"]
            return (protocols["hls"]["viewers"], protocols.get("flv", {}).get("stalls")) == (7, 5)

        until(arrived, f"the edge's viewers reach the gateway: {experience(gateway, channel)}", 25)
        assert edge.metrics()['millrace_viewer_stalls_total{protocol="hls"}'] == 5
        assert gateway.api("GET", "/metrics").text.count('millrace_viewer_stalls_total{protocol="hls"} 2.0') == 1
    idle = gateway.channel()
    assert report(edge.url(idle, "report"), LINE.format(1, "x")) == "404"
    assert experience(gateway, idle)["all"]["viewers"] == 0


def test_the_routes_refuse_values_out_of_bounds(farm: tuple[Gateway, Edge]) -> None:
    gateway, _ = farm
    for query in ("hours=25", "hours=0", "hours=x", "hours=-1", "hours=1e9", "channel=../x"):
        assert gateway.api("GET", f"/history?{query}").status == 400
    assert gateway.api("GET", "/history?channel=nobody").json()["times"] == []
    assert gateway.api("GET", "/videostream/nobody/experience").status == 404
    assert http("GET", f"http://127.0.0.1:{gateway.ports['admin']}/history").status == 401
