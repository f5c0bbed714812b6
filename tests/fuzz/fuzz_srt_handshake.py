"""Handshakes and stream ids of SRT callers: answered in no more bytes, or refused with a reason."""

from __future__ import annotations

from contextlib import suppress

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.srt.calling import Caller
from gateway.protocols.srt.keys import SendKeys
from gateway.protocols.srt.listening import OUR_FLAGS, HandshakeRefused, answer_induction, conclusion_of, refuse
from gateway.protocols.srt.packets import (
    HEAD_SIZE,
    MAX_STREAM_ID,
    HandshakeExtension,
    HandshakeType,
    Parameters,
    SrtHandshake,
    control,
    encode_text,
    handshake_of,
)
from gateway.protocols.srt.stream_id import InvalidStreamId, parse_stream_id

_KEYS = SendKeys("a passphrase", bytes(16), 1, bytes(16)).material
_IDS = ("publish:a?sign=1-2", "#!::r=a,m=publish,sign=1-2,input=b", "read:a", "x" * 512, "")


def _conclusion(stream_id: str, *more: tuple[int, bytes]) -> bytes:
    extensions = [
        (int(HandshakeExtension.PARAMETERS_REQUEST), Parameters(0x10503, int(OUR_FLAGS), 120, 120).encode()),
        (int(HandshakeExtension.STREAM_ID), encode_text(stream_id)),
        *more,
    ]
    handshake = SrtHandshake(5, 2, 7, 77, 1500, 8192, HandshakeType.CONCLUSION, 4711, 1, extensions=extensions)
    return control(0, 0, 250_000, handshake.encode())


def seeds() -> list[bytes]:
    return [
        Caller("x", 0.12, 0.0).datagram,
        *map(_conclusion, _IDS),
        _conclusion("read:a", (int(HandshakeExtension.KEYS_REQUEST), _KEYS)),
        _conclusion(
            "read:a", *((int(kind), bytes(8)) for kind in (HandshakeExtension.CONGESTION, HandshakeExtension.GROUP))
        ),
        *(text.encode() for text in _IDS),
    ]


def fuzz(data: bytes) -> None:
    """Oracle: only the documented errors; an answer is never longer than what it answers; texts are bounded."""
    handshake = handshake_of(data)
    if handshake is not None:
        assert sum(4 + len(content) for _, content in handshake.extensions) <= len(data)
        assert SrtHandshake.decode(handshake.encode()) == handshake
        assert len(refuse(handshake, 1400, 0)) <= len(data)
    answer = answer_induction(data, 1)
    assert answer is None or len(answer) <= len(data)
    caller = Caller("x", 0.12, 0.0)
    with suppress(HandshakeRefused):
        caller.receive(data[:12] + caller._socket.to_bytes(4, "big") + data[HEAD_SIZE:], 1.0)
    try:
        conclusion = conclusion_of(data, 0.0)
    except HandshakeRefused as error:
        assert 1000 <= error.code < 3000
    else:
        assert len(conclusion.stream_id.encode()) <= MAX_STREAM_ID
        _stream_id(conclusion.stream_id)
    with suppress(UnicodeDecodeError, RemoteProtocolError):
        _stream_id(data[:MAX_STREAM_ID].decode())


def _stream_id(text: str) -> None:
    with suppress(InvalidStreamId):
        asked = parse_stream_id(text)
        assert asked.name
        assert len(asked.name) + sum(len(key) + len(value) for key, value in asked.query.items()) <= len(text)
