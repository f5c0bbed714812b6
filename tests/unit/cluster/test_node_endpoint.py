"""The endpoint for other nodes: authentication, and limits for invalid requests."""

from __future__ import annotations

import asyncio
import time

import pytest
import structlog

from gateway.cluster.members.node_address import NodeAddress, PeerRefused
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams.pull import PullLink
from gateway.http.request import Request
from gateway.http.response import Response, text
from gateway.lib.tasks import Tasks
from gateway.protocols import nodes, wire
from gateway.protocols.wire import StreamMessage
from tests.support.builders import Recorder
from tests.support.holders import SECRET, Holder, Known, Taken, holder, puller
from tests.support.time_outs import at_most
from tests.support.waiting import until


async def raw(one: Holder, request: str, behind: bytes = b"") -> bytes:
    """Sends the head of a request and returns the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(request.encode() + behind)
    try:
        async with asyncio.timeout(at_most(5)):
            return await reader.read(-1)
    finally:
        writer.close()


def signed(method: str, target: str, *more: str, secret: str = SECRET) -> str:
    head = [
        f"{method} {target} HTTP/1.1",
        "Host: a",
        f"X-Millrace-Node: {nodes.sign(secret, method, target, time.time())}",
    ]
    return "\r\n".join([*head, *more, "Connection: close", "", ""])


@pytest.mark.parametrize("target", ["/_node/c1", "/_node/c1/live.m3u8", "/_node/.node/echo"])
async def test_a_request_without_a_signature_is_refused(target: str) -> None:
    async with holder() as one:
        one.live()
        answer = await raw(one, f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 401 ")


async def test_wrong_signatures_of_an_address_are_limited_and_right_ones_are_not() -> None:
    async with holder(refusals=3) as one:
        one.live()
        wrong = signed("GET", "/_node/c1/x", secret="another secret of a cluster")
        answers = [await raw(one, wrong) for _ in range(5)]
        assert [answer[9:12] for answer in answers] == [b"401"] * 3 + [b"429"] * 2
        assert b"\r\nRetry-After: " in answers[-1]
        assert (await raw(one, "GET /_node/c1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))[9:12] == b"429"
        assert (await raw(one, signed("GET", "/_node/c1/x")))[9:12] == b"200"
        assert one.endpoint.authenticator.refused == {"wrong": 3, "limited": 3}


async def test_a_node_with_a_wrong_clock_gets_the_time_and_is_not_limited() -> None:
    off = [0.0]
    async with holder(refusals=1, clock=lambda: time.time() + off[0]) as one:
        off[0] = 3600.0
        answers = [await raw(one, signed("GET", "/_node/c1/x")) for _ in range(4)]
        assert all(answer.startswith(b"HTTP/1.1 401 ") and b"\r\nDate: " in answer for answer in answers)
        assert one.endpoint.authenticator.refused == {"skew": 4}


async def test_refusals_of_nodes_are_logged_once_in_a_while() -> None:
    async with holder() as one:
        with structlog.testing.capture_logs() as lines:
            for _ in range(5):
                await raw(one, signed("GET", "/_node/c1", secret="another secret of a cluster"))
    assert [(line["event"], line["reason"]) for line in lines] == [("node refused", "wrong")]


async def test_a_node_without_a_secret_refuses_all_nodes() -> None:
    async with holder(secret="") as one:
        one.live()
        assert (await raw(one, signed("GET", "/_node/c1", secret=""))).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("target", ["/_node/", "/_node/c%201", "/_node/c1@", "/_node/.node/", "/_node/.node/none"])
async def test_invalid_names_are_not_found(target: str) -> None:
    async with holder() as one:
        assert (await raw(one, signed("GET", target))).startswith(b"HTTP/1.1 404 ")


async def test_nodes_get_the_same_files_as_players() -> None:
    async with holder() as one:
        one.live()
        assert (await raw(one, signed("GET", "/_node/c1/live.m3u8?a=b"))).endswith(b"\r\n\r\nc1 live.m3u8\n")


async def test_an_operation_gets_the_rest_of_the_path() -> None:
    async def echo(request: Request, rest: str) -> Response:
        return text(200, f"{request.method} {rest} {request.query['a']}")

    async with holder(operations={"echo": echo}) as one, Peers(SECRET) as peers:
        assert await peers.ask(one.place(), "POST", "/_node/.node/echo/c1?a=%20b") == b"POST c1  b\n"
        with pytest.raises(PeerRefused) as refused:
            await peers.ask(one.place(), "GET", "/_node/.node/other")
        assert refused.value.status == 404


async def test_a_push_of_units_needs_an_upgrade_request() -> None:
    async with holder() as one:
        one.live()
        assert (await raw(one, signed("POST", "/_node/c1"))).startswith(b"HTTP/1.1 426 ")


def push_head(target: str = "/_node/c1?protocol=rtmp&peer=a") -> str:
    head = [f"POST {target} HTTP/1.1", "Host: a", f"X-Millrace-Node: {nodes.sign(SECRET, 'POST', target, time.time())}"]
    return "\r\n".join([*head, "Connection: Upgrade", f"Upgrade: {nodes.UPGRADE}", "", ""])


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\0\0\0\0\0",
        b"\xff\xff\xff\xff\x01",
        wire.frame(StreamMessage.UNIT, b"short"),
        wire.frame(StreamMessage.UNIT, b"\0\1" + bytes(27)),
        wire.frame(StreamMessage.TRACKS, b"\0\1{}"),
        wire.frame(StreamMessage.TRACKS, b"\0\1not JSON"),
        wire.frame(StreamMessage.TIMED, b"\0\1" + bytes(8) + b"\xff\xff"),
    ],
)
async def test_a_node_that_pushes_invalid_data_is_disconnected_and_the_stream_stays(rubbish: bytes) -> None:
    async with holder() as one:
        publisher = one.live()
        stream, viewer = publisher.stream, Recorder()
        stream.attach(viewer)
        publisher.close()
        answer = await raw(one, push_head(), rubbish)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert one.hub.find("c1") is stream
        assert stream.publisher is None
        assert viewer.ended is None


async def test_a_stream_of_a_sibling_is_passed_on_as_units_and_as_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cluster.streams.replicas.IDLE_SECONDS", 0.1)
    async with holder() as inner:

        async def held(name: str) -> NodeAddress | None:
            return inner.place()

        async with holder(held=held) as outer, puller(Known(outer.place())) as two:
            publisher, here = inner.live(), Recorder()
            replica = await two.replicas.wait("c1", 5)
            replica.playback.uses += 1
            replica.attach(here)
            for _ in range(50):
                inner.push(publisher, size=20_000)
            await until(lambda: len(here.units) == 102)
            assert (inner.pulls, outer.pulls) == (1, 1)
            async with Peers(SECRET) as peers:
                assert await peers.ask(outer.place(), "GET", "/_node/c1/live.m3u8?x=1") == b"c1 live.m3u8\n"
            replica.playback.uses = 0
            outer.cut()
            await until(lambda: inner.pulls <= 1)


async def test_a_sibling_does_not_pass_a_request_on_again() -> None:
    places: list[NodeAddress] = []

    async def held(name: str) -> NodeAddress | None:
        return places[0]

    async with holder(held=held) as one, holder(held=held) as other, Peers(SECRET) as peers:
        places.append(other.place())
        for target in ("/_node/c1", "/_node/c1/live.m3u8"):
            with pytest.raises(PeerRefused) as refused:
                await peers.ask(one.place(), "GET", target)
            assert refused.value.status == 404


async def test_nodes_have_no_limit_per_address() -> None:
    async with holder(server={"per_address": 2}) as one, Peers(SECRET) as peers, Tasks("nodes") as tasks:
        one.live()
        links = [await peers.link(one.place(), "GET", "/_node/c1", lambda: PullLink(Taken(), "c1")) for _ in range(5)]
        asked = [tasks.start(peers.ask(one.place(), "GET", "/_node/c1/live.m3u8")) for _ in range(20)]
        assert {await task for task in asked} == {b"c1 live.m3u8\n"}
        assert len(one.server) >= 5
        answers = [await raw(one, "GET /_node/c1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") for _ in range(3)]
        assert all(a.startswith(b"HTTP/1.1 401 ") for a in answers), "strangers are counted, and there were none"
        for link in links:
            link.close()
