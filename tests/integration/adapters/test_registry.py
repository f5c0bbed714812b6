"""The contract of all registries: SQLite and the DynamoDB doubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.adapters.local.stores import SqliteRegistry
from gateway.adapters.postgres.connections import PostgresConnections
from gateway.adapters.postgres.stores import PostgresRegistry
from gateway.adapters.stores import open_aws, open_registry, open_stores
from gateway.channels.channel import Channel
from gateway.live.session_record import session_item
from gateway.ports.errors import HeldByOtherNode
from gateway.ports.nodes import FORGOTTEN_SECONDS, LEFT_SECONDS, Node, NodeRole, StreamClaim
from gateway.ports.stores import Registry
from gateway.settings import load
from tests.integration.adapters.conftest import CONTRACT_DOUBLES, DOUBLES, SESSIONS
from tests.support.clock import Clock

NOW = 1_800_000_000.0


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest_asyncio.fixture(params=["sqlite", "postgres", *CONTRACT_DOUBLES])
async def registry(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Registry]:
    """Yields each kind of registry, empty."""
    if request.param == "sqlite":
        async with SqliteRegistry(tmp_path / "registry.db", clock) as opened:
            yield opened
        return
    if request.param == "postgres":
        async with PostgresConnections(request.getfixturevalue("postgres").new_database()) as database:
            opened = PostgresRegistry(database, clock)
            await opened.beat(node("first"))
            await opened.leave("first")
            await opened.write("UPDATE nodes SET expires = expires - 3600 WHERE id = ''")  # it began an hour ago
            yield opened
        return
    request.getfixturevalue(DOUBLES[request.param])
    from gateway.adapters.aws.registry import DynamoRegistry

    async with open_aws("this test") as session:
        yield DynamoRegistry(session, SESSIONS, clock)


def node(id: str = "0a1b2c.1", **fields: object) -> Node:
    return replace(Node(id, NodeRole.GATEWAY, "10.0.0.5:8080"), **fields)  # type: ignore[arg-type]


def holding(stream: str = "foyer", claim: str = "a1", **fields: object) -> StreamClaim:
    held = StreamClaim(stream, f"node-of-{claim}", "10.0.0.5:8080", claim, NOW + 0.125)
    return replace(held, **fields)  # type: ignore[arg-type]


ITEM = session_item(
    Channel({"id": "foyer", "key": "1-a", "videoname": "Foyer – 大厅", "isFlv": "true"}), "a.lan:80", NOW
)


async def claimed(registry: Registry, wanted: StreamClaim, over: str = "") -> bool:
    """Returns whether a claim was granted."""
    try:
        await registry.claim(wanted, ITEM, over)
    except HeldByOtherNode:
        return False
    return True


# ---- nodes ----


async def test_a_joined_node_is_found_unchanged(registry: Registry) -> None:
    shown = {"address": "Éva 中", "ports": {"rtmp": 1935, "wss": None}, "n": [1, 2.5, True], "empty": {}}
    nodes = [
        node(beat=7, shown=shown),
        node("0a1b2c.2", role=NodeRole.WORKER),
        node("ffff", role=NodeRole.EDGE, channel="foyer", address="[fd00::7]:8080"),
    ]
    for one in nodes:
        await registry.join(one)
    assert [await registry.node(one.id) for one in nodes] == nodes
    assert sorted(await registry.nodes(), key=lambda n: n.id) == nodes


async def test_a_new_registry_has_no_nodes(registry: Registry) -> None:
    assert await registry.nodes() == []
    assert await registry.node("0a1b2c.1") is None


async def test_a_beat_updates_the_node(registry: Registry) -> None:
    await registry.join(node(beat=1))
    later = node(beat=2, address="10.0.0.6:8080", shown={"streams": 3})
    await registry.beat(later)
    assert await registry.node(later.id) == later
    assert await registry.nodes() == [later]


async def test_a_restarted_node_is_listed_once(registry: Registry) -> None:
    await registry.join(node(beat=90))
    await registry.join(node(beat=1))
    assert await registry.nodes() == [node(beat=1)]


async def test_a_removed_node_is_listed_again_after_its_next_beat(registry: Registry) -> None:
    await registry.join(node())
    await registry.leave(node().id)
    await registry.beat(node(beat=2))
    assert await registry.node(node().id) == node(beat=2)
    assert await registry.nodes() == [node(beat=2)]


async def test_a_leaving_node_removes_only_itself(registry: Registry) -> None:
    await registry.join(node())
    await registry.join(node("other"))
    await registry.leave(node().id)
    assert await registry.node(node().id) is None
    assert await registry.nodes() == [node("other")]


async def test_leaving_as_an_unknown_node_is_no_error(registry: Registry) -> None:
    await registry.leave("nobody")
    await registry.join(node())
    await registry.leave("nobody")
    assert await registry.nodes() == [node()]


async def test_the_list_contains_more_nodes_than_one_request_can_read(registry: Registry) -> None:
    wanted = [node(f"host-{n:03}.1", beat=n) for n in range(130)]
    for begin in range(0, 130, 26):  # the double of DynamoDB is slow
        await asyncio.gather(*(registry.join(one) for one in wanted[begin : begin + 26]))
    assert sorted(await registry.nodes(), key=lambda n: n.id) == wanted


async def test_simultaneous_beats_do_not_interfere(registry: Registry) -> None:
    ids = [f"host.{n}" for n in range(20)]
    await asyncio.gather(*(registry.join(node(id)) for id in ids))
    for beat in range(1, 4):
        await asyncio.gather(*(registry.beat(node(id, beat=beat)) for id in ids))
    assert {n.id: n.beat for n in await registry.nodes()} == dict.fromkeys(ids, 3)


async def test_a_node_that_died_without_leaving_is_still_listed(registry: Registry, clock: Clock) -> None:
    await registry.join(node())
    clock.now += FORGOTTEN_SECONDS / 2
    await registry.join(node("other"))
    assert sorted(n.id for n in await registry.nodes()) == sorted([node().id, "other"])


# ---- claims ----


async def test_the_registry_returns_a_claim_unchanged(registry: Registry) -> None:
    held = holding(cluster=True)
    await registry.claim(held, ITEM)
    assert await registry.claim_of("foyer") == held
    assert await registry.find(["foyer"]) == {"foyer": held}


async def test_an_unclaimed_stream_has_no_holder(registry: Registry) -> None:
    assert await registry.claim_of("foyer") is None
    assert await registry.find(["foyer"]) == {}
    assert await registry.find([]) == {}


async def test_a_refused_claim_carries_the_claim_of_the_holder(registry: Registry) -> None:
    held = holding(cluster=True)
    await registry.claim(held, ITEM)
    with pytest.raises(HeldByOtherNode) as refused:
        await registry.claim(holding(claim="b2"), ITEM)
    assert refused.value.claim == held
    assert await registry.claim_of("foyer") == held


async def test_a_claim_may_be_repeated_after_a_lost_answer(registry: Registry) -> None:
    await registry.claim(holding(), ITEM)
    await registry.claim(holding(cluster=True), ITEM)
    assert await registry.claim_of("foyer") == holding(cluster=True)


async def test_a_takeover_from_a_dead_holder_may_be_repeated(registry: Registry) -> None:
    await registry.claim(holding(claim="dead"), ITEM)
    for _ in range(2):
        await registry.claim(holding(claim="b2"), ITEM, replaces="dead")
    assert await registry.claim_of("foyer") == holding(claim="b2")


async def test_only_one_of_forty_simultaneous_claims_is_granted(registry: Registry) -> None:
    wanted = [holding(claim=f"claim-{n}") for n in range(40)]
    granted = await asyncio.gather(*(claimed(registry, one) for one in wanted))
    assert sum(granted) == 1
    assert await registry.claim_of("foyer") == wanted[granted.index(True)]


async def test_the_claim_of_a_dead_holder_is_taken_over(registry: Registry) -> None:
    await registry.claim(holding(claim="dead"), ITEM)
    successor = holding(claim="b2", started=NOW - 60)
    await registry.claim(successor, ITEM, replaces="dead")
    assert await registry.claim_of("foyer") == successor


async def test_a_takeover_of_an_already_replaced_claim_is_refused(registry: Registry) -> None:
    await registry.claim(holding(claim="dead"), ITEM)
    await registry.claim(holding(claim="b2"), ITEM, replaces="dead")
    with pytest.raises(HeldByOtherNode) as refused:
        await registry.claim(holding(claim="c3"), ITEM, replaces="dead")
    assert refused.value.claim.id == "b2"


async def test_a_takeover_of_a_removed_claim_is_granted(registry: Registry) -> None:
    await registry.claim(holding(claim="b2"), ITEM, replaces="dead")
    assert await registry.claim_of("foyer") == holding(claim="b2")


async def test_only_one_of_several_takeovers_from_a_dead_holder_is_granted(registry: Registry) -> None:
    await registry.claim(holding(claim="dead"), ITEM)
    granted = await asyncio.gather(*(claimed(registry, holding(claim=f"c{n}"), "dead") for n in range(20)))
    assert sum(granted) == 1


async def test_a_released_stream_can_be_claimed_again(registry: Registry) -> None:
    await registry.claim(holding(), ITEM)
    await registry.release("foyer", "a1")
    assert await registry.claim_of("foyer") is None
    await registry.claim(holding(claim="b2"), ITEM)
    assert await registry.claim_of("foyer") == holding(claim="b2")


@pytest.mark.parametrize("left", [False, True])
async def test_a_node_cannot_release_the_claim_of_another_node(registry: Registry, left: bool) -> None:
    await registry.claim(holding(), ITEM)
    await registry.release("foyer", "b2", left=left)
    assert await registry.find(["foyer"]) == {"foyer": holding()}


@pytest.mark.parametrize("left", [False, True])
async def test_releasing_an_unclaimed_stream_is_no_error(registry: Registry, left: bool) -> None:
    await registry.release("foyer", "a1", left=left)
    assert await registry.claim_of("foyer") is None


async def test_a_holder_that_left_is_hidden_from_find_but_not_from_claim_of(registry: Registry) -> None:
    await registry.claim(holding(), ITEM)
    await registry.release("foyer", "a1", left=True)
    assert await registry.find(["foyer"]) == {}
    assert await registry.claim_of("foyer") == holding(left=True)


async def test_only_one_of_several_claims_after_a_holder_left_is_granted(registry: Registry) -> None:
    await registry.claim(holding(claim="gone"), ITEM)
    await registry.release("foyer", "gone", left=True)
    wanted = [holding(claim=f"c{n}") for n in range(20)]
    granted = await asyncio.gather(*(claimed(registry, one) for one in wanted))
    assert sum(granted) == 1
    assert await registry.find(["foyer"]) == {"foyer": wanted[granted.index(True)]}


async def test_a_holder_that_left_is_forgotten_after_an_hour(registry: Registry, clock: Clock) -> None:
    await registry.claim(holding(), ITEM)
    await registry.release("foyer", "a1", left=True)
    clock.now += LEFT_SECONDS - 2
    assert await registry.claim_of("foyer") == holding(left=True)
    clock.now += 4
    assert await registry.claim_of("foyer") is None


async def test_a_claim_in_use_never_expires(registry: Registry, clock: Clock) -> None:
    await registry.claim(holding(), ITEM)
    await registry.release("foyer", "a1", left=True)
    await registry.claim(holding(claim="b2"), ITEM)
    clock.now += 400 * 86_400
    await registry.claim(holding("other"), ITEM)
    assert await registry.find(["foyer"]) == {"foyer": holding(claim="b2")}


async def test_a_hundred_streams_are_found_at_once(registry: Registry) -> None:
    held = [holding(f"channel-{n}", f"claim-{n}") for n in range(0, 100, 2)]
    for one in held:
        await registry.claim(one, ITEM)
    assert await registry.find([f"channel-{n}" for n in range(100)]) == {one.stream: one for one in held}


async def test_a_stream_requested_twice_is_found_once(registry: Registry) -> None:
    await registry.claim(holding(), ITEM)
    assert await registry.find(["foyer", "foyer", "nobody"]) == {"foyer": holding()}


@pytest.mark.parametrize("name", ["", "/", "/nodes", "/node/0a1b2c.1", "a/b", "é", "\ud800", "\0", "x" * 5000, "'; --"])
async def test_invalid_stream_names_have_no_holder(registry: Registry, name: str) -> None:
    await registry.join(node())
    await registry.claim(holding(), ITEM)
    assert await registry.find([name, "foyer"]) == {"foyer": holding()}
    assert await registry.claim_of(name) is None
    await registry.release(name, "a1")
    await registry.release(name, "a1", left=True)
    assert await registry.nodes() == [node()]


async def test_nodes_and_streams_of_the_same_name_do_not_conflict(registry: Registry) -> None:
    for name in ("nodes", "node", "-"):
        await registry.join(node(name))
        await registry.claim(holding(name), ITEM)
        await registry.leave(name)
        assert await registry.claim_of(name) == holding(name)
    assert await registry.nodes() == []


async def test_the_check_of_a_reachable_registry_succeeds(registry: Registry) -> None:
    await registry.check()


# ---- opening ----


async def test_without_an_address_there_is_no_registry(tmp_path: Path) -> None:
    settings = load(environ={"MILLRACE_DATA": str(tmp_path)})
    async with open_stores(settings) as stores, open_registry(settings) as registry:
        assert stores.registry is None
        assert registry is None


@pytest.mark.parametrize("kind", ["sqlite", *CONTRACT_DOUBLES])
async def test_open_stores_and_open_registry_share_one_registry(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    url = "sqlite:///{data}/registry.db"
    if kind in DOUBLES:
        request.getfixturevalue(DOUBLES[kind])
        url = f"dynamodb://{SESSIONS}"
    settings = load(environ={"MILLRACE_DATA": str(tmp_path), "MILLRACE_REGISTRY": url})
    async with open_stores(settings) as stores, open_registry(settings) as alone:
        assert stores.registry is not None
        assert alone is not None
        await stores.registry.claim(holding(), ITEM)
        assert await alone.find(["foyer"]) == {"foyer": holding()}
