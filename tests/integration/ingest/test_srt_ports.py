"""The port of a channel over SRT: encoders push to it without a stream id."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import Reject
from tests.support.clients import until
from tests.support.free_ports import free_port
from tests.support.gateway import Channel, Gateway
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.srt import PATIENT, call, srt_push
from tests.support.tools import need

SECRET = "a long passphrase"
FILM = Film("srt", seconds=40)

gateway = shared_gateway("ffmpeg", films=[FILM], MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0", **PATIENT)


def refusal(port: int, stream_id: str = "", timeout: float = 5.0, **options: object) -> int | None:
    """Returns the code with which a caller is refused; 0: it is not; None: nobody answers in time."""
    try:
        call(port, stream_id, timeout, **options).close()
    except HandshakeRefused as error:
        return error.code
    except TimeoutError:
        return None
    return 0


def change(channel: Channel, **fields: object) -> None:
    assert channel.gateway.api("PUT", f"/videostream/{channel.id}", fields).status == 200


@pytest.fixture
def port() -> int:
    return free_port()


def test_an_encoder_without_a_stream_id_pushes_to_the_port(gateway: Gateway, port: int) -> None:
    need("ffmpeg")
    channel = gateway.channel(srtPort=port)
    with srt_push(FILM, f"srt://127.0.0.1:{port}", loop=True):
        channel.wait_live()
        assert channel.session()["publisher"]["protocol"] == "srt"
        assert refusal(port, "a name that some encoder sends") == Reject.CONFLICT


def test_a_port_that_is_moved_ends_its_push_and_opens_elsewhere(gateway: Gateway, port: int) -> None:
    channel, other = gateway.channel(srtPort=port), free_port()
    with srt_push(FILM, f"srt://127.0.0.1:{port}", loop=True):
        channel.wait_live()
        change(channel, srtPort=other)
        until(lambda: channel.session()["publisher"] is None, "the push has ended")
    assert refusal(port, timeout=0.3) is None
    assert refusal(other) == 0


def test_the_passphrase_and_the_expiry_of_the_channel_count(gateway: Gateway, port: int) -> None:
    channel = gateway.channel(srtPort=port, srtPassphrase=SECRET)
    assert refusal(port) == Reject.UNSECURE
    assert refusal(port, passphrase=SECRET) == 0
    change(channel, outdate=1_000)
    assert refusal(port, passphrase=SECRET) == Reject.UNAUTHORIZED
    change(channel, outdate=4_102_444_800)
    assert refusal(port, passphrase=SECRET) == 0, "the new key counts"


def test_the_port_of_a_deleted_channel_is_closed(gateway: Gateway, port: int) -> None:
    channel = gateway.channel(srtPort=port)
    assert refusal(port) == 0
    assert gateway.api("DELETE", f"/videostream/{channel.id}").status == 200
    until(lambda: refusal(port, timeout=0.3) is None, "the port is closed")


@contextlib.contextmanager
def in_use(gateway: Gateway, port: int) -> Iterator[Channel]:
    """A channel whose port belongs to another program during the block."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", port))
        channel = gateway.channel(srtPort=port)
        until(lambda: f":{port} cannot be opened" in gateway.log, "the log names the port")
        yield channel


def test_a_port_in_use_is_told(gateway: Gateway, port: int) -> None:
    with in_use(gateway, port) as channel:
        (finding,) = channel.session()["health"]
        assert (finding["code"], finding["value"], finding["level"]) == ("srt_port", str(port), "fault")
        assert f":{port} cannot be opened" in finding["text"]


@pytest.mark.nightly
def test_a_port_in_use_is_opened_when_it_is_free(gateway: Gateway, port: int) -> None:
    with in_use(gateway, port) as channel:
        assert channel.session()["health"]
    until(lambda: refusal(port, timeout=0.3) == 0, "the port is tried again", 40)
    assert channel.session()["health"] == []
