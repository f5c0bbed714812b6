"""The admin API of one node in a cluster: requests about streams that another node holds."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aiohttp import ClientError, web

from gateway.api import forwarding
from gateway.api.answers import is_connected, send_stream
from gateway.api.authenticators import USER
from gateway.api.channels import author
from gateway.api.console import _MAX_SERVERS
from gateway.api.context import CONTEXT
from gateway.api.route import Route, operation
from gateway.api.routes import ROUTES
from gateway.channels.addresses import OpenPorts
from gateway.live.sink import EndReason
from gateway.ports.cluster_queries import ForwardedRequest, HolderAnswer
from gateway.ports.errors import OutputError
from gateway.ports.events import Event, EventType
from gateway.ports.nodes import ALIVE_SECONDS, Node, NodeRole
from tests.support.admin import FAR, PORTS
from tests.support.builders import picture
from tests.support.http import SECONDS
from tests.support.sharing import Directory, Member, member
from tests.support.time_outs import at_most
from tests.support.waiting import until


@dataclass
class Pair:
    """Two nodes: `here` gets the requests, `there` holds the streams."""

    here: Member
    there: Member
    directory: Directory


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    directory = Directory()
    async with member("b2", tmp_path, directory, since=2) as here, member("a1", tmp_path, directory, since=1) as there:
        yield Pair(here, there, directory)


async def stop(gone: Member) -> None:
    """Stops the node's listener, like a killed process. Its registry rows stay."""
    await gone.server.close()


@contextlib.asynccontextmanager
async def silence() -> AsyncIterator[str]:
    """Yields an address that accepts connections and closes them, so the state of its node is unknown."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


# ---- sessions ----


async def test_a_session_is_shown_by_every_node(pair: Pair):
    item = await pair.here.api.create(videoname="stage")
    publisher = await pair.there.push(item["id"])
    publisher.push(picture(0, key=True), time.monotonic())
    publisher.stream.viewers["flv"] += 3
    path = f"/videostream/{item['id']}/session"
    asked = await pair.here.api.json("GET", path)
    assert (asked["state"], asked["node"], asked["viewers"]["flv"]) == ("live", "a1", 3)
    held = await pair.there.api.json("GET", path)
    assert held["node"] == "a1"
    assert held.keys() == asked.keys()


async def test_the_holder_shows_an_observer_of_another_node_no_keys(pair: Pair):
    item = await pair.here.api.create(inputs=[{"name": "spare", "kind": "backup"}])
    path = f"/videostream/{item['id']}/inputs"
    await pair.there.push(item["id"])
    states = [one["state"] for one in await pair.here.api.json("GET", path)]
    assert states == ["on air", "off"]  # those of the holder
    token = (await pair.here.api.json("POST", "/tokens", {"name": "watch", "role": "observer"}))["token"]
    shown = await (await pair.here.api.call("GET", path, token=token)).json()
    assert [one["name"] for one in shown] == ["main", "spare"]
    assert all(not {"key", "pushUrl", "pushUrls"} & set(one) for one in shown)
    assert (await pair.here.api.call("DELETE", f"/videostream/{item['id']}/session", token=token)).status == 403


async def test_a_channel_without_a_holder_is_idle_on_every_node(pair: Pair):
    item = await pair.here.api.create()
    found = await pair.here.api.json("GET", f"/videostream/{item['id']}/session")
    assert found["state"] == "idle" and "node" not in found
    await pair.here.api.json("DELETE", f"/videostream/{item['id']}/session", status=404)
    await pair.here.api.json("GET", "/videostream/unknown/session", status=404)
    assert pair.there.asked == ["told"]


async def test_a_kick_reaches_the_holder(pair: Pair):
    item = await pair.here.api.create()
    evicted: list[EndReason] = []
    await pair.there.push(item["id"], evicted)
    assert (await pair.here.api.json("DELETE", f"/videostream/{item['id']}/session"))["state"] == "idle"
    assert evicted == [EndReason.KICKED]
    await pair.here.api.json("DELETE", f"/videostream/{item['id']}/session", status=404)
    assert (await pair.here.api.json("GET", f"/videostream/{item['id']}/session"))["state"] == "idle"


async def test_an_output_is_switched_at_the_holder(pair: Pair):
    item = await pair.here.api.create()
    path = f"/videostream/{item['id']}/outputs"
    assert "not live" in (await pair.here.api.json("POST", f"{path}/hls", {"enabled": True}, status=409))["error"]
    publisher = await pair.there.push(item["id"])
    await asyncio.sleep(0)
    answer = await pair.here.api.json("POST", f"{path}/hls", {"enabled": True})
    assert answer == {"name": "hls", "enabled": True, "state": "running", "error": None}
    assert publisher.stream.outputs is not None and publisher.stream.outputs.enabled("hls")
    assert (await pair.here.api.json("POST", f"{path}/flv", {"enabled": "false"}))["state"] == "off"


async def test_a_refusal_by_the_holder_keeps_its_status_and_text(pair: Pair):
    item = await pair.here.api.create()
    await pair.there.push(item["id"])
    path = f"/videostream/{item['id']}/outputs/vhs"
    asked = await pair.here.api.json("POST", path, {"enabled": True}, status=404)
    assert asked == await pair.there.api.json("POST", path, {"enabled": True}, status=404)
    assert "flv, hls" in asked["error"]


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("DELETE", None), ("POST", {"enabled": True})])
async def test_an_unreachable_holder_gives_503_with_retry_after(pair: Pair, method: str, body: object):
    item = await pair.here.api.create()
    await pair.there.push(item["id"])
    await stop(pair.there)
    path = f"/videostream/{item['id']}/{'outputs/flv' if body else 'session'}"
    for _ in range(3):
        response = await pair.here.api.call(method, path, body)
        assert response.status == 503, await response.text()
        assert 0 < int(response.headers["Retry-After"]) <= 5
        assert item["id"] in (await response.json())["error"]


async def test_a_stream_of_a_dead_holder_becomes_idle(tmp_path: Path):
    now = 1000.0
    directory = Directory()
    async with member("b2", tmp_path, directory, clock=lambda: now) as here, member("a1", tmp_path, directory) as there:
        item = await here.api.create()
        await there.push(item["id"])
        await stop(there)
        assert (await here.api.call("GET", f"/videostream/{item['id']}/session")).status == 503
        now += ALIVE_SECONDS
        assert (await here.api.json("GET", f"/videostream/{item['id']}/session"))["state"] == "idle"


async def test_an_outdated_registry_row_with_a_reused_address_is_ignored(pair: Pair):
    """Another node has this address now."""
    item = await pair.here.api.create()
    await pair.there.push(item["id"])
    held = pair.directory.held[item["id"]]
    pair.directory.held[item["id"]] = replace(held, node="z9")
    assert (await pair.here.api.json("GET", f"/videostream/{item['id']}/session"))["state"] == "idle"


async def test_a_request_about_a_local_stream_is_not_forwarded(pair: Pair):
    item = await pair.here.api.create()
    await pair.here.push(item["id"])
    await pair.here.api.json("GET", f"/videostream/{item['id']}/session")
    await pair.here.api.json("DELETE", f"/videostream/{item['id']}/session")
    assert pair.there.asked == ["told"]


async def test_a_session_has_the_refusals_of_all_nodes_the_newest_first(pair: Pair):
    item = await pair.here.api.create()
    refuse(pair.here, item["id"], "missing", 1)
    refuse(pair.there, item["id"], "wrong", 2)
    refuse(pair.there, "another", "wrong", 3)
    path = f"/videostream/{item['id']}/session"
    for reasons in (["wrong", "missing"], ["revoked", "wrong", "missing"]):
        found = (await pair.here.api.json("GET", path))["refusals"]
        assert [refusal["reason"] for refusal in found] == reasons
        refuse(pair.here, item["id"], "revoked", 4)
    await pair.here.push(item["id"])
    assert len((await pair.here.api.json("GET", path))["refusals"]) == 4
    assert pair.there.asked == ["told"], "asked once a second, however often sessions are read"


def refuse(member: Member, channel: str, reason: str, time: float) -> None:
    data = {"peer": "192.0.2.7", "protocol": "rtmp", "reason": "NotAuthorized", "refusal": reason}
    member.api.events.emit(Event(EventType.PUBLISH_REFUSED, 1_700_000_000 + time, channel, data))


async def test_without_the_registry_only_local_streams_are_available(pair: Pair):
    mine, other = await pair.here.api.create(), await pair.here.api.create()
    await pair.here.push(mine["id"])
    pair.directory.away = True
    assert (await pair.here.api.json("GET", f"/videostream/{mine['id']}/session"))["state"] == "live"
    response = await pair.here.api.call("GET", f"/videostream/{other['id']}/session")
    assert (response.status, response.headers["Retry-After"]) == (503, "3")
    assert [one["id"] for one in await pair.here.api.json("GET", "/videostreams/online")] == [mine["id"]]


# ---- everything that is live ----


async def test_online_has_the_sessions_of_all_nodes(pair: Pair):
    mine, other = await pair.here.api.create(videoname="mine"), await pair.here.api.create(videoname="other")
    await pair.here.push(mine["id"])
    await pair.there.push(other["id"])
    online = await pair.here.api.json("GET", "/videostreams/online")
    assert [(one["videoname"], one["node"]) for one in online] == [("mine", "b2"), ("other", "a1")]


async def test_a_node_that_does_not_answer_is_omitted_and_named(pair: Pair):
    mine = await pair.here.api.create()
    await pair.here.push(mine["id"])
    await stop(pair.there)
    response = await pair.here.api.call("GET", "/videostreams/online")
    assert response.status == 200
    assert [one["id"] for one in await response.json()] == [mine["id"]]
    assert response.headers["X-Millrace-Silent"] == "a1"


async def test_a_node_that_refused_an_earlier_request_is_named_until_it_is_dead(pair: Pair):
    await stop(pair.there)
    for path in ("/api/streams", "/videostreams/online", "/servers"):
        response = await pair.here.api.call("GET", path)
        assert response.headers.get("X-Millrace-Silent") == "a1", path


async def test_a_stream_that_two_nodes_have_is_listed_once(pair: Pair):
    item = await pair.here.api.create()
    left = await pair.here.push(item["id"])
    left.close()
    await pair.there.push(item["id"])
    online = await pair.here.api.json("GET", "/videostreams/online")
    assert [(one["state"], one["node"]) for one in online] == [("live", "a1")]


async def test_nodes_are_queried_once_a_second_for_any_number_of_requests(pair: Pair):
    await asyncio.gather(*(pair.here.api.json("GET", "/videostreams/online") for _ in range(20)))
    await pair.here.api.json("GET", "/videostreams/online")
    assert pair.there.asked == ["sessions"]


async def test_a_change_is_visible_in_the_next_answer(pair: Pair):
    item = await pair.here.api.create()
    await pair.there.push(item["id"])
    assert len(await pair.here.api.json("GET", "/videostreams/online")) == 1
    await pair.here.api.json("DELETE", f"/videostream/{item['id']}/session")
    assert await pair.here.api.json("GET", "/videostreams/online") == []


async def test_the_node_media_server_routes_know_all_nodes(pair: Pair):
    mine, other = await pair.here.api.create(), await pair.here.api.create()
    await pair.here.push(mine["id"])
    publisher = await pair.there.push(other["id"])
    publisher.stream.viewers["rtmp"] += 2
    found = await pair.here.api.json("GET", "/api/streams")
    assert found["stream"].keys() == {mine["id"], other["id"]}
    assert found["stream"][other["id"]]["publisher"]["video"]["codec"] == "H264"
    path = f"/api/streams/stream/{other['id']}"
    asked, held = await pair.here.api.json("GET", path), await pair.there.api.json("GET", path)
    assert (asked["isLive"], asked["viewers"], asked["startTime"]) == (True, 2, held["startTime"])
    assert asked.keys() == held.keys()


# ---- changes of channels ----


async def test_a_changed_channel_is_followed_at_its_holder_at_once(pair: Pair):
    item = await pair.here.api.create()
    publisher = await pair.there.push(item["id"])
    await asyncio.sleep(0)
    assert publisher.stream.outputs is not None
    await pair.here.api.json("PUT", f"/videostream/{item['id']}", {"isHls": True, "outdate": "2091-01-01"})
    assert publisher.stream.outputs.enabled("hls")
    assert publisher.stream.channel.key == (await pair.here.api.store.get(item["id"])).key != item["key"]
    assert item["id"] in pair.there.api.forgotten


async def test_a_deleted_channel_ends_at_its_holder_at_once(pair: Pair):
    item = await pair.here.api.create()
    evicted: list[EndReason] = []
    await pair.there.push(item["id"], evicted)
    await pair.here.api.json("DELETE", f"/videostream/{item['id']}")
    assert evicted == [EndReason.DELETED]


async def test_the_caches_of_all_nodes_forget_a_changed_channel(pair: Pair):
    item = await pair.here.api.create()
    await pair.here.api.json("PUT", f"/videostream/{item['id']}", {"videoname": "new"})
    await until(lambda: item["id"] in pair.there.api.forgotten)


async def test_an_unreachable_holder_does_not_prevent_a_change(pair: Pair):
    item = await pair.here.api.create()
    await pair.there.push(item["id"])
    await stop(pair.there)
    changed = await pair.here.api.json("PUT", f"/videostream/{item['id']}", {"videoname": "new"})
    assert changed["videoname"] == "new"
    pair.directory.away = True
    assert await pair.here.api.json("DELETE", f"/videostream/{item['id']}") == "stream deleted"


# ---- nodes ----


async def test_the_server_list_has_live_gateways_oldest_first(pair: Pair):
    directory = pair.directory
    directory.members["e1"] = Node("e1", NodeRole.EDGE, "192.0.2.1:8080", 1)
    directory.members["odd"] = Node(
        "odd", NodeRole.GATEWAY, pair.there.address, 1, shown={"address": "a b", "ports": 7}
    )
    expected = [("primary", "a1.example.com"), ("secondary", "127.0.0.1")]
    servers = await pair.here.api.json("GET", "/servers")
    assert [(one["role"], one["address"]) for one in servers] == expected
    assert all(one["ports"] == PORTS.as_json() for one in servers)
    roles = {one["role"]: one["address"] for one in await pair.there.api.json("GET", "/servers")}
    assert roles == {"primary": "127.0.0.1", "secondary": "b2.example.com"}
    assert [(await one.api.json("GET", "/status"))["node"]["role"] for one in (pair.there, pair.here)] == list(roles)


async def test_with_a_push_domain_the_server_list_has_only_reachable_addresses(pair: Pair):
    api = pair.here.api
    ports = {**PORTS.as_json(), "admin": None}
    await api.json("PUT", "/domains", {"pushDNS": "push.example.com"})
    assert await api.json("GET", "/servers") == [
        {"role": "primary", "address": "push.example.com", "ports": {**ports, "rtmp": 1935}}
    ]
    await api.json("PUT", "/domains", {"pushDNS": "rtmps://push.example.com:443"})
    (server,) = await api.json("GET", "/servers")
    assert server["ports"] == {**ports, "rtmps": 443}


async def test_a_gateway_that_refuses_connections_is_not_listed_as_a_server(pair: Pair):
    await stop(pair.there)
    servers = await pair.here.api.json("GET", "/servers")
    assert [(one["role"], one["address"]) for one in servers] == [("primary", "127.0.0.1")]


async def test_a_gateway_without_new_beats_is_not_listed_as_a_server(tmp_path: Path):
    now = 1000.0
    directory = Directory()
    async with member("b2", tmp_path, directory, since=1, clock=lambda: now) as here, silence() as address:
        far = Node("a1", NodeRole.GATEWAY, address, 5, shown=PORTS.registry_entry("a1.example.com", 2))
        directory.members["a1"] = far
        assert len(await here.api.json("GET", "/servers")) == 2
        now += ALIVE_SECONDS / 2
        directory.members["a1"] = replace(far, beat=6)
        assert len(await here.api.json("GET", "/servers")) == 2
        now += ALIVE_SECONDS - 0.1
        assert len(await here.api.json("GET", "/servers")) == 2
        now += 0.2
        assert len(await here.api.json("GET", "/servers")) == 1


async def test_processes_of_one_host_are_one_server(tmp_path: Path):
    directory = Directory()
    async with member("h.1", tmp_path, directory, since=1) as here, member("h.2", tmp_path, directory, since=2):
        for id in ("h.1", "h.2"):
            directory.members[id] = replace(directory.members[id], shown=PORTS.registry_entry("h.example.com", 1))
        assert [one["address"] for one in await here.api.json("GET", "/servers")] == ["127.0.0.1"]


async def test_the_node_list_shows_the_load_of_each_node(pair: Pair):
    item = await pair.here.api.create()
    publisher = await pair.there.push(item["id"])
    publisher.stream.viewers["flv"] += 2
    pair.directory.members["e1"] = Node("e1", NodeRole.EDGE, "unix:/nowhere", 1)
    mine, other = (await pair.here.api.json("GET", "/nodes"))[:2]
    assert (mine["node"], mine["here"], mine["streams"]) == ("b2", True, 0)
    assert (other["node"], other["role"], other["address"]) == ("a1", "gateway", pair.there.address)
    assert (other["here"], other["answers"], other["streams"], other["publishers"]) == (False, True, 1, 1)
    assert other["viewers"]["flv"] == 2 and other["cpu"]["load"] >= 0 and other["version"] == "1.2.3"


async def test_a_node_that_does_not_answer_is_listed_without_figures(tmp_path: Path):
    directory = Directory()
    async with member("b2", tmp_path, directory) as here, silence() as address:
        directory.members["e1"] = Node("e1", NodeRole.EDGE, address, 1)
        edge = (await here.api.json("GET", "/nodes"))[1]
        assert (edge["node"], edge["role"], edge["answers"], edge["streams"]) == ("e1", "edge", False, None)


async def test_pages_may_push_to_the_other_gateways(pair: Pair):
    far = OpenPorts(rtmp=1935, ws=8081, wss=8444)
    for number in range(_MAX_SERVERS + 5):
        pair.directory.members[f"n{number}"] = Node(
            f"n{number}",
            NodeRole.GATEWAY,
            "192.0.2.1:1",
            1,
            shown=far.registry_entry(f"n{number}.example.com", 10 + number),
        )
    hostile = {"address": "x; script-src *", "ports": far.as_json(), "since": 0}
    pair.directory.members["odd"] = Node("odd", NodeRole.GATEWAY, "192.0.2.1:1", 1, shown=hostile)
    policy = (await pair.here.api.client.get("/")).headers["Content-Security-Policy"]
    connect = next(entry for entry in policy.split(";") if entry.strip().startswith("connect-src")).split()
    assert {"ws://a1.example.com:8081", "ws://n0.example.com:8081", "wss://n0.example.com:8444"} <= set(connect)
    others = {source for source in connect if source.startswith("ws://") and "example.com" in source}
    assert len(others) == _MAX_SERVERS
    assert "script-src *" not in policy


async def test_viewers_of_other_nodes_are_added_up(pair: Pair):
    item = await pair.here.api.create()
    publisher = await pair.there.push(item["id"])
    publisher.stream.viewers["flv"] += 1
    for node, flv in (("e1", 10), ("e2", 5)):
        pair.there.distant.report(item["id"], node, {"flv": flv, "hls": 1})
    for asked in (pair.here, pair.there):
        viewers = (await asked.api.json("GET", f"/videostream/{item['id']}/session"))["viewers"]
        assert (viewers["flv"], viewers["hls"], viewers["rtmp"]) == (16, 2, 0)
    assert (await pair.here.api.json("GET", "/videostreams/online"))[0]["viewers"]["flv"] == 16
    for asked in (pair.here, pair.there):
        assert (await asked.api.json("GET", f"/api/streams/stream/{item['id']}"))["viewers"] == 18


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"outputs":[]}' + b" " * 1_000_000])
async def test_an_invalid_session_of_the_holder_deletes_no_recording(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, body: bytes
):
    item = await pair.here.api.create()

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    @contextlib.asynccontextmanager
    async def forward(id: str, request: ForwardedRequest) -> AsyncIterator[HolderAnswer]:
        yield HolderAnswer(200, {}, pieces())

    monkeypatch.setattr(pair.here.cluster, "forward", forward)
    answer = await pair.here.api.call("DELETE", f"/videostream/{item['id']}/recordings/v")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")


async def test_an_on_demand_session_recorded_on_another_node_is_not_deleted(pair: Pair, tmp_path: Path):
    item = await pair.here.api.create(outdate=FAR)
    publisher = await pair.there.push(item["id"])
    assert publisher.stream.outputs is not None
    status = [{"name": "ondemand", "enabled": True, "state": "running", "error": None, "playlist": f"{item['id']}/v"}]
    publisher.stream.outputs.status = lambda: status  # type: ignore[method-assign]
    answer = await pair.here.api.json("DELETE", f"/videostream/{item['id']}/recordings/v", status=409)
    assert "being recorded" in answer["error"]


# ---- any route ----


class Probe:
    """Handlers of routes that exist only in these tests, and what they got."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str, bytes, str, str]] = []
        self.left = asyncio.Event()

    async def show(self, request: web.Request) -> web.Response:
        body = await request.read()
        user, node = request[USER], request.app[CONTEXT].cluster.node
        self.requests.append((node, request.method, request.path_qs, body, user.name, str(request.remote)))
        return web.json_response({"node": node, **author(request)}, status=418, headers={"Retry-After": "7"})

    async def send(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "video/mp4"})
        await send_stream(request, response, self._pieces(int(request.query["pieces"])))
        return response

    @staticmethod
    async def _pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(65_536)
        if count == 1:
            raise OutputError("the disk is gone")

    async def wait(self, request: web.Request) -> web.Response:
        self.requests.append(("", "", "", b"", "", ""))
        while is_connected(request):
            await asyncio.sleep(0.01)
        self.left.set()
        return web.Response()


@dataclass
class Probed:
    pair: Pair
    probe: Probe
    id: str


@pytest.fixture
async def probed(tmp_path: Path) -> AsyncIterator[Probed]:
    """Yields two nodes with additional routes. The second one holds the stream `id`."""
    directory, probe = Directory(), Probe()
    handlers = (("GET", "show", probe.show), ("PUT", "show", probe.show), ("GET", "send", probe.send))
    routes = (
        *ROUTES,
        *(
            Route(f"{method} /probe/{{id}}/{name}", operation("text/plain")(handler), held=True, slow=True)
            for method, name, handler in (*handlers, ("GET", "wait", probe.wait))
        ),
    )
    async with (
        member("b2", tmp_path, directory, routes=routes) as here,
        member("a1", tmp_path, directory, routes=routes) as there,
    ):
        item = await here.api.create()
        await there.push(item["id"])
        yield Probed(Pair(here, there, directory), probe, item["id"])


async def test_a_new_route_is_answered_by_the_holder_without_more_code(probed: Probed):
    path = f"/probe/{probed.id}/show?a=b%26c&d=%C3%A9"
    body = b'{"any": "body \xc3\xa9"}' + b" " * 200_000
    response = await probed.pair.here.api.call("PUT", path, raw=body)
    assert (response.status, response.headers["Retry-After"]) == (418, "7")
    assert await response.json() == {"node": "a1", "by": "admin token", "peer": "127.0.0.1"}
    assert (await probed.pair.here.api.json("GET", path, status=418))["node"] == "a1"
    got = probed.probe.requests
    assert [(one[0], one[1], one[3:]) for one in got] == [
        ("a1", "PUT", (body, "admin", "127.0.0.1")),
        ("a1", "GET", (b"", "admin", "127.0.0.1")),
    ]
    assert {one[2] for one in got} == {path}
    assert (await probed.pair.here.api.call("HEAD", path)).status == 418
    idle = await probed.pair.here.api.create()
    assert (await probed.pair.here.api.json("GET", f"/probe/{idle['id']}/show", status=418))["node"] == "b2"


async def test_a_long_answer_of_the_holder_arrives_in_pieces(probed: Probed):
    path = f"/probe/{probed.id}/send"
    response = await probed.pair.here.api.call("GET", f"{path}?pieces=40")
    assert (response.status, response.content_type) == (200, "video/mp4")
    assert len(await response.read()) == 40 * 65_536
    with pytest.raises(ClientError):  # the node that holds the stream breaks the answer off
        await probed.pair.here.api.call("GET", f"{path}?pieces=1")


async def test_a_client_that_leaves_ends_the_request_at_the_holder(probed: Probed):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await probed.pair.here.api.call("GET", f"/probe/{probed.id}/wait")
    assert probed.probe.requests
    async with asyncio.timeout(at_most(SECONDS)):
        await probed.probe.left.wait()


async def test_a_forwarded_request_with_another_body_is_refused(probed: Probed, monkeypatch: pytest.MonkeyPatch):
    digests = iter(("one", "another"))
    monkeypatch.setattr(forwarding, "_digest", lambda body: next(digests))
    answer = await probed.pair.here.api.json("PUT", f"/probe/{probed.id}/show", {}, status=400)
    assert "digest" in answer["error"] and not probed.probe.requests


async def test_the_author_of_a_change_at_another_node_is_kept(pair: Pair):
    item = await pair.here.api.create()
    await pair.there.push(item["id"])
    got: list[Event] = []
    pair.there.api.events.listen(got.append)
    inputs = [{"name": "main", "kind": "push"}, {"name": "second", "kind": "backup"}]
    await pair.here.api.json("PUT", f"/videostream/{item['id']}/inputs", inputs)
    (changed,) = [event for event in got if event.type is EventType.CHANNEL_CHANGED]
    assert (changed.data["by"], changed.data["peer"]) == ("admin token", "127.0.0.1")


# ---- processes of one host ----


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[tuple[Member, Member, Member]]:
    """Yields a node and two processes on the same ports. The first process accepts every connection."""
    directory = Directory()
    sockets = {id: str(tmp_path / f"{id}.sock") for id in ("h.1", "h.2")}
    async with (
        member("z9", tmp_path, directory, since=3) as far,
        member("h.1", tmp_path, directory, since=1, sockets=sockets) as first,
        member("h.2", tmp_path, directory, since=2, sockets=sockets, ports_of=first) as second,
    ):
        yield far, first, second


async def test_a_stream_is_reachable_through_every_process_of_a_host(host: tuple[Member, Member, Member]):
    far, first, second = host
    item = await far.api.create(videoname="stage")
    evicted: list[EndReason] = []
    await second.push(item["id"], evicted)
    path = f"/videostream/{item['id']}/session"
    for asked in host:
        assert (await asked.api.json("GET", path))["node"] == "h.2"
    sessions = [[name for name in member.asked if name != "told"] for member in (first, second)]
    assert sessions[0] == ["forwarded"], "passed on to its sibling for the node elsewhere, which asks it directly"
    assert sessions[1] == ["forwarded", "forwarded"]
    online = await far.api.json("GET", "/videostreams/online")
    assert [(one["videoname"], one["node"]) for one in online] == [("stage", "h.2")]
    assert [one["node"] for one in await far.api.json("GET", "/nodes") if one["answers"]] == ["z9", "h.1", "h.2"]
    assert [one["address"] for one in await far.api.json("GET", "/servers")] == ["h.1.example.com", "127.0.0.1"]
    await far.api.json("DELETE", path)
    assert evicted == [EndReason.KICKED]


async def test_a_change_reaches_every_process_of_a_host(host: tuple[Member, Member, Member]):
    far, first, second = host
    item = await far.api.create()
    await far.api.json("PUT", f"/videostream/{item['id']}", {"videoname": "new"})
    await until(lambda: item["id"] in first.api.forgotten and item["id"] in second.api.forgotten)
