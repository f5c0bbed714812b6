"""Requests of an edge to gateways about streams, channels and files, also when gateways are unavailable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.channels.channel import Channel
from gateway.channels.media_owners import MediaOwners
from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from gateway.ports.nodes import Node, NodeRole
from proxy.edge import gateways as asking
from proxy.edge.gateways import GatewayFiles, Gateways, UpstreamFinder
from proxy.edge.remote_channels import HolderFirstChannels, RemoteChannels
from tests.support.builders import channel
from tests.support.edge import storing
from tests.support.holder import Holder, Where, answer, holding

JSON = "application/json"
NO_CHANNEL = answer('{"error": "no channel c1"}', JSON, "404 Not Found")
NOT_HELD = answer('{"error": "not held here"}', JSON, "421 Misdirected Request")
PUBLIC = answer('{"id": "c1", "playAuth": "sign"}', JSON)
FORBIDDEN = answer("not signed\n", "text/plain", "401 Unauthorized")


class Edge:
    """Two gateways and the parts of an edge that send requests to them."""

    def __init__(self, a: Holder, b: Holder, peers: Peers) -> None:
        self.a, self.b, self.peers = a, b, peers
        self.now = 0.0
        self.where = Where()
        self.gateways = Gateways(asking.configured_gateways([a.place.address, b.place.address]), lambda: self.now)
        self.channels = RemoteChannels(self.gateways, self.where, peers)
        self.upstreams = UpstreamFinder([a.place.address, b.place.address], peers, lambda: self.now)

    @property
    def asked(self) -> int:
        return len(self.a.asked) + len(self.b.asked)


@asynccontextmanager
async def edge() -> AsyncIterator[Edge]:
    async with holding() as a, holding() as b, Peers("cluster") as peers:
        yield Edge(a, b, peers)


def addresses(places: Sequence[NodeAddress]) -> list[str]:
    return [place.address for place in places]


# ---- which there are ----


async def test_requests_alternate_between_gateways() -> None:
    async with edge() as lab:
        firsts = [(await lab.gateways.in_order())[0].address for _ in range(4)]
        assert sorted(firsts[:2]) == sorted(firsts[2:]) == sorted([lab.a.place.address, lab.b.place.address])


async def test_a_failed_gateway_is_asked_last_for_a_while() -> None:
    async with edge() as lab:
        lab.gateways.mark_failed(lab.a.place)
        for _ in range(3):
            assert addresses(await lab.gateways.in_order()) == [lab.b.place.address, lab.a.place.address]
        lab.now += 6
        assert lab.a.place.address in {(await lab.gateways.in_order())[0].address for _ in range(2)}


async def test_the_holder_is_asked_first() -> None:
    async with edge() as lab:
        for _ in range(2):
            assert addresses(await lab.gateways.in_order(lab.b.place)) == [lab.b.place.address, lab.a.place.address]


async def test_only_gateways_from_the_registry_are_asked() -> None:
    async def nodes() -> Sequence[Node]:
        return [Node("g", NodeRole.GATEWAY, "g:1"), Node("e", NodeRole.EDGE, "e:1"), Node("w", NodeRole.WORKER, "w:1")]

    assert await asking.registry_gateways(nodes)() == [NodeAddress("g", "g:1")]


# ---- who has a stream ----


async def test_a_stream_is_found_at_the_gateway_that_holds_it() -> None:
    async with edge() as lab:
        lab.a.says[".node/session/c1"] = NOT_HELD
        lab.b.says[".node/session/c1"] = answer("{}", JSON)
        found = await lab.upstreams.find(["c1", "c2"])
        assert {name: holding.address for name, holding in found.items()} == {"c1": lab.b.place.address}


async def test_if_two_gateways_claim_a_stream_the_first_one_is_used() -> None:
    async with edge() as lab:
        for one in (lab.a, lab.b):
            one.says[".node/session/c1"] = answer("{}", JSON)
        assert (await lab.upstreams.find(["c1"]))["c1"].address == lab.a.place.address


async def test_an_unavailable_gateway_does_not_hide_streams_of_others() -> None:
    async with edge() as lab:
        await lab.a.close()
        lab.b.says[".node/session/c1"] = answer("{}", JSON)
        for _ in range(2):
            assert (await lab.upstreams.find(["c1"])).keys() == {"c1"}
        await lab.a.listen()  # at another port; the place that the edge knows stays empty
        lab.now += 6
        assert (await lab.upstreams.find(["c1"])).keys() == {"c1"}


async def test_without_any_answer_a_stream_is_not_reported_as_missing() -> None:
    async with edge() as lab:
        await lab.a.close()
        await lab.b.close()
        with pytest.raises(StoreUnavailable):
            await lab.upstreams.find(["c1"])
        with pytest.raises(StoreUnavailable):
            await lab.upstreams.check()


async def test_an_edge_is_ready_while_one_gateway_accepts_it() -> None:
    async with edge() as lab:
        lab.a.says[".node/node"] = FORBIDDEN
        with pytest.raises(StoreUnavailable):
            await lab.upstreams.check()  # the other one knows no such page
        lab.b.says[".node/node"] = answer("{}\n", "application/x-ndjson")
        await lab.upstreams.check()


# ---- what a channel is ----


async def test_channel_data_comes_from_a_gateway_that_knows_it() -> None:
    async with edge() as lab:
        lab.a.says[".node/channel/c1"] = NO_CHANNEL
        lab.b.says[".node/channel/c1"] = PUBLIC
        for _ in range(2):
            channel = await lab.channels.get("c1")
            assert (channel.id, channel.play_auth) == ("c1", "sign")


async def test_a_channel_that_no_gateway_knows_does_not_exist() -> None:
    async with edge() as lab:
        lab.a.says[".node/channel/c1"] = lab.b.says[".node/channel/c1"] = NO_CHANNEL
        with pytest.raises(NoSuchChannel):
            await lab.channels.get("c1")


@pytest.mark.parametrize(
    "said",
    [
        None,
        FORBIDDEN,
        answer("{}", JSON),
        answer('{"id": "other"}', JSON),
        answer("[]", JSON),
        answer("<html>", "text/html"),
        answer("later", "text/plain", "503 Service Unavailable"),
    ],
)
async def test_a_channel_is_not_reported_as_missing_if_a_gateway_fails(said: bytes | None) -> None:
    """A missing channel gets the edge's default protection, so a protected one must not count as missing."""
    async with edge() as lab:
        lab.a.says[".node/channel/c1"] = NO_CHANNEL
        if said is None:
            await lab.b.close()
        else:
            lab.b.says[".node/channel/c1"] = said
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await lab.channels.get("c1")


async def test_media_of_a_deleted_channel_keeps_its_protection() -> None:
    async with edge() as lab:
        deleted = RemoteChannels(lab.gateways, lab.where, lab.peers, "deleted")
        lab.a.says[".node/deleted/c1"] = NO_CHANNEL
        lab.b.says[".node/deleted/c1"] = answer('{"id": "c1", "playAuth": "sign", "media": "keep"}', JSON)
        owner = await MediaOwners(Nobody(), deleted).find("c1")
        assert owner is not None
        assert (owner.channel.play_auth, owner.deletes_media) == ("sign", False)
        lab.b.says[".node/deleted/c1"] = answer('{"id": "c1", "media": "delete"}', JSON)
        owner = await MediaOwners(Nobody(), deleted).find("c1")
        assert owner is not None and owner.deletes_media
        lab.b.says[".node/deleted/c1"] = NO_CHANNEL
        assert await MediaOwners(Nobody(), deleted).find("c1") is None
        await lab.b.close()
        with pytest.raises(StoreUnavailable):
            await MediaOwners(Nobody(), deleted).find("c1")


async def test_invalid_channel_ids_cause_no_requests() -> None:
    async with edge() as lab:
        for id in ("../c1", "c1/x", "", ".node", "a b", "x" * 200):
            with pytest.raises(NoSuchChannel):
                await lab.channels.get(id)
        assert lab.asked == 0


async def test_without_gateways_a_channel_request_raises_store_unavailable() -> None:
    async with Peers("cluster") as peers:
        channels = RemoteChannels(Gateways(asking.configured_gateways(())), Where(), peers)
        with pytest.raises(StoreUnavailable):
            await channels.get("c1")


class Nobody:
    """A `ChannelReader` without any channel."""

    async def get(self, id: str) -> Channel:
        raise NoSuchChannel(id)


class Stored:
    """A shared channel store."""

    def __init__(self) -> None:
        self.reads = 0

    async def get(self, id: str) -> Channel:
        self.reads += 1
        return channel(id, playAuth="none")


async def test_a_live_channel_is_read_from_its_holder_and_not_from_the_store() -> None:
    async with edge() as lab:
        store, lab.where.places["c1"] = Stored(), [lab.b.place]
        lab.b.says[".node/channel/c1"] = PUBLIC
        found = await HolderFirstChannels(store, lab.where, lab.peers).get("c1")
        assert (found.play_auth, store.reads, len(lab.a.asked)) == ("sign", 0, 0)


@pytest.mark.parametrize("said", [NO_CHANNEL, NOT_HELD, FORBIDDEN, answer('{"id": "c2"}', JSON), answer("[", JSON)])
async def test_a_channel_is_read_from_the_store_if_its_holder_fails(said: bytes) -> None:
    async with edge() as lab:
        store, lab.where.places["c1"] = Stored(), [lab.b.place]
        lab.b.says[".node/channel/c1"] = said
        assert (await HolderFirstChannels(store, lab.where, lab.peers).get("c1")).play_auth == "none"
        assert store.reads == 1


async def test_a_channel_without_a_holder_is_read_from_the_store() -> None:
    async with edge() as lab:
        store = Stored()
        await HolderFirstChannels(store, lab.where, lab.peers).get("c1")
        assert (store.reads, lab.asked) == (1, 0)


# ---- what is stored ----


async def asked_for(store: GatewayFiles, target: str, channel: str = "") -> tuple[int, bytes]:
    async with AsyncExitStack() as stack:
        answered = await stack.enter_async_context(store.request(target, channel))
        return answered.head.status, b"".join([piece async for piece in answered.chunks()])


async def test_a_file_is_read_from_the_first_gateway_that_has_it() -> None:
    async with edge() as lab, storing(lab.gateways, lab.where, lab.peers) as store:
        lab.a.says["c1/vod/a.ts"] = answer("no such recording", "text/plain", "404 Not Found")
        lab.b.says["c1/vod/a.ts"] = answer(b"segment")
        for _ in range(2):
            assert await asked_for(store, "/_node/c1/vod/a.ts") == (200, b"segment")


async def test_a_file_that_no_gateway_has_is_404() -> None:
    async with edge() as lab, storing(lab.gateways, lab.where, lab.peers) as store:
        assert (await asked_for(store, "/_node/c1/vod/a.ts"))[0] == 404


async def test_a_file_is_not_reported_as_missing_if_a_gateway_fails() -> None:
    async with edge() as lab, storing(lab.gateways, lab.where, lab.peers) as store:
        await lab.b.close()
        with pytest.raises(PeerUnavailable):
            await asked_for(store, "/_node/c1/vod/a.ts")
        await lab.b.listen()
        lab.a.says["c1/vod/a.ts"] = answer("later", "text/plain", "503 Service Unavailable")
        with pytest.raises((PeerUnavailable, PeerRefused)):
            await asked_for(store, "/_node/c1/vod/a.ts")


async def test_a_file_of_a_live_channel_is_requested_from_its_holder() -> None:
    async with edge() as lab, storing(lab.gateways, lab.where, lab.peers) as store:
        lab.where.places["c1"] = [lab.b.place]
        lab.b.says["c1/vod/a.ts"] = answer(b"segment")
        for _ in range(2):
            assert (await asked_for(store, "/_node/c1/vod/a.ts", "c1"))[0] == 200
        assert lab.a.asked == []
