"""What every Registry promises, SQLite and DynamoDB's doubles alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.adapters.local.registry import SqliteRegistry
from gateway.adapters.stores import open_aws, open_registry, open_stores
from gateway.channels.channel import Channel
from gateway.live.session_record import session_item
from gateway.ports.errors import HeldByOtherNode
from gateway.ports.nodes import FORGOTTEN_SECONDS, LEFT_SECONDS, Node, NodeRole, StreamClaim
from gateway.ports.stores import Registry
from gateway.settings import load
from tests.integration.adapters.conftest import DOUBLES, SESSIONS
from tests.support.clock import Clock

NOW = 1_800_000_000.0


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest_asyncio.fixture(params=["sqlite", *DOUBLES])
async def registry(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Registry]:
    """Each kind of registry, empty."""
    if request.param == "sqlite":
        async with SqliteRegistry(tmp_path / "registry.db", clock) as opened:
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
    """Whether a claim was granted."""
    try:
        await registry.claim(wanted, ITEM, over)
    except HeldByOtherNode:
        return False
    return True


# ---- nodes ----


async def test_a_node_that_joined_is_told_as_it_is(registry: Registry) -> None:
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


async def test_nobody_is_there_at_first(registry: Registry) -> None:
    assert await registry.nodes() == []
    assert await registry.node("0a1b2c.1") is None


async def test_a_beat_shows_the_node_as_it_now_is(registry: Registry) -> None:
    await registry.join(node(beat=1))
    later = node(beat=2, address="10.0.0.6:8080", shown={"streams": 3})
    await registry.beat(later)
    assert await registry.node(later.id) == later
    assert await registry.nodes() == [later]


async def test_a_node_that_starts_anew_is_there_once(registry: Registry) -> None:
    await registry.join(node(beat=90))
    await registry.join(node(beat=1))
    assert await registry.nodes() == [node(beat=1)]


async def test_a_node_that_was_forgotten_is_there_again_with_its_next_beat(registry: Registry) -> None:
    await registry.join(node())
    await registry.leave(node().id)
    await registry.beat(node(beat=2))
    assert await registry.node(node().id) == node(beat=2)
    assert await registry.nodes() == [node(beat=2)]


async def test_a_node_that_left_is_gone_and_only_that_one(registry: Registry) -> None:
    await registry.join(node())
    await registry.join(node("other"))
    await registry.leave(node().id)
    assert await registry.node(node().id) is None
    assert await registry.nodes() == [node("other")]


async def test_an_unknown_node_may_leave(registry: Registry) -> None:
    await registry.leave("nobody")
    await registry.join(node())
    await registry.leave("nobody")
    assert await registry.nodes() == [node()]


async def test_all_of_more_nodes_than_one_request_reads_are_told(registry: Registry) -> None:
    wanted = [node(f"host-{n:03}.1", beat=n) for n in range(130)]
    await asyncio.gather(*(registry.join(one) for one in wanted))
    assert sorted(await registry.nodes(), key=lambda n: n.id) == wanted


async def test_nodes_that_beat_at_once_do_not_disturb_each_other(registry: Registry) -> None:
    ids = [f"host.{n}" for n in range(20)]
    await asyncio.gather(*(registry.join(node(id)) for id in ids))
    for beat in range(1, 4):
        await asyncio.gather(*(registry.beat(node(id, beat=beat)) for id in ids))
    assert {n.id: n.beat for n in await registry.nodes()} == dict.fromkeys(ids, 3)


async def test_a_node_that_died_without_a_word_is_still_told(registry: Registry, clock: Clock) -> None:
    await registry.join(node())
    clock.now += FORGOTTEN_SECONDS / 2
    await registry.join(node("other"))
    assert sorted(n.id for n in await registry.nodes()) == sorted([node().id, "other"])


# ---- claims ----


async def test_a_claim_is_found_as_it_was_made(registry: Registry) -> None:
    held = holding(cluster=True)
    await registry.claim(held, ITEM)
    assert await registry.claim_of("foyer") == held
    assert await registry.find(["foyer"]) == {"foyer": held}


async def test_nobody_holds_what_nobody_claimed(registry: Registry) -> None:
    assert await registry.claim_of("foyer") is None
    assert await registry.find(["foyer"]) == {}
    assert await registry.find([]) == {}


async def test_a_claim_of_what_is_held_tells_who_holds_it(registry: Registry) -> None:
    held = holding(cluster=True)
    await registry.claim(held, ITEM)
    with pytest.raises(HeldByOtherNode) as refused:
        await registry.claim(holding(claim="b2"), ITEM)
    assert refused.value.claim == held
    assert await registry.claim_of("foyer") == held


async def test_a_claim_may_be_made_again_where_its_answer_was_lost(registry: Registry) -> None:
    await registry.claim(holding(), ITEM)
    await registry.claim(holding(cluster=True), ITEM)
    assert await registry.claim_of("foyer") == holding(cluster=True)


async def test_a_claim_over_a_dead_holder_may_be_made_again_too(registry: Registry) -> None:
    await registry.claim(holding(claim="dead"), ITEM)
    for _ in range(2):
        await registry.claim(holding(claim="b2"), ITEM, replaces="dead")
    assert await registry.claim_of("foyer") == holding(claim="b2")


async def test_of_forty_who_claim_a_stream_one_holds_it(registry: Registry) -> None:
    wanted = [holding(claim=f"claim-{n}") for n in range(40)]
    granted = await asyncio.gather(*(claimed(registry, one) for one in wanted))
    assert sum(granted) == 1
    assert await registry.claim_of("foyer") == wanted[granted.index(True)]


async def test_the_claim_of_a_dead_holder_is_taken_over(registry: Registry) -> None:
    await registry.claim(holding(claim="dead"), ITEM)
    successor = holding(claim="b2", started=NOW - 60)
    await registry.claim(successor, ITEM, replaces="dead")
    assert await registry.claim_of("foyer") == successor


async def test_a_claim_over_what_does_not_stand_any_more_is_refused(registry: Registry) -> None:
    await registry.claim(holding(claim="dead"), ITEM)
    await registry.claim(holding(claim="b2"), ITEM, replaces="dead")
    with pytest.raises(HeldByOtherNode) as refused:
        await registry.claim(holding(claim="c3"), ITEM, replaces="dead")
    assert refused.value.claim.id == "b2"


async def test_a_claim_over_what_is_gone_already_is_granted(registry: Registry) -> None:
    await registry.claim(holding(claim="b2"), ITEM, replaces="dead")
    assert await registry.claim_of("foyer") == holding(claim="b2")


async def test_of_many_who_succeed_a_dead_holder_one_does(registry: Registry) -> None:
    await registry.claim(holding(claim="dead"), ITEM)
    granted = await asyncio.gather(*(claimed(registry, holding(claim=f"c{n}"), "dead") for n in range(20)))
    assert sum(granted) == 1


async def test_what_is_released_is_free(registry: Registry) -> None:
    await registry.claim(holding(), ITEM)
    await registry.release("foyer", "a1")
    assert await registry.claim_of("foyer") is None
    await registry.claim(holding(claim="b2"), ITEM)
    assert await registry.claim_of("foyer") == holding(claim="b2")


@pytest.mark.parametrize("left", [False, True])
async def test_nobody_releases_what_somebody_else_holds(registry: Registry, left: bool) -> None:
    await registry.claim(holding(), ITEM)
    await registry.release("foyer", "b2", left=left)
    assert await registry.find(["foyer"]) == {"foyer": holding()}


@pytest.mark.parametrize("left", [False, True])
async def test_a_release_of_what_nobody_holds_is_fine_and_leaves_nothing(registry: Registry, left: bool) -> None:
    await registry.release("foyer", "a1", left=left)
    assert await registry.claim_of("foyer") is None


async def test_a_holder_that_left_is_not_found_but_told_to_a_successor(registry: Registry) -> None:
    await registry.claim(holding(), ITEM)
    await registry.release("foyer", "a1", left=True)
    assert await registry.find(["foyer"]) == {}
    assert await registry.claim_of("foyer") == holding(left=True)


async def test_of_many_who_follow_a_holder_that_left_one_does(registry: Registry) -> None:
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


async def test_a_stream_that_is_held_is_never_forgotten(registry: Registry, clock: Clock) -> None:
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


async def test_a_stream_that_is_asked_for_twice_is_found_once(registry: Registry) -> None:
    await registry.claim(holding(), ITEM)
    assert await registry.find(["foyer", "foyer", "nobody"]) == {"foyer": holding()}


@pytest.mark.parametrize("name", ["", "/", "/nodes", "/node/0a1b2c.1", "a/b", "é", "\ud800", "\0", "x" * 5000, "'; --"])
async def test_names_that_no_channel_has_are_held_by_nobody(registry: Registry, name: str) -> None:
    await registry.join(node())
    await registry.claim(holding(), ITEM)
    assert await registry.find([name, "foyer"]) == {"foyer": holding()}
    assert await registry.claim_of(name) is None
    await registry.release(name, "a1")
    await registry.release(name, "a1", left=True)
    assert await registry.nodes() == [node()]


async def test_nodes_and_streams_of_one_name_do_not_meet(registry: Registry) -> None:
    for name in ("nodes", "node", "-"):
        await registry.join(node(name))
        await registry.claim(holding(name), ITEM)
        await registry.leave(name)
        assert await registry.claim_of(name) == holding(name)
    assert await registry.nodes() == []


async def test_a_registry_that_answers_says_so(registry: Registry) -> None:
    await registry.check()


# ---- opening ----


async def test_without_an_address_there_is_no_registry(tmp_path: Path) -> None:
    settings = load(environ={"MILLRACE_DATA": str(tmp_path)})
    async with open_stores(settings) as stores, open_registry(settings) as registry:
        assert stores.registry is None
        assert registry is None


@pytest.mark.parametrize("kind", ["sqlite", *DOUBLES])
async def test_who_opens_the_stores_and_who_opens_the_registry_alone_share_it(
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
