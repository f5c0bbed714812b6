"""Requests of publishers to an edge: a gateway answers them, within a rate limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.cluster.members.peers import Peers
from gateway.http.request import Request
from gateway.lib.refusals import Refusals
from gateway.lib.tasks import Tasks
from gateway.playback.play_format import AnswerOrAwaitable
from proxy.edge.gateways import Gateways, configured_gateways
from proxy.edge.publishers import PublisherRequests
from tests.support.holder import Holder, answer, holding
from tests.support.http import Listener, serving

PORTS = '{"host": "push.example.com", "ws": 8081, "wss": 8444}'


@asynccontextmanager
async def edge(limit: int = 0) -> AsyncIterator[tuple[Listener, Holder, Holder]]:
    async with holding() as a, holding() as b, Peers("cluster") as peers, Tasks("test") as tasks:
        gateways = Gateways(configured_gateways([a.place.address, b.place.address]))
        publishers = PublisherRequests(gateways, peers, tasks, Refusals(limit))

        def respond(request: Request) -> AnswerOrAwaitable:
            if request.method == "POST":
                return publishers.obs(request, "c1")
            if request.path == "/broadcast.json":
                return publishers.ports(request)
            return publishers.servers(request, "c1")

        async with serving(respond, hidden=("POST", "PUT")) as listener:
            yield listener, a, b


async def test_push_ports_are_requested_once_for_all_pages() -> None:
    async with edge() as (listener, a, b):
        for holder in (a, b):
            holder.says[".node/push-ports"] = answer(PORTS, "application/json")
        told = [await listener.get("/broadcast.json") for _ in range(5)]
        assert {(reply.status, reply.text) for reply in told} == {(200, PORTS)}
        assert len(a.asked) + len(b.asked) == 1


async def test_other_gateways_are_asked_if_one_does_not_know_the_key() -> None:
    async with edge() as (listener, a, b):
        for knowing, other in ((a, b), (b, a)):
            knowing.says[".node/push-servers/c1"] = answer("[]", "application/json")
            other.says[".node/push-servers/c1"] = answer("a valid stream key is needed", status="403 Forbidden")
            for _ in range(2):
                assert (await listener.get("/_servers/c1?sign=1-a")).status == 200
        assert ".node/push-servers/c1?sign=1-a" in a.asked
        a.says[".node/push-servers/c1"] = b.says[".node/push-servers/c1"] = answer("no", status="403 Forbidden")
        assert (await listener.get("/_servers/c1?sign=1-a")).status == 403
        assert (await listener.get("/_servers/c1", "PUT")).status == 405
        assert (await listener.get("/_servers/c1?x=%ff&sign=%C3%A4%26a")).status == 403
        assert a.asked[-1] == ".node/push-servers/c1?sign=%C3%A4%26a"


async def test_without_a_gateway_publishers_get_503_with_retry_after() -> None:
    async with edge() as (listener, a, b):
        await a.close()
        await b.close()
        for path in ("/broadcast.json", "/_servers/c1?sign=1-a"):
            reply = await listener.get(path)
            assert (reply.status, "retry-after" in reply.headers) == (503, True)


async def test_an_address_with_too_many_wrong_keys_gets_429() -> None:
    async with edge(limit=3) as (listener, a, b):
        statuses = [(await listener.get("/_servers/c1?sign=1-a")).status for _ in range(5)]
        assert statuses == [404, 404, 404, 429, 429]
        assert len(a.asked) + len(b.asked) == 6
        assert (await listener.get("/c1/GetClientConfiguration", "POST")).status == 429
