"""Two gateways on one registry: a push at one plays at the other and survives the loss of either."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.at_night import at_night
from tests.support.clients import pull, push, so_far, take_of, until
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import FRAMES_PER_SECOND, Film, judge
from tests.support.postgres import Postgres
from tests.support.time_outs import at_most


class Pair:
    """Gateways `a` and `b` with the same channels."""

    def __init__(self, a: Gateway, b: Gateway) -> None:
        self.a, self.b = a, b

    @staticmethod
    def at(gateway: Gateway, channel: Channel, path: str = "live.flv") -> str:
        """Returns a channel's address at one of them."""
        return f"http://127.0.0.1:{gateway.ports['http']}/{channel.id}/{path}"

    @staticmethod
    def push_url(gateway: Gateway, channel: Channel) -> str:
        """Returns the channel's push address at one of them."""
        return f"rtmp://127.0.0.1:{gateway.ports['rtmp']}/stream/{channel.obs_key}"


@pytest.fixture
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    if request.param == "sqlite":
        stores = {
            "MILLRACE_CHANNELS": f"sqlite:///{tmp_path}/channels.db",
            "MILLRACE_REGISTRY": f"sqlite:///{tmp_path}/nodes.db",
        }
    else:
        stores = {"MILLRACE_DATABASE": request.getfixturevalue("postgres").new_database()}
    shared = {
        **stores,
        "MILLRACE_CLUSTER__SECRET": "secret of the cluster",
        "MILLRACE_SIGNING__SECRET": "secret of the keys",
    }
    gateways = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        gateways.append(Gateway(tmp_path / name, **shared))
    for gateway in gateways:
        gateway.wait_ready()
    yield Pair(*gateways)
    for gateway in gateways:
        with contextlib.suppress(AssertionError):
            gateway.stop(10)


FILM = Film("nodes-20", seconds=20)
# The operations of both registries are judged by tests/integration/adapters/test_registry.py.
postgres_at_night = pytest.mark.parametrize("pair", ["sqlite", *at_night("postgres")], indirect=True)
sqlite_at_night = pytest.mark.parametrize("pair", [*at_night("sqlite"), "postgres"], indirect=True)


@postgres_at_night
def test_every_protocol_plays_at_a_node_that_does_not_hold_the_stream(pair: Pair) -> None:
    channel = pair.a.channel(isFlv=True, isHls=True, isCMAF=True)
    with push(FILM, pair.push_url(pair.a, channel)):
        channel.wait_playable("live.m3u8", "master.m3u8", "manifest.mpd")
        players = {
            "flv": pull(pair.at(pair.b, channel)),
            "rtmp": pull(f"rtmp://127.0.0.1:{pair.b.ports['rtmp']}/stream/{channel.id}"),
            "hls": pull(pair.at(pair.b, channel, "live.m3u8")),
            "cmaf": pull(pair.at(pair.b, channel, "master.m3u8")),
            "dash": pull(pair.at(pair.b, channel, "manifest.mpd")),
        }
        for name, player in players.items():
            with player:
                judge(take_of(player), FILM, cut=name in ("flv", "rtmp"))


@postgres_at_night
def test_both_nodes_give_the_same_bytes(pair: Pair) -> None:
    channel = pair.a.channel(isFlv=True, isHls=True, isCMAF=True)
    with push(FILM, pair.push_url(pair.a, channel)):
        channel.wait_playable("live.m3u8", "master.m3u8")
        segment = http("GET", pair.at(pair.a, channel, "live.m3u8")).text.split()[-1]
        for path in (segment, "master.m3u8"):
            one, other = (http("GET", pair.at(gateway, channel, path)) for gateway in (pair.a, pair.b))
            assert (one.status, other.status) == (200, 200)
            assert one.body == other.body
            assert one.headers["content-type"] == other.headers["content-type"]


@postgres_at_night
def test_a_publisher_that_reconnects_at_the_other_node_continues_its_stream(pair: Pair) -> None:
    channel = pair.a.channel(isFlv=True, isHls=True)
    viewer = pull(pair.at(pair.b, channel), seconds=None)
    with viewer:
        with push(Film("nodes-6", seconds=6), pair.push_url(pair.a, channel)) as first:
            channel.wait_live()
            first.wait()
        with push(Film("nodes-6", seconds=6), pair.push_url(pair.b, channel)) as second:
            until(lambda: channel.session()["publisher"], "the push reaches the stream's holder")
            assert http("GET", pair.at(pair.b, channel, "live.m3u8")).text.count("#EXT-X-DISCONTINUITY\n") <= 1
            second.wait()
        assert pair.a.api("DELETE", f"/videostream/{channel.id}/session").status == 200
        take = take_of(viewer)
    both = [f.digest for f in Film("nodes-6", seconds=6).hashes().video] * 2
    seen = [f.digest for f in take.video]
    # A viewer that waits elsewhere comes in up to a second after the stream's beginning: at the last key frame.
    assert seen == both[-len(seen) :]
    assert len(both) - len(seen) <= 2 * FRAMES_PER_SECOND
    assert [f.time for f in take.video] == sorted(f.time for f in take.video)


@sqlite_at_night
def test_a_killed_holder_is_replaced_and_viewers_of_other_nodes_stay_connected(pair: Pair) -> None:
    channel = pair.a.channel(isFlv=True, isHls=True)
    with pull(pair.at(pair.b, channel), seconds=None) as viewer:
        with push(FILM, pair.push_url(pair.a, channel)):
            channel.wait_playable("live.m3u8")
            until(lambda: so_far(viewer).video, "the viewer sees something")
            before = http("GET", pair.at(pair.b, channel, "live.m3u8")).text
            pair.a.process.send_signal(signal.SIGKILL)
            pair.a.process.wait(at_most(10))
        again = Film("nodes-8", seconds=8)
        with push(again, pair.push_url(pair.b, channel)) as second:
            url = pair.at(pair.b, channel, "live.m3u8")
            first = _number(before, "DISCONTINUITY-SEQUENCE")
            until(lambda: _number(http("GET", url).text, "DISCONTINUITY-SEQUENCE") > first, "the stream is there again")
            after = http("GET", url).text
            second.wait()
        pair.b.api("DELETE", f"/videostream/{channel.id}/session")
        seen = [f.digest for f in take_of(viewer).video]
    assert _number(after, "MEDIA-SEQUENCE") > _number(before, "MEDIA-SEQUENCE")
    source = [f.digest for f in again.hashes().video]
    assert seen[-len(source) :] == source, "the viewer that never left saw all of the second push"
    assert len(seen) > len(source), "and some of the first"


@postgres_at_night
def test_a_publisher_continues_at_another_node_when_its_holder_stops(pair: Pair) -> None:
    channel = pair.a.channel(isFlv=True, isHls=True)
    with pull(pair.at(pair.b, channel), seconds=None) as viewer:
        with push(FILM, pair.push_url(pair.a, channel)):
            until(lambda: so_far(viewer).video, "the viewer sees something")
            assert pair.a.stop() == 0
        again = Film("nodes-6", seconds=6)
        with push(again, pair.push_url(pair.b, channel)) as second:
            second.wait()
        pair.b.api("DELETE", f"/videostream/{channel.id}/session")
        seen = [f.digest for f in take_of(viewer).video]
    source = [f.digest for f in again.hashes().video]
    assert seen[-len(source) :] == source


@pytest.mark.parametrize("pair", ["postgres"], indirect=True)
def test_streams_viewers_and_returning_publishers_outlive_an_outage_of_the_database(
    pair: Pair, postgres: Postgres
) -> None:
    channel, other = pair.a.channel(isFlv=True, isHls=True), pair.a.channel(isFlv=True)
    short = Film("nodes-8", seconds=8)
    with pull(pair.at(pair.b, channel), seconds=None) as viewer:
        with push(short, pair.push_url(pair.a, channel)) as first:
            until(lambda: so_far(viewer).video, "the viewer sees something")
            postgres.stop(signal.SIGQUIT)
            try:
                first.wait()
                with push(short, pair.push_url(pair.a, channel)) as second:
                    with push(short, pair.push_url(pair.b, other)) as refused:
                        until(lambda: not refused.running, "a push that no node can claim is refused")
                    ready = http("GET", f"http://127.0.0.1:{pair.b.ports['http']}/ready")
                    assert (ready.status, ready.json()["missing"]) == (503, ["channel store"])
                    until(lambda: "millrace_registry_failing 1" in _metrics(pair.b), "the metric tells it", 10)
                    second.wait()
            finally:
                postgres.start()
        for node in (pair.a, pair.b):
            url = f"http://127.0.0.1:{node.ports['http']}/ready"
            until(lambda url=url: http("GET", url).status == 200, "the store answers again")
        with push(short, pair.push_url(pair.b, other)):
            other.wait_live()
        until(lambda: pair.a.api("DELETE", f"/videostream/{channel.id}/session").status in (200, 404), "it is ended")
        take = take_of(viewer)
    both = [f.digest for f in short.hashes().video] * 2
    seen = [f.digest for f in take.video]
    assert seen == both[-len(seen) :], "no picture is missing"
    assert len(both) - len(seen) <= 2 * FRAMES_PER_SECOND
    for gateway in (pair.a, pair.b):
        until(lambda gateway=gateway: "the registry answers again" in gateway.log, "the next heartbeat is stored")
        assert "millrace_registry_failing 0" in _metrics(gateway)

    def told(type: str) -> int:
        return len({event["node"] for event in pair.a.api("GET", f"/events?type={type}").json()})

    until(lambda: told("registry.failed") == told("registry.recovered") == 2, "both gateways tell the outage", 20)


def _metrics(gateway: Gateway) -> str:
    return gateway.api("GET", "/metrics").text


def _number(playlist: str, tag: str) -> int:
    """Returns the number of an EXT-X tag, or 0 without the tag."""
    return next((int(line.partition(":")[2]) for line in playlist.splitlines() if line.startswith(f"#EXT-X-{tag}:")), 0)
