"""Nodes choose by site and free capacity: one pull between sites, and viewers of a full node go to another one."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.channels.stream_key import SignatureUse, SigningSecrets
from tests.support.clients import pull, push, so_far, take_of, until
from tests.support.free_ports import free_ports
from tests.support.gateway import Channel, Edge, Gateway
from tests.support.haproxy import wire
from tests.support.idle_machine import IdleEdge, IdleGateway
from tests.support.media import Film, judge
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("sites-40", seconds=40)
KEYS = SigningSecrets("what the keys are signed with")
FAR = 4_000_000_000


@pytest.fixture(autouse=True)
def tools() -> None:
    need("ffmpeg")


@dataclass
class Fleet:
    """A gateway and other nodes with one registry."""

    gateway: Gateway
    others: list[Gateway]

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return list(self.gateway.api("GET", "/nodes").json())

    def pulls(self, node: Gateway, channel: Channel) -> list[int]:
        """Returns the ports of the nodes from which a node has pulled, in order."""
        lines = [line for line in node.log.splitlines() if "pulling" in line and channel.id in line]
        ports = {one.ports["http"] for one in (self.gateway, *self.others)}
        return [port for line in lines for port in ports if f":{port}" in line]


@contextlib.contextmanager
def fleet(folder: Path, first: dict[str, str], *others: tuple[type[Gateway], dict[str, str]]) -> Iterator[Fleet]:
    """Starts a gateway and other nodes, each with its own settings. All know of each other."""
    shared = {
        "REGISTRY": f"sqlite:///{folder}/registry.db",
        "CHANNELS": f"sqlite:///{folder}/channels.db",
        "CLUSTER__SECRET": "what the nodes share",
        "SIGNING__SECRET": KEYS.current,
    }
    with contextlib.ExitStack() as stack:
        started = []
        for number, (kind, own) in enumerate([(IdleGateway, first), *others]):
            (place := folder / f"node{number}").mkdir()
            node = kind(place, **{f"MILLRACE_{name}": value for name, value in (shared | own).items()})
            stack.callback(ended, node)
            node.wait_ready()
            started.append(node)
        found = Fleet(started[0], started[1:])
        until(lambda: sum(node["answers"] for node in found.nodes) >= len(started), "all nodes answer")
        yield found


def ended(node: Gateway) -> None:
    with contextlib.suppress(AssertionError):
        node.stop(15)


@contextlib.contextmanager
def sites(folder: Path) -> Iterator[tuple[Fleet, Channel, Edge, Edge]]:
    """A gateway at site a with a live channel, and two edges at site b: the one that reads from it, and the other."""
    site = {"CLUSTER__SITE": "b"}
    with fleet(folder, {"CLUSTER__SITE": "a"}, (IdleEdge, site), (IdleEdge, site)) as found:
        channel = found.gateway.channel(isFlv=True, isHls=True)
        with push(FILM, channel.push):
            channel.wait_playable("live.m3u8")
            # The chosen edge is the one that reads from the gateway.
            edges = [edge for edge in found.others if isinstance(edge, Edge)]
            with contextlib.ExitStack() as stack:
                for edge in edges:
                    stack.enter_context(pull(edge.url(channel, "live.flv"), seconds=2))
                until(lambda: all(found.pulls(edge, channel) for edge in edges), "both edges pull the stream", 30)
            holder = found.gateway.ports["http"]
            edges.sort(key=lambda edge: holder not in found.pulls(edge, channel))
            yield found, channel, edges[0], edges[1]


def test_a_stream_crosses_the_line_between_sites_once_and_survives_the_chosen_edge(tmp_path: Path) -> None:
    with sites(tmp_path) as (found, channel, chosen, other):
        holder = found.gateway.ports["http"]
        assert sorted((node["role"], node["site"]) for node in found.nodes) == [
            ("edge", "b"), ("edge", "b"), ("gateway", "a"),
        ]  # fmt: skip
        assert all(0 <= node["free"]["percent"] <= 100 and node["free"]["mbps"] is None for node in found.nodes)
        assert set(found.pulls(chosen, channel)) == {holder}
        assert set(found.pulls(other, channel)) == {chosen.ports["http"]}, "from the warm copy"
        viewers = lambda: sum(channel.session()["viewers"].values())  # noqa: E731
        asked = lambda: chosen.metrics()["millrace_edge_upstream_requests_total"]  # noqa: E731
        before = asked()
        with (
            pull(chosen.url(channel, "live.flv"), seconds=None),
            pull(other.url(channel, "live.flv"), seconds=14) as flv,
            pull(other.url(channel, "live.m3u8"), seconds=14) as hls,
        ):
            until(lambda: viewers() >= 3, "all viewers are counted at the gateway", 30)
            assert set(found.pulls(other, channel)) == {chosen.ports["http"]}
            until(lambda: len(so_far(flv).video) > 25 and len(so_far(hls).video) > 25, "both viewers play", 30)
            assert asked() > before, "the other edge asked the chosen one for files, which asked the gateway"
            assert chosen.metrics().get('millrace_viewers{protocol="hls"}', 0) == 0
            chosen.process.send_signal(signal.SIGKILL)
            chosen.process.wait(at_most(10))
            takes = {"flv": take_of(flv), "hls": take_of(hls)}
        assert found.pulls(other, channel)[-1] == holder
        for name, take in takes.items():
            judge(take, FILM, least=12.0, cut=name == "flv", moved=name == "flv")


async def test_viewers_of_a_full_node_are_sent_to_another_one(tmp_path: Path) -> None:
    (port,) = free_ports(1, "127.0.0.1")
    room = {"HTTP__PORT": str(port), "PLAYBACK__NODE_URL": f"http://127.0.0.1:{port}"}
    first = {"LIMITS__NODE_MBPS": "1", "PLAYBACK__NODE_URL": "http://127.0.0.1:1"}
    with fleet(tmp_path, first, (IdleGateway, room)) as found:
        channel = found.gateway.channel(isFlv=True, isHls=True, playAuth="sign")
        query = f"sign={KEYS.sign(channel.id, FAR, SignatureUse.PLAY)}"
        with push(FILM, channel.push):
            rate = lambda: channel.session()["bitrate"]  # noqa: E731
            await asyncio.to_thread(until, lambda: rate() > 300_000, "its bit rate is known", 20)
            own = found.gateway.ports["http"]
            path = f"/{channel.id}/live.flv?{query}"
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(20):
                    client = await stack.enter_async_context(wire(own))
                    await client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    if (head := await client.head()).status == 307:
                        break
                    await asyncio.sleep(1.2)  # it reckons its bandwidth once a second, and reads the nodes every ten
                assert (head.status, head.headers["location"]) == (307, f"http://127.0.0.1:{port}{path}&moved=1")
                async with wire(own) as client:
                    answer = await client.get(f"{path}&moved=1")
                    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
                for name in ("live.flv", "live.m3u8"):
                    with pull(f"{channel.url(name)}?{query}", seconds=4) as player:
                        judge(await asyncio.to_thread(take_of, player), FILM, cut=name == "live.flv")
        metrics = found.gateway.api("GET", "/metrics").text
        assert 'reason="moved"' in metrics


async def test_the_first_process_answers_agent_checks(tmp_path: Path) -> None:
    with fleet(tmp_path, {"CLUSTER__AGENT_PORT": "0", "SERVE__WORKERS": "2"}) as found:
        reader, writer = await asyncio.open_connection("127.0.0.1", found.gateway.ports["agent"])
        assert re.fullmatch(rb"up [0-9]{1,3}%\n", await reader.read())
        writer.close()
