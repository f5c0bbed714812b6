"""The registry in DynamoDB: foreign rows, repair of the node list, request counts, failures of the service."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.adapters.aws import dynamo_table as adapter
from gateway.adapters.aws import session as aws_session
from gateway.adapters.aws.registry import DynamoRegistry
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.stores import open_aws
from gateway.ports.errors import HeldByOtherNode, StoreUnavailable
from gateway.ports.nodes import FORGOTTEN_SECONDS, LEFT_SECONDS
from tests.integration.adapters.conftest import CONTRACT_DOUBLES, DOUBLES, SESSIONS, dynamodb
from tests.integration.adapters.test_registry import ITEM, NOW, Clock, clock, holding, node
from tests.support.at_night import at_night
from tests.support.gate import Gate
from tests.support.time_outs import at_most
from tests.support.waiting import until_in_thread

__all__ = ["clock"]  # a fixture

FOREVER = 100 * 86_400


@pytest.fixture(params=CONTRACT_DOUBLES)
def double(request: pytest.FixtureRequest) -> str:
    """Yields the address of each double, with an empty table."""
    return str(request.getfixturevalue(DOUBLES[request.param]))


@pytest_asyncio.fixture
async def session(double: str) -> AsyncIterator[AwsSession]:
    async with open_aws("this test") as opened:
        yield opened


@pytest.fixture
def registry(session: AwsSession, clock: Clock) -> DynamoRegistry:
    return DynamoRegistry(session, SESSIONS, clock)


def row(key: str) -> dict[str, Any] | None:
    """Returns the stored row of a key."""
    item: dict[str, Any] | None = dynamodb().get_item(TableName=SESSIONS, Key={"UUID": {"S": key}}).get("Item")
    return item


def store(key: str, **attributes: Any) -> None:
    """Stores a row like another program."""
    dynamodb().put_item(TableName=SESSIONS, Item={"UUID": {"S": key}, **attributes})


def remove(key: str) -> None:
    dynamodb().delete_item(TableName=SESSIONS, Key={"UUID": {"S": key}})


def ids() -> set[str]:
    """Returns the ids in the table's list of nodes."""
    return set((row("/nodes") or {}).get("ids", {}).get("SS", ()))


# ---- rows ----


async def test_a_session_row_has_the_original_attributes_and_additional_ones(registry: DynamoRegistry) -> None:
    await registry.claim(holding(cluster=True), ITEM | {"taskARN": ["arn:1"]})
    assert row("foyer") == {
        "UUID": {"S": "foyer"},
        "URL": {"S": "rtmp://a.lan:1935/stream/foyer"},
        "startTime": {"S": "2027-01-15 08:00"},
        "Streamkey": {"S": "1-a"},
        "Name": {"S": "Foyer – 大厅"},
        "isFlv": {"BOOL": True},
        **{name: {"BOOL": False} for name in ("isHls", "isCMAF", "isImage", "isOnDemand", "isVideo", "isCluster")},
        "ServerAddress": {"S": "a.lan"},
        "taskARN": {"L": [{"S": "arn:1"}]},
        "node": {"S": "node-of-a1"},
        "address": {"S": "10.0.0.5:8080"},
        "claim": {"S": "a1"},
        "started": {"N": "1800000000.125"},
        "left": {"BOOL": False},
        "cluster": {"BOOL": True},
    }


async def test_an_item_cannot_overwrite_the_attributes_of_a_claim(registry: DynamoRegistry) -> None:
    theirs = {"UUID": "other", "node": "x", "address": "x", "claim": "x", "started": 0, "left": True, "cluster": True}
    await registry.claim(holding(), ITEM | theirs)
    assert await registry.claim_of("foyer") == holding()
    assert row("other") is None


async def test_rows_carry_the_time_when_dynamodb_may_remove_them(registry: DynamoRegistry) -> None:
    await registry.join(node())
    await registry.claim(holding("gone"), ITEM)
    await registry.release("gone", "a1", left=True)
    await registry.claim(holding("live"), ITEM)
    for key, seconds in (("/node/0a1b2c.1", FORGOTTEN_SECONDS), ("gone", LEFT_SECONDS)):
        assert (row(key) or {})["expires"] == {"N": str(int(NOW + seconds))}
    assert "expires" not in (row("live") or {})  # the row is not rewritten while the stream is live
    assert "expires" not in (row("/nodes") or {})


ORIGINAL = {
    "URL": {"S": "rtmp://10.0.0.9:1935/stream/foyer"},
    "startTime": {"S": "2020-12-07 00:00"},
    "isFlv": {"S": "true"},
    "isCluster": {"S": "false"},
    "ServerAddress": {"S": "10.0.0.9"},
    "taskARN": {"L": [{"S": "arn:aws:ecs:x"}]},
}
OURS = {"node": {"S": "n"}, "address": {"S": "a.lan:80"}, "claim": {"S": "c"}, "started": {"N": "5"}}
GARBAGE = {
    "the original's": ORIGINAL,
    "nothing but a key": {},
    "a claim that is a number": OURS | {"claim": {"N": "5"}},
    "a claim that is a set": OURS | {"claim": {"SS": ["c"]}},
    "no address": {name: value for name, value in OURS.items() if name != "address"},
    "a start in words": OURS | {"started": {"S": "today"}},
    "a node that is null": OURS | {"node": {"NULL": True}, "expires": {"S": "never"}, "left": {"S": "x"}},
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_invalid_row_is_no_claim_and_does_not_block_a_claim(
    registry: DynamoRegistry, garbage: dict[str, Any]
) -> None:
    store("foyer", **garbage)
    await registry.claim(holding("other"), ITEM)
    assert await registry.claim_of("foyer") is None
    assert await registry.find(["foyer", "other"]) == {"other": holding("other")}
    await registry.release("foyer", "a1")
    await registry.claim(holding(), ITEM)
    assert await registry.claim_of("foyer") == holding()
    assert "ServerAddress" in (row("foyer") or {})


@pytest.mark.parametrize(
    "garbage",
    [
        {},
        {"role": {"S": "gateway"}},
        {"role": {"S": "king"}, "address": {"S": "x"}, "beat": {"N": "1"}},
        {
            "role": {"S": "gateway"},
            "address": {"S": "x"},
            "beat": {"N": "1.5"},
            "channel": {"S": ""},
            "shown": {"M": {}},
        },
    ],
    ids=["empty", "half", "of a newer version", "with a beat that is no integer"],
)
async def test_an_invalid_node_row_is_not_listed_as_a_node(registry: DynamoRegistry, garbage: dict[str, Any]) -> None:
    await registry.join(node())
    await registry.join(node("strange"))
    store("/node/strange", **garbage)
    assert await registry.nodes() == [node()]
    with pytest.raises(StoreUnavailable, match="the node strange cannot be read"):
        await registry.node("strange")  # it may live, so nobody may take over its streams
    assert ids() == {node().id, "strange"}


# ---- the set of nodes ----


async def test_a_leaving_node_removes_its_row_and_its_id(registry: DynamoRegistry) -> None:
    await registry.join(node("a"))
    await registry.join(node("b"))
    await registry.leave("a")
    assert (row("/node/a"), ids()) == (None, {"b"})


async def test_reading_the_nodes_removes_ids_without_a_row(registry: DynamoRegistry) -> None:
    for id in ("a", "b", "c"):
        await registry.join(node(id))
    for id in ("a", "b"):
        remove(f"/node/{id}")
    assert await registry.nodes() == [node("c")]
    assert ids() == {"c"}


async def test_the_last_id_can_be_removed(registry: DynamoRegistry) -> None:
    await registry.join(node())
    remove(f"/node/{node().id}")
    assert await registry.nodes() == []
    assert ids() == set()
    await registry.join(node())
    assert await registry.nodes() == [node()]


async def test_an_id_is_kept_if_its_node_has_returned_meanwhile(
    session: AwsSession, registry: DynamoRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = DynamoRegistry(session, SESSIONS)
    await theirs.join(node())
    remove(f"/node/{node().id}")
    read = registry._table.get_many

    async def slowly(*how: Any, **more: Any) -> list[dict[str, Any]]:
        rows = await read(*how, **more)
        await theirs.beat(node(beat=2))
        return rows

    monkeypatch.setattr(registry._table, "get_many", slowly)
    assert await registry.nodes() == []
    monkeypatch.undo()
    assert await registry.nodes() == [node(beat=2)]


async def test_a_node_with_a_removed_row_registers_again_with_its_next_beat(
    session: AwsSession, registry: DynamoRegistry
) -> None:
    await registry.join(node())
    remove(f"/node/{node().id}")
    assert await DynamoRegistry(session, SESSIONS).nodes() == []
    await registry.beat(node(beat=2))
    assert await registry.nodes() == [node(beat=2)]


async def test_a_node_missing_in_the_list_registers_again_with_its_next_beat(registry: DynamoRegistry) -> None:
    await registry.join(node())
    remove("/nodes")
    assert await registry.nodes() == []
    await registry.beat(node(beat=2))
    assert await registry.nodes() == [node(beat=2)]


async def test_the_next_beat_completes_an_interrupted_join(registry: DynamoRegistry) -> None:
    store("/nodes", ids={"S": "not a set"})
    with pytest.raises(StoreUnavailable, match="ValidationException"):
        await registry.join(node())
    remove("/nodes")
    await registry.beat(node(beat=2))
    assert await registry.nodes() == [node(beat=2)]


# ---- what it costs ----


@contextlib.asynccontextmanager
async def counting(session: AwsSession) -> AsyncIterator[Counter[str]]:
    """Counts the requests sent while the block runs, by operation, including repeated ones."""
    made: Counter[str] = Counter()

    def count(request: Any, **_: Any) -> None:
        made[request.headers["X-Amz-Target"].decode().partition(".")[2]] += 1

    events = (await session.client("dynamodb")).meta.events
    events.register("before-send.dynamodb", count)
    try:
        yield made
    finally:
        events.unregister("before-send.dynamodb", count)


async def test_every_operation_is_one_request(session: AwsSession, registry: DynamoRegistry) -> None:
    names = [f"channel-{n}" for n in range(100)]
    await registry.join(node())
    await registry.claim(holding("held"), ITEM)
    operations: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("PutItem", lambda: registry.beat(node(beat=2))),
        ("PutItem", lambda: registry.claim(holding(), ITEM)),
        ("BatchGetItem", lambda: registry.find(names)),
        ("GetItem", lambda: registry.claim_of("foyer")),
        ("UpdateItem", lambda: registry.release("foyer", "a1", left=True)),
        ("DeleteItem", lambda: registry.release("foyer", "a1")),
        ("GetItem", lambda: registry.node(node().id)),
        ("GetItem", registry.check),
    ]
    for name, operation in operations:
        async with counting(session) as made:
            await operation()
        assert made == {name: 1}
    async with counting(session) as made:
        with pytest.raises(HeldByOtherNode):
            await registry.claim(holding("held", "b2"), ITEM)
    assert made == {"PutItem": 1}, "who holds it comes with the refusal"


async def test_invalid_stream_names_cause_no_request(session: AwsSession, registry: DynamoRegistry) -> None:
    async with counting(session) as made:
        await registry.find(["", "a/b", "/nodes"])
        await registry.claim_of("/nodes")
        await registry.release("/nodes", "a1")
    assert made == {}


async def test_all_nodes_are_read_a_hundred_at_a_time(session: AwsSession, registry: DynamoRegistry) -> None:
    for n in range(101):
        await registry.join(node(f"host.{n}"))
    async with counting(session) as made:
        assert len(await registry.nodes()) == 101
    assert made == {"GetItem": 1, "BatchGetItem": 2}


# ---- a table that is throttled ----


class Throttled:
    """A session whose table reads a given number of keys of each request, then none."""

    def __init__(self, *reads: int) -> None:
        self.reads = iter(reads)
        self.asked: list[int] = []

    @contextlib.asynccontextmanager
    async def client_for(self, *_: Any, **__: Any) -> AsyncIterator[Throttled]:
        yield self

    async def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:
        wanted = RequestItems[SESSIONS]
        read = next(self.reads, 0)
        keys, rest = wanted["Keys"][:read], wanted["Keys"][read:]
        self.asked.append(len(wanted["Keys"]))
        return {
            "Responses": {SESSIONS: [{**key, **OURS} for key in keys]},
            "UnprocessedKeys": {SESSIONS: {**wanted, "Keys": rest}} if rest else {},
        }


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_RETRY_SECONDS", (0, 0, 0))


async def test_unread_keys_are_requested_again(quickly: None) -> None:
    table = Throttled(40, 30, 30)
    found = await DynamoRegistry(table, SESSIONS).find([f"c{n}" for n in range(100)])  # type: ignore[arg-type]
    assert len(found) == 100
    assert table.asked == [100, 60, 30]


async def test_keys_that_stay_unread_raise_store_unavailable(quickly: None) -> None:
    table = Throttled(1, 1, 1, 1, 1)
    with pytest.raises(StoreUnavailable, match="video-streaming"):
        await DynamoRegistry(table, SESSIONS).find([f"c{n}" for n in range(100)])  # type: ignore[arg-type]
    assert table.asked == [100, 99, 98, 97]


def test_waiting_for_unread_keys_ends_within_the_bound_of_a_call() -> None:
    assert sum(adapter._RETRY_SECONDS) < aws_session.CALL_TIMEOUT / 2


# ---- an unavailable service ----

CALLS: dict[str, Callable[[DynamoRegistry], Awaitable[object]]] = {
    "join": lambda r: r.join(node()),
    "beat": lambda r: r.beat(node(beat=3)),
    "leave": lambda r: r.leave("nobody"),
    "node": lambda r: r.node(node().id),
    "nodes": lambda r: r.nodes(),
    "claim": lambda r: r.claim(holding(), ITEM),
    "release": lambda r: r.release("other", "a1"),
    "leave a stream": lambda r: r.release("other", "a1", left=True),
    "find": lambda r: r.find(["foyer"]),
    "claim_of": lambda r: r.claim_of("foyer"),
    "check": lambda r: r.check(),
}


@pytest_asyncio.fixture
async def gate(double: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    async with Gate(double) as opened:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", opened.url)
        yield opened


@pytest.mark.parametrize("how", [*at_night("cut"), "hush"])
async def test_every_call_raises_store_unavailable_during_an_outage_and_works_afterwards(
    gate: Gate, double: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_aws("this test") as session:
        registry = DynamoRegistry(session, SESSIONS)
        await registry.join(node())
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", double)  # for the test's own client
        monkeypatch.setattr(aws_session, "CALL_TIMEOUT", 0.3 if how == "hush" else aws_session.CALL_TIMEOUT)
        if how == "cut":
            await gate.cut()
        else:
            gate.hush()
        for name, call in CALLS.items():
            with pytest.raises(StoreUnavailable, match=r"dynamodb \(table video-streaming\)"):
                await call(registry)
                pytest.fail(f"{name} was done")
        await gate.open()
        monkeypatch.setattr(aws_session, "CALL_TIMEOUT", 6.0)
        for call in CALLS.values():
            await call(registry)
        assert await registry.find(["foyer"]) == {"foyer": holding()}


async def test_a_claim_with_a_lost_response_succeeds_when_it_is_repeated(
    gate: Gate, double: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write succeeds, but the response is lost. The holder repeats the same claim."""
    async with open_aws("this test") as session:
        registry = DynamoRegistry(session, SESSIONS)
        await registry.check()
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", double)
        monkeypatch.setattr(aws_session, "CALL_TIMEOUT", 0.5)
        gate.hush(answers=True)
        with pytest.raises(StoreUnavailable):
            await registry.claim(holding(), ITEM)
        # A busy double writes after the time limit of the call.
        await until_in_thread(lambda: (row("foyer") or {}).get("claim") == {"S": "a1"}, "the claim is stored")
        await gate.open()
        await registry.claim(holding(), ITEM)
        assert await registry.claim_of("foyer") == holding()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A service that accepts and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield int(listener.getsockname()[1])


async def test_many_calls_to_a_silent_service_all_fail_in_time(
    aws: str, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more calls than connections. Calls that wait for a connection have a time limit, too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://127.0.0.1:{silent_port}")
    monkeypatch.setattr(aws_session, "CALL_TIMEOUT", 0.5)
    async with open_aws("this test") as session:
        registry = DynamoRegistry(session, SESSIONS)
        async with asyncio.timeout(at_most(8)):
            told = await asyncio.gather(*(registry.find([f"c{n}"]) for n in range(100)), return_exceptions=True)
    assert {type(answer) for answer in told} == {StoreUnavailable}
