"""The connect command and related commands, as encoders, players and faulty clients send them."""

import re
from typing import Any

import pytest

from gateway.formats import amf0
from tests.support.gateway import Channel, Gateway
from tests.support.rtmp import COMMAND_AMF3, VIDEO, command, connected, message
from tests.support.shared_gateway import shared_gateway

STARTED = "NetStream.Publish.Start"


gateway = shared_gateway(MILLRACE_STREAM__WAIT_FOR_PUBLISHER="5", MILLRACE_STREAM__LINGER="0")


@pytest.fixture
def channel(gateway: Gateway) -> Channel:
    return gateway.channel()


@pytest.mark.parametrize("app", ["stream", "stream/", "/stream", "/stream/", "stream/inst", "stream/inst/deep"])
async def test_all_forms_of_the_app_name_are_accepted(gateway: Gateway, channel: Channel, app: str) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        assert (await peer.publish(channel.obs_key, app=app)).code == STARTED


@pytest.mark.parametrize("app", ["live", "streams", "", "Stream", "live/stream", "../stream", "stream\0", "x" * 10_000])
async def test_an_unknown_app_is_refused_and_closed(gateway: Gateway, channel: Channel, app: str) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.command("connect", 1, {"app": app, "tcUrl": f"rtmp://127.0.0.1/{app}"})
        said = await peer.until("_result")
        assert (said.level, said.code) == ("error", "NetConnection.Connect.InvalidApp")
        assert len(str(said.info["description"])) < 300
        assert await peer.closed()


async def test_a_connect_without_app_or_address_is_refused_as_invalid_app(gateway: Gateway) -> None:
    for said in ({}, None, {"app": 7.0}, {"app": None, "tcUrl": None}, "stream"):
        async with connected(gateway.ports["rtmp"]) as peer:
            await peer.handshake()
            await peer.command("connect", 1, said)
            assert (await peer.until("_result")).code == "NetConnection.Connect.InvalidApp"
            assert await peer.closed()


async def test_the_app_can_come_from_the_tc_url_alone(gateway: Gateway, channel: Channel) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.command("connect", 1, {"tcUrl": "rtmp://127.0.0.1:1935/stream"})
        assert (await peer.until("_result")).code == "NetConnection.Connect.Success"
        await peer.create_stream()
        assert (await peer.publish_again(channel.obs_key)).code == STARTED


async def test_the_answer_to_connect_repeats_transaction_and_encoding(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.command("connect", 77, {"app": "stream", "objectEncoding": 3.0, "fourCcList": ["hvc1", "av01"]})
        said = await peer.until("_result")
        assert said.transaction == 77
        assert said.info["objectEncoding"] == 3
        assert {"hvc1", "av01"} <= set(said.info["fourCcList"])
        assert [m.type_id for m in peer.heard[:2]] == [5, 6], "window and bandwidth come first"
        assert peer.told_chunk_size == 65536


async def test_a_publisher_can_use_amf3_commands(gateway: Gateway, channel: Channel) -> None:
    def amf3(name: str, transaction: float, *values: Any, stream: int = 0) -> bytes:
        return message(COMMAND_AMF3, b"\0" + amf0.encode(name, transaction, *values), stream=stream)

    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.send(amf3("connect", 1, {"app": "stream", "objectEncoding": 3.0}))
        assert (await peer.until("_result")).code == "NetConnection.Connect.Success"
        await peer.send(amf3("createStream", 2, None))
        assert (await peer.until("_result")).values[-1] == 1
        await peer.send(amf3("publish", 3, None, channel.obs_key, "live", stream=1))
        assert (await peer.until(STARTED)).code == STARTED


async def test_a_connect_may_contain_amf3_values(gateway: Gateway, channel: Channel) -> None:
    # avmplus marker, then an AMF3 string: an empty dynamic object would do as well.
    payload = amf0.encode("connect", 1, {"app": "stream"})[:-3]
    payload += b"\x00\x05extra" + b"\x11\x06\x07abc" + b"\x00\x00\x09"
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake(behind=message(20, payload))
        assert (await peer.until("_result")).code == "NetConnection.Connect.Success"


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x02\x00\x07connec", id="cut inside the name"),
        pytest.param(amf0.encode(5.0, 1.0), id="no name"),
        pytest.param(amf0.encode("connect", 1) + b"\x03" + b"\x00\x01a\x03" * 5000, id="too deep"),
        pytest.param(amf0.encode("connect", 1) + b"\x0a\x7f\xff\xff\xff" + b"\x05" * 60_000, id="too many"),
        pytest.param(amf0.encode("connect", 1) + b"\x0c\x7f\xff\xff\xffx", id="a string that is not there"),
        pytest.param(amf0.encode("connect", 1) + b"\xee", id="unknown marker"),
        pytest.param(amf0.encode("connect", 1) + b"\x0a\0\0\1\0" + b"\x07\0\0" * 256, id="references in circles"),
    ],
)
async def test_an_unreadable_command_closes_the_connection(gateway: Gateway, payload: bytes) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake(behind=message(20, payload))
        assert await peer.closed()


async def test_a_large_command_object_is_read(gateway: Gateway) -> None:
    many = {"app": "stream", **{f"key{n}": "v" * 40 for n in range(500)}}
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.command("connect", 1, many)
        assert (await peer.until("_result")).code == "NetConnection.Connect.Success"


@pytest.mark.parametrize("size", [{"app": "stream", "swfUrl": "x" * 40_000}, {f"{n}": None for n in range(2000)}])
async def test_a_huge_command_object_before_authentication_closes_the_connection(
    gateway: Gateway, size: dict[str, Any]
) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.command("connect", 1, size)
        assert await peer.closed()


async def test_unknown_commands_are_answered_and_change_nothing(gateway: Gateway, channel: Channel) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.command("hello", 9, None, "world")
        assert (await peer.until("_result")).transaction == 9
        assert (await peer.connect()).code == "NetConnection.Connect.Success"
        await peer.command("x" * 5000, 10, None)
        assert (await peer.until("_result")).transaction == 10
        await peer.send(message(99, b"what?"), message(16, b"\0shared"), message(19, b"object"), message(0, b""))
        await peer.create_stream()
        assert (await peer.publish_again(channel.obs_key)).code == STARTED
        await peer.command("setSomething", 11, None, stream=1)
        assert (await peer.until("_result")).transaction == 11


async def test_a_second_connect_closes_the_connection(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.connect()
        await peer.command("connect", 2, {"app": "stream"})
        assert await peer.closed()


@pytest.mark.parametrize("name", ["publish", "play", "createStream", "deleteStream"])
async def test_a_command_before_connect_closes_the_connection(gateway: Gateway, channel: Channel, name: str) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.command(name, 1, None, channel.obs_key, stream=1)
        assert await peer.closed()


@pytest.mark.parametrize("stream", [0, 1, 5])
async def test_publishing_works_without_create_stream(gateway: Gateway, channel: Channel, stream: int) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.connect()
        assert (await peer.publish_again(channel.obs_key, stream=stream)).code == STARTED


async def test_publishing_works_on_a_second_message_stream(gateway: Gateway, channel: Channel) -> None:
    async with connected(gateway.ports["rtmp"]) as peer, connected(gateway.ports["rtmp"]) as player:
        await peer.handshake()
        await peer.connect()
        assert [await peer.create_stream() for _ in range(3)] == [1, 2, 3]
        said = await peer.publish_again(channel.obs_key, stream=2)
        assert (said.code, said.stream) == (STARTED, 2)
        await peer.headers()
        await peer.film(range(0, 700, 33))
        assert (await player.play(channel.id)).code == "NetStream.Play.Start"


async def test_the_number_of_unused_message_streams_is_limited(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.connect()
        given = [await peer.create_stream() for _ in range(8)]
        assert given == list(range(1, 9))
        await peer.command("createStream", 9, None)
        assert (await peer.until("_result")).name == "_error"
        await peer.command("deleteStream", 10, None, 3)
        assert await peer.create_stream() == 3


@pytest.mark.parametrize("kind", ["live", "record", "append", "nonsense", None, 5.0])
async def test_every_publish_type_is_treated_as_live(gateway: Gateway, channel: Channel, kind: Any) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.connect()
        await peer.command("publish", 5, None, channel.obs_key, *([kind] if kind else []), stream=1)
        assert (await peer.until(STARTED)).code == STARTED


async def test_the_app_may_contain_the_stream_name_and_the_key(gateway: Gateway, channel: Channel) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.connect(f"stream/{channel.obs_key}")
        assert (await peer.publish_again("")).code == STARTED


async def test_fme_commands_are_answered_in_order(gateway: Gateway, channel: Channel) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.connect()
        await peer.command("releaseStream", 2, None, channel.obs_key)
        await peer.command("FCPublish", 3, None, channel.obs_key)
        await peer.command("createStream", 4, None)
        await peer.command("_checkbw", 5, None)
        assert [(await peer.until("_result")).transaction for _ in range(4)] == [2, 3, 4, 5]
        await peer.command("publish", 6, None, channel.obs_key, "live", stream=1)
        assert (await peer.until("onFCPublish")).code == STARTED
        said = await peer.until("onStatus")
        assert (said.code, said.level, said.stream) == (STARTED, "status", 1)


async def test_a_publisher_may_send_everything_up_to_the_media_in_one_packet(
    gateway: Gateway, channel: Channel
) -> None:
    """The publisher waits for no answer, not even for the answer to its key."""
    async with connected(gateway.ports["rtmp"]) as peer, connected(gateway.ports["rtmp"]) as player:
        await peer.handshake(
            behind=command("connect", 1, {"app": "stream"})
            + command("createStream", 2, None)
            + command("publish", 3, None, channel.obs_key, "live", stream=1)
        )
        await peer.headers()
        await peer.film(range(0, 1000, 33), gop=100)
        assert (await peer.until(STARTED)).code == STARTED
        assert (await player.play(channel.id)).code == "NetStream.Play.Start"
        media = await player.media(20)
        assert next(m.payload for m in media if m.type_id == VIDEO)[1] == 0, "the sequence header comes first"


async def test_an_empty_stream_name_is_refused_as_bad_name(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        assert (await peer.publish("")).code == "NetStream.Publish.BadName"
        assert await peer.closed()


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(message(4, b"\0\6\0\0\0\1", csid=2), id="pings"),
        pytest.param(command("createStream", 3, None), id="commands"),
        pytest.param(command("FCSubscribe", 3, None, "x"), id="subscriptions"),
    ],
)
async def test_a_client_that_sends_requests_but_reads_no_answers_is_closed(gateway: Gateway, what: bytes) -> None:
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.connect()
        peer.stop_reading()
        with pytest.raises(ConnectionError):
            for _ in range(600):
                await peer.send(what * 2000)
    assert re.search("does not read the answers it asks for|too many messages without media", gateway.log)


async def test_the_log_contains_no_internal_error(gateway: Gateway) -> None:
    assert "Traceback" not in gateway.log
    assert '"level":"error"' not in gateway.log
