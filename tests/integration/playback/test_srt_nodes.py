"""SRT at other nodes: an edge plays and takes no push, and a gateway plays what another one gets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import Reject
from tests.support.clients import pull, take_of
from tests.support.fleet import with_edge
from tests.support.gateway import Channel, Edge, Gateway
from tests.support.media import Film, judge
from tests.support.srt import PATIENT, call, srt_push
from tests.support.tools import need

FILM = Film("srt-nodes", seconds=40)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway, Edge]]:
    """Two gateways and an edge with one registry."""
    need("ffmpeg")
    FILM.hashes()
    with with_edge(tmp_path_factory.mktemp("srt-nodes"), PATIENT) as started:
        yield started


def at(node: Gateway, channel: Channel, query: str = "") -> str:
    return f"srt://127.0.0.1:{node.ports['srt']}?streamid=read:{channel.id}{query}"


def test_every_node_plays_the_frames(nodes: tuple[Gateway, Gateway, Edge]) -> None:
    a, b, edge = nodes
    channel = a.channel("everywhere")
    with srt_push(FILM, channel.srt_push), contextlib.ExitStack() as stack:
        channel.wait_live()
        for player in [stack.enter_context(pull(at(node, channel), seconds=3)) for node in (a, b, edge)]:
            judge(take_of(player), FILM)


def test_an_edge_takes_no_push(nodes: tuple[Gateway, Gateway, Edge]) -> None:
    a, _, edge = nodes
    channel = a.channel("edge")
    with pytest.raises(HandshakeRefused) as refused:
        call(edge.ports["srt"], f"publish:{channel.id}?sign={channel.key}")
    assert refused.value.code == Reject.FORBIDDEN


SECRET = "a long passphrase"


def test_an_edge_asks_for_the_sign_of_players(nodes: tuple[Gateway, Gateway, Edge]) -> None:
    a, _, edge = nodes
    channel = a.channel("protected", playAuth="sign")
    sign = channel.item["playUrls"]["srt"].partition("?sign=")[2].partition("&")[0]
    with srt_push(FILM, channel.srt_push):
        channel.wait_live()
        assert refusal(edge, f"read:{channel.id}") == Reject.UNAUTHORIZED
        assert refusal(edge, f"read:{channel.id}?sign=1-2") == Reject.UNAUTHORIZED
        with pull(at(edge, channel, f"?sign={sign}"), seconds=3) as player:
            judge(take_of(player), FILM, least=1.5)


def test_no_node_plays_an_encrypted_channel_without_its_passphrase(nodes: tuple[Gateway, Gateway, Edge]) -> None:
    """Nodes do not tell each other the passphrase. A gateway reads it in the store of channels; an edge has none."""
    a, b, edge = nodes
    channel = a.channel("encrypted", srtPassphrase=SECRET)
    with srt_push(FILM, channel.srt_push, f"passphrase={SECRET}"):
        channel.wait_live()
        for node in (a, b):
            assert refusal(node, f"read:{channel.id}") == Reject.UNSECURE
            assert refusal(node, f"read:{channel.id}", passphrase="another passphrase") == Reject.BAD_SECRET
            with pull(at(node, channel, f"&passphrase={SECRET}"), seconds=3) as player:
                judge(take_of(player), FILM, least=1.5)
        for passphrase in ("", SECRET):
            assert refusal(edge, f"read:{channel.id}", passphrase=passphrase) == Reject.FORBIDDEN


def refusal(node: Gateway, stream_id: str, passphrase: str = "") -> int:
    try:
        call(node.ports["srt"], stream_id, passphrase=passphrase, timeout=30).close()
    except HandshakeRefused as error:
        return error.code
    return 0
