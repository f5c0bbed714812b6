"""Two encoders at two gateways: if the gateway with the stream dies, the other encoder stays and the stream goes on."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.at_night import at_night
from tests.support.clients import Program, push, take_of, until
from tests.support.gateway import Channel, Edge, Gateway
from tests.support.media import FRAMES_PER_SECOND, Film, framehash_command
from tests.support.run_delay import run_delay
from tests.support.time_outs import at_most
from tests.support.watching import FlvViewer, HlsReader, Playlist

FILM = Film("two-encoders-30", seconds=30)
INPUTS = [{"name": "main", "kind": "push"}, {"name": "backup", "kind": "backup"}]


@dataclass
class Site:
    """Gateways with one registry, and an edge."""

    folder: Path
    gateways: list[Gateway]
    edge: Edge
    settings: dict[str, str]

    def channel(self, inputs: list[dict[str, Any]], **fields: Any) -> Channel:
        """Creates a channel with these inputs at the first gateway."""
        return self.gateways[0].channel(inputs=inputs, hls_list_size="8", **fields)

    def url(self, gateway: Gateway, channel: Channel, input: str = "") -> str:
        """Returns the push address of an input at one gateway."""
        if not input:
            return f"rtmp://127.0.0.1:{gateway.ports['rtmp']}/stream/{channel.obs_key}"
        inputs = gateway.api("GET", f"/videostream/{channel.id}/inputs").json()
        url = next(one["pushUrl"] for one in inputs if one["name"] == input)
        return re.sub(r"//[^/]+/", f"//127.0.0.1:{gateway.ports['rtmp']}/", url)

    def session(self, gateway: Gateway, channel: Channel) -> dict[str, Any]:
        return dict(gateway.api("GET", f"/videostream/{channel.id}/session").json())

    def kill(self, gateway: Gateway) -> float:
        """Kills a gateway. Returns the monotonic time."""
        now = time.monotonic()
        gateway.process.send_signal(signal.SIGKILL)
        gateway.process.wait(at_most(10))
        return now

    def delayed(self, *processes: int) -> float:
        """The seconds for which the edge and these processes have waited for a processor. They are no part of a gap."""
        return sum(map(run_delay, (self.edge.process.pid, *processes)))

    def restart(self, index: int) -> Gateway:
        """Starts a killed gateway again, with other ports."""
        (self.gateways[index].data / "ports.json").unlink(missing_ok=True)
        self.gateways[index] = again = Gateway(self.gateways[index].folder, **self.settings)
        again.wait_ready()
        return again


@contextlib.contextmanager
def running_site(folder: Path, count: int = 2, database: str = "") -> Iterator[Site]:
    """Starts gateways and an edge. database: address of their database; "": they share files."""
    shared = {
        "MILLRACE_CLUSTER__SECRET": "secret of the cluster",
        "MILLRACE_SIGNING__SECRET": "secret of the keys",
        **({"MILLRACE_DATABASE": database} if database else {"MILLRACE_REGISTRY": f"sqlite:///{folder}/nodes.db"}),
    }
    own = shared | ({} if database else {"MILLRACE_CHANNELS": f"sqlite:///{folder}/channels.db"})
    for name in (*map(str, range(count)), "edge"):
        (folder / name).mkdir()
    gateways = [Gateway(folder / str(n), **own) for n in range(count)]
    running: list[Gateway] = list(gateways)
    try:
        for gateway in gateways:
            gateway.wait_ready()
        edge = Edge(folder / "edge", **shared)
        running.append(edge)
        edge.wait_ready()
        site = Site(folder, gateways, edge, own)
        yield site
        running = [*site.gateways, edge]
    finally:
        for one in reversed(running):
            with contextlib.suppress(AssertionError):
                one.stop(10)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running_site(tmp_path) as built:
        yield built


def wait_ready(site: Site, channel: Channel, *names: str) -> None:
    """Waits until these inputs deliver, and the playlists are there."""

    def states() -> dict[str, str]:
        inputs = site.gateways[0].api("GET", f"/videostream/{channel.id}/inputs").json()
        return {one["name"]: one["state"] for one in inputs}

    until(lambda: all(states()[name] in ("ready", "on air") for name in names), f"{names} deliver")
    until(lambda: site.edge.get(channel, "live.m3u8").text.count(".ts") >= 3, "the edge has a playlist")


def check_playlists(reader: HlsReader, step: int, moment: float) -> None:
    """Checks that numbers and discontinuities of a playlist go on after a moment, and that no player got an error.

    step: from the last number before the moment to the first one after it.
    """
    until(lambda: [p for p in reader.playlists if p.at > moment and p.last > p.sequence], "it goes on")
    assert [(reply.status, reply.text) for reply in reader.replies] == []
    before = [p for p in reader.playlists if p.at <= moment][-1]
    names = set(before.names)
    after = next(p for p in reader.playlists if not names & set(p.names))
    old = [p for p in reader.playlists if names & set(p.names)][-1]
    assert after.sequence == old.last + step
    past = old.discontinuity + old.text.count("#EXT-X-DISCONTINUITY\n")
    assert after.discontinuity == past + 1
    sequences = [(p.sequence, p.discontinuity) for p in reader.playlists]
    assert sequences == sorted(sequences), "a playlist went back"
    assert {n: found for n, found in reader.names().items() if len(found) > 1} == {}
    assert not any("ENDLIST" in p.text for p in reader.playlists)


def test_the_second_encoder_stays_when_the_holder_is_killed_and_numbers_go_on(site: Site) -> None:
    a, b = site.gateways
    channel = site.channel(INPUTS)
    with push(FILM, site.url(a, channel), loop=True):
        channel.wait_live()
        with push(FILM, site.url(b, channel, "backup"), loop=True) as second:
            wait_ready(site, channel, "main", "backup")
            with (
                FlvViewer(site.edge.url(channel, "live.flv")) as viewer,
                HlsReader(site.edge.url(channel, "live.m3u8")) as ts,
                HlsReader(site.edge.url(channel, "video/index.m3u8")) as cmaf,
            ):
                until(lambda: len(viewer.pictures) > 50 and len(cmaf.playlists) > 4, "the viewer sees the stream")
                listed = ts.playlists[-1].last
                # Otherwise the holder may end a segment that no reader gets any more, and it counts that one, too.
                until(lambda: ts.playlists[-1].last > listed, "a segment has just begun")
                delayed = site.delayed(b.process.pid)
                killed = site.kill(a)
                gap = until(lambda: viewer.gap_after(killed + 0.05), "the picture goes on")
                assert gap - (site.delayed(b.process.pid) - delayed) <= 1
                assert site.session(b, channel)["input"] == "backup"
                check_playlists(ts, 1, killed)
                check_playlists(cmaf, 2, killed)
                assert second.running, second.errors
                assert not viewer.ended
                again = site.restart(0)
                with push(FILM, site.url(again, channel), loop=True):
                    until(lambda: site.session(b, channel)["input"] == "main", "the main input is on air again", 30)
                    assert site.session(b, channel)["publisher"]["protocol"] == "rtmp"
                assert second.running, second.errors
                times = [dts for _, dts in viewer.pictures]
                assert times == sorted(times)
    assert "a forwarded push goes on at this node" in b.log


def test_two_outputs_of_one_encoder_give_aligned_segments(site: Site, tmp_path: Path) -> None:
    a, b = site.gateways
    channel = site.channel(INPUTS)
    outputs = "|".join(f"[f=flv:onfail=ignore]{url}" for url in (site.url(a, channel), site.url(b, channel, "backup")))
    command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-i", str(FILM.path()), "-map", "0", "-c", "copy"]
    segments: dict[int, bytes] = {}

    def load() -> int:
        """Loads the segments that the edge lists. Returns the number of the last one."""
        listed = Playlist.of(site.edge.get(channel, "live.m3u8").text, time.monotonic())
        for offset, name in enumerate(listed.names):
            if listed.sequence + offset not in segments:
                segments[listed.sequence + offset] = site.edge.get(channel, name).body
        return listed.last

    with Program([*command, "-f", "tee", outputs]) as encoder:
        channel.wait_live()
        wait_ready(site, channel, "main", "backup")
        assert "push is forwarded to another node" in b.log
        first = load()
        until(lambda: load() > first, "a segment has just begun")
        site.kill(a)
        until(lambda: load() > first + 5, "segments go on")
        assert encoder.running
    numbers = {frame.digest: number for number, frame in enumerate(FILM.hashes().video)}
    seen = []
    for number in range(min(segments), max(segments) + 1):
        (file := tmp_path / f"{number}.ts").write_bytes(segments[number])
        seen.append([numbers[frame.digest] for frame in take_of(Program(framehash_command(file))).video])
    for before, after in itertools.pairwise(seen):
        assert after[0] == before[-1] + 1, "no picture is missing or repeated"
        assert after[0] % FRAMES_PER_SECOND == 0, "each segment begins at the same key frames as before"


def test_a_forwarded_push_survives_a_holder_that_holds_the_stream_for_a_slate(site: Site) -> None:
    a, b = site.gateways
    channel = site.channel([{"name": "main", "kind": "push"}, {"name": "slate", "kind": "slate", "always": True}])
    until(lambda: "input on air" in a.log + b.log, "the slate is on air")
    holder, other = (a, b) if "input on air" in a.log else (b, a)
    with push(FILM, site.url(other, channel), loop=True) as encoder:
        until(lambda: site.session(holder, channel)["input"] == "main", "the push is on air")
        with FlvViewer(site.edge.url(channel, "live.flv")) as viewer:
            until(lambda: len(viewer.pictures) > 50, "the viewer sees the push")
            delayed = site.delayed(other.process.pid)
            killed = site.kill(holder)
            gap = until(lambda: viewer.gap_after(killed + 0.05), "the picture goes on")
            assert gap - (site.delayed(other.process.pid) - delayed) <= 1
            assert site.session(other, channel)["input"] == "main"
            assert encoder.running
            assert not viewer.ended


def test_a_forwarded_push_survives_a_holder_that_stops(site: Site) -> None:
    a, b = site.gateways
    channel = site.channel(INPUTS)
    with push(FILM, site.url(a, channel), loop=True):
        channel.wait_live()
        with push(FILM, site.url(b, channel, "backup"), loop=True) as second:
            wait_ready(site, channel, "main", "backup")
            with (
                FlvViewer(site.edge.url(channel, "live.flv")) as viewer,
                HlsReader(site.edge.url(channel, "live.m3u8")) as ts,
                HlsReader(site.edge.url(channel, "video/index.m3u8"), blocks=True) as cmaf,
            ):
                until(lambda: len(viewer.pictures) > 50 and len(ts.playlists) > 2, "the viewer sees the stream")
                moment, delayed = time.monotonic(), site.delayed(b.process.pid)
                assert a.stop() == 0
                until(lambda: "a forwarded push goes on at this node" in b.log, "it goes on at the other gateway")
                for reader in (ts, cmaf):
                    until(lambda reader=reader: reader.playlists[-1].at > moment + 4, "playlists go on")
                    assert [(r.status, r.text) for r in reader.replies] == []
                    assert not any("ENDLIST" in p.text for p in reader.playlists)
                    sequences = [(p.sequence, p.discontinuity) for p in reader.playlists]
                    assert sequences == sorted(sequences)
                assert viewer.longest_gap(moment) - (site.delayed(b.process.pid) - delayed) <= 1
                assert second.running, second.errors


def test_playlists_go_on_when_the_only_encoder_returns_after_a_stop(site: Site) -> None:
    a, b = site.gateways
    channel = site.channel([])
    with push(FILM, site.url(a, channel), loop=True):
        until(lambda: site.edge.get(channel, "video/index.m3u8").status == 200, "the edge has a playlist")
        with (
            HlsReader(site.edge.url(channel, "live.m3u8")) as ts,
            HlsReader(site.edge.url(channel, "video/index.m3u8"), blocks=True) as cmaf,
        ):
            until(lambda: len(ts.playlists) > 2 and len(cmaf.playlists) > 2, "players have playlists")
            discontinuities = [reader.playlists[-1].discontinuity for reader in (ts, cmaf)]
            assert a.stop() == 0
            with push(FILM, site.url(b, channel), loop=True):
                for reader, last in zip((ts, cmaf), discontinuities, strict=True):
                    until(lambda r=reader, last=last: r.playlists[-1].discontinuity > last, "playlists go on", 30)
                    assert not any("ENDLIST" in p.text for p in reader.playlists)
                    assert not any(reply.status == 404 for reply in reader.replies)


@pytest.mark.parametrize("database", [*at_night("sqlite"), "postgres"])
def test_pushes_at_two_gateways_end_at_one_new_holder(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue("postgres").new_database() if database == "postgres" else ""
    with running_site(tmp_path, 3, address) as site:
        a, b, c = site.gateways
        inputs = [{"name": "main", "kind": "push"}, *({"name": n, "kind": "backup"} for n in ("one", "two", "three"))]
        channel = site.channel(inputs)
        with contextlib.ExitStack() as stack:
            stack.enter_context(push(FILM, site.url(a, channel), loop=True))
            channel.wait_live()
            places = [(b, "one"), (c, "two"), (b, "three")]
            encoders = [stack.enter_context(push(FILM, site.url(at, channel, name), loop=True)) for at, name in places]
            wait_ready(site, channel, "main", "one", "two", "three")
            site.kill(a)

            def ready() -> bool:
                states = b.api("GET", f"/videostream/{channel.id}/inputs").json()
                found = {one["name"]: one["state"] for one in states if isinstance(one, dict)}
                return all(found.get(name) in ("ready", "on air") for name in ("one", "two", "three"))

            until(ready, "all three inputs are at one holder")
            assert all(encoder.running for encoder in encoders)
            holders = [gateway for gateway in (b, c) if "taking over the stream of a dead node" in gateway.log]
            went_on = [gateway for gateway in (b, c) if "a forwarded push goes on at this node" in gateway.log]
            assert len(went_on) == 1, "one of them claimed the stream"
            assert went_on[0] in holders


def test_a_kick_still_ends_a_forwarded_push(site: Site) -> None:
    a, b = site.gateways
    channel = site.channel(INPUTS)
    with push(FILM, site.url(a, channel), loop=True):
        channel.wait_live()
        with push(FILM, site.url(b, channel, "backup"), loop=True) as second:
            wait_ready(site, channel, "main", "backup")
            assert a.api("DELETE", f"/videostream/{channel.id}/session").status == 200
            until(lambda: not second.running, "the second encoder is cut off too")
    assert "goes on at this node" not in b.log
