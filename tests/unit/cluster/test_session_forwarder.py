"""Requests for WebRTC sessions of other processes: which are forwarded, and their answers."""

from __future__ import annotations

import pytest

from gateway.cluster.calls.session_forwarder import SessionForwarder
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.peers import Peers
from gateway.http.response import Response, text
from gateway.ports.cluster_secret import ClusterSecret
from gateway.ports.nodes import Node, NodeRole
from gateway.webrtc.signalling import SessionChange
from tests.support.holders import SECRET, holder

PATH = "/c1/whep/abcdefghijklmnop"


def forwarder(node: str, peers: Peers | None = None, *nodes: Node) -> SessionForwarder:
    async def known() -> list[Node]:
        return list(nodes)

    return SessionForwarder(SiblingProcesses(node, peers or Peers(SECRET)), ClusterSecret(SECRET), known)


def test_a_path_belongs_to_another_process_only_if_that_process_made_it() -> None:
    here, there = forwarder("a"), forwarder("b")
    path = there.seal(PATH)
    assert path.startswith(PATH)
    assert here.is_elsewhere(path)
    assert not there.is_elsewhere(path), "its own session has ended"
    stranger = SessionForwarder(SiblingProcesses("b", Peers("x")), ClusterSecret("another secret of a cluster"))
    assert not here.is_elsewhere(stranger.seal(PATH))


@pytest.mark.parametrize("change", [(0, "/"), (5, "x"), (-1, "!"), (-70, "0"), (len(PATH) + 1, "z")])
def test_a_changed_path_belongs_to_no_process(change: tuple[int, str]) -> None:
    at, character = change
    path = list(forwarder("b").seal(PATH))
    path[at] = character if path[at] != character else "_"
    assert not forwarder("a").is_elsewhere("".join(path))


@pytest.mark.parametrize("path", ["", "/", ".", "..", "/c1/whep/x", "/c1/whep/x.y.z", f"{PATH}..", "/c1/whep/é.é.é"])
def test_an_invented_path_belongs_to_no_process(path: str) -> None:
    assert not forwarder("a").is_elsewhere(path)


@pytest.mark.parametrize(("status", "body"), [(200, "the session has ended\n"), (204, None), (404, "no\n")])
async def test_the_client_gets_the_answer_of_the_owner(status: int, body: str | None) -> None:
    taken: list[SessionChange] = []

    def apply(change: SessionChange) -> Response:
        taken.append(change)
        if body is None:
            return Response(204, None)
        return text(status, body.strip(), headers={"ETag": '"e"'})

    owner = forwarder("b")
    table = owner.operations(apply)
    async with holder(operations=table) as one, Peers(SECRET) as peers:
        here = forwarder("a", peers, Node("b", NodeRole.GATEWAY, one.place().address))
        change = SessionChange(owner.seal(PATH), "PATCH", "a.example:80", '"e"', "u+/=", "p&?#%")
        answer = await here.change(change)
    assert taken == [change]
    assert (answer.status, answer.body) == (status, None if body is None else body.encode())


async def test_a_session_of_a_node_that_has_stopped_has_ended() -> None:
    here, owner = forwarder("a"), forwarder("b")
    assert (await here.change(SessionChange(owner.seal(PATH), "DELETE"))).status == 404
    nobody = Node("b", NodeRole.GATEWAY, "127.0.0.1:1")
    async with Peers(SECRET) as peers:
        answer = await forwarder("a", peers, nobody).change(SessionChange(owner.seal(PATH), "DELETE"))
    assert answer.status == 404


async def test_another_process_at_the_address_does_not_answer_for_the_owner() -> None:
    table = forwarder("c").operations(lambda change: text(200, "changed"))
    async with holder(operations=table) as one, Peers(SECRET) as peers:
        here = forwarder("a", peers, Node("b", NodeRole.GATEWAY, one.place().address))
        assert (await here.change(SessionChange(forwarder("b").seal(PATH), "DELETE"))).status == 404
