"""Traffic by day in the real program, compared with the bytes that clients got."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.alarm_targets import chat_server
from tests.support.clients import Program, push, until
from tests.support.cores import Cores
from tests.support.gateway import Channel, Edge, Gateway, http, running
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("history-60", seconds=60)
PER_STREAM = {"MILLRACE_METRICS__PER_STREAM": "true"}


@pytest.fixture(autouse=True)
def tools() -> None:
    need("ffmpeg", "rtmpdump")


class Reader:
    """Reads an address until the block ends. size: the bytes of the body until now, without the chunks' framing."""

    def __init__(self, port: int, path: str) -> None:
        self.size = 0
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65_536):
                self.size += len(data)

    def close(self) -> None:
        """Ends like a player that is killed: with what has arrived."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(at_most(10))
        self._socket.close()


def traffic(gateway: Gateway, channel: Channel) -> dict[str, Any]:
    """The traffic of a channel today."""
    reply = gateway.api("GET", f"/videostream/{channel.id}/traffic")
    assert reply.status == 200, reply.text
    return dict(reply.json()["days"][0])


def _started(channel: Channel) -> float:
    return datetime.fromisoformat(channel.session()["since"]).timestamp()


def near(counted: float, got: float) -> bool:
    return abs(counted - got) <= 0.03 * got + 1500


def watch_segments(base: str, playlist: str, seconds: float) -> int:
    """Plays as an HLS player does. Returns the bytes of all bodies."""
    size, known = 0, set[str]()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        reply = http("GET", f"{base}/{playlist}")
        size += len(reply.body)
        folder = playlist.rpartition("/")[0]
        for uri in _uris(reply.text):
            if uri not in known:
                known.add(uri)
                size += len(http("GET", f"{base}/{folder}/{uri}" if folder else f"{base}/{uri}").body)
        time.sleep(0.5)  # as a player does between two reads of its playlist
    return size


def _uris(playlist: str) -> Iterator[str]:
    for line in playlist.splitlines():
        if line.startswith("#EXT-X-MAP"):
            yield line.partition('URI="')[2].partition('"')[0]
        elif line and not line.startswith("#"):
            yield line


def test_each_protocol_counts_what_its_clients_got_and_a_restart_keeps_it(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, **PER_STREAM)
    gateway.wait_ready()
    channel = gateway.channel()
    base = channel.url("").rstrip("/")
    sent = 0

    def check(got: int, what: str) -> int:
        until(lambda: near(traffic(gateway, channel)["out"] - sent, got), f"{what}: {got} bytes are counted", 10)
        return int(traffic(gateway, channel)["out"])

    with push(FILM, channel.push):
        channel.wait_playable("live.m3u8", "video/index.m3u8", "manifest.mpd")
        sent = traffic(gateway, channel)["out"]
        reader = Reader(gateway.ports["http"], f"/{channel.id}/live.flv")
        until(lambda: reader.size > 250_000, "FLV arrives", 30)
        reader.close()
        sent = check(reader.size, "FLV")
        target = tmp_path / "got.flv"
        with Program(["rtmpdump", "-q", "-v", "-r", channel.rtmp, "-o", str(target)]) as player:
            until(lambda: target.exists() and target.stat().st_size > 250_000, "RTMP arrives", 30)
            player.stop()
        sent = check(target.stat().st_size, "RTMP")
        sent = check(watch_segments(base, "live.m3u8", 3), "HLS")
        sent = check(watch_segments(base, "video/index.m3u8", 3), "LL-HLS")
        received, seconds = traffic(gateway, channel)["in"], time.time() - _started(channel)
        rate = FILM.path().stat().st_size / 60
        assert rate * (seconds - 3) * 0.8 < received < rate * (seconds + 3) * 1.2
    until(lambda: channel.session()["state"] != "live", "the push has ended", 20)
    before = traffic(gateway, channel)
    metrics = gateway.api("GET", "/metrics").text
    for direction in ("in", "out"):
        line = f'millrace_stream_bytes_total{{direction="{direction}",stream="{channel.id}"}} '
        assert float(metrics.partition(line)[2].split("\n")[0]) == before[direction]
    assert gateway.stop() == 0
    (tmp_path / "again").mkdir()
    (gateway.data / "ports.json").unlink(missing_ok=True)
    again = Gateway(tmp_path / "again", MILLRACE_DATA=str(gateway.data))
    again.data = gateway.data
    again.wait_ready()
    try:
        after = traffic(again, Channel(again, channel.item))
        assert after["in"] >= before["in"] and after["out"] == before["out"]
        assert again.api("GET", "/videostreams/traffic").json()["days"][0] == after
        assert again.api("GET", "/videostream/nothing/traffic").status == 404
    finally:
        assert again.stop() == 0


@pytest.mark.nightly
def test_processes_of_a_host_add_up(tmp_path: Path) -> None:
    gateway = Cores(tmp_path, 2)
    gateway.wait_ready()
    channel = gateway.channel()
    readers: list[Reader] = []
    with push(FILM, channel.push):
        channel.wait_playable("live.m3u8")
        readers += [Reader(gateway.ports["http"], f"/{channel.id}/live.flv") for _ in range(8)]
        until(lambda: all(reader.size > 200_000 for reader in readers), "all get media", 30)
        for reader in readers:
            reader.close()
    got = sum(reader.size for reader in readers)
    assert gateway.stop() == 0
    (tmp_path / "again").mkdir()
    (gateway.data / "ports.json").unlink(missing_ok=True)
    again = Gateway(tmp_path / "again", MILLRACE_DATA=str(gateway.data))
    again.data = gateway.data
    again.wait_ready()
    try:
        assert near(traffic(again, Channel(again, channel.item))["out"], got)
    finally:
        assert again.stop() == 0


@pytest.mark.nightly
def test_the_viewers_of_an_edge_count_for_the_channel(tmp_path: Path) -> None:
    shared = {"MILLRACE_CLUSTER__SECRET": "secret of the cluster", "MILLRACE_SIGNING__SECRET": "a secret of the keys"}
    for name in ("gateway", "edge"):
        (tmp_path / name).mkdir()
    gateway = Gateway(tmp_path / "gateway", **shared)
    gateway.wait_ready()
    edge = Edge(tmp_path / "edge", **shared, MILLRACE_EDGE__UPSTREAM=f"127.0.0.1:{gateway.ports['http']}")
    edge.wait_ready()
    try:
        channel = gateway.channel()
        with push(FILM, channel.push):
            channel.wait_playable("live.m3u8")
            before = traffic(gateway, channel)["out"]
            reader = Reader(edge.ports["http"], f"/{channel.id}/live.flv")
            got = watch_segments(f"http://127.0.0.1:{edge.ports['http']}/{channel.id}", "live.m3u8", 4)
            reader.close()
            got += reader.size
            until(lambda: near(traffic(gateway, channel)["out"] - before, got), "the edge reports them", 30)
            assert near(traffic(gateway, channel)["out"] - before, got), "the pull of the edge does not count"
    finally:
        assert edge.stop() == 0
        assert gateway.stop() == 0


@pytest.mark.nightly
def test_a_channel_above_its_daily_limit_is_told_once() -> None:
    with chat_server() as chats, running(MILLRACE_EGRESS__ALLOW="127.0.0.1") as gateway:
        rule = {"name": "bill", "on": ["traffic"], "gigabytes": 0.0005, "to": f"{chats.base}/hook"}
        assert gateway.api("PUT", "/alarms", [rule]).status == 200
        channel = gateway.channel(videoname="Stage")
        with push(FILM, channel.push):
            channel.wait_playable("live.m3u8")
            reader = Reader(gateway.ports["http"], f"/{channel.id}/live.flv")
            until(lambda: chats.received, "the alarm", 40)
            told = reader.size
            until(lambda: reader.size > told + 600_000, "more than the limit once more", 40)
            reader.close()
        ((_, chat),) = chats.received
        assert (chat["data"]["kind"], chat["data"]["state"]) == ("traffic", "begun")
        assert chat["data"]["title"] == "Stage has sent more than its daily limit"
        assert re.match(
            r"0\.00\d GB were sent to its viewers on [-0-9]{10} \(UTC\)\. The limit is 0\.0005 GB\.",
            chat["data"]["text"],
        )
