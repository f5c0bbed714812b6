"""Data of a camera or a client: messages, packets, descriptions, challenges; understood, or RemoteProtocolError."""

from __future__ import annotations

from contextlib import suppress

from gateway.media.errors import InvalidData
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtp.depacketizers import AacDepacketizer, Depacketizer, NalDepacketizer
from gateway.protocols.rtp.packets import PacketOrder, parse_packet, parse_sender_report
from gateway.protocols.rtp.sound_depacketizers import Ac3Depacketizer, MpegAudioDepacketizer
from gateway.protocols.rtsp.authentication import Credentials
from gateway.protocols.rtsp.challenge import DigestCheck, basic_password
from gateway.protocols.rtsp.messages import RtspReader, RtspRequest
from gateway.protocols.rtsp.session import read_target
from gateway.protocols.rtsp.session_description import parse_description
from gateway.protocols.rtsp.transport import read_transport
from gateway.protocols.sdp.sections import MAX_MEDIA

SDP = (
    b"v=0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    b"a=fmtp:96 sprop-parameter-sets=Z0IAHg==\r\n"
)
PACKET = b"\x80\xe0\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"
SEEDS = [
    b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\nabc$\x00\x00\x02hi",
    b"RTSP/1.0 200 OK\r\nContent-Length: 00000000000999999\r\n\r\n",
    b"OPTIONS rtsp://x RTSP/1.0\r\nCSeq: 7\r\n\r\n",
    b"SETUP rtsp://x/trackID=0 RTSP/1.0\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\nAuthorization: Basic dTpw\r\n\r\n",
    SDP,
    PACKET + b"\x65abc", PACKET + b"\x7c\x85abc", PACKET + b"\x18\x00\x02\x67a\x00\x01\x68",
    PACKET + b"\x62\x01\x93abc", PACKET + b"\x60\x01\x00\x03abc", PACKET + b"\x00\x10\x00\x18abc",
    b"\x80\xc8\x00\x06" + bytes(24),
    b'Digest realm="r", nonce="n", qop="auth"',
]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: only the documented errors; nothing that is kept is larger than what came."""
    with suppress(RemoteProtocolError):
        for message in RtspReader(1_000, 1_000, "client").receive(data):
            if isinstance(message, RtspRequest):
                read_target(message.url)
                read_transport(message.headers.get("transport", ""), 0)
                basic_password(message.headers.get("authorization", ""))
    with suppress(RemoteProtocolError):
        assert len(parse_description(data).media) <= MAX_MEDIA
    credentials = Credentials("u", "p")
    if credentials.take_challenge(data.decode("latin-1")):
        assert credentials.make_header("PLAY", "rtsp://x", "r")
    check = DigestCheck()
    check.challenge("n", 0.0)
    assert check.find(data.decode("latin-1"), "ANNOUNCE", ["p"], 1.0) is None
    parse_sender_report(data)
    packet = parse_packet(data)
    if packet is None:
        return
    assert 0 < len(packet.payload) < len(data)
    assert PacketOrder().push(packet) == [packet]
    depacketizers: tuple[Depacketizer, ...] = (
        *(NalDepacketizer(h265=h265) for h265 in (False, True)),
        *(AacDepacketizer(*bits, 1024) for bits in ((13, 3), (32, 0))),
        *(MpegAudioDepacketizer(), Ac3Depacketizer()),
    )
    for depacketizer in depacketizers:
        with suppress(InvalidData):
            for _ in range(3):
                for unit in depacketizer.push(packet):
                    assert len(unit.payload) <= 4 * 3 * len(data)
