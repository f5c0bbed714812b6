"""ServerConnection: commands of clients, its answers, and the events and decisions of its owner."""

import itertools
import struct
from typing import Any

import pytest

from gateway.formats import amf0
from gateway.formats.flv.tag import ScriptTag
from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.rtmp.chunk_reader import ChunkReader
from gateway.protocols.rtmp.chunk_writer import ChunkWriter, shared_message
from gateway.protocols.rtmp.client import ClientRole
from gateway.protocols.rtmp.events import (
    Accepted,
    CommandIgnored,
    Connected,
    Paused,
    PlayEnded,
    PlayRequested,
    PublishEnded,
    PublishRequested,
)
from gateway.protocols.rtmp.message import Message
from gateway.protocols.rtmp.server import ServerConnection
from gateway.protocols.rtmp.state import RtmpState
from gateway.protocols.rtmp.wire import Wire, WireLimits
from tests.support.feeding import feed_all_ways
from tests.unit.protocols.rtmp.talk import Scripted, a_client, talk


def test_publish_from_handshake_to_end() -> None:
    server, client = ServerConnection(), a_client()

    def answer(event: Any) -> None:
        if isinstance(event, PublishRequested):
            server.accept_publish()

    heard, events = talk(client, server, answer)
    assert heard == [Accepted()]
    assert [type(e) for e in events] == [Connected, PublishRequested]
    assert (events[1].name, events[1].query, events[1].type) == ("id", {"sign": "1-a"}, "live")
    client.send_media(9, 40, b"video" * 5000)
    client.send_media(18, 50, amf0.encode("@setDataFrame", "onMetaData", {"width": 2.0}))
    client.send_media(8, 60, b"audio")
    client.finish()
    _, events = talk(client, server)
    assert events == [
        Message(9, 40, 1, b"video" * 5000),
        ScriptTag(50, "onMetaData", ({"width": 2.0},), amf0.encode({"width": 2.0})),
        Message(8, 60, 1, b"audio"),
        PublishEnded("FCUnpublish"),
    ]
    assert server.state is RtmpState.CONNECTED


def test_play_from_handshake_to_end() -> None:
    server, client = ServerConnection(), a_client(ClientRole.PLAY)

    def answer(event: Any) -> None:
        if isinstance(event, PlayRequested):
            server.accept_play()

    heard, events = talk(client, server, answer)
    assert heard == [Accepted()]
    assert [type(e) for e in events] == [Connected, PlayRequested]
    media = [Message(9, 40, 1, b"v" * 100_000), Message(8, 0xFFFFFFF0, 1, b"a")]
    for m in media:
        assert client.receive(shared_message(6, m.type_id, m.timestamp, m.payload, server.chunk_size)) == [m]
    server.end_play("over")
    assert server.closing and server.close_reason == "over"
    assert [type(e).__name__ for e in client.receive(server.data_to_send())] == ["Ended"]


def test_a_whole_publish_gives_the_same_result_for_any_cuts() -> None:
    writer = ChunkWriter()
    data = b"\x03" + bytes(3072) + writer.write(3, 20, 0, 0, amf0.encode("connect", 1, {"app": "stream"}))
    data += writer.write(3, 20, 0, 0, amf0.encode("publish", 2, None, "id?sign=x"))
    data += writer.write(4, 8, 7, 1, b"\xaf\x01x") + writer.write(6, 9, 8, 1, b"v" * 300)
    data += writer.write(3, 20, 0, 0, amf0.encode("FCUnpublish", 3, None, "id"))

    def make() -> Any:
        server = ServerConnection()

        def receive(piece: bytes) -> list[Any]:
            events: list[Any] = server.receive(piece)
            return events

        return receive

    assert [type(e) for e in feed_all_ways(make, data)] == [Connected, PublishRequested]


def test_connect_is_answered_with_window_bandwidth_chunk_size_and_result() -> None:
    peer = Scripted()
    peer.connect(objectEncoding=3.0)
    heard = peer.heard()
    assert [m.type_id for m in heard] == [5, 6, 20]
    assert heard[0].payload == struct.pack(">I", 5_000_000)
    assert heard[1].payload == struct.pack(">IB", 5_000_000, 2)
    assert peer.reader.chunk_size == 65536
    name, transaction, _, info = amf0.decode(heard[2].payload)
    assert (name, transaction, info["code"], info["objectEncoding"]) == (
        "_result",
        1.0,
        "NetConnection.Connect.Success",
        3.0,
    )
    assert "fourCcList" not in info


def test_enhanced_clients_learn_our_fourccs() -> None:
    peer = Scripted()
    events = peer.connect(fourCcList=["av01", "hvc1"])
    assert events[0].fourccs == ("av01", "hvc1")
    info = peer.commands()[0][3]
    assert "hvc1" in info["fourCcList"] and info["videoFourCcInfoMap"]["av01"] == 4.0


def test_transaction_ids_are_echoed() -> None:
    peer = Scripted()
    peer.connect()
    peer.heard()
    for number, name in enumerate(("releaseStream", "FCPublish", "createStream", "_checkbw", "getStreamLength"), 7):
        peer.command(name, number, None, "id")
        assert peer.commands()[0][:2] == ["_result", float(number)]


def test_keys_stay_out_of_the_text_of_events() -> None:
    peer = Scripted()
    events = peer.connect("stream?sign=secret", tcUrl="rtmp://h/stream?sign=secret")
    events += peer.command("publish", 3, None, "id?sign=secret", stream=1)
    assert events[1].query == {"sign": "secret"}
    assert "secret" not in repr(events)


def test_another_app_is_refused() -> None:
    peer = Scripted()
    assert peer.connect("live?sign=secret") == []
    codes = peer.commands()
    assert [c[0] for c in codes] == ["_error", "onStatus"]
    assert all(c[-1]["code"] == "NetConnection.Connect.InvalidApp" and c[-1]["level"] == "error" for c in codes)
    assert "secret" not in repr(codes)
    assert peer.server.closing
    assert peer.server.receive(b"anything") == []


def test_publish_start_is_sent_only_after_the_publish_is_accepted() -> None:
    peer = Scripted()
    peer.connect()
    peer.command("FCPublish", 2, None, "id")
    peer.command("createStream", 3, None)
    assert peer.command("publish", 4, None, "id", "live", stream=1) == [
        PublishRequested("stream", "", "id", {}, "live")
    ]
    assert "NetStream.Publish.Start" not in peer.codes()
    assert peer.server.accept_publish() == []
    heard = peer.heard()
    assert [m.type_id for m in heard] == [20, 4, 20]
    assert amf0.decode(heard[0].payload)[0] == "onFCPublish"
    assert heard[1].payload == b"\0\0\0\0\0\x01"
    assert amf0.decode(heard[2].payload)[3]["code"] == "NetStream.Publish.Start"


def test_publish_type_and_stream_are_optional() -> None:
    peer = Scripted()
    peer.connect()
    assert peer.command("publish", 4, None, "id") == [PublishRequested("stream", "", "id", {}, "")]


def test_media_before_the_answer_is_buffered_and_delivered_afterwards() -> None:
    peer = Scripted()
    peer.connect()
    peer.command("publish", 4, None, "id", stream=1)
    assert peer.message(9, b"v", 1, 5) == []
    assert peer.message(18, amf0.encode("onMetaData", {}), 1, 6) == []
    assert peer.server.accept_publish() == [Message(9, 5, 1, b"v"), ScriptTag(6, "onMetaData", ({},), amf0.encode({}))]
    assert peer.message(9, b"w", 1, 7) == [Message(9, 7, 1, b"w")]


@pytest.mark.parametrize("publish", [True, False])
def test_media_before_the_answer_is_bounded(publish: bool) -> None:
    peer = Scripted(ServerConnection(limits=WireLimits(early_media=1000, unexpected_media=1000)))
    peer.connect()
    if publish:
        peer.command("publish", 4, None, "id", stream=1)
    with pytest.raises(RemoteProtocolError, match="more than 1000 bytes while"):
        for _ in range(20):
            peer.message(9, bytes(100), 1)
    assert peer.server.closing


def test_a_rejected_publish_gets_the_reason_and_the_connection_closes() -> None:
    peer = Scripted()
    peer.connect()
    peer.command("publish", 4, None, "id", stream=1)
    peer.heard()
    peer.server.reject_publish("NetStream.Publish.BadName", "in use")
    heard = peer.heard()
    assert heard[0].stream_id == 1
    assert amf0.decode(heard[0].payload)[3] == {
        "level": "error",
        "code": "NetStream.Publish.BadName",
        "description": "in use",
    }
    assert peer.server.closing


def test_running_publish_can_be_ended_by_the_owner() -> None:
    peer = Scripted().publishing()
    peer.server.reject_publish("NetStream.Publish.Unauthorized", "kicked")
    assert peer.codes() == ["NetStream.Publish.Unauthorized"]


def test_empty_stream_name_is_refused() -> None:
    for name, code in (("publish", "NetStream.Publish.BadName"), ("play", "NetStream.Play.StreamNotFound")):
        peer = Scripted()
        peer.connect()
        peer.heard()
        assert peer.command(name, 4, None, "", stream=1) == []
        assert peer.codes() == [code]
        assert peer.server.closing


def test_second_publish_on_one_connection_is_refused_and_the_first_goes_on() -> None:
    peer = Scripted().publishing()
    assert [type(e) for e in peer.command("publish", 9, None, "other", stream=1)] == [CommandIgnored]
    assert peer.codes() == ["NetStream.Publish.BadConnection"]
    assert peer.message(9, b"v", 1) == [Message(9, 0, 1, b"v")]


@pytest.mark.parametrize(
    ("name", "values", "stream"),
    [
        ("FCUnpublish", (None, "id"), 0),
        ("closeStream", (None,), 1),
        ("deleteStream", (None, 1), 0),
        ("deleteStream", (None,), 0),
        ("publish", (None, False), 1),  # Wirecast, Flash
    ],
)
def test_every_way_to_end_a_publish(name: str, values: tuple[Any, ...], stream: int) -> None:
    peer = Scripted().publishing()
    assert peer.command(name, 0, *values, stream=stream) == [PublishEnded(name)]
    assert "NetStream.Unpublish.Success" in peer.codes()
    assert peer.server.state is RtmpState.CONNECTED
    assert [type(e) for e in peer.command("publish", 9, None, "id", stream=1)] == [PublishRequested]


def test_the_end_of_a_publish_may_come_twice() -> None:
    peer = Scripted().publishing()
    peer.command("FCUnpublish", 0, None, "id")
    assert peer.command("publish", 0, None, False, stream=1) == []
    assert not peer.server.closing


def test_deleting_another_stream_ends_nothing() -> None:
    peer = Scripted().publishing()
    assert peer.command("deleteStream", 0, None, 5) == []
    assert peer.command("publish", 0, None, False, stream=2) == []
    assert peer.server.state is RtmpState.PUBLISHING


def test_messages_after_a_request_wait_for_its_answer() -> None:
    writer, server = ChunkWriter(), Scripted().server
    data = writer.write(3, 20, 0, 0, amf0.encode("connect", 1, {"app": "stream"}))
    for name in ("one", "two"):
        data += writer.write(3, 20, 0, 0, amf0.encode("publish", 2, None, name))
        data += writer.write(6, 9, 8, 1, b"v" * 300)
        data += writer.write(3, 20, 0, 0, amf0.encode("FCUnpublish", 3, None, name))
    assert [type(e) for e in server.receive(data)] == [Connected, PublishRequested]
    events = server.accept_publish()
    assert events[:2] == [Message(9, 8, 1, b"v" * 300), PublishEnded("FCUnpublish")]
    assert [e.name for e in events[2:]] == ["two"]
    assert server.state is RtmpState.PUBLISH_PENDING
    assert server.accept_publish() == events[:2]


def test_an_invalid_buffered_message_fails_when_it_is_read() -> None:
    peer = Scripted()
    peer.connect()
    peer.command("publish", 4, None, "id", stream=1)
    assert peer.message(20, b"\xff") == []
    with pytest.raises(RemoteProtocolError):
        peer.server.accept_publish()
    assert peer.server.closing


def test_control_messages_are_answered_while_a_request_waits() -> None:
    peer = Scripted()
    peer.connect()
    peer.command("play", 4, None, "id", stream=1)
    peer.heard()
    peer.message(4, b"\0\x06\0\0\x12\x34")
    assert [m.payload for m in peer.heard()] == [b"\0\x07\0\0\x12\x34"]


def test_answers_without_a_request_are_a_local_error() -> None:
    server = Scripted().server
    for call in (
        server.accept_publish,
        server.accept_play,
        lambda: server.reject_publish("c", "d"),
        lambda: server.reject_play("c", "d"),
        lambda: server.end_play("r"),
    ):
        with pytest.raises(LocalProtocolError):
            call()


def test_empty_media_is_ignored() -> None:
    peer = Scripted().publishing()
    assert peer.message(8, b"", 1) == []
    assert peer.message(9, b"", 1) == []


def test_media_after_the_end_is_ignored_for_a_while() -> None:
    peer = Scripted().publishing()
    peer.command("FCUnpublish", 0, None, "id")
    assert peer.message(9, b"v", 1) == []


def aggregate(*parts: tuple[int, int, bytes]) -> bytes:
    out = b""
    for kind, time, body in parts:
        head = bytes((kind,)) + len(body).to_bytes(3, "big") + (time & 0xFFFFFF).to_bytes(3, "big")
        out += head + bytes((time >> 24,)) + bytes(3) + body + struct.pack(">I", len(body) + 11)
    return out


def test_aggregate_messages_are_split_and_moved_to_their_time() -> None:
    peer = Scripted().publishing()
    payload = aggregate(
        (8, 0x01000000, b"a"), (9, 0x01000028, b"v"), (8, 0x01000030, b""), (18, 0x01000032, amf0.encode("x", 1))
    )
    assert peer.message(22, payload + b"\x08\0\0\xff", 1, 500) == [
        Message(8, 500, 1, b"a"),
        Message(9, 540, 1, b"v"),
        ScriptTag(550, "x", (1.0,), amf0.encode(1)),
    ]


@pytest.mark.parametrize(("type_id", "payload"), [(8, b"a"), (8, b""), (1, b"a")])
def test_aggregates_of_too_many_messages_are_refused(type_id: int, payload: bytes) -> None:
    peer = Scripted().publishing()
    with pytest.raises(RemoteProtocolError, match="aggregate"):
        peer.message(22, aggregate((type_id, 0, payload)) * 5000, 1)


def test_amf3_messages_are_read() -> None:
    peer = Scripted()
    events = peer.message(17, b"\0" + amf0.encode("connect", 1, {"app": "stream"}))
    assert [type(e) for e in events] == [Connected]
    events = peer.message(17, amf0.encode("publish", 2, None, "id"), 1)
    assert [type(e) for e in events] == [PublishRequested]
    peer.server.accept_publish()
    assert peer.message(15, b"\0" + amf0.encode("onMetaData", 1.0), 1) == [
        ScriptTag(0, "onMetaData", (1.0,), amf0.encode(1.0))
    ]


def test_unknown_commands_and_messages_are_ignored() -> None:
    peer = Scripted().publishing()
    assert peer.command("setPeerInfo", 9, None) == [CommandIgnored("setPeerInfo", "unknown")]
    assert peer.commands() == [["_result", 9.0, None, None]]
    assert peer.command("_result", 9, None) == [CommandIgnored("_result", "unknown")]
    assert peer.command("onWhatever", 0, None) == [CommandIgnored("onWhatever", "unknown")]
    assert peer.commands() == []
    assert peer.message(19, b"shared object") == [CommandIgnored("message type 19", "13 bytes")]
    assert peer.message(200, b"") == [CommandIgnored("message type 200", "0 bytes")]
    assert peer.server.state is RtmpState.PUBLISHING


def test_unreadable_metadata_does_not_end_a_stream() -> None:
    peer = Scripted().publishing()
    assert [type(e) for e in peer.message(18, b"\xff\xff", 1)] == [CommandIgnored]
    assert peer.server.state is RtmpState.PUBLISHING


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x00" * 9, b"\x02\x00\x05con"])
def test_unreadable_commands_are_refused(payload: bytes) -> None:
    peer = Scripted()
    with pytest.raises(RemoteProtocolError, match="command"):
        peer.message(20, payload)
    assert peer.server.closing and peer.server.close_reason


def test_commands_before_connect_and_a_second_connect_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="before connect"):
        Scripted().command("createStream", 1, None)
    peer = Scripted()
    peer.connect()
    with pytest.raises(RemoteProtocolError, match="connect while"):
        peer.connect()


@pytest.mark.parametrize("values", [(), (None,), ("text",), ({},), ({"app": 5.0},)])
def test_connect_without_an_app_is_an_invalid_app(values: tuple[Any, ...]) -> None:
    peer = Scripted()
    assert peer.command("connect", 1, *values) == []
    assert peer.server.close_reason == "NetConnection.Connect.InvalidApp"


def test_streams_are_numbered_from_one_and_bounded() -> None:
    peer = Scripted()
    peer.connect()
    peer.heard()
    for _ in range(9):
        peer.command("createStream", 2, None)
    answers = peer.commands()
    assert [a[3] for a in answers[:8]] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert answers[8][0] == "_error"
    peer.command("deleteStream", 0, None, 3)
    peer.command("createStream", 2, None)
    assert peer.commands()[-1][3] == 3.0


# Play


def test_play_is_answered_with_begin_reset_start_and_access() -> None:
    peer = Scripted()
    peer.connect()
    peer.command("createStream", 2, None)
    peer.heard()
    assert peer.command("play", 3, None, "id?sign=p", -1, 5, stream=1) == [
        PlayRequested("stream", "", "id", {"sign": "p"}, -1.0, 5.0)
    ]
    peer.server.accept_play()
    heard = peer.heard()
    assert [m.type_id for m in heard] == [4, 20, 20, 18]
    assert [amf0.decode(m.payload)[3]["code"] for m in heard[1:3]] == ["NetStream.Play.Reset", "NetStream.Play.Start"]
    assert {m.stream_id for m in heard[1:]} == {1}
    assert amf0.decode(heard[3].payload) == ["|RtmpSampleAccess", True, True]


def test_rejected_play() -> None:
    peer = Scripted()
    peer.connect()
    peer.command("play", 3, None, "id", stream=1)
    peer.heard()
    peer.server.reject_play("NetStream.Play.StreamNotFound", "no such stream")
    assert peer.codes() == ["NetStream.Play.StreamNotFound"]
    assert peer.server.closing


def test_pause_and_unpause() -> None:
    peer = Scripted().playing()
    assert peer.command("pause", 0, None, True, 0, stream=1) == [Paused(True)]
    assert peer.codes() == ["NetStream.Pause.Notify"]
    assert peer.command("pause", 0, None, False, 0, stream=1) == [Paused(False)]
    assert peer.codes() == ["NetStream.Unpause.Notify"]


def test_other_commands_of_players_are_answered() -> None:
    peer = Scripted().playing()
    assert peer.command("receiveAudio", 0, None, False, stream=1) == []
    assert peer.command("receiveVideo", 5, None, True, stream=1) == []
    assert peer.commands() == [["_result", 5.0, None, None]]
    assert [type(e) for e in peer.command("seek", 0, None, 5, stream=1)] == [CommandIgnored]
    assert peer.codes() == ["NetStream.Seek.Notify"]
    peer.command("FCSubscribe", 6, None, "id")
    assert [c[0] for c in peer.commands()] == ["_result", "onFCSubscribe"]


def test_a_player_may_change_to_another_stream() -> None:
    peer = Scripted().playing()
    events = peer.command("play", 0, None, "other", stream=1)
    assert [type(e) for e in events] == [PlayEnded, PlayRequested]
    peer.server.accept_play()
    events = peer.command("play2", 0, None, {"streamName": "third"}, stream=1)
    assert [e.name for e in events[1:]] == ["third"]


def test_closing_the_stream_ends_the_play() -> None:
    peer = Scripted().playing()
    assert peer.command("closeStream", 0, None, stream=1) == [PlayEnded("closeStream")]


def test_a_publisher_cannot_play_on_its_connection() -> None:
    peer = Scripted().publishing()
    assert [type(e) for e in peer.command("play", 0, None, "id", stream=2)] == [CommandIgnored]
    assert peer.codes() == ["NetStream.Play.Failed"]
    assert peer.server.state is RtmpState.PUBLISHING


def test_the_player_is_notified_of_the_end_of_the_stream() -> None:
    peer = Scripted().playing()
    peer.server.end_play("publisher left")
    heard = peer.heard()
    assert [m.type_id for m in heard] == [20, 4, 20]
    assert amf0.decode(heard[0].payload)[3]["code"] == "NetStream.Play.UnpublishNotify"
    assert heard[1].payload == b"\0\x01\0\0\0\x01"


# Control


def test_pings_both_ways() -> None:
    peer = Scripted()
    peer.message(4, b"\0\x06\0\0\x12\x34")
    assert [m.payload for m in peer.heard()] == [b"\0\x07\0\0\x12\x34"]
    peer.server.ping((1 << 32) + 77)
    assert [m.payload for m in peer.heard()] == [b"\0\x06\0\0\0\x4d"]
    assert peer.message(4, b"\0\x07\0\0\0\x4d") == []


def test_user_control_of_any_kind_is_tolerated() -> None:
    peer = Scripted()
    assert peer.message(4, b"\0\x03\0\0\0\x01\0\0\x0b\xb8") == []
    assert peer.message(4, b"\0\x1f\0\0\0\x01") == []
    assert [type(e) for e in peer.message(4, b"\0")] == [CommandIgnored]


def test_acknowledgements_go_out_each_half_window() -> None:
    peer = Scripted().publishing()
    peer.message(5, struct.pack(">I", 10_000))
    peer.heard()
    acks = []
    for _ in range(10):
        peer.message(9, bytes(2000), 1)
        acks += [int.from_bytes(m.payload, "big") for m in peer.heard() if m.type_id == 3]
    assert len(acks) in (3, 4)
    assert all(5000 <= b - a <= 8000 for a, b in itertools.pairwise(acks))
    assert acks[-1] <= peer.server.received


def test_a_peer_without_a_window_gets_no_acknowledgement() -> None:
    peer = Scripted().publishing()
    peer.heard()
    for _ in range(100):
        peer.message(9, bytes(100_000), 1)
    assert peer.heard() == []


def test_wirecast_gets_acknowledgements_although_it_announces_no_window() -> None:
    """It sends at most the bytes of Set Peer Bandwidth, 5 MB, without one."""
    peer = Scripted()
    peer.connect(flashVer="Wirecast/FM 1.0 (compatible; FMSc/1.0)")
    peer.command("publish", 3, None, "id?sign=1-a", "live", stream=1)
    peer.server.accept_publish()
    peer.heard()
    acks = [0]
    for _ in range(200):
        peer.message(9, bytes(100_000), 1)
        acks += [int.from_bytes(m.payload, "big") for m in peer.heard() if m.type_id == 3]
    assert all(b - a < 4_000_000 for a, b in itertools.pairwise([*acks, peer.server.received]))


@pytest.mark.parametrize(("window", "largest"), [(2_500_000, 0xF0000000), (100_000, 0xFFFFFFFF)])
def test_acknowledgements_of_more_than_4_gb(window: int, largest: int) -> None:
    """As Flash Player sent them: 0xEFC806B8, then 0x500EB7. Moblin, with a small window, counts modulo 2³²."""
    wire = Wire(WireLimits())
    wire.handle_control(Message(5, 0, 0, struct.pack(">I", window)))
    for _ in range(30):
        wire.received += 300_000_000
        wire.receive(b"")
    acks = [int.from_bytes(m.payload, "big") for m in ChunkReader().receive(b"".join(wire.queued))]
    assert len(acks) == 30
    assert largest - 300_000_000 < max(acks) <= largest
    for before, after in itertools.pairwise(acks):
        anew = 300_000_000 if largest == 0xF0000000 else before + 300_000_000 - (1 << 32)
        assert after in (before + 300_000_000, anew)


def test_a_tiny_window_does_not_cause_many_acknowledgements() -> None:
    peer = Scripted()
    peer.message(5, struct.pack(">I", 1))
    for _ in range(50):
        peer.message(4, b"\0\x1f\0\0\0\x01")
    assert len(peer.heard()) <= 2


def test_acknowledgements_of_the_peer_are_accepted() -> None:
    peer = Scripted()
    for value in (0x70000000, 0xE0000000, 0x10, 0x08):
        assert peer.message(3, struct.pack(">I", value)) == []


def test_peer_bandwidth_is_answered_with_a_window() -> None:
    peer = Scripted()
    peer.message(6, struct.pack(">IB", 1_000_000, 2))
    assert [(m.type_id, m.payload) for m in peer.heard()] == [(5, struct.pack(">I", 1_000_000))]
    peer.message(6, struct.pack(">IB", 1_000_000, 2))
    assert peer.heard() == []


@pytest.mark.parametrize("kind", [3, 5, 6])
def test_control_messages_cut_short_are_refused(kind: int) -> None:
    with pytest.raises(RemoteProtocolError, match="control message"):
        Scripted().message(kind, b"\0\0\0")


def test_sent_bytes_are_chunks_that_a_reader_takes() -> None:
    peer = Scripted().playing()
    shared = shared_message(6, 9, 1, bytes(200_000), peer.server.chunk_size)
    assert len(ChunkReader().receive(struct.pack(">BIHBI", 2, 0, 4, 1, 0) + b"\0\x01\0\0" + shared)) == 1
    assert peer.reader.receive(shared) == [Message(9, 1, 1, bytes(200_000))]


_APP = amf0.encode("app")[1:] + amf0.encode("stream")


@pytest.mark.parametrize(
    "value",
    [
        b"\x0f\0\0\0\4<a/>",
        b"\x0d",
        b"\x04",
        b"\x0e",
        b"\x10\0\3foo\0\1a\x05\0\0\x09",
        b"\x0a\0\0\0\2\x0a\0\0\0\1\x05\x0a\0\0\0\1\x0a\0\0\0\0",
        b"\x11\x09\x03\x01\x04\x01",
        b"\x11\x0d\x03\x00\0\0\0\1",
    ],
    ids=["XML", "unsupported", "movie clip", "record set", "typed object", "nested arrays", "AMF3", "AMF3 vector"],
)
@pytest.mark.parametrize("typed", [False, True], ids=["object", "typed object"])
def test_connect_may_carry_every_kind_of_value(value: bytes, typed: bool) -> None:
    opened = b"\x10\0\3foo" if typed else b"\x03"
    payload = amf0.encode("connect", 1.0) + opened + _APP + b"\0\1z" + value + b"\0\0\x09"
    for behind in (b"", value):  # as an argument of the user's, too
        peer = Scripted()
        assert [type(event) for event in peer.message(20, payload + behind)] == [Connected]
        peer.command("createStream", 2, None)
        assert peer.codes()[0] == "NetConnection.Connect.Success"


@pytest.mark.parametrize("kind", [0, 7, 10, 11, 12, 13, 14, 16, 19, 21, 23, 99, 255])
@pytest.mark.parametrize("body", [b"", b"a", b"abcd", b"b" * 5000])
def test_messages_of_unknown_types_are_ignored_while_publishing(kind: int, body: bytes) -> None:
    peer = Scripted().publishing()
    events = peer.message(kind, body, stream=1)
    assert all(isinstance(event, CommandIgnored) for event in events)
    assert peer.message(9, b"picture", stream=1, time=40) == [Message(9, 40, 1, b"picture")]
    assert not peer.server.closing


def test_the_connection_reports_its_buffered_bytes() -> None:
    peer = Scripted(ServerConnection())
    peer.connect()
    assert peer.server.held == 0
    peer.command("publish", 4, None, "id", stream=1)
    peer.message(9, bytes(1000), 1)
    assert 1000 <= peer.server.held < 1500, "it waits for the answer"
    peer.server.accept_publish()
    assert peer.server.held == 0


def test_the_bytes_of_a_handshake_count_as_buffered() -> None:
    server = ServerConnection()
    server.receive(b"\x03" + bytes(700))
    assert server.held == 701


def test_requests_of_the_peer_are_counted_and_media_is_not() -> None:
    peer = Scripted().publishing()
    asked = peer.server.asked
    peer.message(9, b"v", 1)
    peer.message(8, b"a", 1)
    assert peer.server.asked == asked
    peer.message(4, b"\0\6\0\0\0\1")
    peer.message(18, amf0.encode("onTextData", {}), 1)
    peer.command("foo", 0, None)
    assert peer.server.asked == asked + 3


def test_a_connection_without_its_buffers_reads_nothing_more() -> None:
    peer = Scripted(ServerConnection())
    peer.connect()
    peer.command("publish", 4, None, "id", stream=1)
    peer.message(9, bytes(1000), 1)
    peer.server.release_buffers()
    assert peer.server.closing
    assert peer.server.receive(b"more") == []


def test_the_number_of_values_of_a_command_is_limited() -> None:
    peer = Scripted()
    peer.connect()
    peer.command("foo", 0, *[None] * 990)
    with pytest.raises(RemoteProtocolError, match="too many items"):
        peer.command("foo", 0, *[None] * 1000)


def test_the_received_bytes_of_an_unfinished_message_are_limited_before_acceptance() -> None:
    peer = Scripted(ServerConnection(limits=WireLimits(message=1 << 20, early_media=1000)))
    peer.connect()
    head = b"\x06\0\0\0" + (500_000).to_bytes(3, "big") + b"\x09" + b"\1\0\0\0"
    assert peer.server.receive(b"\x02\0\0\0\0\0\x04\x01\0\0\0\0" + (1 << 20).to_bytes(4, "big") + head) == []
    assert peer.server.receive(bytes(900)) == []
    assert peer.server.held == 900
    with pytest.raises(RemoteProtocolError, match="unfinished"):
        peer.server.receive(bytes(200))
