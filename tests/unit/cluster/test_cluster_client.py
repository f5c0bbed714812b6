"""Requests to other nodes: valid answers, limits of time and size, and invalid answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.cluster.calls import cluster_client as module
from gateway.cluster.calls.cluster_client import ClusterClient
from gateway.cluster.members.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.lib.bounded_json import MAX_NUMBER
from gateway.ports.cluster_queries import HOLDER, ForwardedRequest
from gateway.ports.errors import HolderUnavailable
from gateway.ports.nodes import Node, NodeRole, StreamClaim
from tests.support.sharing import Directory
from tests.support.waiting import until

OF_API = {HOLDER: "g1"}


@dataclass
class Answer:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    pieces: int = 1  # below 0: the connection breaks off after them

    def close(self) -> None: ...

    @property
    def content(self) -> Answer:
        return self

    async def read(self, size: int) -> bytes:
        return self.body[:size]

    async def iter_any(self) -> AsyncIterator[bytes]:
        for _ in range(abs(self.pieces)):
            yield self.body
        if self.pieces < 0:
            raise ConnectionResetError("closed")


@dataclass
class Wires:
    """The answers of nodes, by id. asked: (node, method, target) of each request."""

    answers: dict[str, Answer | Exception | asyncio.Event] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    at_once: int = 0
    most: int = 0
    ask = Peers.ask

    @contextlib.asynccontextmanager
    async def request(
        self, place: NodeAddress, method: str, target: str, *, seconds: float, body: bytes = b""
    ) -> AsyncIterator[Any]:
        self.asked.append((place.id, method, target))
        if body:
            self.bodies.append(body)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            answer = self.answers.get(place.id, Answer(body=b""))
            if isinstance(answer, asyncio.Event):
                await answer.wait()
                answer = Answer(body=b"")
            if isinstance(answer, Exception):
                raise answer
            await asyncio.sleep(0)
            yield answer
        finally:
            self.at_once -= 1


class Known:
    """A locator that knows the streams of a directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.lost_names: list[str] = []

    def known(self, name: str) -> NodeAddress | None:
        return None

    async def find(self, name: str) -> NodeAddress | None:
        held = (await self._directory.find([name])).get(name)
        return None if held is None else NodeAddress(held.node, held.address, held.id)

    def invalidate(self, name: str, place: NodeAddress) -> None:
        self.lost_names.append(name)


@dataclass
class Rig:
    cluster: ClusterClient
    directory: Directory
    wires: Wires
    where: Known
    now: list[float]

    def holds(self, node: str, stream: str = "c1") -> None:
        self.directory.held[stream] = StreamClaim(stream, node, "192.0.2.1:8080", "claim", 0)
        self.directory.members.setdefault(node, Node(node, NodeRole.GATEWAY, "192.0.2.1:8080", 1))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    directory, wires, now = Directory(), Wires(), [1000.0]
    where = Known(directory)
    directory.members["h.1"] = Node("h.1", NodeRole.GATEWAY, "192.0.2.9:8080", 1)
    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    siblings = lambda: {"h.2": "/run/h.2.sock"}  # noqa: E731
    async with ClusterClient("h.1", directory, where, cast(Peers, wires), siblings=siblings, clock=clock) as one:
        yield Rig(one, directory, wires, where, now)


def wanted(method: str = "GET", *, seconds: float = 5.0) -> ForwardedRequest:
    return ForwardedRequest(method, "/videostream/c1/session?a=b%26c", '{"name":"an&na"}', b"the body", seconds)


async def forward(rig: Rig, request: ForwardedRequest | None = None) -> tuple[int, bytes] | None:
    async with rig.cluster.forward("c1", request or wanted()) as answer:
        return None if answer is None else (answer.status, b"".join([chunk async for chunk in answer.body]))


async def test_a_forwarded_request_has_the_node_and_an_escaped_query(rig: Rig):
    rig.holds("g1")
    rig.wires.answers["g1"] = Answer(201, b"abc", OF_API, pieces=3)
    assert await forward(rig, wanted("DELETE")) == (201, b"abcabcabc")
    query = (
        "method=DELETE&target=%2Fvideostream%2Fc1%2Fsession%3Fa%3Db%2526c&sender=%7B%22name%22%3A%22an%26na%22%7D&to=g1"
    )
    assert rig.wires.asked == [("g1", "POST", f"/_node/.node/forwarded?{query}")]
    for method in ("GET", "HEAD"):
        await forward(rig, wanted(method))
        assert rig.wires.asked[-1][1] == method
    assert rig.wires.bodies == [b"the body"] * 3


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"), (302, b'{"error":"there"}'), (401, b"not signed"), (413, b"too large"),
        (404, b"this node knows no operation forwarded\n"), (500, b"something went wrong"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_of_the_api_is_refused(rig: Rig, status: int, body: bytes):
    rig.holds("g1")
    rig.wires.answers["g1"] = Answer(status, body)
    with pytest.raises(HolderUnavailable, match="invalid answer") as refused:
        await forward(rig)
    assert refused.value.retry_after == 2


async def test_an_answer_that_breaks_off_raises_an_error(rig: Rig):
    rig.holds("g1")
    rig.wires.answers["g1"] = Answer(200, b"abc", OF_API, pieces=-1)
    with pytest.raises(PeerUnavailable, match="closed"):
        await forward(rig)


async def test_numbers_in_the_answer_of_a_node_are_bounded(rig: Rig):
    rig.holds("g1")
    rig.wires.answers["g1"] = Answer(200, b'{"bitrate":NaN,"since":1e999,"viewers":{"flv":%b}}' % (b"9" * 5000))
    found = {"bitrate": 0.0, "since": MAX_NUMBER, "viewers": {"flv": MAX_NUMBER}}
    assert (await rig.cluster.ask_all("sessions")).answers["g1"] == [found]


async def test_an_answer_above_the_size_limit_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MAX_LINES_BYTES", 1000)
    rig.holds("g1")
    rig.wires.answers["g1"] = Answer(body=b"x" * 100, pieces=10**9)
    assert (await rig.cluster.ask_all("sessions")).silent == ("g1",)


async def test_a_holder_that_answers_too_late_counts_as_unavailable(rig: Rig):
    rig.holds("g1")
    rig.wires.answers["g1"] = asyncio.Event()
    with pytest.raises(HolderUnavailable, match="the node that holds c1 does not answer"):
        await forward(rig, wanted(seconds=0.02))
    assert rig.where.lost_names == ["c1"]


async def test_a_holder_that_has_lost_the_stream_is_looked_up_once_more(rig: Rig):
    rig.holds("g1")
    rig.wires.answers["g1"] = Answer(421, b'{"error":"c1 is not held here"}')
    assert await forward(rig) is None
    assert [node for node, _, _ in rig.wires.asked] == ["g1", "g1"]
    assert rig.where.lost_names == ["c1", "c1"]


async def test_a_claim_unknown_to_the_locator_is_found_in_the_registry(rig: Rig):
    rig.holds("g1")
    rig.where.find = lambda name: asyncio.sleep(0, None)  # type: ignore[method-assign]
    rig.wires.answers["g1"] = Answer(headers=OF_API)
    assert await forward(rig) == (200, b"{}")
    held = rig.directory.held["c1"]
    rig.directory.held["c1"] = StreamClaim("c1", held.node, held.address, held.id, 0, left=True)
    assert await forward(rig) is None


async def test_no_node_is_asked_for_a_stream_of_this_node(rig: Rig):
    rig.holds("h.1")
    assert await forward(rig) is None
    assert rig.wires.asked == []


async def test_sibling_processes_are_asked_over_their_sockets_also_without_a_registry(rig: Rig):
    heard = await rig.cluster.ask_all("sessions")
    assert heard.answers == {"h.2": []}
    async with ClusterClient(
        "h.1", None, rig.where, cast(Peers, rig.wires), siblings=lambda: {"h.2": "/run/h.2.sock"}
    ) as alone:
        assert [(node.id, node.address) for node in await alone.nodes()] == [("h.2", "unix:/run/h.2.sock")]
        assert (await alone.ask_all("sessions")).answers == {"h.2": []}
        await alone.changed("c1")
        await until(lambda: ("h.2", "POST", "/_node/.node/changed/c1?to=h.2") in rig.wires.asked)


@pytest.mark.parametrize(
    "answer",
    [Answer(500, b"no"), Answer(body=b"{}\nnot json"), Answer(body=b"{}\n[]"), Answer(body=b'"x"'),
     PeerUnavailable(NodeAddress("g1", ""), "gone"), Answer(body=b"x" * 1000, pieces=10**9)],
)  # fmt: skip
async def test_a_node_that_cannot_answer_is_left_out(rig: Rig, answer: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MAX_LINES_BYTES", 100_000)
    rig.holds("g1")
    rig.directory.members["g2"] = Node("g2", NodeRole.GATEWAY, "192.0.2.2:8080", 1)
    rig.wires.answers |= {"g1": answer, "g2": Answer(body=b'{"id":"c2"}\n{"id":"c3"}')}
    heard = await rig.cluster.ask_all("sessions")
    assert heard.answers == {"h.2": [], "g2": [{"id": "c2"}, {"id": "c3"}]}
    assert heard.silent == ("g1",)


async def test_a_slow_node_does_not_delay_the_answer(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_NODE_SECONDS", 0.02)
    rig.holds("g1")
    rig.wires.answers["g1"] = asyncio.Event()
    assert (await rig.cluster.ask_all("sessions")).silent == ("g1",)


async def test_a_hundred_nodes_are_asked_a_few_at_a_time(rig: Rig):
    for number in range(100):
        rig.directory.members[f"g{number}"] = Node(f"g{number}", NodeRole.GATEWAY, "192.0.2.1:1", 1)
    assert len((await rig.cluster.ask_all("sessions")).answers) == 101
    assert 1 < rig.wires.most <= module._MAX_CONCURRENT


async def test_edges_and_workers_are_not_asked_for_streams(rig: Rig):
    rig.directory.members["e1"] = Node("e1", NodeRole.EDGE, "192.0.2.3:8080", 1)
    rig.directory.members["w1"] = Node("w1", NodeRole.WORKER, "", 1)
    await rig.cluster.ask_all("sessions")
    assert {node for node, _, _ in rig.wires.asked} == {"h.2"}
    rig.wires.answers["e1"] = Answer(body=b'{"streams":2}')
    assert (await rig.cluster.ask_all("node")).answers["e1"] == [{"streams": 2}]
    assert "w1" not in {node for node, _, _ in rig.wires.asked}


async def test_the_list_of_nodes_is_cached_also_while_the_registry_is_unavailable(rig: Rig):
    for _ in range(10):
        assert [node.id for node in await rig.cluster.nodes()] == ["h.1", "h.2"]
    assert rig.directory.read == 1
    rig.directory.away = True
    rig.now[0] += 5
    assert [node.id for node in await rig.cluster.nodes()] == ["h.1", "h.2"]


async def test_a_change_is_sent_to_the_holder_first_and_then_to_all_caches(rig: Rig):
    rig.holds("g1")
    rig.directory.members["e1"] = Node("e1", NodeRole.EDGE, "192.0.2.3:8080", 1)
    await rig.cluster.changed("c1")
    assert rig.wires.asked == [("g1", "POST", "/_node/.node/changed/c1?to=g1")]
    await until(lambda: len(rig.wires.asked) == 3)
    assert {node for node, _, _ in rig.wires.asked[1:]} == {"e1", "h.2"}


async def test_changes_that_cannot_be_sent_in_time_are_dropped(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MAX_CHANGES", 3)
    held = asyncio.Event()
    rig.wires.answers["h.2"] = held
    await rig.cluster.changed("c0")
    await until(lambda: rig.wires.asked)
    for number in range(1, 10):
        await rig.cluster.changed(f"c{number}")
    held.set()
    await until(lambda: len(rig.wires.asked) == 4)
    assert [target.partition("?")[0].rpartition("/")[2] for _, _, target in rig.wires.asked] == ["c0", "c1", "c2", "c3"]
    late = rig.wires.answers["h.2"] = asyncio.Event()
    await rig.cluster.changed("c5")
    await until(lambda: len(rig.wires.asked) == 5)
    await rig.cluster.changed("c6")
    rig.now[0] += 60
    late.set()
    await rig.cluster.changed("c7")
    await until(lambda: rig.wires.asked[-1][2].startswith("/_node/.node/changed/c7"))
    assert len(rig.wires.asked) == 6
