"""RTSP messages and the packets between them, however the network cuts them."""

import pytest

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtp.sender import rtp_packet
from gateway.protocols.rtsp.messages import (
    Interleaved,
    Received,
    RtspReader,
    RtspRequest,
    RtspResponse,
    answer,
    interleaved,
    interleaved_rtp,
    request,
    split_interleaved,
)
from tests.support.feeding import feed_all_ways

ANSWER = b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nContent-Length: 5\r\nWWW-Authenticate: a\r\nwww-authenticate: b\r\n\r\nhello"


def test_messages_and_packets_are_read_however_they_are_cut() -> None:
    data = ANSWER + b"$\x00\x00\x03abc" + b"\r\n" + b"OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n" + b"$\x01\x00\x00"
    response, packet, asked, empty = feed_all_ways(lambda: RtspReader().receive, data)
    assert response == RtspResponse(200, {"cseq": "3", "content-length": "5", "www-authenticate": "a\nb"}, b"hello")
    assert response.number == 3
    assert packet == Interleaved(0, b"abc")
    assert asked == RtspRequest("OPTIONS", "*", {"cseq": "9"})
    assert empty == Interleaved(1, b"")


def test_lines_may_end_without_a_carriage_return() -> None:
    """As of YUAN's encoders (pull request 1936 of OvenMediaEngine), and of a camera (1922 of Janus)."""
    mixed = ANSWER.replace(b"\r\n", b"\n").replace(b"OK\n", b"OK\r\n")
    for data in (ANSWER.replace(b"\r\n", b"\n"), mixed):
        (response, packet) = feed_all_ways(lambda: RtspReader().receive, data + b"$\x00\x00\x03abc")
        assert response == RtspResponse(200, {"cseq": "3", "content-length": "5", "www-authenticate": "a\nb"}, b"hello")
        assert packet == Interleaved(0, b"abc")


@pytest.mark.parametrize("wrong", [-3, 2, 300])
def test_a_packet_with_a_wrong_length_costs_its_neighbours_only(wrong: int) -> None:
    """Some cameras send such packets (pull request 10808 of curl)."""
    packets = [interleaved(2 * (n % 2), b"\x80" + bytes((n,)) * 50) for n in range(40)]
    packets[11] = b"$\x00" + (51 + wrong).to_bytes(2, "big") + packets[11][4:]
    found = feed_all_ways(lambda: RtspReader().receive, b"".join(packets) + ANSWER)
    whole = [Interleaved(2 * (n % 2), b"\x80" + bytes((n,)) * 50) for n in range(40)]
    assert found[:11] == whole[:11]
    assert found[-23:-1] == whole[18:]
    assert isinstance(found[-1], RtspResponse)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"RTSP/1.0 2000 OK\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 9999999\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 0000000000999999999999\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: " + b"0" * 5_000 + b"\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"x" * 70_000,
    ],
)
def test_data_of_other_protocols_is_an_error(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        RtspReader().receive(data)


def test_a_head_is_read_once_while_its_body_arrives_in_pieces() -> None:
    class Counted(RtspReader):
        heads = 0

        def _read_message(self, at: int) -> tuple[Received | None, int]:
            self.heads += 1
            return super()._read_message(at)

    reader, body = Counted(), b"x" * 1000
    found = reader.receive(b"RTSP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for byte in body:
        found += reader.receive(bytes((byte,)))
    assert found == [RtspResponse(200, {"content-length": "1000"}, body)]
    assert reader.heads == 2  # with the whole body once more


def test_the_packets_of_a_unit_are_those_of_one_packet_each() -> None:
    payloads = [b"a" * 1_000, b"b"]
    packets = [rtp_packet(96, n == 1, (0xFFFF + n) & 0xFFFF, 7, 9, payload) for n, payload in enumerate(payloads)]
    framed = interleaved_rtp(4, 96, 0xFFFF, 7, 9, payloads)
    assert framed == b"".join(interleaved(4, packet) for packet in packets)
    assert split_interleaved(framed) == [Interleaved(4, packet) for packet in packets] == RtspReader().receive(framed)


def test_an_answer_repeats_only_a_plain_number() -> None:
    asked = RtspRequest("OPTIONS", "*", {"cseq": "7"})
    assert answer(asked, "200 OK", {"Public": "PLAY"}) == b"RTSP/1.0 200 OK\r\nCSeq: 7\r\nPublic: PLAY\r\n\r\n"
    assert answer(asked, "200 OK", body=b"v=0").endswith(b"\r\nContent-Length: 3\r\n\r\nv=0")
    assert b"CSeq: 0\r\n" in answer(RtspRequest("OPTIONS", "*", {"cseq": "1\nX: y"}), "200 OK")


def test_a_request_has_its_number_and_headers() -> None:
    assert (
        request("PLAY", "rtsp://h/x", 4, {"Session": "1"})
        == b"PLAY rtsp://h/x RTSP/1.0\r\nCSeq: 4\r\nSession: 1\r\n\r\n"
    )
