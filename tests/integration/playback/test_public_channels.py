"""The home page's list and the watch page, at gateways with one registry and at edges."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.support.clients import push, until
from tests.support.gateway import Edge, Gateway, Reply, http
from tests.support.media import Film
from tests.support.tools import need

FILM = Film("public", seconds=60)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway, Edge, Edge]]:
    """Two gateways with one registry and one store, an edge with the registry, and one without."""
    need("ffmpeg")
    folder = tmp_path_factory.mktemp("public")
    registry, store = f"sqlite:///{folder}/nodes.db", f"sqlite:///{folder}/channels.db"
    shared = {"MILLRACE_CLUSTER__SECRET": "secret of the cluster", "MILLRACE_SIGNING__SECRET": "secret of the keys"}
    both = {**shared, "MILLRACE_REGISTRY": registry, "MILLRACE_CHANNELS": store}
    for name in ("a", "b", "edge", "bare"):
        (folder / name).mkdir()
    running: list[Gateway] = []
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [node.stop() for node in reversed(running)])
        running += [Gateway(folder / "a", **both), Gateway(folder / "b", **both)]
        for node in running:
            node.wait_ready()
        upstream = ",".join(f"127.0.0.1:{node.ports['http']}" for node in running)
        edges = Edge(folder / "edge", **both), Edge(folder / "bare", **shared, MILLRACE_EDGE__UPSTREAM=upstream)
        running += edges
        for edge in edges:
            edge.wait_ready()
        yield running[0], running[1], *edges


def at(node: Gateway, path: str, **headers: str) -> Reply:
    return http("GET", f"http://127.0.0.1:{node.ports['http']}{path}", headers=headers)


def listed(node: Gateway) -> dict[str, tuple[str, bool, int]]:
    return {c["id"]: (c["name"], c["live"], c["viewers"]) for c in at(node, "/channels.json").json()["channels"]}


def test_every_node_lists_the_public_channels_with_their_state(nodes: tuple[Gateway, Gateway, Edge, Edge]) -> None:
    first, second, *edges = nodes
    shown = first.channel(videoname="Shown", isPublic=True)
    idle = second.channel(videoname="Idle", isPublic=True)
    first.channel(videoname="Hidden")
    with push(FILM, shown.push):
        shown.wait_live()
        for node in nodes:
            until(
                lambda node=node: listed(node) == {shown.id: ("Shown", True, 0), idle.id: ("Idle", False, 0)},
                f"the list of the node at port {node.ports['http']}",
                30,
            )
        for edge in edges:
            page = at(edge, f"/{shown.id}/")
            assert "<title>Shown</title>" in page.text
            status = edge.get(shown, "status.json").json()
            assert (status["name"], status["live"], status["tracks"][0]["kind"]) == ("Shown", True, "video")
            assert at(edge, "/").headers["content-type"].startswith("text/html")
            assert edge.get(shown, "poster.jpg").headers["content-type"] == "image/jpeg"
            assert edge.get(idle, "poster.jpg").headers["content-type"] == "image/svg+xml"  # after redirects
            assert at(edge, "/healthcheck").text == "OK"


def test_a_protected_channel_is_not_listed_or_named(nodes: tuple[Gateway, Gateway, Edge, Edge]) -> None:
    channel = nodes[0].channel(videoname="Members only", isPublic=True, playAuth="sign")
    signed = channel.item["playUrls"]["flv"].partition("?")[2]
    for node in nodes:
        assert channel.id not in listed(node)
        page = at(node, f"/{channel.id}")  # follows the redirect
        assert page.status == 200
        assert page.body == at(node, "/nobody/").body
        assert "<title>Members only</title>" in at(node, f"/{channel.id}?{signed}").text
