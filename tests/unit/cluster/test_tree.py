"""A channel's own edges between the holder and readers: readers get the same as from the holder."""

from __future__ import annotations

import asyncio

import pytest

from gateway.channels.cached_channels import CachedChannels
from gateway.cluster.files.http_cache_proxy import HttpCacheProxy
from gateway.cluster.files.upstream_client import UpstreamClient
from gateway.cluster.members.node_address import NodeAddress, PeerRefused
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams import replicas as module
from gateway.cluster.streams.pull import PullLink
from gateway.http.response import Response, text
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.protection import PlaybackProtection
from gateway.protocols.nodes import Hello
from gateway.settings.models import EdgeSettings
from proxy.edge.channel_edge import HEADER
from tests.support.builders import AUDIO, VIDEO, Recorder, channel
from tests.support.holder import NOT_LIVE, SEGMENT, answer, holding
from tests.support.holders import SECRET, Holder, Known, Puller, Taken, holder, puller
from tests.support.http import request
from tests.support.playback import SECRETS, Channels
from tests.support.tree import Chain, branch, times
from tests.support.waiting import until

M3U8 = "application/vnd.apple.mpegurl"


async def watched(two: Puller, name: str = "c1") -> tuple[Stream, Recorder]:
    """Starts a player at a reader and records its units."""
    replica, here = await two.replicas.wait(name, 5), Recorder()
    replica.playback.uses += 1
    replica.attach(here)
    return replica, here


async def play(one: Holder, publisher: StreamPublisher, here: Recorder, count: int = 5) -> None:
    """Pushes this number of pictures and waits until the player has them."""
    for _ in range(count):
        one.push(publisher)
    last = one._dts - 40
    await until(lambda: here.units and here.units[-1].dts == last)


# ---- units ----


async def test_readers_of_an_edge_get_every_unit_through_one_pull() -> None:
    async with holder() as one, branch(Known(one.place())) as edge:
        below = Known(edge.place())
        async with puller(below) as a, puller(below) as b:
            publisher = one.live(playAuth="sign", key="0-secret")
            there = Recorder()
            publisher.stream.attach(there)
            (first, here), (_, beside) = await asyncio.gather(watched(a), watched(b))
            for n in range(30):
                one.push(publisher, key=n % 10 == 9)
            await until(lambda: len(here.units) == len(beside.units) == 62)
            assert [(u.track, u.dts, u.cts, u.key, u.wall, u.payload) for u in here.units] == [
                (u.track, u.dts, u.cts, u.key, u.wall, u.payload) for u in there.units
            ]
            assert times(beside.units) == times(here.units)
            assert (one.pulls, edge.replicas.pulls, edge.replicas.readers) == (1, 1, 2)
            assert first.channel.play_auth == "sign"
            assert "secret" not in str(first.channel.item)


class Heard(Taken):
    """The first message of a pull."""

    def __init__(self) -> None:
        self.hellos: list[Hello] = []

    def hello(self, hello: Hello) -> None:
        self.hellos.append(hello)


async def test_an_edge_describes_the_stream_as_the_holder_does() -> None:
    said = []
    async with holder() as one, branch(Known(one.place())) as edge, Peers(SECRET) as peers:
        publisher = one.live(isHls=True, isCMAF=False, playAuth="sign")
        assert publisher.stream.outputs is not None
        for place in (one.place(), edge.place()):
            heard = Heard()
            link = await peers.link(place, "GET", "/_node/c1", lambda heard=heard: PullLink(heard, "c1"))
            await until(lambda heard=heard: heard.hellos)
            said += heard.hellos
            link.close()
    assert said[0] == said[1]
    assert said[0].session == "s1"


async def test_changes_of_the_channel_reach_readers_through_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.protocols.nodes.PING_SECONDS", 0.02)
    async with holder() as one, branch(Known(one.place())) as edge, puller(Known(edge.place())) as two:
        publisher = one.live()
        replica, _ = await watched(two)
        assert publisher.stream.outputs is not None
        publisher.stream.outputs.switch("flv", False)
        await until(lambda: replica.outputs is not None and not replica.outputs.enabled("flv"))


async def test_readers_that_move_to_another_edge_or_the_holder_get_every_picture_once() -> None:
    async with holder() as one, branch(Known(one.place())) as first, branch(Known(one.place())) as second:
        where = Chain([first.place(), second.place(), one.place()])
        async with puller(where) as two:
            publisher = one.live()
            _, here = await watched(two)
            await play(one, publisher, here)
            await first.die()
            await play(one, publisher, here)
            assert second.replicas.readers == 1
            await second.die()
            await play(one, publisher, here)
            assert where.lost_places == [first.place(), second.place()]
            for kind in ("video", "audio"):
                assert times(here.units, kind) == [n * 40 for n in range(16)]
            assert len({tracks.epoch for tracks in here.tracks}) == 1


async def test_readers_that_move_get_no_discontinuity_for_epochs_unknown_to_the_edge() -> None:
    """The holder counts epochs; an edge that started later has seen fewer of them."""
    async with holder() as one, branch(Known(one.place())) as edge:
        publisher = one.live()
        for _ in range(3):
            publisher.set_tracks(VIDEO, AUDIO, {}, continuous=False)
            one.push(publisher, key=True)
        where = Chain([edge.place(), one.place()])
        async with puller(where) as two:
            _, here = await watched(two)
            await play(one, publisher, here)
            edge.cut()
            await play(one, publisher, here)
            assert where.lost_places == [edge.place()]
            assert times(here.units) == [n * 40 for n in range(3, 14)]
            assert len({tracks.epoch for tracks in here.tracks}) == 1
            publisher.set_tracks(VIDEO, AUDIO, {}, continuous=False)
            one.push(publisher, key=True)
            await until(lambda: times(here.units)[-1] == 14 * 40)
            assert len({tracks.epoch for tracks in here.tracks}) == 2


async def test_readers_move_from_the_holder_to_an_edge_that_started_later() -> None:
    async with holder() as one, branch(Known(one.place())) as edge:
        where = Chain([one.place(), edge.place()])
        async with puller(where) as two:
            publisher = one.live()
            publisher.set_tracks(VIDEO, AUDIO, {}, continuous=False)
            one.push(publisher, key=True)
            _, here = await watched(two)
            await play(one, publisher, here)
            one.cut()
            await play(one, publisher, here)
            assert edge.replicas.readers == 1
            assert times(here.units) == [n * 40 for n in range(1, 12)]
            assert len({tracks.epoch for tracks in here.tracks}) == 1


async def test_a_new_holder_causes_one_discontinuity_for_readers_of_an_edge() -> None:
    async with holder() as one, holder() as other:
        above = Known(one.place())
        async with branch(above) as edge:
            below = Chain([edge.place(), other.place("k2")])
            async with puller(below) as two:
                publisher = one.live()
                _, here = await watched(two)
                await play(one, publisher, here)
                other.session = "s2"
                above.place = other.place("k2")
                successor = other.live()
                one.hub.drain()
                await until(lambda: len(here.units) == 14)
                assert len({tracks.epoch for tracks in here.tracks}) == 2
                assert edge.replicas.readers == 1, "its link stayed"
                other.push(successor)
                await until(lambda: len(here.units) == 16)
                await edge.die()
                other.push(successor, key=True)
                await until(lambda: len(here.units) == 18)
                assert len({tracks.epoch for tracks in here.tracks}) == 3
                shown = times(here.units)
                assert shown == sorted(set(shown))


async def test_a_replica_stays_while_nodes_pull_it_and_does_not_count_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with holder() as one, branch(Known(one.place())) as edge:
        publisher = one.live()
        async with puller(Known(edge.place())) as two:
            _, here = await watched(two)
            monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
            replica, pull = edge.replicas.find("c1"), edge.replicas._pulls["c1"]
            assert replica is not None
            pull.last_needed = 0.0  # long ago
            assert pull._check_needed()
            assert not any(replica.viewers.values())
            await play(one, publisher, here)
        await until(lambda: edge.replicas.readers == 0)
        await until(lambda: len(edge.replicas) == 0 and one.pulls == 0)


# ---- ends ----


@pytest.mark.parametrize("reason", [EndReason.KICKED, EndReason.PUBLISHER_GONE, EndReason.EXPIRED])
async def test_readers_of_an_edge_get_the_end_of_the_stream(reason: EndReason) -> None:
    async with holder() as one, branch(Known(one.place())) as edge:
        where = Chain([edge.place()])
        async with puller(where) as two:
            one.live()
            _, here = await watched(two)
            one.hub.end("c1", reason)
            await until(lambda: here.ended is not None)
            assert here.ended is reason


async def test_an_edge_that_has_lost_the_holder_does_not_end_the_stream() -> None:
    async with holder() as one, branch(Known(one.place())) as edge:
        where = Chain([edge.place(), one.place()])
        async with puller(where) as two:
            publisher = one.live()
            _, here = await watched(two)
            await play(one, publisher, here)
            edge.shelf.end("c1", EndReason.PUBLISHER_GONE)  # as after its linger time
            await until(lambda: where.lost_places)
            await play(one, publisher, here)
            assert where.lost_places == [edge.place()]
            assert times(here.units) == [n * 40 for n in range(11)]
            assert here.ended is None


# ---- who gets what ----


async def refused(peers: Peers, place: NodeAddress, method: str, target: str, **headers: str) -> int:
    with pytest.raises(PeerRefused) as refusal:
        await peers.link(place, method, target, lambda: PullLink(Taken(), "c1"), headers)
    return refusal.value.status


async def test_an_edge_serves_only_its_own_channel_without_originals_and_pushes() -> None:
    async with holder() as one, branch(Known(one.place())) as edge, Peers(SECRET) as peers:
        one.live()
        one.live("c2")
        place = edge.place()
        for method, target in (
            ("GET", "/_node/c2"),
            ("GET", "/_node/c2@720p"),
            ("GET", "/_node/c1?original=1"),
            ("POST", "/_node/c1"),
            ("POST", "/_node/c1@720p"),
        ):
            assert await refused(peers, place, method, target) == 404, target
        async with peers.request(place, "GET", "/_node/c2/live.m3u8") as response:
            assert (response.status, await response.text()) == (404, "this node does not hold the stream\n")
        assert one.pulls == 0, "nobody was asked"
    async with holder() as one, branch(Known(one.place()), of="") as ordinary, Peers(SECRET) as peers:
        one.live()
        assert await refused(peers, ordinary.place(), "GET", "/_node/c1") == 404


async def test_an_edge_serves_renditions_of_its_channel() -> None:
    async with holder() as one, branch(Known(one.place())) as edge, puller(Known(edge.place())) as two:
        one.live()
        rung = one.hub.publish_from(
            PushOrigin("transcode", "", keep_time=True), channel("c1"), "c1@720p", lambda reason: None
        )
        rung.set_tracks(VIDEO, AUDIO, {})
        one.push(rung, key=True)
        _, here = await watched(two, "c1@720p")
        await until(lambda: len(here.units) == 2)


async def test_edges_of_a_channel_do_not_pull_from_each_other() -> None:
    """The holder's former address may now belong to another edge, or to this edge itself."""
    where = Known()
    async with branch(where) as edge, branch(Known(edge.place())) as other:
        where.place = edge.place()
        async with Peers(SECRET) as peers, Peers(SECRET, headers={HEADER: "c1"}) as edges:
            assert await refused(edges, other.place(), "GET", "/_node/c1") == 404
            async with edges.request(other.place(), "GET", "/_node/c1/live.m3u8") as response:
                assert response.status == 404
            assert (edge.replicas.pulls, other.replicas.pulls) == (0, 0)
            async with peers.request(edge.place(), "GET", "/_node/c1/live.m3u8") as response:
                assert (response.status, await response.text()) == (404, "c1 is not streaming live now\n")


# ---- files ----


class Files:
    """The proxy of a reader."""

    def __init__(self, relay: HttpCacheProxy, audience: HttpViewers) -> None:
        self.relay, self.audience = relay, audience

    async def get(self, target: str) -> Response:
        asked = request(target)
        name, _, rest = asked.path[1:].partition("/")
        found = self.relay.file(asked, name, rest, self._absent)
        response = found if isinstance(found, Response) else await found
        assert isinstance(response, Response)
        return response

    async def _absent(self) -> Response:
        return text(404, "c1 is not streaming live now")


LIVE = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2.00000,\n100.ts{}\n"


def reader(peers: Peers, where: Chain) -> Files:
    audience = HttpViewers()
    protection = PlaybackProtection(auth="none", referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=100)
    settings = EdgeSettings(upstream=(), cache=64_000_000, channel="")
    return Files(
        HttpCacheProxy(
            UpstreamClient(where, peers), CachedChannels(Channels(channel("c1"))), protection, audience, settings
        ),
        audience,
    )


async def test_an_edge_asks_the_holder_once_for_each_file() -> None:
    async with holding() as one, Peers("cluster") as peers:
        one.says["c1/live.m3u8"] = answer(LIVE.format("?millrace-query=0"), M3U8)
        one.says["c1/100.ts"] = answer(b"segment", **SEGMENT)
        async with branch(Chain([one.place]), secret="cluster") as edge:
            for _ in range(3):
                files = reader(peers, Chain([edge.place()]))
                async with files.relay:
                    lists = await asyncio.gather(*(files.get(f"/c1/live.m3u8?sign={n}") for n in range(50)))
                    assert [reply.body for reply in lists] == [LIVE.format(f"?sign={n}").encode() for n in range(50)]
                    assert {(await files.get("/c1/100.ts")).body for _ in range(5)} == {b"segment"}
                    assert files.relay.viewers["c1"]["hls"] == 1
                files.audience.close()
            assert one.asks("c1/100.ts") == 1
            assert one.asks("c1/live.m3u8") <= 3
            assert not edge.relay.viewers, "who asks is counted where it is judged"


@pytest.mark.parametrize(
    "says",
    [
        answer("try later\n", "text/plain", "503 Service Unavailable"),
        answer("this node does not hold the stream\n", "text/plain", "404 Not Found"),
        answer("an unsigned request\n", "text/plain", "401 Unauthorized"),
        NOT_LIVE,
    ],
)
async def test_a_reader_asks_the_holder_when_edges_cannot_answer(says: bytes) -> None:
    async with holding() as useless, holding() as one, Peers("cluster") as peers:
        useless.says["c1/100.ts"] = says
        one.says["c1/100.ts"] = answer(b"segment", **SEGMENT)
        bad = [NodeAddress(f"e{n}", useless.place.address, "k1", edge=True) for n in range(3)]
        where = Chain([*bad, one.place])
        files = reader(peers, where)
        async with files.relay:
            assert (await files.get("/c1/100.ts")).body == b"segment"
        files.audience.close()
        assert where.lost_places == bad


async def test_a_reader_asks_the_next_edge_when_one_has_died() -> None:
    async with holding() as one, Peers("cluster") as peers:
        one.says["c1/100.ts"] = answer(b"segment", **SEGMENT)
        async with (
            branch(Chain([one.place]), secret="cluster") as first,
            branch(Chain([one.place]), secret="cluster") as second,
        ):
            await first.die()
            where = Chain([first.place(), second.place(), one.place])
            files = reader(peers, where)
            async with files.relay:
                assert (await files.get("/c1/100.ts")).body == b"segment"
            files.audience.close()
            assert where.places == [second.place(), one.place]


async def test_a_stream_that_is_not_live_is_not_found_through_an_edge() -> None:
    async with holding() as one, Peers("cluster") as peers:
        one.says["c1/status.json"] = answer('{"live": false}', "application/json")
        async with branch(Chain([one.place]), secret="cluster") as edge:
            for path in ("live.m3u8", "1.ts", "status.json"):
                files = reader(peers, Chain([edge.place()]))
                async with files.relay:
                    reply = await files.get(f"/c1/{path}")
                files.audience.close()
                assert (reply.status, reply.body) == (404, b"c1 is not streaming live now\n"), path
