"""ClientConnection: the order of its commands, and its reactions to servers that refuse, forget or end."""

from typing import Any

import pytest

from gateway.formats import amf0
from gateway.formats.flv.tag import ScriptTag
from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.rtmp.chunk_reader import ChunkReader
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.client import ClientConnection, ClientRole, ConnectFeatures
from gateway.protocols.rtmp.events import Accepted, CommandIgnored, Ended, PlayRequested, PublishRequested, Rejected
from gateway.protocols.rtmp.handshake import SIZE, ClientHandshake
from gateway.protocols.rtmp.message import Message
from gateway.protocols.rtmp.server import ServerConnection
from gateway.protocols.rtmp.state import RtmpState
from tests.unit.protocols.rtmp.talk import a_client, talk


class FakeServer:
    """The server end of one client, which sends exactly the given messages."""

    def __init__(self, client: ClientConnection) -> None:
        self.client = client
        self.writer, self.reader = ChunkWriter(), ChunkReader()
        client.data_to_send()
        client.receive(b"\x03" + bytes(2 * SIZE))
        client_c2 = client.data_to_send()
        self.heard = self.reader.receive(client_c2[SIZE:])

    def message(self, kind: int, payload: bytes, stream: int = 0, time: int = 0) -> list[Any]:
        events: list[Any] = self.client.receive(self.writer.write(3, kind, time, stream, payload))
        self.heard = self.reader.receive(self.client.data_to_send())
        return events

    def command(self, name: str, transaction: float, *values: Any, stream: int = 0) -> list[Any]:
        return self.message(20, amf0.encode(name, transaction, *values), stream)

    def status(self, code: str, level: str = "status") -> list[Any]:
        return self.command("onStatus", 0, None, {"level": level, "code": code, "description": "why"}, stream=1)

    def commands(self) -> list[list[Any]]:
        return [amf0.decode(m.payload) for m in self.heard if m.type_id == 20]

    def created(self) -> "FakeServer":
        self.command("_result", 1, {}, {"code": "NetConnection.Connect.Success", "level": "status"})
        self.command("_result", 4, None, 1)
        return self

    def publishing(self) -> "FakeServer":
        self.created().status("NetStream.Publish.Start")
        return self


def test_publish_sends_commands_in_the_order_of_encoders() -> None:
    server = FakeServer(a_client(chunk_size=1024))
    assert server.commands()[0][0] == "connect"
    properties = server.commands()[0][2]
    assert (properties["app"], properties["tcUrl"], properties["type"]) == ("stream", "rtmp://h/stream", "nonprivate")
    server.command("_result", 1, {}, {"code": "NetConnection.Connect.Success"})
    assert [c[0] for c in server.commands()] == ["releaseStream", "FCPublish", "createStream"]
    assert server.reader.chunk_size == 1024
    server.command("_result", 4, None, 7)
    assert server.commands() == [["publish", 5.0, None, "id?sign=1-a", "live"]]
    assert server.heard[0].stream_id == 7
    assert server.status("NetStream.Publish.Start") == [Accepted()]


def test_play_asks_for_the_live_stream() -> None:
    server = FakeServer(a_client(ClientRole.PLAY)).created()
    assert server.commands() == [["play", 0.0, None, "id?sign=1-a", -2000.0]]
    assert server.status("NetStream.Play.Start") == [Accepted()]
    assert server.message(9, b"v", 1, 5) == [Message(9, 5, 1, b"v")]
    assert server.message(18, amf0.encode("onMetaData", {}), 1) == [ScriptTag(0, "onMetaData", ({},), amf0.encode({}))]
    assert server.message(18, amf0.encode("|RtmpSampleAccess", True, True), 1) == []


def test_media_without_play_start_accepts_the_play() -> None:
    server = FakeServer(a_client(ClientRole.PLAY)).created()
    assert server.message(9, b"v", 1) == [Accepted(), Message(9, 0, 1, b"v")]


def test_refused_connect() -> None:
    client = a_client()
    server = FakeServer(client)
    info = {"level": "error", "code": "NetConnection.Connect.InvalidApp", "description": "no"}
    assert server.command("_error", 1, None, info) == [Rejected("NetConnection.Connect.InvalidApp", "no")]
    assert client.closing and client.receive(b"more") == []


def test_errors_without_information_are_named_after_the_failed_command() -> None:
    assert FakeServer(a_client()).command("_error", 1, None) == [Rejected("NetConnection.Connect.Rejected", "")]
    server = FakeServer(a_client())
    server.command("_result", 1, {}, {})
    assert server.command("_error", 4, None) == [Rejected("NetConnection.Call.Failed", "")]
    assert FakeServer(a_client()).created().command("_error", 5, None) == [Rejected("NetStream.Publish.Failed", "")]


def test_refused_release_and_fc_publish_do_not_matter() -> None:
    server = FakeServer(a_client())
    server.command("_result", 1, {}, {})
    assert server.command("_error", 2, None) == []
    assert server.command("_error", 3, None) == []
    assert server.command("onBWDone", 0, None) == []


@pytest.mark.parametrize("role", list(ClientRole))
def test_refused_stream(role: ClientRole) -> None:
    server = FakeServer(a_client(role)).created()
    assert server.status("NetStream.Something.BadName", "error") == [Rejected("NetStream.Something.BadName", "why")]


@pytest.mark.parametrize("level", ["status", "warning", ""])
@pytest.mark.parametrize("code", ["NetStream.Publish.Denied", "NetStream.Play.StreamNotFound"])
def test_a_refused_publish_without_the_level_error(code: str, level: str) -> None:
    assert FakeServer(a_client()).created().status(code, level) == [Rejected(code, "why")]
    assert FakeServer(a_client()).publishing().status("NetStream.Publish.Idle", level) == []


def test_the_server_may_end_a_running_publish() -> None:
    assert FakeServer(a_client()).publishing().status("NetStream.Publish.Idle", "error") == [
        Rejected("NetStream.Publish.Idle", "why")
    ]
    assert FakeServer(a_client()).publishing().status("NetConnection.Connect.Closed") == [
        Rejected("NetConnection.Connect.Closed", "why")
    ]
    assert FakeServer(a_client()).publishing().command("close", 0, None) == [
        Rejected("NetConnection.Connect.Closed", "the server closed")
    ]


@pytest.mark.parametrize("code", ["NetStream.Play.UnpublishNotify", "NetStream.Play.Stop", "NetStream.Play.Complete"])
def test_end_of_play(code: str) -> None:
    server = FakeServer(a_client(ClientRole.PLAY)).created()
    server.status("NetStream.Play.Start")
    assert server.status(code) == [Ended(code)]
    assert server.client.closing


def test_stream_eof_ends_a_running_play_only() -> None:
    server = FakeServer(a_client(ClientRole.PLAY)).created()
    assert server.message(4, b"\0\x01\0\0\0\x01") == []
    server.status("NetStream.Play.Start")
    assert server.message(4, b"\0\x01\0\0\0\x01") == [Ended("StreamEOF")]


def test_finish_sends_the_commands_that_end_a_publish() -> None:
    server = FakeServer(a_client()).publishing()
    server.client.finish()
    server.heard = server.reader.receive(server.client.data_to_send())
    assert [c[0] for c in server.commands()] == ["FCUnpublish", "deleteStream"]
    assert server.client.closing


def test_sending_media_before_ready_is_a_local_error() -> None:
    with pytest.raises(LocalProtocolError):
        FakeServer(a_client()).created().client.send_media(9, 0, b"v")


def test_media_goes_out_with_its_time() -> None:
    server = FakeServer(a_client()).publishing()
    server.client.send_media(9, (1 << 32) + 9, b"v" * 9000)
    server.client.send_media(18, 3, amf0.encode("@setDataFrame", "onMetaData", {"a": 1.0}))
    server.client.send_media(18, 4, amf0.encode("onTextData", {"a": 1.0}))
    out = server.reader.receive(server.client.data_to_send())
    assert out == [
        Message(9, 9, 1, b"v" * 9000),
        Message(18, 3, 1, amf0.encode("@setDataFrame", "onMetaData", {"a": 1.0})),
        Message(18, 4, 1, amf0.encode("onTextData", {"a": 1.0})),
    ]


def test_invalid_data_from_the_server_is_a_remote_error() -> None:
    client = a_client()
    with pytest.raises(RemoteProtocolError):
        FakeServer(client).message(20, b"\xff")
    assert client.closing


def test_unknown_things_are_reported() -> None:
    server = FakeServer(a_client()).publishing()
    assert server.command("onWhatever", 0, None) == [CommandIgnored("onWhatever", "unknown")]
    assert server.message(19, b"x") == [CommandIgnored("message type 19", "1 bytes")]
    assert server.message(9, b"video to a publisher", 1) == []
    assert server.message(18, amf0.encode("onMetaData", {}), 1) == []


def test_aggregates_are_played() -> None:
    server = FakeServer(a_client(ClientRole.PLAY)).created()
    parts = b"".join(
        bytes((kind,)) + len(body).to_bytes(3, "big") + bytes(7) + body + bytes(4)
        for kind, body in ((9, b"v"), (18, amf0.encode("x", 1)))
    )
    assert server.message(22, parts, 1, 50) == [
        Accepted(),
        Message(9, 50, 1, b"v"),
        ScriptTag(50, "x", (1.0,), amf0.encode(1)),
    ]


@pytest.mark.parametrize("chunk_size", [128, 4096, 65536])
@pytest.mark.parametrize("digest", [True, False])
def test_our_client_and_our_server_understand_each_other(chunk_size: int, digest: bool) -> None:
    server, client = ServerConnection(), a_client(chunk_size=chunk_size, handshake=ClientHandshake(digest=digest))

    def answer(event: Any) -> None:
        if isinstance(event, PublishRequested):
            server.accept_publish()

    talk(client, server, answer)
    bodies = [bytes((size % 251,)) * size for size in (1, 127, 128, 129, 5000, 200_000)]
    for time, body in enumerate(bodies):
        client.send_media(9, time, body)
    assert talk(client, server)[1] == [Message(9, time, 1, body) for time, body in enumerate(bodies)]


def test_refusals_of_our_server_reach_our_client() -> None:
    for role, request in ((ClientRole.PUBLISH, PublishRequested), (ClientRole.PLAY, PlayRequested)):
        server, client = ServerConnection(), a_client(role)

        def answer(event: Any, server: ServerConnection = server, request: type = request) -> None:
            if isinstance(event, request):
                (server.reject_publish if request is PublishRequested else server.reject_play)("Net.No", "why")

        assert talk(client, server, answer)[0] == [Rejected("Net.No", "why")]
        assert client.state is RtmpState.CLOSING
    server, client = ServerConnection(), a_client(url="rtmp://h/live/id")
    heard = talk(client, server)[0]
    assert [e.code for e in heard] == ["NetConnection.Connect.InvalidApp"]


@pytest.mark.parametrize("asks", [True, False])
def test_several_tracks_are_sent_where_both_sides_announce_them(asks: bool) -> None:
    client = a_client(features=ConnectFeatures(("avc1", "mp4a"), multitrack=asks))
    talk(client, ServerConnection())
    assert client.takes_multitrack is asks


@pytest.mark.parametrize("caps", [None, 0.0, 5.0, "2", -2.0, 1e300, float("nan"), [2.0]])
def test_a_server_that_does_not_announce_several_tracks_gets_one(caps: Any) -> None:
    client = a_client(features=ConnectFeatures(multitrack=True))
    server = FakeServer(client)
    assert server.commands()[0][2]["capsEx"] == 2
    server.command("_result", 1, {"capsEx": caps}, {"code": "NetConnection.Connect.Success", "level": "status"})
    assert not client.takes_multitrack
