"""Requests between nodes: which are accepted, their answers, and that none is forwarded in circles."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.channels.channel import Channel
from gateway.channels.channel_changes import ChannelChanges
from gateway.channels.deleted_channel import DeletedChannel
from gateway.cluster.calls.gateway_operations import GatewayOperations
from gateway.cluster.calls.node_endpoint import HOP, Operation
from gateway.cluster.calls.node_rpc import LINES
from gateway.cluster.members.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.peers import Peers
from gateway.http.response import Response
from gateway.live.hub import Hub
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.sink import EndReason
from gateway.playback.slugs import NamedChannel
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from gateway.ports.events import Events
from tests.support.admin import SPECS
from tests.support.builders import AUDIO, VIDEO, change_effects, channel, hub, publish
from tests.support.http import request

POSTED = ("changed", "viewers")
SECRETS = {"key": "4000000000-" + "a" * 64, "relayURL": "rtmp://x/y/very-secret", "kvsStream": "hidden"}


@dataclass
class Store:
    """The stored channels. away: they cannot be read."""

    channels: dict[str, Channel] = field(default_factory=dict)
    away: bool = False

    async def get(self, id: str) -> Channel:
        if self.away:
            raise StoreUnavailable("the table /secret is away", 7)
        if id not in self.channels:
            raise NoSuchChannel(id)
        return self.channels[id]


@dataclass
class Siblings:
    """The requests passed on to processes of this host, and their answers."""

    asked: list[tuple[NodeAddress, str, str, Mapping[str, str]]] = field(default_factory=list)
    away: bool = False

    @contextlib.asynccontextmanager
    async def request(
        self, place: NodeAddress, method: str, target: str, *, headers: Mapping[str, str], seconds: float
    ) -> AsyncIterator[Any]:
        self.asked.append((place, method, target, headers))
        if self.away:
            raise PeerUnavailable(place, "gone", refused=True)
        yield Answered()


class Answered:
    status = 200
    headers = {"Content-Type": "application/json"}
    content_length = 2

    class content:
        @staticmethod
        async def iter_any() -> AsyncIterator[bytes]:
            yield b"{}"


@dataclass
class Node:
    """A node that holds the stream c1."""

    hub: Hub
    store: Store
    distant: RemoteViewerCounts
    siblings: Siblings
    forgotten: list[str]
    evicted: list[EndReason]
    table: dict[str, Operation]

    async def ask(self, target: str, method: str = "GET", **headers: str) -> Response:
        name, _, rest = target.partition("?")[0].partition("/")
        return await self.table[name](request(f"/_node/.node/{target}", method, **headers), rest)

    async def json(self, target: str, method: str = "GET", *, status: int = 200) -> Any:
        response = await self.ask(target, method)
        assert isinstance(response.body, bytes)
        assert response.status == status, response.body
        return json.loads(response.body)


async def _no_names() -> dict[str, NamedChannel]:
    return {}


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    events = Events()
    store, siblings, distant = Store(), Siblings(), RemoteViewerCounts()
    forgotten: list[str] = []
    evicted: list[EndReason] = []
    on = hub(SPECS, events=events)
    publish(on, "c1", evicted, isHls=False).set_tracks(VIDEO, AUDIO, {})
    gone = Store({"c0": DeletedChannel.of("c0", channel("c0", playAuth="sign", **SECRETS), 1.0, media=True).channel})
    store.channels["c1"] = channel("c1", isHls=False, videoname="stage", playAuth="sign", **SECRETS)

    async def held(stream: str) -> NodeAddress | None:
        return NodeAddress("h.3", "unix:/run/h.3.sock") if stream == "theirs" else None

    changes = ChannelChanges(cast(Any, store), cast(Any, None), change_effects(on, events, forget=forgotten.append))
    operations = GatewayOperations(
        SiblingProcesses("h.1", cast(Peers, siblings), lambda: {"h.2": "/run/h.2.sock"}, held),
        on,
        channels=store,
        deleted=gone,
        changed=changes.follow_other_node,
        names=_no_names,
        remote_viewers=distant,
        report=lambda: {"streams": 1},
    )
    yield Node(on, store, distant, siblings, forgotten, evicted, operations.table())
    on.drain()
    await on.drained()


# ---- which requests are taken ----


@pytest.mark.parametrize(
    ("target", "method"),
    [
        ("node", "POST"), ("sessions", "POST"), ("streams", "HEAD"), ("session/c1", "POST"), ("channel/c1", "POST"),
        ("changed/c1", "GET"), ("viewers/c1", "HEAD"),
    ],
)  # fmt: skip
async def test_each_operation_accepts_one_method(node: Node, target: str, method: str):
    response = await node.ask(target, method)
    assert response.status == 405
    assert response.headers["Allow"] == ("POST" if method in ("GET", "HEAD") and target.startswith(POSTED) else "GET")
    assert node.evicted == []


@pytest.mark.parametrize("target", ["node/x", "sessions/c1", "session", "changed", "viewers"])
async def test_an_operation_with_a_missing_or_extra_name_is_not_found(node: Node, target: str):
    method = "POST" if target.partition("/")[0] in ("changed", "viewers") else "GET"
    assert (await node.ask(target, method)).status == 404


@pytest.mark.parametrize("name", ["c1@720p", ".node", "a/b", "x" * 200, "a b", "é"])
async def test_an_invalid_channel_name_is_not_found(node: Node, name: str):
    for operation in ("session", "channel"):
        operate = node.table[operation]
        assert (await operate(request(f"/_node/.node/{operation}"), name)).status == 404
    assert (await node.table["changed"](request("/_node/.node/changed", "POST"), name)).status == 404
    assert node.forgotten == []


async def test_a_request_with_a_body_is_refused(node: Node):
    asked = request("/_node/.node/changed/c1", "POST")
    asked.has_body = True
    assert (await node.table["changed"](asked, "c1")).status == 400
    assert node.forgotten == []


# ---- for whom ----


async def test_a_request_for_another_node_is_refused(node: Node):
    for target, method in (("changed/c1?to=z9", "POST"), ("node?to=", "GET"), ("session/c1?to=h.9", "GET")):
        assert "this is node h.1" in (await node.json(target, method, status=421))["error"]
    assert node.forgotten == [] and node.siblings.asked == []
    assert (await node.json("session/c1?to=h.1")) == {"id": "c1", "node": "h.1"}


async def test_a_request_for_a_sibling_process_is_passed_on_once(node: Node):
    assert (await node.ask("viewers/c9?to=h.2&node=e1&flv=1", "POST")).status == 200
    ((place, method, target, headers),) = node.siblings.asked
    assert (place.id, place.socket, method) == ("h.2", "/run/h.2.sock", "POST")
    assert target == "/_node/.node/viewers/c9?to=h.2&node=e1&flv=1"
    assert headers[HOP] == "1"


async def test_a_request_that_was_passed_on_is_not_passed_on_again(node: Node):
    assert (await node.ask("session/c9?to=h.2", x_millrace_hop="1")).status == 421
    assert (await node.ask("session/theirs", x_millrace_hop="1")).status == 421
    assert node.siblings.asked == []


async def test_a_request_without_a_node_goes_to_the_sibling_that_holds_the_stream(node: Node):
    assert (await node.ask("session/theirs")).status == 200
    assert node.siblings.asked[0][0].id == "h.3"
    assert (await node.ask("session/nobodys")).status == 421
    assert (await node.ask("session/theirs?to=h.1")).status == 421


async def test_an_unavailable_sibling_causes_503_with_a_retry_time(node: Node):
    node.siblings.away = True
    response = await node.ask("node?to=h.2")
    assert (response.status, response.headers["Retry-After"]) == (503, "2")


# ---- what is told ----


async def test_a_node_reports_its_number_of_streams(node: Node):
    assert await node.json("node") == {"streams": 1}


async def test_the_sessions_are_lines_of_json(node: Node):
    publish(node.hub, "c2")  # without media yet
    response = await node.ask("sessions")
    assert response.content_type == LINES and isinstance(response.body, bytes)
    (line,) = response.body.splitlines()
    assert (json.loads(line)["id"], json.loads(line)["state"]) == ("c1", "live")
    node.hub.end("c1", EndReason.KICKED)
    assert (await node.ask("sessions")).body == b""


async def test_only_the_holder_answers_that_it_holds_a_stream(node: Node):
    assert (await node.json("session/c1"))["node"] == "h.1"
    assert "not held here" in (await node.json("session/c2", status=421))["error"]


async def test_a_node_holds_a_stream_without_media_and_not_one_that_has_ended(node: Node):
    publish(node.hub, "c2")
    for id in ("c1", "c2"):
        assert await node.json(f"held/{id}") == {"node": "h.1"}
        node.hub.end(id, EndReason.KICKED)
        await node.json(f"held/{id}", status=421)


async def test_a_channel_is_reported_without_its_secrets(node: Node):
    told = await node.json("channel/c1")
    assert told == {"id": "c1", "isFlv": True, "isHls": False, "videoname": "stage", "playAuth": "sign"}
    await node.json("channel/c9", status=404)


async def test_an_unavailable_store_causes_503_with_a_retry_time(node: Node):
    node.store.away = True
    for target, method in (("channel/c1", "GET"), ("changed/c1", "POST")):
        response = await node.ask(target, method)
        assert (response.status, response.headers["Retry-After"]) == (503, "7")
        assert isinstance(response.body, bytes) and b"secret" not in response.body
    assert node.forgotten == ["c1"]
    assert node.evicted == []


# ---- what is done ----


async def test_a_deleted_channel_is_reported_without_its_secrets(node: Node):
    assert await node.json("deleted/c0") == {"id": "c0", "playAuth": "sign", "media": "delete"}
    await node.json("deleted/c1", status=404)


async def test_a_changed_channel_is_read_again(node: Node):
    stream = node.hub.find("c1")
    assert stream is not None and stream.outputs is not None
    node.store.channels["c1"] = channel("c1", isHls=True)
    assert await node.json("changed/c1", "POST") == {"held": True}
    assert stream.outputs.enabled("hls") and node.forgotten == ["c1"]
    assert await node.json("changed/c2", "POST") == {"held": False}
    assert node.forgotten == ["c1", "c2"]


async def test_the_stream_of_a_deleted_channel_ends(node: Node):
    del node.store.channels["c1"]
    await node.json("changed/c1", "POST")
    assert node.evicted == [EndReason.DELETED]


async def test_viewers_on_other_nodes_are_counted(node: Node):
    assert await node.json("viewers/c1?node=e1&flv=12&hls=3", "POST") == {"node": "h.1"}
    assert node.distant.of("c1") == {"flv": 12, "hls": 3}
    await node.json("viewers/c1?node=e1", "POST")
    assert node.distant.of("c1") == {}


async def test_the_bytes_of_an_edge_are_added_to_the_channel(node: Node):
    await node.json("viewers/c1?node=e1&flv=1&sent=700", "POST")
    await node.json("viewers/c1?node=e2&sent=50", "POST")
    assert node.hub.traffic.of("c1").sent == 750


async def test_bytes_that_are_sent_again_under_their_number_are_added_once(node: Node) -> None:
    for number, sent in ((4, 700), (4, 700), (7, 50), (4, 700)):
        await node.json(f"viewers/c1?node=e1&flv={number}&sent={sent}&report={number}", "POST")
    await node.json("viewers/c1?node=e2&sent=3&report=4", "POST")
    assert node.hub.traffic.of("c1").sent == 753
    assert node.distant.of("c1") == {"flv": 4}


@pytest.mark.parametrize(
    "query",
    ["flv=1", "node=&flv=1", "node=a/b&flv=1", "node=e1&flv=-1", "node=e1&flv=x", "node=e1&flv=12345678",
     "node=e1&hls=%D9%A3", f"node={'e' * 200}&flv=1", "node=e1&sent=-1", "node=e1&sent=1234567890123456789"],
)  # fmt: skip
async def test_an_invalid_count_of_viewers_is_refused(node: Node, query: str):
    assert "field" in await node.json(f"viewers/c1?{query}", "POST", status=400)
    assert len(node.distant) == 0


async def test_viewers_of_streams_of_other_nodes_are_not_counted(node: Node):
    await node.json("viewers/c2?node=e1&flv=1", "POST", status=421)
    await node.json("viewers/c1@720p?node=e1&flv=1", "POST", status=421)
    assert len(node.distant) == 0
